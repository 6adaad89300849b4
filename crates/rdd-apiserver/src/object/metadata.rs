//! What all types share: the rules of `metadata`, and its form ([`decode`]).

use rdd_schema::{FieldError, names};
use serde_json::Value;

use crate::catalog::Resource;

mod form;

pub use form::{decode, decode_embedded};

/// Bytes that all annotations of an object may have together, keys and values.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

fn texts<'a>(metadata: &'a Value, key: &str) -> Vec<&'a str> {
    let items = metadata.get(key).and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn text<'a>(metadata: &'a Value, key: &str) -> &'a str {
    metadata
        .get(key)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The errors of any object's `metadata`, in kube-apiserver's order.
#[must_use]
pub fn validate(resource: &Resource, metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let strategy = resource.strategy.as_ref();
    let generate_name = text(metadata, "generateName");
    if !generate_name.is_empty() {
        // Five characters follow, so that a dash at the end is fine.
        let checked = match generate_name.strip_suffix('-') {
            Some(rest) if !rest.is_empty() => format!("{rest}a"),
            _ => generate_name.to_owned(),
        };
        for wrong in strategy.name_errors(&checked, true) {
            errors.push(FieldError::invalid(
                "metadata.generateName",
                generate_name,
                wrong,
            ));
        }
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else {
        for wrong in strategy.name_errors(name, false) {
            errors.push(FieldError::invalid("metadata.name", name, wrong));
        }
    }
    let namespace = text(metadata, "namespace");
    if resource.is_namespaced() {
        if namespace.is_empty() {
            errors.push(FieldError::required("metadata.namespace", ""));
        } else {
            for wrong in names::dns1123_label(namespace) {
                errors.push(FieldError::invalid("metadata.namespace", namespace, wrong));
            }
        }
    }
    validate_generation(metadata, &mut errors);
    validate_labels(metadata, &mut errors);
    validate_annotations(metadata, &mut errors);
    validate_owners(metadata, &mut errors);
    validate_finalizers(resource, metadata, &mut errors);
    errors
}

/// The errors of the metadata of an object inside another one: only what holds for any
/// kind, named from `metadata` on.
#[must_use]
pub fn validate_embedded(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in ["generateName", "name"] {
        let name = text(metadata, field);
        if name.is_empty() {
            continue;
        }
        for wrong in names::path_segment(name) {
            errors.push(FieldError::invalid(
                format!("metadata.{field}"),
                name,
                wrong,
            ));
        }
    }
    let namespace = text(metadata, "namespace");
    if !namespace.is_empty() {
        for wrong in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid("metadata.namespace", namespace, wrong));
        }
    }
    validate_generation(metadata, &mut errors);
    validate_labels(metadata, &mut errors);
    validate_annotations(metadata, &mut errors);
    validate_owners(metadata, &mut errors);
    validate_finalizer_names(metadata, &mut errors);
    let managed = metadata.get("managedFields").and_then(Value::as_array);
    for (index, entry) in managed.into_iter().flatten().enumerate() {
        let operation = text(entry, "operation");
        let field = |name: &str| format!("metadata.managedFields[{index}].{name}");
        if !matches!(operation, "Apply" | "Update") {
            errors.push(FieldError::invalid(
                field("operation"),
                operation,
                "must be `Apply` or `Update`",
            ));
        }
        let fields_type = text(entry, "fieldsType");
        if !fields_type.is_empty() && fields_type != "FieldsV1" {
            errors.push(FieldError::invalid(
                field("fieldsType"),
                fields_type,
                "must be `FieldsV1`",
            ));
        }
    }
    errors
}

fn validate_generation(metadata: &Value, errors: &mut Vec<FieldError>) {
    if let Some(generation) = metadata.get("generation").and_then(Value::as_i64)
        && generation < 0
    {
        errors.push(FieldError::invalid(
            "metadata.generation",
            generation,
            "must be greater than or equal to 0",
        ));
    }
}

fn validate_labels(metadata: &Value, errors: &mut Vec<FieldError>) {
    let labels = metadata.get("labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        for wrong in names::qualified_name(key) {
            errors.push(FieldError::invalid("metadata.labels", key.as_str(), wrong));
        }
        let value = value.as_str().unwrap_or_default();
        for wrong in names::label_value(value) {
            errors.push(FieldError::invalid("metadata.labels", value, wrong));
        }
    }
}

fn validate_annotations(metadata: &Value, errors: &mut Vec<FieldError>) {
    let annotations = metadata.get("annotations").and_then(Value::as_object);
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        for wrong in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(
                "metadata.annotations",
                key.as_str(),
                wrong,
            ));
        }
        size += key.len() + value.as_str().map_or(0, str::len);
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(
            "metadata.annotations",
            ANNOTATIONS_MAX,
        ));
    }
}

