//! `rdd service serve`: the control plane in this process.

use rdd_control_plane::{AuditOptions, Options};
use rdd_instance::{Arguments, process};

use crate::args::Serve;
use crate::exit::Outcome;
use crate::logging::{self, Verbosity};
use crate::settings::{Settings, VERSION};

/// Size of an audit log in MiB, and how many older ones are kept, unless others are asked for.
const AUDIT_MIB: u32 = 100;
const AUDIT_KEEP: u32 = 5;

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
    let session = &serve_arguments.session;
    let audit_log = session.audit_log.clone().map(|path| AuditOptions {
        path,
        bytes_max: u64::from(session.audit_log_maxsize.unwrap_or(AUDIT_MIB)) * 1024 * 1024,
        keep: session.audit_log_maxbackup.unwrap_or(AUDIT_KEEP),
    });
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
        webhook_services: serve_arguments.session.webhook_service,
        token_file: serve_arguments.session.token_file,
        audit_log,
        arguments: std::env::args().skip(1).collect(),
    };
    Ok(rdd_control_plane::run(&settings.instance, options)?)
}
