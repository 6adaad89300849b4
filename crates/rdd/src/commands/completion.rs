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

/// The same for zsh. The generated function keeps everything else under another name.
const ZSH: &str = r#"_rdd() {
    local i at=0 program=("${(Q)words[1]}") offers
    for ((i = 2; i < CURRENT; i++)); do
        case "${words[i]}" in
            --instance) ((i++)); program+=(--instance "${(Q)words[i]}") ;;
            --instance=*) program+=("${(Q)words[i]}") ;;
            -*) ;;
            ctl | kubectl) at=$i; break ;;
            *) break ;;
        esac
    done
    if ((at == 0)); then
        _rdd_words "$@"
        return
    fi
    offers=("${(@f)$("${program[@]}" __complete "${(@Q)words[at,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    compadd -- "${(@)offers:#}"
}

"#;

/// What the script that is generated for zsh calls its function, and where it says who
/// is completed by it.
const ZSH_FUNCTION: &str = "\n_rdd() {";
const ZSH_END: &str = r#"if [ "$funcstack[1]" = "_rdd" ]"#;

/// The same for fish, which asks whether an entry fits before it asks for it.
const FISH: &str = r#"
function __fish_rdd_objects
    set -l given (commandline -opc)
    set -l last (commandline -ct)
    set -l program $given[1]
    set -e given[1]
    while set -q given[1]
        switch $given[1]
            case --instance
                set -a program $given[1..2]
                set -e given[1]
            case '--instance=*'
                set -a program $given[1]
            case '-*'
            case ctl kubectl
                test "$argv[1]" = ask
                and $program __complete $given "$last" 2>/dev/null
                return 0
            case '*'
                return 1
        end
        set -e given[1]
    end
    return 1
end

complete -c rdd -n __fish_rdd_objects -f -a '(__fish_rdd_objects ask)'
"#;

/// The script for a shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::definition(), "rdd", &mut script);
    let mut text = String::from_utf8_lossy(&script).into_owned();
    match shell {
        Shell::Bash => text.push_str(BASH),
        Shell::Fish => text.push_str(FISH),
        Shell::Zsh => {
            text = text.replacen(ZSH_FUNCTION, "\n_rdd_words() {", 1);
            text = text.replacen(ZSH_END, &format!("{ZSH}{ZSH_END}"), 1);
        }
        // Elvish and PowerShell get what clap knows.
        _ => {}
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