fn validate_owners(metadata: &Value, errors: &mut Vec<FieldError>) {
    let field = "metadata.ownerReferences";
    let owners = metadata.get("ownerReferences").and_then(Value::as_array);
    let own = text(metadata, "uid");
    let mut controller: Option<&Value> = None;
    for owner in owners.into_iter().flatten() {
        let api_version = text(owner, "apiVersion");
        if api_version.is_empty() || api_version.matches('/').count() > 1 {
            errors.push(FieldError::invalid(
                format!("{field}.apiVersion"),
                api_version,
                "version must not be empty",
            ));
        }
        for member in ["kind", "name", "uid"] {
            if text(owner, member).is_empty() {
                errors.push(FieldError::invalid(
                    format!("{field}.{member}"),
                    "",
                    "must not be empty",
                ));
            }
        }
        // Kubernetes takes it, and such an object is collected by nobody.
        if !own.is_empty() && text(owner, "uid") == own {
            let text = "an object cannot own itself";
            errors.push(FieldError::invalid(format!("{field}.uid"), own, text));
        }
        if api_version == "v1" && text(owner, "kind") == "Event" {
            let text = "/v1, Kind=Event is disallowed from being an owner";
            let error = FieldError::invalid(field, Value::Null, text);
            errors.push(error.shown_as(show_owner(owner)));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            if let Some(first) = controller {
                let describe =
                    |owner: &Value| format!("{}/{}", text(owner, "kind"), text(owner, "name"));
                let text = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in \
                     references for {} and {}",
                    describe(first),
                    describe(owner)
                );
                let all: Vec<String> = owners.into_iter().flatten().map(show_owner).collect();
                let error = FieldError::invalid(field, Value::Null, text);
                errors.push(error.shown_as(format!("[{}]", all.join(","))));
            } else {
                controller = Some(owner);
            }
        }
    }
}

/// An owner reference with its members in Go's order.
fn show_owner(owner: &Value) -> String {
    let texts = ["apiVersion", "kind", "name", "uid"];
    let texts = texts.map(|name| (name, Value::from(text(owner, name))));
    let marks = ["controller", "blockOwnerDeletion"];
    let marks = marks.map(|name| (name, owner.get(name).cloned().unwrap_or_default()));
    let members: Vec<String> = texts
        .into_iter()
        .chain(marks)
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

fn validate_finalizer_names(metadata: &Value, errors: &mut Vec<FieldError>) {
    let finalizers = texts(metadata, "finalizers");
    for finalizer in &finalizers {
        for wrong in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(
                "metadata.finalizers",
                *finalizer,
                wrong,
            ));
        }
    }
    if finalizers.contains(&"orphan") && finalizers.contains(&"foregroundDeletion") {
        errors.push(FieldError::invalid(
            "metadata.finalizers",
            finalizers.clone(),
            "finalizer orphan and foregroundDeletion cannot be both set",
        ));
    }
}

