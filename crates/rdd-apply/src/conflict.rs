//! Fields that an apply would take from others.

use std::fmt;

use crate::field_set::FieldSet;

/// What stands in the way of an apply: per manager the fields that it owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflicts {
    /// How the manager is named, and its fields; sorted by name.
    pub(crate) of_managers: Vec<(String, FieldSet)>,
}

impl Conflicts {
    /// Each conflict as the cause's message and the field, sorted by field, then message.
    pub fn paths(&self) -> impl Iterator<Item = (String, String)> {
        let mut causes: Vec<(String, String)> = self
            .of_managers
            .iter()
            .flat_map(|(manager, set)| {
                set.paths()
                    .into_iter()
                    .map(move |path| (format!("conflict with {manager}"), path))
            })
            .collect();
        causes.sort_by(|(a, x), (b, y)| x.cmp(y).then_with(|| a.cmp(b)));
        causes.into_iter()
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_managers: Vec<(&str, Vec<String>)> = self
            .of_managers
            .iter()
            .map(|(manager, set)| (manager.as_str(), set.paths()))
            .collect();
        let count: usize = of_managers.iter().map(|(_, paths)| paths.len()).sum();
        if let ([(manager, paths)], 1) = (&of_managers[..], count) {
            let path = &paths[0];
            return write!(
                out,
                "Apply failed with 1 conflict: conflict with {manager}: {path}"
            );
        }
        write!(out, "Apply failed with {count} conflicts: ")?;
        for (at, (manager, paths)) in of_managers.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(out, "{separator}conflicts with {manager}:")?;
            for path in paths {
                write!(out, "\n- {path}")?;
            }
        }
        Ok(())
    }
}
