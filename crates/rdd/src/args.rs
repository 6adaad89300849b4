//! The command line: raw words in, a [`Command`] and its [`Settings`] out.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use anyhow::anyhow;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use rdd_instance::{Environment, parse_bool};

use crate::duration::{Limit, parse_limit};
use crate::exit::{Failure, Outcome};
use crate::properties::Schema;
use crate::settings::{Settings, VERSION};

#[derive(Parser)]
#[command(
    name = "rdd",
    about = "The container engine of this machine as a Kubernetes API",
    long_about = "RDD manages the Rancher Desktop 2 background services.\n\n\
        It turns the container engine of this machine into a Kubernetes API: containers, images\n\
        and volumes are resources that any Kubernetes client can list, watch and change.",
    after_help = "Examples:\n  \
        rdd start                                 start the control plane and a Docker engine\n  \
        rdd attach unix:///var/run/docker.sock    mirror a Docker that already runs\n  \
        rdd ctl get containers -w                 watch its containers\n  \
        rdd --instance=dev svc status             ask about another instance",
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    infer_long_args = false
)]
struct Raw {
    /// Log level: fatal, error, warning, info, debug or trace
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log format: text or json
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    #[command(subcommand)]
    command: Command,
}

/// Everything that can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Set properties of the application and wait until they hold
    Set(Set),
    /// Start the control plane and the container engine
    Start(Wait),
    /// Stop the container engine; the control plane goes on
    Stop(Wait),
    /// Mirror a Docker engine that already runs
    #[command(
        after_help = "Examples:\n  rdd attach                                the current Docker context\n  rdd attach unix:///var/run/docker.sock\n  rdd attach ssh://user@host"
    )]
    Attach(Attach),
    /// Run a command with this instance's Docker and Kubernetes contexts
    #[command(disable_help_flag = true)]
    Run(Words),
    /// Manage the control plane
    #[command(alias = "svc", subcommand)]
    Service(Service),
    /// kubectl's verbs against this control plane
    #[command(disable_help_flag = true)]
    Ctl(Words),
    /// kubectl's verbs against your own kubeconfig
    #[command(disable_help_flag = true)]
    Kubectl(Words),
    /// Print the version
    Version,
    /// Offers for the last word of `ctl` or `kubectl`, for a completion script
    #[command(name = COMPLETE, hide = true, disable_help_flag = true)]
    Complete(Words),
    /// Print a completion script
    Completion {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// Whether the command is about files of the user. Help and the like are not.
    fn needs_home(&self) -> bool {
        match self {
            Self::Version | Self::Completion { .. } => false,
            Self::Run(Words { words })
            | Self::Ctl(Words { words })
            | Self::Kubectl(Words { words }) => {
                !words.iter().any(|word| word == "--help" || word == "-h")
            }
            _ => true,
        }
    }
}

/// The command that completion scripts call.
pub(crate) const COMPLETE: &str = "__complete";

/// Words that are passed on as they are.
#[derive(Args, Debug)]
pub(crate) struct Words {
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARGUMENTS"
    )]
    pub(crate) words: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Set {
    /// Ask the server what would happen; nothing is stored
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) wait: Wait,
    /// PROPERTY=VALUE, for example running=true
    #[arg(value_name = "PROPERTY=VALUE", required = true)]
    pub(crate) properties: Vec<String>,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Wait {
    /// Return only when the application has settled
    #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = boolean, value_name = "BOOL", action = clap::ArgAction::Set)]
    pub(crate) wait: bool,
    /// Limit of the wait; 0 is none; ignored with --wait=false
    #[arg(long, default_value = "5m", value_parser = parse_limit_argument, value_name = "DURATION")]
    pub(crate) timeout: Deadline,
}

