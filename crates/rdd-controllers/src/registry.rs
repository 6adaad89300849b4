//! The one list of controllers: the service and every program select from it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::LazyLock;

use rdd_api::names;
use rdd_manager::{ControllerDef, Names, Selection};

use crate::app;
use crate::containers::{container, engine, kinds, namespace};
use crate::mock;
use crate::samples::{configmapreplicaset, demo, notary};
use crate::world::World;

/// All controllers, once each.
pub static REGISTRY: &[ControllerDef<World>] = &[
    app::DEF,
    demo::DEF,
    container::DEF,
    namespace::DEF,
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
    stopping_annotation: names::STOPPING_ANNOTATION,
    field_manager: names::field_manager::MANAGER,
    webhook_field_manager: names::field_manager::WEBHOOKS,
    controller: names::CONTROLLER_ANNOTATION,
    manager: names::MANAGER_ANNOTATION,
};

/// Controllers that run in a program of their own and never in the service.
pub static PROGRAM_ONLY: &[ControllerDef<World>] = &[mock::DEF];

/// The help text of `--controllers`, wherever the flag stands.
pub static CONTROLLERS_HELP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "Controllers to run: * for all, or a comma-separated list of controllers and groups \
         ({}); a leading - excludes, as in '*,-demo' or 'containers,-engine'",
        groups(REGISTRY).join(", ")
    )
});

/// The groups of some controllers, sorted, each once.
fn groups(controllers: &'static [ControllerDef<World>]) -> Vec<&'static str> {
    let groups: BTreeSet<&str> = controllers.iter().map(|def| def.group).collect();
    groups.into_iter().collect()
}

/// The controllers of a group, wherever they run.
#[must_use]
pub fn of_group(group: &str) -> Vec<&'static ControllerDef<World>> {
    let all = REGISTRY.iter().chain(PROGRAM_ONLY);
    all.filter(|def| def.group == group).collect()
}

/// The program that hosts a group's controllers.
#[must_use]
pub fn program(group: &str) -> String {
    format!("{group}-controller")
}

/// The groups that have a program.
#[must_use]
pub fn programs() -> Vec<&'static str> {
    let mut all = groups(REGISTRY);
    all.extend(groups(PROGRAM_ONLY));
    all
}

/// What the service runs of a selection.
#[must_use]
pub fn embedded(controllers: &str) -> Vec<&'static ControllerDef<World>> {
    Selection::parse(controllers).select(REGISTRY).controllers
}

/// What is wrong with the words of a selection, one sentence each: they select nothing.
#[must_use]
pub fn problems(controllers: &str) -> Vec<String> {
    let unknown = Selection::parse(controllers).select(REGISTRY).unknown;
    let only = |word: &str| {
        let mut all = PROGRAM_ONLY.iter();
        all.find(|def| def.name == word || def.group == word)
    };
    let sentence = |word: String| match only(&word) {
        Some(def) => format!(
            "--controllers: {word:?} runs in a program of its own only: {}",
            program(def.group)
        ),
        None => format!(
            "--controllers: {word:?} is neither a controller nor a group; groups: {}; controllers: {}",
            groups(REGISTRY).join(", "),
            REGISTRY
                .iter()
                .map(|def| def.name)
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    unknown.into_iter().map(sentence).collect()
}

/// Which program hosts which controller: the whole of `docs/reference/controllers.md`.
#[must_use]
pub fn reference() -> String {
    format!(
        "# Controllers

<!-- Written by `cargo xtask reference` from the one list of controllers. -->

The service runs those that `rdd svc start --controllers=LIST` selects. The others of a group
can run in the group's program, beside it: start that after the service. What runs already
is left alone.

{}
`--controllers` takes words with commas between them. A word is `*`, a group or a controller;
a leading `-` excludes; exclusion wins, and order is irrelevant. The default is `*`; an empty
list runs none. Definitions that a controller needs are installed with it, whoever runs the
controller that ships them.

Examples: `*,-demo` runs all but Demo; `containers,-engine` serves the kinds of the mirrors
without an engine, for `{}`.
",
        hosting_table(),
        program(names::selection::MOCK),
    )
}

fn hosting_table() -> String {
    let mut text = "| Controller | Group | Its kinds | Needs the kinds of | Besides the service, hosted by |\n\
                    |---|---|---|---|---|\n"
        .to_owned();
    let or_none = |words: Vec<String>| match words.is_empty() {
        true => "—".to_owned(),
        false => words.join(", "),
    };
    for def in REGISTRY.iter().chain(PROGRAM_ONLY) {
        let kinds = (def.crds)().into_iter().map(|crd| crd.spec.names.kind);
        let needs = def.needs.iter().map(|need| format!("`{need}`"));
        let only = PROGRAM_ONLY.iter().any(|other| other.name == def.name);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `{}` | {} | {} | `{}`{} |",
            def.name,
            def.group,
            or_none(kinds.collect()),
            or_none(needs.collect()),
            program(def.group),
            if only { " only" } else { "" },
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_one_name_and_a_known_group() {
        let mut seen = Vec::new();
        for def in REGISTRY.iter().chain(PROGRAM_ONLY) {
            assert!(!seen.contains(&def.name), "{} is listed twice", def.name);
            seen.push(def.name);
            let groups = [
                names::selection::APP,
                names::selection::CONTAINERS,
                names::selection::RDD,
                names::selection::MOCK,
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
    fn the_service_and_the_programs_offer_the_same() {
        let mut hosted: Vec<&str> = programs()
            .into_iter()
            .flat_map(of_group)
            .map(|def| def.name)
            .collect();
        let mut all: Vec<&str> = REGISTRY
            .iter()
            .chain(PROGRAM_ONLY)
            .map(|def| def.name)
            .collect();
        hosted.sort_unstable();
        all.sort_unstable();
        assert_eq!(hosted, all, "each controller has exactly one program");
        for group in groups(REGISTRY) {
            let ours = embedded(group);
            let theirs = of_group(group);
            let names = |defs: &[&ControllerDef<World>]| -> Vec<&str> {
                defs.iter().map(|def| def.name).collect()
            };
            assert_eq!(names(&ours), names(&theirs), "{group}");
            assert!(theirs.iter().all(|def| def.group == group), "{group}");
        }
        assert_eq!(
            of_group(names::selection::CONTAINERS)
                .iter()
                .map(|def| def.name)
                .collect::<BTreeSet<_>>(),
            BTreeSet::from([
                "container",
                "containernamespace",
                "engine",
                "image",
                "volume"
            ])
        );
    }

    #[test]
    fn waiters_and_registry_know_controllers_by_the_same_names() {
        // These select which wait `rdd set` makes, and what `Settled` takes into account.
        for (name, group) in [
            (names::controller::APP, names::selection::APP),
            (names::controller::ENGINE, names::selection::CONTAINERS),
        ] {
            let found = REGISTRY.iter().find(|def| def.name == name);
            assert_eq!(found.map(|def| def.group), Some(group), "{name}");
        }
    }

    #[test]
    fn the_reference_says_what_is_true() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/reference/controllers.md"
        );
        let text = std::fs::read_to_string(file).expect("it is there");
        assert_eq!(text, reference(), "run `cargo xtask reference`");
    }

    #[test]
    fn the_help_names_every_group_and_what_a_dash_does() {
        for word in groups(REGISTRY)
            .into_iter()
            .chain(["'*,-demo'", "'containers,-engine'"])
        {
            assert!(CONTROLLERS_HELP.contains(word), "{word}");
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
