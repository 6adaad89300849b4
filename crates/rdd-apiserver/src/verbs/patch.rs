//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use rdd_apply::{
    apply::{Apply, ApplyError},
    json_patch::{JsonPatch, JsonPatchError},
    strategic::StrategicError,
};
use rdd_schema::{FieldError, FieldErrorKind};
use serde_json::{Value, json};

use crate::{
    catalog::{Resource, Subresource},
    encoding::{
        json,
        negotiate::{ContentType, content_type},
        yaml,
    },
    http::body::{self, Body},
    object::{self, metadata, quote},
    options::{FieldValidation, WriteKind, WriteOptions},
    status::{ApiError, ApiResult, Cause},
    verbs::{
        call::Call,
        decode, scale,
        write::{self, Compute, Computed},
    },
};

pub(crate) async fn patch(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let form = form(call)?;
    let kind = if form == ContentType::ApplyPatch {
        WriteKind::Apply
    } else {
        WriteKind::Patch
    };
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, kind)?;
    if call.subresource == Some(Subresource::Scale) {
        return scale::patch(call, &options, form, &bytes).await;
    }
    if form == ContentType::ApplyPatch {
        let mut apply = applied(call, &options, &bytes)?;
        return write::run(call, &options, &mut apply).await;
    }
    let mut patch = Patch {
        patch: parse(form, &bytes)?,
        validation: options.field_validation,
    };
    write::run(call, &options, &mut patch).await
}

fn form(call: &Call) -> ApiResult<ContentType> {
    let form = content_type(&call.headers);
    let custom = call.resource.is_custom();
    match form {
        ContentType::JsonPatch | ContentType::MergePatch | ContentType::ApplyPatch => Ok(form),
        ContentType::StrategicPatch if !custom => Ok(form),
        _ if custom => Err(ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )),
        _ => Err(ApiError::no_patch_type()),
    }
}

/// A parsed patch.
pub(crate) enum Parsed {
    Json(JsonPatch),
    /// With the keys that it has twice.
    Merge(Value, Vec<String>),
    Strategic(Value),
}

pub(crate) fn parse(form: ContentType, bytes: &Bytes) -> ApiResult<Parsed> {
    let syntax =
        |error: json::SyntaxError| ApiError::bad_request(format!("error decoding patch: {error}"));
    match form {
        ContentType::JsonPatch => {
            let document = json::parse_trusted(bytes).map_err(syntax)?;
            JsonPatch::parse(&document)
                .map(Parsed::Json)
                .map_err(json_patch_error)
        }
        ContentType::StrategicPatch => json::parse_trusted(bytes)
            .map(Parsed::Strategic)
            .map_err(|error| ApiError::bad_request(error.0)),
        _ => {
            let document = json::parse(bytes).map_err(syntax)?;
            if !document.value.is_object() {
                return Err(ApiError::bad_request("Invalid JSON Patch"));
            }
            Ok(Parsed::Merge(document.value, document.duplicates))
        }
    }
}

fn json_patch_error(error: JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::Malformed(text) => {
            ApiError::bad_request(format!("error decoding patch: {text}"))
        }
        JsonPatchError::TooManyOperations(count) => ApiError::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {}, got {count}",
            rdd_apply::json_patch::OPERATIONS_MAX
        )),
        JsonPatchError::NotApplicable => ApiError::patch_not_applicable(),
        JsonPatchError::TooLarge => ApiError::too_large("the patch makes the object too large"),
    }
}

/// A patch applied to a copy of the current object.
pub(crate) fn apply_patch(
    resource: &Resource,
    patch: &Parsed,
    current: &Value,
) -> ApiResult<Value> {
    let mut object = current.clone();
    match patch {
        Parsed::Json(patch) => patch.apply(&mut object).map_err(json_patch_error)?,
        Parsed::Merge(patch, _) => rdd_apply::merge::apply(&mut object, patch),
        Parsed::Strategic(patch) => {
            rdd_apply::strategic::apply(&mut object, patch, &resource.schema).map_err(|error| {
                match error {
                    StrategicError::BadRequest(text) => ApiError::bad_request(text),
                    StrategicError::NotApplicable => ApiError::patch_not_applicable(),
                    StrategicError::Internal(text) => ApiError::bare(text),
                }
            })?;
        }
    }
    Ok(object)
}

struct Patch {
    patch: Parsed,
    validation: FieldValidation,
}

