//! What a definition may not be: every rule, every error in one answer.

use std::{cell::RefCell, collections::BTreeSet};

use rdd_cel::rules;
use rdd_schema::{FieldError, FieldErrorKind, Schema, crd::JudgeDefaults, names};
use serde_json::Value;

use super::{
    conditions, embedded,
    hoist::{Versions, has_subresource, schema_of},
};
use crate::{
    catalog::{builtin::texts, client_config},
    object::meta,
};

const APPROVAL: &str = "api-approved.kubernetes.io";
const APPROVAL_PAGE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];

/// The most fields by which objects of a version may be selected.
const SELECTABLE_MAX: usize = 8;

/// The most characters in a deprecation warning.
const DEPRECATION_MAX: usize = 256;

/// Judges the defaults of one schema.
#[derive(Default)]
struct Defaults {
    /// What the rules of all defaults may cost together.
    rules: RefCell<rules::OfDefaults>,
}

impl JudgeDefaults for Defaults {
    fn objects(&self, default: &Value, schema: &Schema) -> Vec<FieldError> {
        embedded::errors(default, schema)
    }

    fn rules(&self, default: &Value, schema: &Schema, whole: bool, path: &str) -> Vec<FieldError> {
        self.rules.borrow_mut().judge(default, schema, whole, path)
    }
}

/// The errors of a schema; its rules are judged once the rest is in order.
fn schema_errors(document: &Value, path: &str, has_status: bool) -> Vec<FieldError> {
    let judge = Defaults::default();
    let errors = rdd_schema::crd::validate_document(document, path, has_status, &judge);
    match Schema::parse(document) {
        Ok(schema) if errors.is_empty() => rules::problems(&schema, path),
        _ => errors,
    }
}

/// The errors of a new definition.
pub(super) fn create(object: &Value) -> Vec<FieldError> {
    let spec = &object["spec"];
    let mut errors = Vec::new();
    let name = meta(object, "name");
    let expected = format!("{}.{}", text(&spec["names"], "plural"), text(spec, "group"));
    const NAME: &str = "must be spec.names.plural+\".\"+spec.group";
    // A prefix for a name can never be right.
    let prefix = meta(object, "generateName");
    if !prefix.is_empty() && prefix != expected {
        errors.push(FieldError::invalid("metadata.generateName", prefix, NAME));
    }
    let name_is_valid = names::dns1123_subdomain(name).is_empty();
    if name_is_valid && name != expected {
        errors.push(FieldError::invalid("metadata.name", name, NAME));
    }
    errors.extend(spec_errors(spec));
    errors.extend(stored_version_errors(object));
    errors.extend(approval_errors(object));
    errors
}

