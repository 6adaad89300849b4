//! App: the machine, and the App's own state.
//!
//! ```text
//! App change ─┐
//! discovery  ─┼─▶ machine::Keeper: what is wanted × what is known ─▶ look, start or stop
//! machine    ─┘   verdict: what is known × the App ─▶ Created, Running, KubernetesReady, Settled
//! ```
//!
//! The conditions are written by server-side apply under the controller's own field
//! manager: the engine's condition on the same App is out of its reach, and it out of theirs.

mod admission;
mod controller;
mod k3s;
mod keeper;
mod namespace_guard;
mod verdict;

use rdd_api::{App, names};
use rdd_manager::ControllerDef;

use crate::world::World;

/// The controller of the App.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: names::controller::APP,
    group: names::selection::APP,
    needs: &[],
    crds: || vec![App::crd()],
    admission: |context| {
        let mut rules = admission::rules();
        rules.push(namespace_guard::rule(context.client().clone()));
        rules
    },
    endpoints: |_| Vec::new(),
    run: |context| {
        Box::pin(async {
            // Bundled data that cannot be read ends the start, not somebody's first request.
            k3s::Releases::bundled()?;
            controller::run(context).await
        })
    },
};