impl Compute for Patch {
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let resource = Arc::clone(&call.resource);
        let current = current.ok_or_else(|| ApiError::not_found(&resource, call.name()))?;
        let mut object = apply_patch(&resource, &self.patch, current)?;
        let list_of_custom = object.is_array() && resource.is_custom();
        if !object.is_object() && !list_of_custom {
            return Err(ApiError::patch_not_applicable());
        }
        let patched = object.clone();
        if let Parsed::Strategic(patch) = &self.patch {
            rdd_schema::restore(&object, &resource.schema)
                .map_err(|text| invalid_patch_text(rdd_apply::go(patch), &text))?;
            // It works on the typed object, of which the type is no part.
            object["kind"] = Value::String(resource.kind.clone());
            object["apiVersion"] = Value::String(resource.api_version());
        }
        if let Some(detail) = array_document(&object) {
            return Err(invalid_patch(&object, &detail));
        }
        self.check_type(call, &mut object)?;
        let unknown = decode::typed_text(&resource, &mut object)
            .map_err(|text| invalid_patch(&patched, &text))?;
        let duplicates: &[String] = match &self.patch {
            Parsed::Merge(_, duplicates) => duplicates,
            _ => &[],
        };
        let duplicates = duplicates
            .iter()
            .map(|path| format!("duplicate field {}", quote(path)));
        let unknown = unknown
            .iter()
            .map(|path| format!("unknown field {}", quote(path)));
        let unknown: Vec<String> = duplicates.chain(unknown).collect();
        match self.validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                let text = format!("strict decoding error: {}", unknown.join(", "));
                return Err(invalid_patch(&patched, &text));
            }
            FieldValidation::Warn => call.warn(unknown),
            _ => {}
        }
        resource
            .strategy
            .default(&call.write_context(), &mut object);
        decode::check_name(call, &object)?;
        decode::fit_namespace(call, &mut object)?;
        let warning = metadata::drop_duplicate_owners(&mut object);
        call.warn(warning);
        Ok(Computed {
            object,
            tracked: false,
        })
    }

    fn creates(&self, _resource: &Resource) -> bool {
        false
    }
}

impl Patch {
    /// The type may not be patched; a built-in may lose its kind, since the URL still
    /// knows it.
    fn check_type(&self, call: &mut Call, object: &mut Value) -> ApiResult<()> {
        let resource = Arc::clone(&call.resource);
        if !resource.is_custom() {
            if object.get("kind").is_none_or(Value::is_null) {
                object["kind"] = Value::String(resource.kind.clone());
            }
            if object.get("apiVersion").is_none_or(Value::is_null) {
                // Without a version it is of the internal one, which has no fields in JSON.
                self.all_unknown(call, object)?;
                *object = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
                return Ok(());
            }
        }
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, api_version) = (text("kind").to_owned(), text("apiVersion").to_owned());
        if !resource.is_custom() {
            return match decode::type_mismatch(&resource, &kind, &api_version) {
                Some(text) => {
                    let text = misread(call, object, &kind, &api_version).unwrap_or(text);
                    Err(invalid_patch(object, &text))
                }
                None => Ok(()),
            };
        }
        if kind.is_empty() {
            let text = format!("Object 'Kind' is missing in '{object}'");
            return Err(invalid_patch(object, &text));
        }
        let name = object::meta(object, "name");
        if kind != resource.kind {
            let error =
                FieldError::invalid("kind", kind.as_str(), format!("must be {}", resource.kind));
            return Err(ApiError::invalid_kind(
                &kind,
                &resource.group,
                name,
                &[error],
            ));
        }
        let expected = resource.api_version();
        if api_version != expected {
            let error = FieldError::invalid(
                "apiVersion",
                api_version.as_str(),
                format!("must be {expected}"),
            );
            let refusal = ApiError::invalid(&resource, name, &[error]);
            if !resource.served_api_versions.contains(&api_version) {
                self.all_unknown(call, object)?;
            }
            return Err(refusal);
        }
        Ok(())
    }

    /// No field of a type that nobody knows is known.
    fn all_unknown(&self, call: &mut Call, object: &Value) -> ApiResult<()> {
        let custom = call.resource.is_custom();
        let unknown: Vec<String> = object
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .filter(|name| !matches!(*name, "apiVersion" | "kind"))
            .filter(|name| !(custom && *name == "metadata"))
            .map(|name| format!("unknown field {}", quote(name)))
            .collect();
        match self.validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                let text = format!("strict decoding error: {}", unknown.join(", "));
                Err(invalid_patch(object, &text))
            }
            FieldValidation::Warn => {
                call.warn(unknown);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with an object when it is read as the other built-in type that it names.
fn misread(call: &Call, object: &Value, kind: &str, api_version: &str) -> Option<String> {
    let catalog = call.server.catalog.load();
    let other = catalog
        .groups()
        .values()
        .flat_map(|group| group.versions.values())
        .flat_map(|version| version.resources.values())
        .find(|other| {
            !other.is_custom() && other.kind == kind && other.api_version() == api_version
        })?;
    decode::typed_text(other, &mut object.clone()).err()
}

/// Why a list is no object, in Go's words.
fn array_document(document: &Value) -> Option<String> {
    document.is_array().then(|| {
        "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value \
         of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
         \"json:\\\"kind,omitempty\\\"\" }"
            .to_owned()
    })
}

/// A patch whose result does not decode; kind and name stay empty, as upstream.
fn invalid_patch(patched: &Value, text: &str) -> ApiError {
    invalid_patch_text(patched.to_string(), text)
}

fn invalid_patch_text(dump: String, text: &str) -> ApiError {
    let dump = Value::String(dump);
    let error = FieldError::new(FieldErrorKind::Invalid, "patch", Some(dump), text);
    ApiError::invalid_kind("", "", "", &[error])
}

// === server-side apply ===

struct Applied {
    config: Value,
    manager: String,
    force: bool,
}

fn applied(call: &mut Call, options: &WriteOptions, bytes: &Bytes) -> ApiResult<Applied> {
    let parsed = yaml::parse(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "error decoding YAML: error converting YAML to JSON: {error}"
        ))
    })?;
    let mut parsed = parsed;
    if parsed.value.is_null() {
        parsed.value = Value::Object(serde_json::Map::new());
    }
    if !parsed.value.is_object() {
        let found = match &parsed.value {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            _ => "null",
        };
        return Err(ApiError::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot \
             unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    match options.field_validation {
        FieldValidation::Strict if !parsed.duplicates.is_empty() => {
            let lines: Vec<String> = parsed
                .duplicates
                .iter()
                .map(|line| format!("\n  {line}"))
                .collect();
            return Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal \
                 errors:{}",
                lines.concat()
            )));
        }
        FieldValidation::Warn => call.warn(parsed.duplicates),
        _ => {}
    }
    Ok(Applied {
        config: parsed.value,
        manager: options.field_manager.clone(),
        force: options.force,
    })
}

