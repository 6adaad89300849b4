//! The programs that run one group's controllers: their words, their messages, their codes.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};
use rdd_controllers::{Ended, Program};
use rdd_instance::{Environment, Instance};

use crate::exit;
use crate::logging::{self, Format, Verbosity};
use crate::settings::VERSION;

/// The exit code for words that are not known.
const USAGE: u8 = 2;

#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Raw {
    /// Port of the figures on loopback; the instance's own by default
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
    /// Port of the health checks on loopback; the instance's own by default
    #[arg(long, value_name = "PORT")]
    health_port: Option<u16>,
    /// How much is said: 0 progress, 2 decisions, 4 everything; overrides RDD_LOG_LEVEL
    #[arg(short, long, value_name = "NUMBER")]
    v: Option<u8>,
    /// Run against the cluster of this kubeconfig instead of the instance's control plane
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The instance to belong to; RDD_INSTANCE does the same
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Print the version
    #[arg(long)]
    version: bool,
}

/// Runs the program of a group with these words.
pub(crate) fn main(
    group: &'static str,
    words: Vec<OsString>,
    environment: &Environment,
) -> ExitCode {
    let raw = match parse(group, words) {
        Ok(raw) => raw,
        Err(error) => {
            // Help goes to stdout and is a success; anything else is a wrong word.
            let wrong = error.use_stderr();
            if error.print().is_err() || wrong {
                return ExitCode::from(USAGE);
            }
            return ExitCode::SUCCESS;
        }
    };
    if raw.version {
        crate::output::line(VERSION);
        return ExitCode::SUCCESS;
    }
    let (verbosity, unknown) = verbosity(raw.v, environment.log_level.as_deref());
    logging::start(verbosity, Format::Text);
    if let Some(level) = unknown {
        tracing::warn!(level, "RDD_LOG_LEVEL names no level");
    }
    exit::report(run(group, raw, environment).map(drop).map_err(Into::into))
}

fn parse(group: &'static str, words: Vec<OsString>) -> Result<Raw, clap::Error> {
    // The parser keeps names for as long as the program runs.
    let name: &'static str = rdd_controllers::program(group).leak();
    let controllers: Vec<&str> = rdd_controllers::of_group(group)
        .iter()
        .map(|def| def.name)
        .collect();
    let about = format!(
        "Runs the controllers of group {group} ({}) outside the service.\n\nThose that another \
         manager runs are left alone; give the service fewer with --controllers:\n{}.",
        controllers.join(", "),
        *rdd_controllers::CONTROLLERS_HELP
    );
    let matches = Raw::command()
        .name(name)
        .bin_name(name)
        .about(about)
        .try_get_matches_from(words)?;
    Raw::from_arg_matches(&matches)
}

/// How much is said, and the level of the environment that is none.
fn verbosity(flag: Option<u8>, level: Option<&str>) -> (Verbosity, Option<&str>) {
    let named = level.map(|level| (level, Verbosity::parse(level)));
    let unknown = match &named {
        Some((level, Err(_))) => Some(*level),
        _ => None,
    };
    let number = flag.unwrap_or_else(|| match named {
        Some((_, Ok(verbosity))) => verbosity.number(),
        _ => 0,
    });
    (Verbosity::from_number(number), unknown)
}

fn run(group: &'static str, raw: Raw, environment: &Environment) -> Result<Ended> {
    let instance = Instance::new(raw.instance.as_deref(), environment.clone())?;
    let mut program = Program::of(group);
    program.kubeconfig = raw.kubeconfig;
    program.health_port = raw.health_port;
    program.metrics_port = raw.metrics_port;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(rdd_controllers::run(&instance, program));
    // Everything that must end was awaited; what is left is abandoned.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn words_are_read_and_wrong_ones_are_told_apart_from_help() {
        let raw = parse("app", words("p --metrics-port 7 --health-port=8 -v 4")).expect("read");
        assert_eq!(
            (raw.metrics_port, raw.health_port, raw.v),
            (Some(7), Some(8), Some(4))
        );
        for line in ["p --nonsense", "p extra", "p --metrics-port=x", "p -v"] {
            assert!(
                parse("app", words(line)).expect_err(line).use_stderr(),
                "{line}"
            );
        }
        let help = parse("containers", words("p --help")).expect_err("help");
        assert!(!help.use_stderr());
        let help = help.to_string();
        for word in [
            "container, containernamespace, engine, image, volume",
            "'*,-demo'",
        ] {
            assert!(help.contains(word), "{word}: {help}");
        }
    }

    #[test]
    fn the_flag_wins_over_the_environment_and_unknown_levels_are_told() {
        let check =
            |flag, level, expect| assert_eq!(verbosity(flag, level), expect, "{flag:?} {level:?}");
        check(None, None, (Verbosity::Info, None));
        check(None, Some("trace"), (Verbosity::Trace, None));
        check(None, Some("debug"), (Verbosity::Debug, None));
        for level in ["info", "warn", "warning", "error", "fatal"] {
            check(None, Some(level), (Verbosity::Info, None));
        }
        check(Some(0), Some("trace"), (Verbosity::Info, None));
        check(Some(2), Some("loud"), (Verbosity::Debug, Some("loud")));
        check(None, Some("loud"), (Verbosity::Info, Some("loud")));
    }
}
