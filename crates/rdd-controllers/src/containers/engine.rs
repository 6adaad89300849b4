//! The engine controller: mirrors the engine's containers, images and volumes, and
//! carries out what is asked of the mirrors.
//!
//! ```text
//! engine event ─┐                        ┌─▶ inspect ─▶ plan(object, mirror) ─▶ write
//! mirror event ─┼─▶ key of one object ─▶ │
//! full pass    ─┘    (queue, backoff)    └─▶ deletion, action, standing wish ─▶ engine
//! ```
//!
//! A full pass only puts keys into the queue: there is one place that decides what
//! happens to an object, and it always looks at the engine first. Work per event does
//! not depend on how many objects there are.

mod actions;
mod app_status;
mod apply;
mod connection;
mod controller;
mod everything;
mod fresh;
mod mirrors;
mod plan;
mod requests;
mod session;
mod sweep;
mod verify;
mod watches;
mod work;

pub(super) use requests::CreateRules;

use rdd_api::names::{controller as controllers, selection};
use rdd_manager::ControllerDef;

use crate::world::World;

/// The controller.
pub(crate) const DEF: ControllerDef<World> = ControllerDef {
    name: controllers::ENGINE,
    group: selection::CONTAINERS,
    needs: &[
        controllers::APP,
        controllers::CONTAINER,
        controllers::CONTAINER_NAMESPACE,
        controllers::IMAGE,
        controllers::VOLUME,
    ],
    crds: Vec::new,
    admission: |_| Vec::new(),
    endpoints: super::streams::endpoints,
    run: |context| {
        Box::pin(async move {
            tokio::try_join!(controller::run(context.clone()), requests::run(context)).map(drop)
        })
    },
};
