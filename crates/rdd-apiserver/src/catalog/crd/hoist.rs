//! What all versions of a definition have in common.
//!
//! kube-apiserver keeps a schema, subresources, columns or selectable fields that are
//! the same in every version once, at the top, and words its errors after that place:
//! `spec.validation.openAPIV3Schema…` instead of `spec.versions[0].schema…`.

use serde_json::Value;

/// The versions of a definition, and which of their parts are common to all.
pub(super) struct Versions<'a> {
    /// `spec.versions`.
    pub(super) all: Vec<&'a Value>,
    /// Whether the schema is the same in every version.
    pub(super) schema: bool,
    /// Whether the subresources are.
    pub(super) subresources: bool,
    /// Whether the printer columns are.
    pub(super) columns: bool,
    /// Whether the selectable fields are.
    pub(super) selectable_fields: bool,
}

impl<'a> Versions<'a> {
    /// Reads `spec`.
    pub(super) fn of(spec: &'a Value) -> Self {
        let all: Vec<&Value> = spec["versions"].as_array().into_iter().flatten().collect();
        let common = |part: &str| {
            all.windows(2)
                .all(|pair| pair[0].get(part) == pair[1].get(part))
        };
        Self {
            schema: common("schema"),
            subresources: common("subresources"),
            columns: common("additionalPrinterColumns"),
            selectable_fields: common("selectableFields"),
            all,
        }
    }
}

/// The schema of a version.
pub(super) fn schema_of(version: &Value) -> Option<&Value> {
    version
        .get("schema")?
        .get("openAPIV3Schema")
        .filter(|schema| !schema.is_null())
}

/// Whether a version has this subresource.
pub(super) fn has_subresource(version: &Value, name: &str) -> bool {
    version["subresources"]
        .get(name)
        .is_some_and(|one| !one.is_null())
}
