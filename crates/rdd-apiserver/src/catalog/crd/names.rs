//! Who may be called what: names are claimed per API group, first come, first served.

use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value, json};

/// The names that the definitions of a group hold.
#[derive(Debug, Default)]
pub(super) struct Claims<'a> {
    /// Plurals, singulars and short names.
    resources: HashSet<&'a str>,
    /// Kinds and list kinds.
    kinds: HashSet<&'a str>,
}

/// A name that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `PluralConflict` and the like.
    pub reason: &'static str,
    /// `"aa" is already in use`.
    pub message: String,
}

impl<'a> Claims<'a> {
    /// All accepted names together.
    pub(super) fn of(accepted: impl Iterator<Item = &'a Value>) -> Self {
        let mut claims = Self::default();
        for names in accepted {
            let resources = ["plural", "singular"].map(|field| text(names, field));
            let kinds = ["kind", "listKind"].map(|field| text(names, field));
            claims.resources.extend(resources);
            claims.resources.extend(short_names(names));
            claims.kinds.extend(kinds);
        }
        claims
    }
}

/// Decides on the names that a definition asks for. What it holds already stays its
/// own; what clashes keeps its old value, and the last clash is the one reported.
pub(super) fn decide(
    requested: &Value,
    accepted: &Value,
    claims: &Claims<'_>,
) -> (Value, Option<Conflict>) {
    let mut names: Map<String, Value> = accepted.as_object().cloned().unwrap_or_default();
    let mut conflict = None;
    for (field, held, reason) in [
        ("plural", &claims.resources, "PluralConflict"),
        ("singular", &claims.resources, "SingularConflict"),
        ("shortNames", &claims.resources, "ShortNamesConflict"),
        ("kind", &claims.kinds, "KindConflict"),
        ("listKind", &claims.kinds, "ListKindConflict"),
    ] {
        let clashes = if field == "shortNames" {
            let own: BTreeSet<&str> = short_names(accepted).collect();
            short_names(requested)
                .filter(|name| !own.contains(name) && held.contains(*name))
                .map(in_use)
                .collect()
        } else {
            let (wanted, own) = (text(requested, field), text(accepted, field));
            if wanted != own && held.contains(wanted) {
                vec![in_use(wanted)]
            } else {
                Vec::new()
            }
        };
        let message = match clashes.as_slice() {
            [] => {
                set(&mut names, field, requested.get(field));
                continue;
            }
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        conflict = Some(Conflict { reason, message });
    }
    set(&mut names, "categories", requested.get("categories"));
    for always in ["plural", "kind"] {
        names.entry(always).or_insert_with(|| json!(""));
    }
    (Value::Object(names), conflict)
}

fn set(names: &mut Map<String, Value>, field: &str, value: Option<&Value>) {
    match value {
        Some(value) => {
            names.insert(field.to_owned(), value.clone());
        }
        None => {
            names.remove(field);
        }
    }
}

fn in_use(name: &str) -> String {
    format!("{name:?} is already in use")
}

fn text<'a>(names: &'a Value, field: &str) -> &'a str {
    names.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn short_names(names: &Value) -> impl Iterator<Item = &str> {
    names["shortNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(requested: &Value, accepted: &Value, expect: &Value, reason: Option<&str>) {
        let alphas = json!({
            "plural": "alphas", "singular": "alpha", "kind": "Alpha", "listKind": "AlphaList",
            "shortNames": ["aa"],
        });
        let claims = Claims::of([&alphas].into_iter());
        let (names, conflict) = decide(requested, accepted, &claims);
        assert_eq!(&names, expect);
        assert_eq!(conflict.map(|conflict| conflict.reason), reason);
    }

    #[test]
    fn fresh_names_are_accepted_whole() {
        let betas = json!({
            "plural": "betas", "singular": "beta", "kind": "Beta", "listKind": "BetaList",
        });
        check(&betas, &json!({}), &betas, None);
    }

    #[test]
    fn what_clashes_is_left_out_and_the_rest_accepted() {
        check(
            &json!({
                "plural": "betas", "singular": "alphalist", "kind": "AlphaList",
                "listKind": "AlphaListList",
            }),
            &json!({}),
            &json!({
                "plural": "betas", "singular": "alphalist", "kind": "",
                "listKind": "AlphaListList",
            }),
            Some("KindConflict"),
        );
        check(
            &json!({
                "plural": "betas", "singular": "beta", "kind": "Beta", "listKind": "BetaList",
                "shortNames": ["aa", "bb"],
            }),
            &json!({}),
            &json!({
                "plural": "betas", "singular": "beta", "kind": "Beta", "listKind": "BetaList",
            }),
            Some("ShortNamesConflict"),
        );
    }

    #[test]
    fn names_once_accepted_stay_ones_own() {
        let names = json!({
            "plural": "alphas", "singular": "alpha", "kind": "Alpha", "listKind": "AlphaList",
            "shortNames": ["aa"],
        });
        check(&names, &names, &names, None);
    }
}
