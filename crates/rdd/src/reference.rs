//! The page about the command line, made of the definition that parses it.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::args;

/// The whole of `docs/reference/commands.md`.
pub(crate) fn reference() -> String {
    let mut definition = args::definition();
    definition.build();
    let mut text = "# Commands

<!-- Written by `cargo xtask reference` from the definition of the command line. -->

The same is in `rdd help` and, for shells, in `rdd completion`. `--instance=NAME`, as the very first word, means another
instance. The verbs of `rdd ctl` are kubectl's; `rdd ctl VERB --help` lists what is built in.
"
    .to_owned();
    options(&mut text, "\n## Of every command\n", globals(&definition));
    commands(&mut text, "rdd", &definition);
    text
}

fn globals(definition: &Command) -> Vec<&Arg> {
    definition
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .collect()
}

fn commands(text: &mut String, path: &str, parent: &Command) {
    for command in parent.get_subcommands().filter(|one| !one.is_hide_set()) {
        if command.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", command.get_name());
        if command.has_subcommands() {
            commands(text, &path, command);
            continue;
        }
        let places: Vec<String> = command
            .get_positionals()
            .map(|argument| {
                let name = argument.get_id().as_str().to_uppercase();
                let names = argument.get_value_names().map(<[_]>::to_vec);
                let name = names.map_or(name, |names| names[0].to_string());
                match argument.is_required_set() {
                    true => name,
                    false => format!("[{name}]"),
                }
            })
            .collect();
        let about = command.get_about().map(ToString::to_string);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n## `{}`\n\n{}.",
            [vec![path], places].concat().join(" "),
            about.unwrap_or_default()
        );
        let own = command.get_opts().filter(|argument| {
            !argument.is_global_set()
                && !argument.is_hide_set()
                && argument.get_id().as_str() != "help"
        });
        let flags = command.get_arguments().filter(|argument| {
            !argument.is_positional()
                && !argument.get_action().takes_values()
                && !argument.is_global_set()
                && !argument.is_hide_set()
                && argument.get_id().as_str() != "help"
        });
        options(text, "", own.chain(flags).collect());
    }
}

fn options(text: &mut String, heading: &str, arguments: Vec<&Arg>) {
    text.push_str(heading);
    if arguments.is_empty() {
        return;
    }
    text.push_str("\n| Flag | Default | What it does |\n|---|---|---|\n");
    for argument in arguments {
        let long = argument.get_long().map(|long| format!("--{long}"));
        let short = argument.get_short().map(|short| format!("-{short}"));
        let names: Vec<String> = long.into_iter().chain(short).collect();
        let value = match argument.get_value_names() {
            Some([name, ..]) if argument.get_action().takes_values() => format!(" {name}"),
            _ => String::new(),
        };
        let default: Vec<String> = argument
            .get_default_values()
            .iter()
            .filter(|_| argument.get_action().takes_values())
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let help = argument.get_help().map(ToString::to_string);
        let _ = writeln!(
            text,
            "| `{}{value}` | {} | {} |",
            names.join("`, `"),
            default.join(" "),
            help.unwrap_or_default().replace('|', "\\|")
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::commands::completion_script;

    #[test]
    fn the_page_says_what_the_definition_says() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/commands.md");
        let text = std::fs::read_to_string(page).expect("the page");
        assert!(
            text.trim_end() == reference().trim_end(),
            "docs/reference/commands.md is behind: cargo xtask reference"
        );
    }

    /// Every command with all its own flags that are shown.
    fn flags(path: &str, command: &Command, found: &mut Vec<(String, String)>) {
        for argument in command.get_arguments().filter(|one| !one.is_hide_set()) {
            if let Some(long) = argument.get_long() {
                found.push((path.to_owned(), format!("--{long}")));
            }
        }
        for inner in command.get_subcommands().filter(|one| !one.is_hide_set()) {
            flags(&format!("{path} {}", inner.get_name()), inner, found);
        }
    }

    #[test]
    fn help_page_and_completion_know_every_command_and_flag() {
        let mut definition = args::definition();
        definition.build();
        let mut all = Vec::new();
        flags("rdd", &definition, &mut all);
        assert!(all.len() > 40, "{all:?}");
        let page = reference();
        for shell in ["bash", "zsh", "fish"] {
            let script = completion_script(shell);
            for (path, flag) in &all {
                // fish writes its own `-l name`.
                let name = flag.trim_start_matches('-');
                assert!(script.contains(name), "{shell}: {path} {flag}");
            }
        }
        for (path, flag) in all.iter().filter(|(_, flag)| flag != "--help") {
            assert!(page.contains(flag.as_str()), "{path} {flag}");
            let mut command = definition.clone();
            for word in path.split(' ').skip(1) {
                let inner = command.find_subcommand(word).expect("it is there");
                command = inner.clone();
            }
            let help = command.render_long_help().to_string();
            assert!(help.contains(flag.as_str()), "{path} {flag}: {help}");
        }
    }
}