#[derive(Args, Debug)]
pub(crate) struct Attach {
    /// unix://…, tcp://… or ssh://…; the current Docker context when absent
    pub(crate) endpoint: Option<String>,
    #[command(flatten)]
    pub(crate) wait: Wait,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Create the instance without starting it
    Create {
        #[command(flatten)]
        session: Session,
        /// Further words for the control plane
        words: Vec<String>,
    },
    /// Start the control plane in the background
    Start {
        #[command(flatten)]
        session: Session,
        /// Return only when the control plane is ready
        #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = boolean, value_name = "BOOL", action = clap::ArgAction::Set)]
        wait: bool,
        /// Limit of the wait; 0 is none; ignored with --wait=false
        #[arg(long, default_value = "90s", value_parser = parse_limit_argument, value_name = "DURATION")]
        timeout: Deadline,
        /// Further words for the control plane
        words: Vec<String>,
    },
    /// Run the control plane in the foreground until a signal
    Serve(Serve),
    /// Stop the control plane and the engine that it started
    Stop {
        /// Return only when the process is gone
        #[arg(long, default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, value_parser = boolean, value_name = "BOOL", action = clap::ArgAction::Set)]
        wait: bool,
        /// Limit of the wait; 0 is none; ignored with --wait=false
        #[arg(long, default_value = "5m", value_parser = parse_limit_argument, value_name = "DURATION")]
        timeout: Deadline,
    },
    /// Stop the control plane and remove everything that belongs to the instance
    Delete {
        /// Limit of the wait for the process to end; 0 is none
        #[arg(long, default_value = "5m", value_parser = parse_limit_argument, value_name = "DURATION")]
        timeout: Deadline,
    },
    /// Say whether the control plane exists and runs
    Status {
        /// table, json or yaml
        #[arg(long, short, default_value = "table")]
        output: String,
    },
    /// Print the log of the control plane
    #[command(alias = "logs")]
    Log {
        /// Print the standard output instead of the standard error
        #[arg(long, short = 'o')]
        stdout: bool,
        /// Go on printing what is added
        #[arg(long, short)]
        follow: bool,
    },
    /// Print the kubeconfig of the control plane
    Config,
    /// Print the paths of the instance; they need not exist
    Paths {
        /// One of the keys
        key: Option<String>,
        /// table, json or shell
        #[arg(long, short, default_value = "table")]
        output: String,
    },
}

/// Settings of one start.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Session {
    #[arg(long, value_name = "LIST", help = rdd_controllers::CONTROLLERS_HELP.as_str())]
    pub(crate) controllers: Option<String>,
    /// Port of the API server; 0 is the instance's own
    #[arg(long, value_name = "PORT")]
    pub(crate) secure_port: Option<u16>,
    /// File with further users, as lines token,user,uid,"group1,group2"
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<std::path::PathBuf>,
    /// Let web pages of this origin read logs and run commands with their user's token
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) allow_origin: Vec<String>,
    /// Where a Service listens that webhooks name, as NAMESPACE/NAME=HOST[:PORT]
    #[arg(long, value_name = "SERVICE")]
    pub(crate) webhook_service: Vec<rdd_control_plane::ServiceAt>,
    /// File that records every request, as audit.k8s.io/v1 events of level Metadata
    #[arg(long, value_name = "FILE")]
    pub(crate) audit_log: Option<std::path::PathBuf>,
    /// Size from which a new audit log is begun; 100 by default
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..), requires = "audit_log")]
    pub(crate) audit_log_maxsize: Option<u32>,
    /// Older audit logs that are kept; 5 by default
    #[arg(long, value_name = "NUMBER", requires = "audit_log")]
    pub(crate) audit_log_maxbackup: Option<u32>,
}

/// The control plane's own flags; later ones win, as `args.json` needs.
#[derive(Args, Clone, Debug)]
#[command(args_override_self = true)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) session: Session,
    /// Address to listen on; anything but loopback needs --tls-name
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) bind_address: std::net::IpAddr,
    /// Further name or address that the certificate carries
    #[arg(long, value_name = "NAME")]
    pub(crate) tls_name: Vec<String>,
    /// Verbosity of the log: 0, 2 or 4
    #[arg(short = 'v', value_name = "NUMBER", default_value_t = 0)]
    pub(crate) verbosity: u8,
    /// Leave the caller's session; how the background start uses it
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