/// The errors of a changed definition.
pub(super) fn update(object: &Value, old: &Value) -> Vec<FieldError> {
    let (spec, old_spec) = (&object["spec"], &old["spec"]);
    let mut errors = spec_errors(spec);
    let mut immutable = |field: &str, pointer: &str| {
        let (new, old) = (spec.pointer(pointer), old_spec.pointer(pointer));
        if new != old {
            let value = new.cloned().unwrap_or_default();
            errors.push(FieldError::invalid(field, value, "field is immutable"));
        }
    };
    if conditions::is_true(old, "Established") {
        immutable("spec.scope", "/scope");
        immutable("spec.names.kind", "/names/kind");
    }
    immutable("spec.group", "/group");
    immutable("spec.names.plural", "/names/plural");
    errors.extend(stored_version_errors(object));
    if approval(object) != approval(old) {
        errors.extend(approval_errors(object));
    }
    errors
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn spec_errors(spec: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = text(spec, "group");
    let problems = names::dns1123_subdomain(group);
    if group.is_empty() {
        errors.push(FieldError::required("spec.group", ""));
    } else if !problems.is_empty() {
        errors.push(FieldError::invalid("spec.group", group, problems.join(",")));
    } else if !group.contains('.') {
        errors.push(FieldError::invalid(
            "spec.group",
            group,
            "should be a domain with at least one dot",
        ));
    }
    one_of(
        "spec.scope",
        text(spec, "scope"),
        &["Cluster", "Namespaced"],
        &mut errors,
    );
    let versions = Versions::of(spec);
    for (index, version) in versions.all.iter().enumerate() {
        if schema_of(version).is_none() {
            let field = format!("spec.versions[{index}].schema.openAPIV3Schema");
            errors.push(FieldError::required(field, ""));
        }
    }
    let mut seen = BTreeSet::new();
    let mut unique = true;
    let mut storage = 0;
    for (index, version) in versions.all.iter().enumerate() {
        let name = text(version, "name");
        unique &= seen.insert(name);
        storage += usize::from(version["storage"] == true);
        label(&format!("spec.versions[{index}].name"), name, &mut errors);
        version_errors(&versions, index, &mut errors);
    }
    if spec["preserveUnknownFields"] == true {
        errors.push(FieldError::invalid(
            "spec.preserveUnknownFields",
            true,
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
             spec.versions[*].schema instead",
        ));
    }
    let all = || spec["versions"].clone();
    if !unique {
        errors.push(FieldError::invalid(
            "spec.versions",
            all(),
            "must contain unique version names",
        ));
    }
    if storage != 1 {
        errors.push(FieldError::invalid(
            "spec.versions",
            all(),
            "must have exactly one version marked as storage version",
        ));
    }
    if let Some(first) = versions.all.first()
        && !text(first, "name").is_empty()
    {
        // What is the first version is kept once more, at the top.
        label("spec.version", text(first, "name"), &mut errors);
    }
    name_errors(&spec["names"], &mut errors);
    if let Some(first) = versions.all.first() {
        if versions.schema
            && let Some(schema) = schema_of(first)
        {
            let any_status = versions
                .all
                .iter()
                .any(|version| has_subresource(version, "status"));
            let path = "spec.validation.openAPIV3Schema";
            errors.extend(schema_errors(schema, path, any_status));
        }
        if versions.subresources {
            subresource_errors(first, "spec", &mut errors);
        }
        if versions.columns {
            column_errors(first, "spec", &mut errors);
        }
        if versions.selectable_fields {
            selectable_errors(first, "spec", &mut errors);
        }
    }
    conversion_errors(&spec["conversion"], &mut errors);
    errors
}

fn one_of(field: &str, value: &str, allowed: &[&str], errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(field, ""));
    } else if !allowed.contains(&value) {
        errors.push(FieldError::not_supported(field, value, allowed));
    }
}

/// A DNS label that begins with a letter (RFC 1035).
pub(in crate::catalog) fn label_problems(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > 63 {
        problems.push("must be no more than 63 characters".to_owned());
    }
    let bytes = value.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = bytes.first().is_some_and(u8::is_ascii_lowercase)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-');
    if !fits {
        problems.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start \
             with an alphabetic character, and end with an alphanumeric character (e.g. \
             'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    problems
}

fn label(field: &str, value: &str, errors: &mut Vec<FieldError>) {
    let problems = label_problems(value);
    if !problems.is_empty() {
        errors.push(FieldError::invalid(field, value, problems.join(",")));
    }
}

/// The parts of a version that it does not share with all others, and its deprecation.
fn version_errors(versions: &Versions<'_>, index: usize, errors: &mut Vec<FieldError>) {
    let version = versions.all[index];
    let path = format!("spec.versions[{index}]");
    if let Some(warning) = version["deprecationWarning"].as_str() {
        let field = format!("{path}.deprecationWarning");
        for problem in deprecation_problems(version["deprecated"] == true, warning) {
            errors.push(FieldError::invalid(field.clone(), warning, problem));
        }
    }
    if !versions.schema
        && let Some(schema) = schema_of(version)
    {
        let path = format!("{path}.schema.openAPIV3Schema");
        let has_status = has_subresource(version, "status");
        errors.extend(schema_errors(schema, &path, has_status));
    }
    if !versions.subresources {
        subresource_errors(version, &path, errors);
    }
    if !versions.columns {
        column_errors(version, &path, errors);
    }
    if !versions.selectable_fields && list(version, "selectableFields").next().is_some() {
        if versions.schema {
            errors.push(FieldError::invalid(
                format!("{path}.selectableFields"),
                "",
                "may only be set when `version.schema.openAPIV3Schema` is not included",
            ));
        } else {
            selectable_errors(version, &path, errors);
        }
    }
}

/// Why a text is no deprecation warning.
fn deprecation_problems(deprecated: bool, warning: &str) -> Vec<String> {
    if !deprecated {
        return vec!["can only be set for deprecated versions".to_owned()];
    }
    let mut problems = Vec::new();
    if warning.len() > DEPRECATION_MAX {
        problems.push(format!("must be <= {DEPRECATION_MAX} characters long"));
    }
    if warning.is_empty() {
        problems.push("must not be an empty string".to_owned());
    }
    let unprintable = |one: char| one.is_control() || (one.is_whitespace() && one != ' ');
    if let Some(index) = warning.find(unprintable) {
        problems.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index \
             {index}"
        ));
    }
    problems
}

