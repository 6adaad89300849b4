//! One module per verb.

mod apply;
mod change;
mod config;
mod container;
mod delete;
mod exec;
mod get;
mod logs;
mod served;
mod targets;
mod wait;

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use crate::Target;
use crate::args::{Cli, Verb};
use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::output::Format;

/// Runs one command line.
pub(crate) async fn run(words: Vec<OsString>, target: &Target) -> Result<u8> {
    let line = std::iter::once(OsString::from(&target.program)).chain(words.iter().cloned());
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &words, target).await,
    };
    let foreign = match &cli.verb {
        Verb::Create(create) if !apply::can_create(create) => Some("create"),
        Verb::Get(get) if get.show.output.as_deref().is_some_and(Format::is_foreign) => Some("get"),
        _ => None,
    };
    if let Some(verb) = foreign.filter(|_| target.kubectl.is_some()) {
        return pass_on(verb, &words, target).await;
    }
    let kubeconfig = target.kubeconfig.as_deref();
    if let Verb::Config { what } = &cli.verb {
        config::run(what, cli.common.kubeconfig.as_deref().or(kubeconfig))?;
        return Ok(0);
    }
    let connection = Connection::open(kubeconfig, &cli.common).await?;
    match cli.verb {
        Verb::Get(get) => get::run(&connection, &get).await?,
        Verb::Delete(delete) => delete::run(&connection, &delete).await?,
        Verb::Wait(wait) => wait::run(&connection, &wait).await?,
        Verb::WaitCondition(wait) => {
            wait::condition_of(&connection, &wait, cli.common.namespace.as_deref()).await?
        }
        Verb::Apply(apply) => apply::run(&connection, &apply).await?,
        Verb::Create(create) => apply::create(&connection, &create).await?,
        Verb::Replace(replace) => apply::replace(&connection, &replace).await?,
        Verb::Patch(patch) => change::patch(&connection, &patch).await?,
        Verb::Annotate(marks) => change::marks(&connection, &marks, "annotations").await?,
        Verb::Label(marks) => change::marks(&connection, &marks, "labels").await?,
        Verb::ApiResources(wanted) => served::resources(&connection, &wanted).await?,
        Verb::ApiVersions => served::versions(&connection).await?,
        Verb::Version(version) => served::version(&connection, &version).await?,
        Verb::Logs(logs) => logs::run(&connection, &logs).await?,
        Verb::Exec(exec) => return exec::run(&connection, &exec).await,
        Verb::Config { .. } => {}
    }
    Ok(0)
}

/// Help is printed; a verb or flag that is not here goes to a kubectl; the rest is an error.
async fn usage(error: &clap::Error, words: &[OsString], target: &Target) -> Result<u8> {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            print!("{}", error.render());
            Ok(0)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if words.is_empty() => {
            print!("{}", error.render());
            Ok(0)
        }
        _ => {
            let known: Vec<String> = Cli::command()
                .get_subcommands()
                .map(|verb| verb.get_name().to_owned())
                .collect();
            let verb = words
                .iter()
                .filter_map(|word| word.to_str())
                .find(|word| !word.starts_with('-'));
            let unknown = |verb: &&str| !known.iter().any(|known| known == verb);
            let foreign = error.kind() == ErrorKind::UnknownArgument && target.kubectl.is_some();
            if let Some(verb) = verb.filter(|verb| unknown(verb) || foreign) {
                return pass_on(verb, words, target).await;
            }
            let text = error.render().to_string();
            let line = text.lines().next().unwrap_or_default();
            Err(Error::new(line.strip_prefix("error: ").unwrap_or(line)))
        }
    }
}

async fn pass_on(verb: &str, words: &[OsString], target: &Target) -> Result<u8> {
    let Some(kubectl) = &target.kubectl else {
        return Err(Error::new(format_args!(
            "unknown command {verb:?} for {:?}, and there is no kubectl on the PATH to pass it to",
            target.program
        )));
    };
    let mut command = tokio::process::Command::new(kubectl);
    command.args(words).stdin(Stdio::inherit());
    if let Some(kubeconfig) = &target.kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    let status = command.status().await.map_err(|error| {
        Error::new(format_args!("failed to run {}: {error}", kubectl.display()))
    })?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(1))
}

/// A duration as Go writes it; `None` is no limit.
pub(crate) fn limit(text: &str) -> Result<Option<Duration>> {
    let invalid = || {
        Error::new(format_args!(
            "invalid argument {text:?}: time: invalid duration {text:?}"
        ))
    };
    let (mut rest, mut total) = (text, 0.0_f64);
    if matches!(text, "0" | "0s") {
        return Ok(None);
    }
    if text.starts_with('-') {
        return Ok(Some(Duration::from_secs(7 * 24 * 3600)));
    }
    while !rest.is_empty() {
        let number = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .ok_or_else(invalid)?;
        let value: f64 = rest[..number].parse().map_err(|_| invalid())?;
        let unit = &rest[number..];
        let end = unit
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(unit.len());
        total += value
            * match &unit[..end] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(invalid()),
            };
        rest = &unit[end..];
    }
    Duration::try_from_secs_f64(total)
        .map(Some)
        .map_err(|_| invalid())
}

/// What `--dry-run` asks of the server, and how outcomes say it.
pub(crate) struct DryRun {
    pub(crate) client: bool,
    pub(crate) server: bool,
}

impl DryRun {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self {
                client: false,
                server: false,
            }),
            "client" | "unchanged" => Ok(Self {
                client: true,
                server: false,
            }),
            "server" => Ok(Self {
                client: false,
                server: true,
            }),
            _ => Err(Error::new(format_args!(
                "Invalid dry-run value ({text}). Must be \"none\", \"server\", or \"client\"."
            ))),
        }
    }

    pub(crate) fn query(&self) -> &'static str {
        if self.server { "dryRun=All" } else { "" }
    }

    pub(crate) fn suffix(&self) -> &'static str {
        match (self.client, self.server) {
            (true, _) => " (dry run)",
            (_, true) => " (server dry run)",
            _ => "",
        }
    }
}