/// A limit that clap can hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(pub(crate) Limit);

fn parse_limit_argument(text: &str) -> Result<Deadline, String> {
    parse_limit(text).map(Deadline)
}

fn boolean(text: &str) -> Result<bool, String> {
    parse_bool(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
}

/// What the command line asked for.
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) settings: Settings,
}

/// Reads the command line.
pub(crate) fn parse(words: Vec<OsString>, environment: &Environment) -> Outcome<Request> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let mut rest: Vec<OsString> = words.collect();
    if called_as(&program, "kubectl") {
        rest.insert(0, "kubectl".into());
    }
    let suffix = take_instance(&mut rest);
    if let Some(text) = version_flag(&rest) {
        return Err(Failure::Text(text));
    }
    let words = std::iter::once(OsString::from("rdd")).chain(rest);
    let matches = definition()
        .try_get_matches_from(words)
        .map_err(|error| usage(&error))?;
    let raw = Raw::from_arg_matches(&matches).map_err(|error| usage(&error))?;
    let mut environment = environment.clone();
    if !raw.command.needs_home() {
        environment.home.get_or_insert_with(Default::default);
    }
    let settings = Settings::new(
        suffix.as_deref(),
        raw.log_level.as_deref(),
        raw.log_format.as_deref(),
        &environment,
    )?;
    Ok(Request {
        command: raw.command,
        settings,
    })
}

/// The definition that help and completion are made from.
pub(crate) fn definition() -> clap::Command {
    Raw::command().mut_subcommand("set", |set| set.after_help(properties_help()))
}

/// Examples, and the properties of the App as this program ships it: help needs no
/// control plane.
fn properties_help() -> String {
    let mut text = "Examples:\n  rdd set running=true\n  rdd set containerEngine.name=moby running=true --timeout=2m\n\n\
        Available properties:\n"
        .to_owned();
    for (path, kind, description) in Schema::built_in().rows() {
        let kind = format!("({kind})");
        text.push_str(&format!("  {path:<26} {kind:<19} {description}\n"));
    }
    text
}

/// Whether the program was started under this name, whatever comes behind the first dot.
fn called_as(program: &OsStr, name: &str) -> bool {
    let base = Path::new(program).file_name().unwrap_or_default();
    base.to_str()
        .and_then(|base| base.split('.').next())
        .is_some_and(|base| base == name)
}

/// Takes `--instance X` or `--instance=X` from the front; elsewhere it is unknown.
fn take_instance(words: &mut Vec<OsString>) -> Option<String> {
    let first = words.first()?.to_str()?;
    if let Some(value) = first.strip_prefix("--instance=") {
        let value = value.to_owned();
        words.remove(0);
        return Some(value);
    }
    if first != "--instance" {
        return None;
    }
    words.remove(0);
    let value = words.first()?.to_str()?.to_owned();
    if value.starts_with('-') {
        return None;
    }
    words.remove(0);
    Some(value)
}

/// `--version`, `--version=true`, `--version=raw` and `--version=<text>`.
fn version_flag(words: &[OsString]) -> Option<String> {
    let value = match words.first()?.to_str()? {
        "--version" => "true",
        other => other.strip_prefix("--version=")?,
    };
    Some(match value {
        "true" => format!("{VERSION}\n"),
        "raw" => format!(
            "Version: {VERSION}\nGitCommit: {}\nBuildDate: {}\nGoVersion: {}\nCompiler: rustc\nPlatform: {}/{}\n",
            option_env!("RDD_GIT_COMMIT").unwrap_or("unknown"),
            option_env!("RDD_BUILD_DATE").unwrap_or("unknown"),
            concat!("rust ", env!("CARGO_PKG_RUST_VERSION")),
            std::env::consts::OS,
            match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
        ),
        text => format!("{text}\n"),
    })
}

