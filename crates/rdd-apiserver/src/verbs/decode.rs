//! From a request body to an object of the resource's version.

use bytes::Bytes;
use rdd_schema::FieldError;
use serde_json::{Value, json};

use crate::{
    catalog::Resource,
    encoding::{
        json::{self, Parsed},
        negotiate::ContentType,
        protobuf::Envelope,
        yaml,
    },
    object::{go_kind, metadata, quote, typeless},
    options::FieldValidation,
    status::{ApiError, ApiResult},
    verbs::call::Call,
};

/// Decodes a body that is a whole object: POST and PUT.
pub(crate) fn object(
    call: &mut Call,
    body: &Bytes,
    content_type: ContentType,
    validation: FieldValidation,
) -> ApiResult<Value> {
    let resource = std::sync::Arc::clone(&call.resource);
    let parsed = parse(&resource, body, content_type)?;
    let mut value = parsed.value;
    check_other_type(call, &value)?;
    check_type(&resource, &mut value, body)?;
    let mut unknown = typed_text(&resource, &mut value).map_err(|detail| {
        let detail = match content_type {
            ContentType::Json => as_written(detail, body),
            _ => detail,
        };
        cannot_handle(&resource, &detail)
    })?;
    if content_type == ContentType::Json && !resource.is_custom() && unknown.len() > 1 {
        // They are told in the order in which they were read.
        let order = json::member_paths(body).unwrap_or_default();
        let place = |path: &String| order.iter().position(|known| known == path);
        unknown.sort_by_cached_key(|path| place(path).unwrap_or(usize::MAX));
    }
    // YAML duplicates are worded by the YAML parser and come first, JSON ones last.
    let from_yaml = content_type == ContentType::Yaml;
    let unknown: Vec<String> = unknown
        .iter()
        .map(|path| format!("unknown field {}", quote(path)))
        .collect();
    let problems: Vec<String> = if from_yaml {
        parsed.duplicates.iter().cloned().chain(unknown).collect()
    } else {
        let duplicates = parsed
            .duplicates
            .iter()
            .map(|path| format!("duplicate field {}", quote(path)));
        if resource.is_custom() {
            duplicates.chain(unknown).collect()
        } else {
            unknown.into_iter().chain(duplicates).collect()
        }
    };
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => call.warn(problems),
        FieldValidation::Strict if problems.is_empty() => {}
        FieldValidation::Strict => {
            let text = if from_yaml && !parsed.duplicates.is_empty() {
                let lines: Vec<String> = parsed
                    .duplicates
                    .iter()
                    .map(|line| format!("\n  {line}"))
                    .collect();
                let rest = &problems[parsed.duplicates.len()..];
                let mut texts = vec![format!("yaml: unmarshal errors:{}", lines.concat())];
                texts.extend(rest.iter().cloned());
                texts.join(", ")
            } else {
                problems.join(", ")
            };
            return Err(cannot_handle(
                &resource,
                &format!("strict decoding error: {text}"),
            ));
        }
    }
    Ok(value)
}

fn parse(resource: &Resource, body: &Bytes, content_type: ContentType) -> ApiResult<Parsed> {
    let unrecognized = |detail: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {detail} ({})",
            resource.kind,
            echo(body)
        ))
    };
    match content_type {
        ContentType::Json => json::parse(body).map_err(|error| {
            // The type stands beside the number that is too large, and was read before it.
            if resource.is_custom() && error.to_string().contains("cannot unmarshal number") {
                return cannot_handle(resource, &error.to_string());
            }
            unrecognized(&format!(
                "couldn't get version/kind; json parse error: {error}"
            ))
        }),
        ContentType::Yaml => yaml::parse(body).map_err(|error| unrecognized(&error.0)),
        ContentType::Protobuf if resource.message.is_some() => from_protobuf(resource, body),
        _ => Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// A body of a built-in type in protobuf. The type is judged before the object is read:
/// the bytes of another type mean something else.
fn from_protobuf(resource: &Resource, body: &Bytes) -> ApiResult<Parsed> {
    let envelope = Envelope::read(body).map_err(|error| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {error} ({})",
            resource.kind,
            echo(body)
        ))
    })?;
    let mut value = json!({"apiVersion": envelope.api_version, "kind": envelope.kind});
    check_type(resource, &mut value, body)?;
    let message = resource.message.as_deref();
    let read = message.map(|message| message.read(envelope.raw));
    let mut object = read.transpose().map_err(|error| {
        ApiError::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {error}",
            resource.kind, resource.version, resource.kind
        ))
    })?;
    if let (Some(object), Value::Object(type_meta)) = (&mut object, value) {
        object.extend(type_meta);
    }
    Ok(Parsed {
        value: Value::Object(object.unwrap_or_default()),
        duplicates: Vec::new(),
    })
}

