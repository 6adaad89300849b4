//! Completion: the shell's script, and what it asks for while somebody types.

use std::ffi::OsString;

use clap_complete::Shell;

use crate::args;
use crate::commands::passed_on;
use crate::output;
use crate::settings::Settings;

/// What the generated script cannot know: the words behind `ctl` and `kubectl` are asked
/// of the program itself. `compopt` keeps bash from closing `container/`.
const BASH: &str = r#"
_rdd_with_objects() {
    local at="" i program=("${COMP_WORDS[0]}")
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            --instance)
                # Bash takes --instance=name for three words.
                [[ "${COMP_WORDS[i + 1]}" == "=" ]] && ((i++))
                ((i++))
                program+=(--instance "${COMP_WORDS[i]}")
                ;;
            -*) ;;
            ctl | kubectl) at=$i; break ;;
            *) break ;;
        esac
    done
    if [[ -z "$at" ]]; then
        _rdd "$@"
        return
    fi
    local given=("${COMP_WORDS[@]:at:COMP_CWORD-at}") last="${COMP_WORDS[COMP_CWORD]}"
    mapfile -t COMPREPLY < <("${program[@]}" __complete "${given[@]}" "$last" 2>/dev/null)
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == */ ]] && compopt -o nospace
    return 0
}
complete -F _rdd_with_objects -o bashdefault -o default rdd
"#;

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), "rdd", &mut script);
    let mut text = String::from_utf8_lossy(&script).into_owned();
    if shell == Shell::Bash {
        text.push_str(BASH);
    }
    text
}

/// Prints offers for the last of the words that follow `ctl` or `kubectl`, one a line.
/// Starts nothing, and says nothing when it knows nothing.
pub(crate) async fn offer(settings: &Settings, words: Vec<OsString>) {
    let mut words = words
        .into_iter()
        .map(|word| word.to_string_lossy().into_owned());
    let target = match words.next().as_deref() {
        Some("ctl") => passed_on::ctl_target(settings),
        Some("kubectl") => passed_on::kubectl_target(settings),
        _ => return,
    };
    let words: Vec<String> = words.collect();
    for offer in rdd_ctl::complete(&words, &target).await {
        output::line(&offer);
    }
}
