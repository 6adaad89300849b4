//! PATCH: JSON patch, merge patch, strategic merge patch, server-side apply.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use rdd_apply::{
    apply::{Apply, ApplyError},
    json_patch::{Decoder, JsonPatch, JsonPatchError},
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
        decode, managed, parts, scale,
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
    if form == ContentType::ApplyParts {
        return parts::apply(call, &bytes).await;
    }
    let options = WriteOptions::parse(&call.query, kind)?;
    if call.subresource == Some(Subresource::Scale) {
        return scale::patch(call, &options, form, &bytes).await;
    }
    if form == ContentType::ApplyPatch {
        let mut apply = applied(&options, &bytes)?;
        return write::run(call, &options, &mut apply).await;
    }
    let mut patch = Patch {
        form,
        bytes,
        parsed: None,
        validation: options.field_validation,
    };
    write::run(call, &options, &mut patch).await
}

fn form(call: &Call) -> ApiResult<ContentType> {
    let custom = call.resource.is_custom();
    match check_form(&call.headers, custom)? {
        ContentType::ApplyParts if call.subresource.is_some() => Err(unsupported(custom)),
        form => Ok(form),
    }
}

/// The type of a patch, if it is one.
pub(crate) fn check_form(headers: &HeaderMap, custom: bool) -> ApiResult<ContentType> {
    let form = content_type(headers);
    match form {
        ContentType::JsonPatch | ContentType::MergePatch | ContentType::ApplyPatch => Ok(form),
        ContentType::StrategicPatch if !custom => Ok(form),
        ContentType::ApplyParts if custom => Ok(form),
        _ => Err(unsupported(custom)),
    }
}

fn unsupported(custom: bool) -> ApiError {
    if custom {
        ApiError::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        )
    } else {
        ApiError::no_patch_type()
    }
}

/// A parsed patch.
pub(crate) struct Parsed {
    change: Change,
    /// What a strict reader says of the patch document itself.
    problems: Vec<String>,
}

enum Change {
    Json(JsonPatch),
    Merge(Value),
    Strategic(Value),
}

impl Parsed {
    pub(crate) fn merge(patch: Value) -> Self {
        Self {
            change: Change::Merge(patch),
            problems: Vec::new(),
        }
    }
}

/// Parses a patch. Whoever wants no validation gets a decoder that knows less, and whose
/// errors read otherwise.
pub(crate) fn parse(
    form: ContentType,
    bytes: &Bytes,
    validation: FieldValidation,
) -> ApiResult<Parsed> {
    let lax = validation == FieldValidation::Ignore;
    let syntax = |error: json::SyntaxError| {
        ApiError::bad_request(match form {
            ContentType::MergePatch if lax => BAD_MERGE_PATCH.to_owned(),
            ContentType::StrategicPatch => error.0,
            _ if lax => error.0,
            _ => format!("error decoding patch: {error}"),
        })
    };
    let document = json::parse(bytes).map_err(syntax)?;
    let (change, problems) = match form {
        ContentType::JsonPatch => {
            let decoder = if lax { Decoder::Lax } else { Decoder::Strict };
            let (patch, unknown) =
                JsonPatch::parse(&document.value, decoder).map_err(json_patch_error)?;
            let unknown = unknown.iter().map(|path| quote(path));
            let known = ["op", "path", "from", "value"];
            let twice = document.duplicates.iter().filter(|path| {
                let member = path.split_once("].").map_or("", |(_, member)| member);
                member.contains(['.', '[']) || known.contains(&member)
            });
            let problems = twice
                .map(|path| format!("json patch duplicate field {}", quote(path)))
                .chain(unknown.map(|path| format!("json patch unknown field {path}")));
            (Change::Json(patch), problems.collect())
        }
        _ => {
            let twice = document.duplicates.iter();
            let problems = twice.map(|path| format!("duplicate field {}", quote(path)));
            let problems = problems.collect();
            let change = match form {
                ContentType::StrategicPatch => Change::Strategic(document.value),
                _ => Change::Merge(merge_patch(document.value, lax)?),
            };
            (change, problems)
        }
    };
    Ok(Parsed { change, problems })
}

const BAD_MERGE_PATCH: &str = "Invalid JSON Patch";

/// A merge patch must be an object. A list is taken by the lax decoder, and makes an
/// object that is none.
fn merge_patch(document: Value, lax: bool) -> ApiResult<Value> {
    let found = match &document {
        Value::Object(_) => return Ok(document),
        Value::Array(_) if lax => return Ok(document),
        Value::Null => return Err(ApiError::bad_request(BAD_MERGE_PATCH)),
        _ if lax => return Err(ApiError::bad_request(BAD_MERGE_PATCH)),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    Err(ApiError::bad_request(format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type \
         map[string]interface {{}}"
    )))
}