fn name_errors(requested: &Value, errors: &mut Vec<FieldError>) {
    let (kind, list_kind) = (text(requested, "kind"), text(requested, "listKind"));
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(requested, field).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{field}"), ""));
        }
    }
    for field in ["plural", "singular"] {
        let name = text(requested, field);
        if !name.is_empty() {
            label(&format!("spec.names.{field}"), name, errors);
        }
    }
    for (field, name) in [("kind", kind), ("listKind", list_kind)] {
        let problems = label_problems(&name.to_lowercase());
        if !name.is_empty() && !problems.is_empty() {
            let problem = format!(
                "may have mixed case, but should otherwise match: {}",
                problems.join(",")
            );
            errors.push(FieldError::invalid(
                format!("spec.names.{field}"),
                name,
                problem,
            ));
        }
    }
    for (index, name) in list(requested, "shortNames").enumerate() {
        let field = format!("spec.names.shortNames[{index}]");
        label(&field, name.as_str().unwrap_or_default(), errors);
    }
    if !kind.is_empty() && kind == list_kind {
        errors.push(FieldError::invalid(
            "spec.names.listKind",
            list_kind,
            "kind and listKind may not be the same",
        ));
    }
    for (index, name) in list(requested, "categories").enumerate() {
        let field = format!("spec.names.categories[{index}]");
        label(&field, name.as_str().unwrap_or_default(), errors);
    }
}

/// Why text is no path of field names.
fn simple_path_problem(path: &str) -> Option<&'static str> {
    (!path.starts_with('.')).then_some("must be a simple json path starting with .")
}

fn subresource_errors(version: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let Some(scale) = version["subresources"]
        .get("scale")
        .filter(|scale| !scale.is_null())
    else {
        return;
    };
    let mut path = |name: &str, required: bool, below: &[&str], problem: &str| {
        let field = format!("{base}.subresources.scale.{name}");
        let path = text(scale, name);
        if path.is_empty() {
            if required {
                errors.push(FieldError::required(field, ""));
            }
        } else if let Some(problem) = simple_path_problem(path) {
            errors.push(FieldError::invalid(field, path, problem));
        } else if !below.iter().any(|root| path.starts_with(root)) {
            errors.push(FieldError::invalid(field, path, problem));
        }
    };
    path(
        "specReplicasPath",
        true,
        &[".spec."],
        "should be a json path under .spec",
    );
    path(
        "statusReplicasPath",
        true,
        &[".status."],
        "should be a json path under .status",
    );
    path(
        "labelSelectorPath",
        false,
        &[".spec.", ".status."],
        "should be a json path under either .spec or .status",
    );
}

fn column_errors(version: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    for (index, column) in list(version, "additionalPrinterColumns").enumerate() {
        let at = |field: &str| format!("{base}.additionalPrinterColumns[{index}].{field}");
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(at("name"), ""));
        }
        match text(column, "type") {
            "" => errors.push(FieldError::required(at("type"), types.clone())),
            kind if !COLUMN_TYPES.contains(&kind) => {
                errors.push(FieldError::invalid(at("type"), kind, types.clone()));
            }
            _ => {}
        }
        let format = text(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let problem = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(at("format"), format, problem));
        }
        let path = text(column, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(at("JSONPath"), ""));
        } else if let Some(problem) = simple_path_problem(path) {
            errors.push(FieldError::invalid(at("JSONPath"), path, problem));
        }
    }
}

