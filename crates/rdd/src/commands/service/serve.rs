//! `rdd service serve`: the control plane in this process.

use anyhow::Context as _;
use rdd_control_plane::{Options, serve};
use rdd_instance::{Arguments, process};
use tokio::runtime::Builder;

use crate::args::Serve;
use crate::exit::Outcome;
use crate::logging::{self, Verbosity};
use crate::settings::{Settings, VERSION};

/// Threads of the runtime: enough for a laptop's clients, few enough to stay small.
const WORKERS: usize = 2;

/// Runs until a signal ends it.
pub(crate) fn run(settings: &Settings, serve_arguments: Serve) -> Outcome {
    if serve_arguments.detached {
        process::detach()?;
    }
    let verbosity = settings
        .verbosity
        .max(Verbosity::from_number(serve_arguments.verbosity));
    logging::start(verbosity, settings.format);
    if !settings.instance.exists() {
        Arguments::new(&settings.instance, []).save(&settings.instance)?;
    }
    let options = Options {
        version: VERSION.to_owned(),
        controllers: serve_arguments
            .session
            .controllers
            .unwrap_or_else(|| "*".to_owned()),
        bind_address: serve_arguments.bind_address,
        secure_port: serve_arguments
            .session
            .secure_port
            .filter(|port| *port != 0)
            .unwrap_or_else(|| settings.instance.secure_port()),
        tls_names: serve_arguments.tls_name,
        token_file: serve_arguments.session.token_file,
        arguments: std::env::args().skip(1).collect(),
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let outcome = runtime.block_on(serve(settings.instance.clone(), options));
    // Whatever still runs is abandoned: everything that must end was awaited.
    runtime.shutdown_background();
    Ok(outcome?)
}
