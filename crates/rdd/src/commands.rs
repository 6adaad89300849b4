//! One module per command.

mod app;
mod completion;
mod passed_on;
mod service;

use anyhow::anyhow;
use tokio::runtime::Builder;

use crate::args::{self, Command, Request};
use crate::exit::{Failure, Outcome};
use crate::{logging, output, settings};

/// Ends any command at a Ctrl-C, wherever it is: a wait that hears it itself, and says what
/// it has waited for, comes first.
pub(crate) async fn cancellable(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        outcome = work => outcome,
        Ok(()) = tokio::signal::ctrl_c() => Err(anyhow!("cancelled: interrupted").into()),
    }
}

/// The same for kubectl's verbs, which a Ctrl-C ends without a word.
async fn interruptible(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        biased;
        outcome = work => outcome,
        Ok(()) = tokio::signal::ctrl_c() => Err(Failure::Child(INTERRUPTED)),
    }
}

/// What a shell reports of a program that SIGINT ended.
const INTERRUPTED: u8 = 130;

/// Runs what was asked for.
pub(crate) fn run(request: Request) -> Outcome {
    let Request { command, settings } = request;
    let command = match command {
        // The daemon decides about its own runtime and verbosity.
        Command::Service(args::Service::Serve(serve)) => {
            return service::serve::run(&settings, serve);
        }
        other => other,
    };
    logging::start(settings.verbosity, settings.format);
    // A client waits for one thing at a time.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Set(set) => cancellable(app::set(&settings, &set)).await,
            Command::Start(wait) => cancellable(app::start(&settings, wait)).await,
            Command::Stop(wait) => cancellable(app::stop(&settings, wait)).await,
            Command::Attach(attach) => cancellable(app::attach(&settings, attach)).await,
            Command::Run(words) => passed_on::run(&settings, words.words).await,
            Command::Ctl(words) => interruptible(passed_on::ctl(&settings, words.words)).await,
            Command::Kubectl(words) => {
                interruptible(passed_on::kubectl(&settings, words.words)).await
            }
            Command::Service(service) => cancellable(service::run(&settings, service)).await,
            Command::Version => {
                output::line(settings::VERSION);
                Ok(())
            }
            Command::Complete(words) => {
                completion::offer(&settings, words.words).await;
                Ok(())
            }
            Command::Completion { shell } => {
                output::text(&completion::script(shell));
                Ok(())
            }
        }
    })
}

#[cfg(test)]
pub(crate) fn completion_script(shell: &str) -> String {
    completion::script(shell.parse().expect("a shell"))
}