impl Compute for Applied {
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let resource = Arc::clone(&call.resource);
        let uid = object::meta(&self.config, "uid");
        if current.is_none() && !uid.is_empty() {
            return Err(ApiError::apply_uid_mismatch(&resource, call.name(), uid));
        }
        let reset = resource.strategy.reset_fields(&resource, call.subresource);
        let now = call.now.to_string();
        let api_version = resource.api_version();
        let apply = Apply {
            schema: &resource.schema,
            kind: &resource.kind,
            api_version: &api_version,
            manager: &self.manager,
            subresource: call.subresource.map_or("", Subresource::as_str),
            force: self.force,
            reset_fields: &reset,
            api_versions: &resource.api_versions,
            blank: &resource.strategy.blank(),
            now: &now,
            custom: resource.is_custom(),
        };
        let mut object =
            rdd_apply::apply::apply(current, &self.config, &apply).map_err(apply_error)?;
        merged_types(&resource, &self.config, &mut object)?;
        resource
            .strategy
            .default(&call.write_context(), &mut object);
        decode::check_name(call, &object)?;
        decode::fit_namespace(call, &mut object)?;
        if current.is_none() {
            write::wipe(&mut object);
        }
        let warning = metadata::drop_duplicate_owners(&mut object);
        call.warn(warning);
        Ok(Computed {
            object,
            tracked: true,
        })
    }

    fn creates(&self, _resource: &Resource) -> bool {
        true
    }
}

/// Gives the merged object the resource's types. Of a custom resource nothing is dropped
/// here: what does not fit was refused by the type check or is refused by validation.
fn merged_types(resource: &Resource, config: &Value, object: &mut Value) -> ApiResult<()> {
    if resource.is_custom() {
        metadata::decode(object, false, &resource.kind).map_err(ApiError::bad_request)?;
        rdd_schema::default(object, &resource.schema);
        return Ok(());
    }
    decode::typed_text(resource, object).map(|_| ()).map_err(|text| {
        let detail = if text.contains("cannot unmarshal number") {
            "cannot convert float64 to int32".to_owned()
        } else {
            format!("error decoding from json: {text}")
        };
        let api_version = resource.api_version();
        let (slash, kind) = (if resource.group.is_empty() { "/" } else { "" }, &resource.kind);
        let target = format!("{slash}{api_version}, Kind={kind}");
        ApiError::bare(format!(
            "failed to convert new object ({}/{}; {target}) to proper version: unable to convert \
             unstructured object to {target}: {detail}",
            object::meta(config, "namespace"),
            object::meta(config, "name"),
        ))
    })
}

fn apply_error(error: ApplyError) -> ApiError {
    match error {
        ApplyError::BadRequest(text) => ApiError::bad_request(text),
        ApplyError::Type(text) => ApiError::bare(text),
        ApplyError::Conflict(conflicts) => {
            let causes = conflicts
                .paths()
                .map(|(message, field)| Cause {
                    reason: "FieldManagerConflict".into(),
                    message,
                    field,
                })
                .collect();
            ApiError::apply_conflict(conflicts.to_string(), causes)
        }
    }
}
