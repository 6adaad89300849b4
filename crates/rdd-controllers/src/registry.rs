//! The one list of controllers: the service and every program select from it.

use rdd_api::names;
use rdd_manager::{ControllerDef, Names};

use crate::app;
use crate::containers::{container, engine, kinds};
use crate::samples::{configmapreplicaset, demo, notary};
use crate::world::World;

/// All controllers, once each.
pub static REGISTRY: &[ControllerDef<World>] = &[
    app::DEF,
    demo::DEF,
    container::DEF,
    kinds::CONTAINER_NAMESPACE,
    engine::DEF,
    kinds::IMAGE,
    kinds::VOLUME,
    configmapreplicaset::DEF,
    notary::DEF,
];

/// What a manager of these controllers calls things.
pub const NAMES: Names = Names {
    namespace: names::RDD_NAMESPACE,
    config_map: names::DISCOVERY_CONFIG_MAP,
    ready_annotation: names::READY_ANNOTATION,
    start_annotation: names::START_ANNOTATION,
    field_manager: names::field_manager::MANAGER,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_one_name_and_a_known_group() {
        let mut seen = Vec::new();
        for def in REGISTRY {
            assert!(!seen.contains(&def.name), "{} is listed twice", def.name);
            seen.push(def.name);
            let groups = [
                names::selection::APP,
                names::selection::CONTAINERS,
                names::selection::RDD,
            ];
            assert!(
                groups.contains(&def.group),
                "{} is in the unknown group {}",
                def.name,
                def.group
            );
        }
    }

    #[test]
    fn every_need_is_in_the_list() {
        for def in REGISTRY {
            for need in def.needs {
                assert!(
                    REGISTRY.iter().any(|other| other.name == *need),
                    "{} needs {need}",
                    def.name
                );
            }
        }
    }

    #[test]
    fn every_definition_is_shipped_once() {
        let mut seen = Vec::new();
        for crd in REGISTRY.iter().flat_map(|def| (def.crds)()) {
            let name = crd.metadata.name.expect("definitions are named");
            assert!(!seen.contains(&name), "{name} is shipped twice");
            seen.push(name);
        }
    }
}