fn selectable_errors(version: &Value, base: &str, errors: &mut Vec<FieldError>) {
    let fields: Vec<&Value> = list(version, "selectableFields").collect();
    let mut seen = BTreeSet::new();
    for (index, field) in fields.iter().enumerate() {
        let at = format!("{base}.selectableFields[{index}].jsonPath");
        let path = text(field, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(at, ""));
            continue;
        }
        match selectable_type(path, schema_of(version)) {
            Err(problem) => {
                let problem = format!("is an invalid path: {problem}");
                errors.push(FieldError::invalid(at, path, problem));
                continue;
            }
            Ok(_) if path.starts_with(".metadata") => {
                errors.push(FieldError::invalid(
                    at.clone(),
                    path,
                    "must not point to fields in metadata",
                ));
            }
            Ok("string" | "boolean" | "integer") => {}
            Ok(_) => errors.push(FieldError::invalid(
                at.clone(),
                path,
                "must point to a field of type string, boolean or integer. Enum string fields \
                 and strings with formats are allowed.",
            )),
        }
        if !seen.insert(path) {
            errors.push(FieldError::duplicate(at, path));
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(
            format!("{base}.selectableFields"),
            seen.len(),
            SELECTABLE_MAX,
        ));
    }
}

/// The type of the field at a path, or why there is none.
fn selectable_type<'a>(path: &str, schema: Option<&'a Value>) -> Result<&'a str, String> {
    let mut node = schema.unwrap_or(&Value::Null);
    let mut tokens = path_tokens(path).into_iter();
    while let Some(token) = tokens.next() {
        match token {
            "[" => return Err("array notation is not allowed".to_owned()),
            "." => {}
            other => return Err(format!("expected [ or . but got: {other}")),
        }
        let Some(name) = tokens.next() else {
            return Err("unexpected end of JSON path".to_owned());
        };
        let below = match node.get("properties") {
            Some(properties) => properties.get(name),
            None => node
                .get("additionalProperties")
                .filter(|values| values.is_object()),
        };
        node = below.ok_or("does not refer to a valid field")?;
    }
    Ok(text(node, "type"))
}

/// A path in its parts: dots, brackets, and what stands between them. Quotes keep together.
fn path_tokens(path: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        let bytes = rest.as_bytes();
        let quoted = bytes[0] == b'\'';
        let end = if quoted {
            (1..bytes.len())
                .find(|index| bytes[*index] == b'\'' && bytes[index - 1] != b'\\')
                .map(|index| index + 1)
        } else {
            rest.find(['.', '[', ']']).map(|index| index.max(1))
        };
        let (token, behind) = rest.split_at(end.unwrap_or(rest.len()));
        tokens.push(token);
        rest = behind;
    }
    tokens
}

fn conversion_errors(conversion: &Value, errors: &mut Vec<FieldError>) {
    let base = "spec.conversion";
    let at = |field: &str| format!("{base}.{field}");
    let strategy = text(conversion, "strategy");
    one_of(&at("strategy"), strategy, &["None", "Webhook"], errors);
    let webhook = &conversion["webhook"];
    let client = webhook
        .get("clientConfig")
        .filter(|client| !client.is_null());
    let reviews: Vec<&str> = list(webhook, "conversionReviewVersions")
        .filter_map(Value::as_str)
        .collect();
    if strategy != "Webhook" {
        const TEXT: &str = "should not be set when strategy is not set to Webhook";
        if client.is_some() {
            errors.push(FieldError::forbidden(at("webhookClientConfig"), TEXT));
        }
        if !reviews.is_empty() {
            errors.push(FieldError::forbidden(at("conversionReviewVersions"), TEXT));
        }
        return;
    }
    match client {
        None => errors.push(FieldError::required(
            at("webhookClientConfig"),
            "required when strategy is set to Webhook",
        )),
        Some(client) => client_config::errors(client, &at("webhookClientConfig"), errors),
    }
    let field = at("conversionReviewVersions");
    if reviews.is_empty() {
        errors.push(FieldError::required(field, ""));
        return;
    }
    for (index, version) in reviews.iter().enumerate() {
        if reviews[..index].contains(version) {
            errors.push(FieldError::invalid(
                format!("{field}[{index}]"),
                *version,
                "duplicate version",
            ));
        } else {
            label(&format!("{field}[{index}]"), version, errors);
        }
    }
    if !reviews
        .iter()
        .any(|version| ["v1", "v1beta1"].contains(version))
    {
        errors.push(FieldError::invalid(
            field,
            Value::from(reviews),
            "must include at least one of v1, v1beta1",
        ));
    }
}