/// A refused number as the body spells it: `1e1`, where reading has made it `10.0`.
fn as_written(detail: String, body: &[u8]) -> String {
    const BEFORE: &str = "cannot unmarshal number ";
    let Some((_, rest)) = detail.split_once(BEFORE) else {
        return detail;
    };
    let shown = rest.split(' ').next().unwrap_or_default();
    let Ok(number) = shown.parse::<f64>() else {
        return detail;
    };
    let body = String::from_utf8_lossy(body);
    let written = body
        .split(|letter: char| !(letter.is_ascii_alphanumeric() || "+-.".contains(letter)))
        .find(|word| {
            let digit = word
                .trim_start_matches('-')
                .starts_with(|one: char| one.is_ascii_digit());
            digit && word.parse::<f64>() == Ok(number)
        });
    match written {
        Some(word) => detail.replacen(&format!("{BEFORE}{shown}"), &format!("{BEFORE}{word}"), 1),
        None => detail,
    }
}

/// The first bytes of a body: as text where it could be JSON, else in hexadecimal.
fn echo(body: &[u8]) -> String {
    const ECHO_MAX: usize = 30;
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    let start = &body[..body.len().min(ECHO_MAX)];
    let more = if body.len() > ECHO_MAX { " ..." } else { "" };
    if body[0] == b'{' {
        format!("{}{more}", String::from_utf8_lossy(start))
    } else {
        format!("{}{more}", hex::encode(start))
    }
}

/// What is wrong with an object when it is read as the other built-in type that it names.
pub(crate) fn misread(
    call: &Call,
    object: &Value,
    kind: &str,
    api_version: &str,
) -> Option<String> {
    let catalog = call.server.catalog.load();
    let other = catalog
        .groups()
        .values()
        .flat_map(|group| group.versions.values())
        .flat_map(|version| version.resources.values())
        .find(|other| {
            !other.is_custom() && other.kind == kind && other.api_version() == api_version
        })?;
    typed_text(other, &mut object.clone()).err()
}

/// An object of another built-in type is read as what it is before it is refused.
fn check_other_type(call: &Call, object: &Value) -> ApiResult<()> {
    let resource = &call.resource;
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    if resource.is_custom() || kind == resource.kind {
        return Ok(());
    }
    let Some(detail) = misread(call, object, kind, api_version) else {
        return Ok(());
    };
    let version = api_version.rsplit('/').next().unwrap_or_default();
    Err(ApiError::bad_request(format!(
        "{kind} in version \"{version}\" cannot be handled as a {}: {detail}",
        resource.kind
    )))
}