/// Usage errors in one line; help is text.
fn usage(error: &clap::Error) -> Failure {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Failure::Text(error.render().to_string())
        }
        ErrorKind::UnknownArgument => {
            let word = context(ContextKind::InvalidArg).unwrap_or_default();
            if word.starts_with('-') {
                let flag = word.split('=').next().unwrap_or_default();
                anyhow!("unknown flag: {flag}").into()
            } else {
                anyhow!("unexpected argument {word:?}; see `rdd help`").into()
            }
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let hint = match error.get(ContextKind::SuggestedSubcommand) {
                Some(ContextValue::Strings(names)) if !names.is_empty() => {
                    format!("; did you mean {:?}?", names[0])
                }
                _ => "; see `rdd help`".to_owned(),
            };
            anyhow!("unknown command {word:?}{hint}").into()
        }
        _ => {
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            anyhow!("{}", line.strip_prefix("error: ").unwrap_or(line)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_definition_is_consistent() {
        definition().debug_assert();
    }

    #[test]
    fn the_instance_is_taken_from_the_front_only() {
        for (text, instance, rest) in [
            ("--instance=x svc status", Some("x"), "svc status"),
            ("--instance x svc status", Some("x"), "svc status"),
            ("--instance= svc status", Some(""), "svc status"),
            (
                "--instance --log-level=debug version",
                None,
                "--log-level=debug version",
            ),
            ("--instance", None, ""),
            ("svc --instance=x status", None, "svc --instance=x status"),
        ] {
            let mut rest_words = words(text);
            let found = take_instance(&mut rest_words);
            assert_eq!(found.as_deref(), instance, "{text}");
            assert_eq!(rest_words, words(rest), "{text}");
        }
    }

    fn failure(text: &str) -> String {
        let environment = Environment {
            home: Some("/nowhere".into()),
            ..Environment::default()
        };
        let mut all = vec![OsString::from("rdd")];
        all.extend(words(text));
        match parse(all, &environment) {
            Err(Failure::Error(error)) => error.to_string(),
            Err(Failure::Text(text)) => text,
            Err(other) => format!("{other:?}"),
            Ok(request) => format!("{:?}", request.command),
        }
    }

    #[test]
    fn usage_errors_name_the_word() {
        for (text, wanted) in [
            ("svc --instance=x status", "unknown flag: --instance"),
            ("svc xyzzy", "unknown command \"xyzzy\"; see `rdd help`"),
            (
                "svc stat",
                "unknown command \"stat\"; did you mean \"status\"?",
            ),
            (
                "frobnicate",
                "unknown command \"frobnicate\"; see `rdd help`",
            ),
            (
                "--log-level=loud version",
                "not a valid logrus Level: \"loud\"",
            ),
            ("--log-format=xml version", "invalid log format: \"xml\""),
            ("--version", concat!("v", env!("CARGO_PKG_VERSION"), "\n")),
            ("--version=hello", "hello\n"),
        ] {
            assert_eq!(failure(text), wanted, "{text}");
        }
    }

    #[test]
    fn words_for_kubectl_are_passed_on_and_global_flags_before_it_are_ours() {
        let seen = failure("--log-level=debug ctl get pods -o yaml --help");
        assert_eq!(
            seen,
            r#"Ctl(Words { words: ["get", "pods", "-o", "yaml", "--help"] })"#
        );
    }

    #[test]
    fn the_program_may_be_called_kubectl() {
        for (name, is) in [
            ("kubectl", true),
            ("/x/kubectl.rdd.exe", true),
            ("kubectllike", false),
            ("rdd", false),
        ] {
            assert_eq!(called_as(OsStr::new(name), "kubectl"), is, "{name}");
        }
    }
}
