//! `rdd service serve`: the control plane in this process.

use rdd_control_plane::Options;
use rdd_instance::{Arguments, process};

use crate::args::Serve;
use crate::exit::Outcome;
use crate::logging::{self, Verbosity};
use crate::settings::{Settings, VERSION};

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
        allowed_origins: serve_arguments.session.allow_origin,
        token_file: serve_arguments.session.token_file,
        arguments: std::env::args().skip(1).collect(),
    };
    Ok(rdd_control_plane::run(&settings.instance, options)?)
}