fn validate_finalizers(resource: &Resource, metadata: &Value, errors: &mut Vec<FieldError>) {
    validate_finalizer_names(metadata, errors);
    let finalizers = texts(metadata, "finalizers");
    // Only what was once validated in the core group knows the standard names.
    let knows = match resource.group.as_str() {
        "" => resource.kind != "Event",
        "rbac.authorization.k8s.io" | "events.k8s.io" => true,
        _ => false,
    };
    if !knows {
        return;
    }
    for (index, finalizer) in finalizers.iter().enumerate() {
        let known = STANDARD_FINALIZERS.contains(finalizer) || finalizer.contains('/');
        if !known {
            errors.push(FieldError::invalid(
                format!("metadata.finalizers[{index}]"),
                *finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
}

/// How often kube-apiserver checks the metadata of a changed object, as such and against
/// what it was: once for every type, and again in some types' own validation. Each error
/// shows as a cause as often.
pub(crate) fn checks_of_update(resource: &Resource) -> (usize, usize) {
    if resource.is_custom() {
        return (1, 2);
    }
    match resource.group.as_str() {
        "" if resource.kind == "Event" => (1, 1),
        "" | "rbac.authorization.k8s.io" | "apiregistration.k8s.io" => (2, 2),
        "admissionregistration.k8s.io" => (2, 1),
        _ => (1, 2),
    }
}

/// What the check of a changed object looks at once more.
#[must_use]
pub fn validate_again(metadata: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    validate_labels(metadata, &mut errors);
    validate_annotations(metadata, &mut errors);
    validate_owners(metadata, &mut errors);
    errors
}

/// What to tell the author of a custom resource about the finalizers that are new.
#[must_use]
pub fn finalizer_warnings(metadata: &Value, old: Option<&Value>) -> Vec<String> {
    let before = old.and_then(|old| old.get("metadata"));
    let before = before
        .map(|metadata| texts(metadata, "finalizers"))
        .unwrap_or_default();
    texts(metadata, "finalizers")
        .into_iter()
        .filter(|name| !name.contains('/') && !STANDARD_FINALIZERS.contains(name))
        .filter(|name| !before.contains(name))
        .map(|name| {
            format!(
                "metadata.finalizers: {name:?}: prefer a domain-qualified finalizer name to avoid \
                 accidental conflicts with other finalizer writers"
            )
        })
        .collect()
}

/// Puts back what only the server changes, before [`validate_update`] looks for what may
/// not change at all.
pub fn restore(new: &mut Value, old: &Value) {
    let Some(new) = new.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    let empty = Value::Null;
    let old = old.get("metadata").unwrap_or(&empty);
    let mut keep = |key: &str, only_if_absent: bool| match old.get(key) {
        Some(value) if !(only_if_absent && new.contains_key(key)) => {
            new.insert(key.to_owned(), value.clone());
        }
        None if !only_if_absent => {
            new.remove(key);
        }
        _ => {}
    };
    keep("creationTimestamp", false);
    keep("generation", false);
    keep("uid", true);
    keep("deletionGracePeriodSeconds", true);
    if old.get("deletionTimestamp").is_some() {
        keep("deletionTimestamp", false);
    }
}

/// The errors of a changed object's `metadata` against the stored one.
#[must_use]
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !text(old, "deletionTimestamp").is_empty() {
        let before = texts(old, "finalizers");
        let added: Vec<String> = texts(new, "finalizers")
            .into_iter()
            .filter(|finalizer| !before.contains(finalizer))
            .map(crate::object::quote)
            .collect();
        if !added.is_empty() {
            errors.push(FieldError::forbidden(
                "metadata.finalizers",
                format!(
                    "no new finalizers can be added if the object is being deleted, found new \
                     finalizers []string{{{}}}",
                    added.join(", ")
                ),
            ));
        }
    }
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let (before, after) = (old.get(key), new.get(key));
        if before != after {
            errors.push(FieldError::invalid(
                format!("metadata.{key}"),
                after.cloned().unwrap_or_else(|| match key {
                    "name" | "namespace" | "uid" => "".into(),
                    _ => Value::Null,
                }),
                "field is immutable",
            ));
        }
    }
    errors
}

/// Removes owner references that repeat an earlier one; the warning says where.
#[must_use]
pub fn drop_duplicate_owners(object: &mut Value, after: &str) -> Option<String> {
    let owners = object
        .get_mut("metadata")?
        .get_mut("ownerReferences")?
        .as_array_mut()?;
    let mut seen: Vec<Value> = Vec::new();
    let mut dropped: Vec<String> = Vec::new();
    owners.retain(|owner| {
        let new = !seen.contains(owner);
        if new {
            seen.push(owner.clone());
        } else {
            let uid = owner.get("uid").and_then(Value::as_str);
            dropped.push(uid.unwrap_or_default().to_owned());
        }
        new
    });
    (!dropped.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{after}; API server dedups owner \
             references in 1.20+, and may reject such requests as early as 1.24; please fix your \
             requests; duplicate UID(s) observed: {}",
            dropped.join(", ")
        )
    })
}

/// Characters of generated names: no vowels, and none that look alike.
const NAME_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A name from a `generateName`.
#[must_use]
pub fn generate_name(base: &str) -> String {
    use rand::RngExt as _;
    let mut cut = base.len().min(58);
    while !base.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut name = base[..cut].to_owned();
    let mut random = rand::rng();
    for _ in 0..5 {
        name.push(char::from(
            NAME_CHARACTERS[random.random_range(0..NAME_CHARACTERS.len())],
        ));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finalizers_only_shrink_while_deleting() {
        let old = json!({"deletionTimestamp": "t", "finalizers": ["a/b"]});
        let new = json!({"deletionTimestamp": "t", "finalizers": ["a/b", "c/d"]});
        let errors = validate_update(&new, &old);
        assert_eq!(
            errors[0].to_string(),
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is \
             being deleted, found new finalizers []string{\"c/d\"}"
        );
    }

    #[test]
    fn generated_names_keep_their_base() {
        let name = generate_name("gen-");
        assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
        assert_eq!(generate_name(&"x".repeat(80)).len(), 63);
    }
}