fn json_patch_error(error: JsonPatchError) -> ApiError {
    match error {
        JsonPatchError::Malformed(text) => ApiError::bad_request(text),
        JsonPatchError::TooManyOperations(count) => ApiError::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {}, got {count}",
            rdd_apply::json_patch::OPERATIONS_MAX
        )),
        JsonPatchError::NotApplicable(_) | JsonPatchError::TestFailed(_) => {
            ApiError::patch_not_applicable()
        }
        JsonPatchError::TooLarge(_) => ApiError::too_large("the patch makes the object too large"),
    }
}

/// A patch applied to a copy of the current object.
pub(crate) fn apply_patch(
    resource: &Resource,
    patch: &Parsed,
    current: &Value,
) -> ApiResult<Value> {
    let mut object = current.clone();
    match &patch.change {
        Change::Json(patch) => patch.apply(&mut object).map_err(json_patch_error)?,
        Change::Merge(patch) => rdd_apply::merge::apply(&mut object, patch),
        Change::Strategic(patch) => {
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
    form: ContentType,
    bytes: Bytes,
    /// Read when there is an object to patch: that there is none is told first.
    parsed: Option<Parsed>,
    validation: FieldValidation,
}

impl Compute for Patch {
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let resource = Arc::clone(&call.resource);
        let current = current.ok_or_else(|| ApiError::not_found(&resource, call.name()))?;
        let parsed = match &mut self.parsed {
            Some(parsed) => parsed,
            unread => unread.insert(parse(self.form, &self.bytes, self.validation)?),
        };
        let mut object = apply_patch(&resource, parsed, current)?;
        let problems = parsed.problems.clone();
        if !object.is_object() && !object.is_array() {
            return Err(ApiError::patch_not_applicable());
        }
        let mut patched = object.to_string();
        if let Change::Strategic(patch) = &parsed.change {
            patched = rdd_apply::go(patch);
            rdd_schema::restore(&mut object, &resource.schema)
                .map_err(|text| invalid_patch_text(patched.clone(), &text))?;
            // It works on the typed object, of which the type is no part.
            object["kind"] = Value::String(resource.kind.clone());
            object["apiVersion"] = Value::String(resource.api_version());
        }
        if object.is_array() {
            return Err(invalid_patch(&object, &object::typeless(&object)));
        }
        self.check_type(call, &mut object)?;
        let mut unknown = decode::typed_text(&resource, &mut object)
            .map_err(|text| invalid_patch_text(patched.clone(), &text))?;
        if !resource.is_custom() {
            // In the order in which a patched object is read.
            unknown.sort_by(|a, b| a.split('.').next().cmp(&b.split('.').next()));
        }
        let unknown = unknown
            .iter()
            .map(|path| format!("unknown field {}", quote(path)));
        let unknown: Vec<String> = problems.into_iter().chain(unknown).collect();
        match self.validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                let text = format!("strict decoding error: {}", unknown.join(", "));
                return Err(invalid_patch_text(patched, &text));
            }
            FieldValidation::Warn => call.warn(unknown),
            _ => {}
        }
        resource
            .strategy
            .default(&call.write_context(), &mut object);
        decode::check_name(call, &object)?;
        decode::fit_namespace(call, &mut object)?;
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
        if let Some(text) = decode::untyped(object) {
            return Err(invalid_patch(object, &text));
        }
        if !resource.is_custom() {
            if object.get("kind").is_none_or(Value::is_null) {
                object["kind"] = Value::String(resource.kind.clone());
            }
            let version = object.get("apiVersion");
            if version.is_none_or(|version| version.is_null() || version == "") {
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
                    let text = decode::misread(call, object, &kind, &api_version).unwrap_or(text);
                    Err(invalid_patch(object, &text))
                }
                None => Ok(()),
            };
        }
        if kind.is_empty() {
            let text = format!("Object 'Kind' is missing in '{object}'");
            return Err(invalid_patch(object, &text));
        }
        if api_version.is_empty() {
            return Err(ApiError::internal(
                "Object 'apiVersion' is missing in 'object has no apiVersion field'",
            ));
        }
        if api_version.matches('/').count() > 1 {
            let text = format!("unexpected GroupVersion string: {api_version}");
            return Err(invalid_patch(object, &text));
        }
        let mut errors = Vec::new();
        if kind != resource.kind {
            let text = format!("must be {}", resource.kind);
            errors.push(FieldError::invalid("kind", kind.as_str(), text));
        }
        let expected = resource.api_version();
        if api_version != expected {
            let text = format!("must be {expected}");
            errors.push(FieldError::invalid(
                "apiVersion",
                api_version.as_str(),
                text,
            ));
        }
        if errors.is_empty() {
            return Ok(());
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let name = object::meta(object, "name");
        let refusal = ApiError::invalid_kind(&kind, group, name, &errors);
        if group == resource.group && !resource.served_api_versions.contains(&api_version) {
            self.all_unknown(call, object)?;
        }
        Err(refusal)
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

/// A patch whose result does not decode; kind and name stay empty, as upstream.
fn invalid_patch(patched: &Value, text: &str) -> ApiError {
    invalid_patch_text(patched.to_string(), text)
}

pub(crate) fn invalid_patch_text(dump: String, text: &str) -> ApiError {
    let dump = Value::String(dump);
    let error = FieldError::new(FieldErrorKind::Invalid, "patch", Some(dump), text);
    ApiError::invalid_kind("", "", "", &[error])
}

// === server-side apply ===

pub(super) struct Applied {
    config: Value,
    /// The keys that it has twice, in the words of the parser.
    duplicates: Vec<String>,
    validation: FieldValidation,
    manager: String,
    force: bool,
}

fn applied(options: &WriteOptions, bytes: &Bytes) -> ApiResult<Applied> {
    let parsed = yaml::parse(bytes).map_err(|error| {
        ApiError::bad_request(format!(
            "error decoding YAML: error converting YAML to JSON: {error}"
        ))
    })?;
    Applied::new(options, parsed.value, parsed.duplicates)
}

impl Applied {
    pub(super) fn new(
        options: &WriteOptions,
        mut config: Value,
        duplicates: Vec<String>,
    ) -> ApiResult<Self> {
        if config.is_null() {
            config = Value::Object(serde_json::Map::new());
        }
        if !config.is_object() {
            let found = match &config {
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
        Ok(Self {
            config,
            duplicates,
            validation: options.field_validation,
            manager: options.field_manager.clone(),
            force: options.force,
        })
    }

    /// Keys that came twice are told of once the configuration was taken.
    fn check_duplicates(&self, call: &mut Call) -> ApiResult<()> {
        match self.validation {
            FieldValidation::Strict if !self.duplicates.is_empty() => {
                let lines: Vec<String> = self
                    .duplicates
                    .iter()
                    .map(|line| format!("\n  {line}"))
                    .collect();
                Err(ApiError::bad_request(format!(
                    "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal \
                     errors:{}",
                    lines.concat()
                )))
            }
            FieldValidation::Warn => {
                call.warn(self.duplicates.iter().cloned());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Compute for Applied {
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let resource = Arc::clone(&call.resource);
        let reset = resource.strategy.reset_fields(&resource, call.subresource);
        let now = call.now.to_string();
        let api_version = resource.api_version();
        let undeclared = first_of_each(resource.strategy.undeclared(&self.config));
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
            undeclared: &undeclared,
            other_versions: &managed::other_versions(call),
        };
        let mut object =
            rdd_apply::apply::apply(current, &self.config, &apply).map_err(apply_error)?;
        merged_types(&resource, &self.config, &mut object)?;
        self.check_duplicates(call)?;
        let uid = object::meta(&self.config, "uid");
        if current.is_none() && !uid.is_empty() {
            return Err(ApiError::apply_uid_mismatch(&resource, call.name(), uid));
        }
        resource
            .strategy
            .default(&call.write_context(), &mut object);
        decode::check_name(call, &object)?;
        decode::fit_namespace(call, &mut object)?;
        if current.is_none() {
            write::wipe(&mut object);
        }
        Ok(Computed {
            object,
            tracked: true,
        })
    }

    fn creates(&self, _resource: &Resource) -> bool {
        true
    }
}

/// The type check leaves an object at the first member that its type does not have.
fn first_of_each(mut paths: Vec<String>) -> Vec<String> {
    let parent = |path: &str| path.rsplit_once('.').map(|(parent, _)| parent.to_owned());
    paths.sort();
    paths.dedup_by(|one, before| parent(one) == parent(before));
    paths
}

/// Gives the merged object the resource's types. Of a custom resource nothing is dropped
/// here: what does not fit was refused by the type check or is refused by validation.
fn merged_types(resource: &Resource, config: &Value, object: &mut Value) -> ApiResult<()> {
    if resource.is_custom() {
        // The server knows when the object was made, whatever is applied.
        if config.pointer("/metadata/creationTimestamp").is_some()
            && let Some(metadata) = object::metadata_mut(object)
        {
            metadata.remove("creationTimestamp");
        }
        metadata::decode(object, false, &resource.kind).map_err(ApiError::bad_request)?;
        rdd_schema::default(object, &resource.schema);
        return Ok(());
    }
    let restored = rdd_schema::restore(object, &resource.schema)
        .and_then(|()| decode::typed_text(resource, object));
    restored.map(|_| ()).map_err(|text| {
        let api_version = resource.api_version();
        let (slash, kind) = (
            if resource.group.is_empty() { "/" } else { "" },
            &resource.kind,
        );
        let target = format!("{slash}{api_version}, Kind={kind}");
        ApiError::bare(format!(
            "failed to convert new object ({}/{}; {target}) to proper version: unable to convert \
             unstructured object to {target}: {text}",
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
