//! One module per command.

mod app;
mod passed_on;
mod service;

use tokio::runtime::Builder;

use crate::args::{self, Command, Request};
use crate::exit::Outcome;
use crate::{logging, output, settings};

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
            Command::Set(set) => app::set(&settings, &set).await,
            Command::Start(wait) => app::start(&settings, wait).await,
            Command::Stop(wait) => app::stop(&settings, wait).await,
            Command::Attach(attach) => app::attach(&settings, attach).await,
            Command::Run(words) => passed_on::run(&settings, words.words).await,
            Command::Ctl(words) => passed_on::ctl(&settings, words.words).await,
            Command::Kubectl(words) => passed_on::kubectl(&settings, words.words).await,
            Command::Service(service) => service::run(&settings, service).await,
            Command::Version => {
                output::line(settings::VERSION);
                Ok(())
            }
            Command::Completion { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut args::definition(), "rdd", &mut script);
                output::text(&String::from_utf8_lossy(&script));
                Ok(())
            }
        }
    })
}
