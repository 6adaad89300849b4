//! App: the machine, and the App's own state.

mod admission;

use rdd_api::{App, names};
use rdd_manager::ControllerDef;

use crate::world::World;

/// The controller of the App.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: names::controller::APP,
    group: names::selection::APP,
    needs: &[],
    crds: || vec![App::crd()],
    admission: |_| admission::rules(),
    run: |context| {
        Box::pin(async move {
            context.synced().await;
            context.stopping().cancelled().await;
            Ok(())
        })
    },
};