fn stored_version_errors(object: &Value) -> Vec<FieldError> {
    let field = "status.storedVersions";
    let stored: Vec<&str> = list(&object["status"], "storedVersions")
        .filter_map(Value::as_str)
        .collect();
    if stored.is_empty() {
        let error = FieldErrorKind::Invalid;
        let text = "must have at least one stored version";
        return vec![FieldError::new(error, field, Some(Value::Null), text)];
    }
    let mut errors = Vec::new();
    let mut missing: Vec<(usize, &str)> = stored.iter().copied().enumerate().collect();
    for version in list(&object["spec"], "versions") {
        let name = text(version, "name");
        let count = missing.len();
        missing.retain(|(_, stored)| *stored != name);
        if version["storage"] == true && missing.len() == count {
            errors.push(FieldError::invalid(
                field,
                Value::from(stored.clone()),
                format!("must have the storage version {name}"),
            ));
        }
    }
    errors.extend(missing.into_iter().map(|(index, name)| {
        FieldError::invalid(
            format!("{field}[{index}]"),
            name,
            format!(
                "missing from spec.versions; {name} was previously a storage version, and must \
                 remain in spec.versions until a storage migration ensures no data remains \
                 persisted in {name} and removes {name} from status.storedVersions"
            ),
        )
    }));
    errors
}

fn approval(object: &Value) -> Option<String> {
    texts(object, "annotations").remove(APPROVAL)
}

/// Whether a group is the Kubernetes project's, and needs its approval.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|protected| {
        group == *protected
            || group
                .strip_suffix(protected)
                .is_some_and(|rest| rest.ends_with('.'))
    })
}

/// How a definition in a protected group stands to the approval policy.
enum Approval {
    /// The URL of the approval.
    Approved(String),
    /// The reason for doing without.
    Bypassed(String),
    /// No annotation.
    Missing,
    /// An annotation that says neither.
    Invalid(String),
}

impl Approval {
    fn of(object: &Value) -> Option<Self> {
        if !is_protected(text(&object["spec"], "group")) {
            return None;
        }
        let value = approval(object).unwrap_or_default();
        let is_url = value
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        Some(match () {
            () if value.is_empty() => Self::Missing,
            () if is_url => Self::Approved(value),
            () if value.starts_with("unapproved") => Self::Bypassed(value),
            () => Self::Invalid(value),
        })
    }

    fn problem(&self) -> String {
        let head = format!("protected groups must have approval annotation \"{APPROVAL}\"");
        match self {
            Self::Invalid(_) => format!(
                "{head} with either a URL or a reason starting with \"unapproved\", \
                 {APPROVAL_PAGE}"
            ),
            _ => format!("{head}, {APPROVAL_PAGE}"),
        }
    }
}

fn approval_errors(object: &Value) -> Option<FieldError> {
    let field = format!("metadata.annotations[{APPROVAL}]");
    let approval = Approval::of(object)?;
    let problem = approval.problem();
    match approval {
        Approval::Missing => Some(FieldError::required(field, problem)),
        Approval::Invalid(value) => Some(FieldError::invalid(field, value, problem)),
        Approval::Approved(_) | Approval::Bypassed(_) => None,
    }
}

/// Status, reason and message of the condition that definitions in protected groups carry.
pub(crate) fn approval_condition(object: &Value) -> Option<(&'static str, &'static str, String)> {
    let approval = Approval::of(object)?;
    let problem = approval.problem();
    Some(match approval {
        Approval::Approved(url) => ("True", "ApprovedAnnotation", format!("approved in {url}")),
        Approval::Bypassed(value) => (
            "False",
            "UnapprovedAnnotation",
            format!("not approved: {value:?}"),
        ),
        Approval::Missing => ("False", "MissingAnnotation", problem),
        Approval::Invalid(_) => ("False", "InvalidAnnotation", problem),
    })
}
