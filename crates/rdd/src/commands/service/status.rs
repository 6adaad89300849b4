//! `rdd service status`.

use rdd_instance::Daemon;
use serde_json::json;

use crate::exit::Outcome;
use crate::output::{self, Output};
use crate::settings::Settings;

/// Says what is there; never starts anything.
pub(super) fn run(settings: &Settings, output: &str) -> Outcome {
    let output = Output::parse(output, &[Output::Table, Output::Json, Output::Yaml])?;
    let name = settings.name();
    let created = settings.instance.exists();
    let daemon = Daemon::find(&settings.instance)?;
    let pid = daemon.as_ref().map_or(0, |daemon| daemon.pid);
    if output == Output::Table {
        output::line(format_args!(
            "{name:?} control plane has been created: {created}"
        ));
        output::line(format_args!(
            "{name:?} control plane has been started: {}",
            daemon.is_some()
        ));
        output::line(format_args!("{name:?} control plane PID is: {pid}"));
        if settings.developer_mode {
            output::line("developer mode is enabled");
        }
        return Ok(());
    }
    let document = json!({
        "name": name,
        "created": created,
        "started": daemon.is_some(),
        "pid": pid,
        "version": daemon.as_ref().map(|daemon| &daemon.version),
        "arguments": daemon.as_ref().map(|daemon| &daemon.arguments),
        "developerMode": settings.developer_mode,
    });
    output::document(&document, output);
    Ok(())
}
