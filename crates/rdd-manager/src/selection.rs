//! Which controllers of a registry run: the `--controllers` syntax.

use crate::controller_def::ControllerDef;

/// The group that runs whatever is selected.
const ALWAYS: &str = "builtin";

/// A parsed selection: comma-separated words, of which each is `*`, a group or a
/// controller, and a leading `-` excludes. Order is irrelevant; exclusion wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    include: Vec<String>,
    exclude: Vec<String>,
}

/// What a selection means for one registry.
#[derive(Debug)]
pub struct Selected<W: 'static> {
    /// The controllers to run, in the registry's order.
    pub controllers: Vec<&'static ControllerDef<W>>,
    /// Words that name nothing in the registry.
    pub unknown: Vec<String>,
}

/// A controller that a list of controllers names, and the registry does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("controller {controller:?} needs {missing:?}, which is not in the registry")]
pub struct UnknownController {
    /// Who needs it.
    pub controller: &'static str,
    /// What is missing.
    pub missing: &'static str,
}

impl Selection {
    /// Takes the text apart. Every text is a selection; the empty one selects
    /// nothing but what always runs.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut selection = Self::default();
        for word in text.split(',').map(str::trim) {
            match word.strip_prefix('-').map(str::trim) {
                Some("") => {}
                Some(word) => selection.exclude.push(word.to_owned()),
                None if word.is_empty() => {}
                None => selection.include.push(word.to_owned()),
            }
        }
        selection
    }

    /// Whether a controller of this name and group runs.
    #[must_use]
    pub fn selects(&self, name: &str, group: &str) -> bool {
        let names = |words: &[String]| {
            words
                .iter()
                .any(|word| word == "*" || word == name || word == group)
        };
        group == ALWAYS || (names(&self.include) && !names(&self.exclude))
    }

    /// Applies the selection to a registry.
    #[must_use]
    pub fn select<W>(&self, registry: &'static [ControllerDef<W>]) -> Selected<W> {
        let known = |word: &str| {
            word == "*"
                || registry
                    .iter()
                    .any(|controller| controller.name == word || controller.group == word)
        };
        let words = self.include.iter().chain(&self.exclude);
        Selected {
            controllers: registry
                .iter()
                .filter(|controller| self.selects(controller.name, controller.group))
                .collect(),
            unknown: words.filter(|word| !known(word)).cloned().collect(),
        }
    }
}

/// The selected controllers together with those whose definitions they read.
pub(crate) fn with_needs<W>(
    selected: &[&'static ControllerDef<W>],
    registry: &'static [ControllerDef<W>],
) -> Result<Vec<&'static ControllerDef<W>>, UnknownController> {
    let mut all = selected.to_vec();
    for controller in selected {
        for missing in controller.needs {
            let needed =
                registry
                    .iter()
                    .find(|other| other.name == *missing)
                    .ok_or(UnknownController {
                        controller: controller.name,
                        missing,
                    })?;
            if !all.iter().any(|other| other.name == needed.name) {
                all.push(needed);
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn def(
        name: &'static str,
        group: &'static str,
        needs: &'static [&'static str],
    ) -> ControllerDef<()> {
        ControllerDef {
            name,
            group,
            needs,
            crds: Vec::new,
            admission: |_| Vec::new(),
            endpoints: |_| Vec::new(),
            run: |_| Box::pin(async { Ok(()) }),
        }
    }

    static REGISTRY: [ControllerDef<()>; 5] = [
        def("namespace", "builtin", &[]),
        def("app", "app", &[]),
        def("demo", "app", &[]),
        def("engine", "containers", &["app", "image"]),
        def("image", "containers", &[]),
    ];

    #[test]
    fn words_select_by_name_and_group_and_exclusion_wins() {
        let check = |text: &str, expect: &[&str], unknown: &[&str]| {
            let selected = Selection::parse(text).select(&REGISTRY);
            let names: Vec<&str> = selected.controllers.iter().map(|def| def.name).collect();
            assert_eq!(names, expect, "{text:?}");
            assert_eq!(selected.unknown, unknown, "{text:?}");
        };
        check("*", &["namespace", "app", "demo", "engine", "image"], &[]);
        check("", &["namespace"], &[]);
        check(" , ,", &["namespace"], &[]);
        check("-", &["namespace"], &[]);
        check("*,-demo", &["namespace", "app", "engine", "image"], &[]);
        check("-demo , *", &["namespace", "app", "engine", "image"], &[]);
        check("containers,-engine", &["namespace", "image"], &[]);
        check("app", &["namespace", "app", "demo"], &[]);
        check("-app,app", &["namespace"], &[]);
        check("engine", &["namespace", "engine"], &[]);
        check(
            "*,-builtin",
            &["namespace", "app", "demo", "engine", "image"],
            &[],
        );
        check("-*,app", &["namespace"], &[]);
        check("lima,engine,-vm", &["namespace", "engine"], &["lima", "vm"]);
        check("App", &["namespace"], &["App"]);
    }

    #[test]
    fn definitions_of_needed_controllers_come_along() {
        let selected = Selection::parse("engine").select(&REGISTRY).controllers;
        let all = with_needs(&selected, &REGISTRY).expect("the registry is complete");
        let names: Vec<&str> = all.iter().map(|def| def.name).collect();
        assert_eq!(names, ["namespace", "engine", "app", "image"]);
    }

    #[test]
    fn a_need_that_nobody_fills_is_an_error() {
        static BROKEN: [ControllerDef<()>; 1] = [def("a", "b", &["gone"])];
        let selected = Selection::parse("*").select(&BROKEN).controllers;
        let error = with_needs(&selected, &BROKEN).expect_err("nothing fills it");
        assert_eq!((error.controller, error.missing), ("a", "gone"));
    }
}