/// Kind and version must be those of the URL; built-ins may leave them out.
fn check_type(resource: &Resource, value: &mut Value, body: &[u8]) -> ApiResult<()> {
    if value.is_null() && !resource.is_custom() {
        *value = Value::Object(serde_json::Map::new());
    }
    if value.is_null() {
        return Err(missing_kind(resource, body));
    }
    let Value::Object(members) = value else {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {} ({})",
            resource.kind,
            typeless(value),
            echo(body)
        )));
    };
    if let Some(detail) = untyped_members(members) {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {detail} ({})",
            resource.kind,
            echo(body)
        )));
    }
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
    let expected = resource.api_version();
    if api_version.matches('/').count() > 1 {
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): unexpected GroupVersion \
             string: {api_version} ({})",
            resource.kind,
            echo(body)
        )));
    }
    if resource.is_custom() {
        if kind.is_empty() {
            return Err(missing_kind(resource, body));
        }
        if api_version != expected {
            return Err(ApiError::bad_request(format!(
                "the API version in the data ({api_version}) does not match the expected API \
                 version ({expected})"
            )));
        }
        if kind != resource.kind {
            // What is no metadata is told even of an object of another kind.
            let mut probe = Value::Object(members.clone());
            metadata::decode(&mut probe, false, &kind).map_err(|detail| {
                ApiError::bad_request(format!(
                    "{kind} in version \"{}\" cannot be handled as a {}: {detail}",
                    resource.version, resource.kind
                ))
            })?;
            let name = members
                .get("metadata")
                .and_then(|metadata| metadata.get("name"))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let error =
                FieldError::invalid("kind", kind.as_str(), format!("must be {}", resource.kind));
            return Err(ApiError::invalid_kind(
                &kind,
                &resource.group,
                name,
                &[error],
            ));
        }
        return Ok(());
    }
    let kind = if kind.is_empty() {
        resource.kind.clone()
    } else {
        kind
    };
    let api_version = if api_version.is_empty() {
        expected.clone()
    } else {
        api_version
    };
    if kind == resource.kind && is_former_version(&api_version) {
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version \
             ({expected})"
        )));
    }
    if let Some(detail) = type_mismatch(resource, &kind, &api_version) {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Err(ApiError::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {}: {detail}",
            resource.kind
        )));
    }
    members.insert("kind".to_owned(), Value::String(kind));
    members.insert("apiVersion".to_owned(), Value::String(api_version));
    Ok(())
}

/// Why the type of an object cannot be read, in Go's words.
pub(crate) fn untyped(object: &Value) -> Option<String> {
    object.as_object().and_then(untyped_members)
}

fn untyped_members(members: &serde_json::Map<String, Value>) -> Option<String> {
    ["kind", "apiVersion"].iter().find_map(|key| {
        let found = match members.get(*key)? {
            Value::Null | Value::String(_) => return None,
            value => go_kind(value),
        };
        Some(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go \
             struct field .{key} of type string"
        ))
    })
}

fn missing_kind(resource: &Resource, body: &[u8]) -> ApiError {
    ApiError::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in \
         '{}' ({})",
        resource.kind,
        String::from_utf8_lossy(body),
        echo(body)
    ))
}

/// Why an object of this type is none of a built-in resource's, in Go's words.
pub(crate) fn type_mismatch(resource: &Resource, kind: &str, api_version: &str) -> Option<String> {
    if kind == resource.kind {
        return (api_version != resource.api_version())
            .then(|| unregistered(resource, kind, api_version));
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let shared = matches!(kind, "DeleteOptions" | "Status" | "WatchEvent");
    if is_builtin(kind, api_version) && (shared || scheme(group) == scheme(&resource.group)) {
        let version = api_version.rsplit('/').next().unwrap_or_default();
        return Some(unknown_conversion(kind, version, resource));
    }
    Some(unregistered(resource, kind, api_version))
}

/// Which part of kube-apiserver reads the objects of a group, and knows no others.
fn scheme(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "k8s.io/kube-aggregator/pkg/apiserver/scheme/scheme.go:28",
        _ => "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30",
    }
}

/// Versions that kube-apiserver can still read but that nobody serves.
fn is_former_version(api_version: &str) -> bool {
    const VERSIONS: &[&str] = &[
        "admissionregistration.k8s.io/v1alpha1",
        "admissionregistration.k8s.io/v1beta1",
        "apiextensions.k8s.io/v1beta1",
        "apiregistration.k8s.io/v1beta1",
        "coordination.k8s.io/v1alpha2",
        "coordination.k8s.io/v1beta1",
        "events.k8s.io/v1beta1",
        "rbac.authorization.k8s.io/v1alpha1",
        "rbac.authorization.k8s.io/v1beta1",
    ];
    VERSIONS.contains(&api_version)
}

/// Types that kube-apiserver's scheme knows, if only some of those that are not served
/// here; others are told apart in the message only.
fn is_builtin(kind: &str, api_version: &str) -> bool {
    const OF_ALL: &[&str] = &["DeleteOptions", "Status", "WatchEvent"];
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let current = format!("{group}/v1");
    let known = if is_former_version(api_version) {
        &current
    } else {
        api_version
    };
    let kinds: &[&str] = match known {
        "v1" => &[
            "ConfigMap",
            "Event",
            "Namespace",
            "Node",
            "Pod",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
        "apps/v1" => &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"],
        "batch/v1" => &["CronJob", "Job"],
        "coordination.k8s.io/v1" => &["Lease"],
        "events.k8s.io/v1" => &["Event"],
        "rbac.authorization.k8s.io/v1" => {
            &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]
        }
        "admissionregistration.k8s.io/v1" => &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
        "apiextensions.k8s.io/v1" => &["CustomResourceDefinition"],
        _ => &[],
    };
    let one = kind.strip_suffix("List").unwrap_or(kind);
    OF_ALL.contains(&kind) || kinds.contains(&one) || (kind, api_version) == ("List", "v1")
}

fn unknown_conversion(kind: &str, version: &str, resource: &Resource) -> String {
    let family = resource.family();
    format!(
        "converting ({version}.{kind}) to ({family}.{}): unknown conversion",
        resource.kind
    )
}

fn unregistered(resource: &Resource, kind: &str, api_version: &str) -> String {
    format!(
        "no kind \"{kind}\" is registered for version \"{api_version}\" in scheme {:?}",
        scheme(&resource.group)
    )
}

fn cannot_handle(resource: &Resource, detail: &str) -> ApiError {
    ApiError::bad_request(format!(
        "{kind} in version \"{}\" cannot be handled as a {kind}: {detail}",
        resource.version,
        kind = resource.kind
    ))
}

/// Gives a value the types of the resource, and answers the paths that it dropped.
///
/// # Errors
/// What does not fit, in Go's words.
pub(crate) fn typed_text(resource: &Resource, value: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = metadata::decode(value, !resource.is_custom(), &resource.kind)?;
    if !resource.is_custom() {
        rdd_schema::decode(value, &resource.schema, &resource.kind)?;
    }
    let open = resource.strategy.decode_open(value)?;
    unknown.extend(shape(resource, value));
    unknown.extend(open);
    if resource.is_custom() {
        unknown.extend(metadata::decode_embedded(value, &resource.schema)?);
    }
    Ok(unknown)
}

/// Prunes and fills by the schema; answers the paths that were dropped.
pub(crate) fn shape(resource: &Resource, value: &mut Value) -> Vec<String> {
    let dropped = rdd_schema::prune(value, &resource.schema);
    if !resource.is_custom() {
        // Nulls and defaults of built-ins follow Go's rules, which their strategies know.
        return dropped;
    }
    rdd_schema::drop_nulls(value, &resource.schema);
    rdd_schema::default(value, &resource.schema);
    dropped
}

/// Namespace and name of a body against those of the URL.
pub(crate) fn fit_namespace(call: &Call, object: &mut Value) -> ApiResult<()> {
    let given = crate::object::meta(object, "namespace").to_owned();
    let Some(metadata) = crate::object::metadata_mut(object) else {
        return Ok(());
    };
    match call.namespace().filter(|_| call.resource.is_namespaced()) {
        Some(namespace) if given.is_empty() || given == namespace => {
            metadata.insert("namespace".to_owned(), Value::String(namespace.to_owned()));
            Ok(())
        }
        Some(_) => Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        )),
        None => {
            metadata.remove("namespace");
            Ok(())
        }
    }
}

/// The name in a changed object must be the one of the URL.
pub(crate) fn check_name(call: &Call, object: &Value) -> ApiResult<()> {
    let name = crate::object::meta(object, "name");
    let expected = call.name();
    if name.is_empty() {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({expected} based on URL) was undeterminable: name must be \
             provided"
        )));
    }
    if name != expected {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({expected})"
        )));
    }
    Ok(())
}
