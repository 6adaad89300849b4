//! `/scale`: an object seen as `autoscaling/v1` Scale.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::Response;
use rdd_schema::FieldError;
use serde_json::{Map, Value, json};

use crate::{
    catalog::{
        Resource, ScalePaths,
        builtin::{columns, document::Document},
    },
    encoding::{
        json,
        negotiate::{ContentType, View, content_type},
        table, yaml,
    },
    http::body::{self, Body},
    object::{self, metadata},
    options::{FieldValidation, WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{
        call::Call,
        convert, decode,
        patch::{self, Parsed},
        served,
        write::{self, Compute, Computed, store_error},
    },
};

fn paths(resource: &Resource) -> ApiResult<&ScalePaths> {
    resource
        .scale
        .as_ref()
        .ok_or_else(ApiError::unknown_resource)
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |at, name| at.get(name))
}

fn put(object: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut at = object;
    for name in parents {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Some(members) = at.as_object_mut() else {
            return;
        };
        at = members
            .entry(name.clone())
            .or_insert_with(|| Value::Object(Map::new()));
    }
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    if let Some(members) = at.as_object_mut() {
        members.insert(last.clone(), value);
    }
}

/// The Scale of an object.
pub(crate) fn view(resource: &Resource, object: &Value) -> ApiResult<Value> {
    let paths = paths(resource)?;
    let mut metadata = Map::new();
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        let text = object::meta(object, key);
        if !text.is_empty() {
            metadata.insert(key.to_owned(), json!(text));
        }
    }
    let replicas = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or_default();
    let mut spec = Map::new();
    let wanted = replicas(&paths.spec_replicas);
    if wanted != 0 {
        spec.insert("replicas".to_owned(), json!(wanted));
    }
    let mut status = Map::new();
    status.insert(
        "replicas".to_owned(),
        json!(replicas(&paths.status_replicas)),
    );
    let selector = paths
        .label_selector
        .as_ref()
        .and_then(|path| at(object, path)?.as_str());
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        status.insert("selector".to_owned(), json!(selector));
    }
    Ok(json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }))
}

/// Gives an object the number of replicas that a Scale asks for.
pub(crate) fn set_replicas(
    resource: &Resource,
    object: &mut Value,
    scale: &Value,
) -> ApiResult<()> {
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
    put(object, &paths(resource)?.spec_replicas, json!(replicas));
    Ok(())
}

pub(crate) async fn get(call: &Call) -> ApiResult<Response<Body>> {
    let key = call.resource.key(call.namespace(), call.name());
    let entry = call.server.store.get(&key).await.map_err(store_error)?;
    let entry = entry.ok_or_else(|| ApiError::not_found(&call.resource, call.name()))?;
    let entry = convert::entry(call, entry).await?;
    let object = served::value(&call.resource, &entry)?;
    let path = &paths(&call.resource)?.spec_replicas;
    if at(&object, path).is_none() {
        return Err(ApiError::internal(format!(
            "the spec replicas field \".{}\" does not exist",
            path.join(".")
        )));
    }
    answer(call, &view(&call.resource, &object)?)
}

/// A Scale in the form that the client asked for.
fn answer(call: &Call, scale: &Value) -> ApiResult<Response<Body>> {
    let View::Table(version) = call.accepted.view else {
        return call.answer_object(200, scale);
    };
    let metadata = json!({"resourceVersion": object::meta(scale, "resourceVersion")});
    let table = table::table_of(
        &columns::scale(),
        version,
        table::include_object(&call.query)?,
        metadata,
        std::slice::from_ref(scale),
        call.now,
    );
    Ok(call.document(200, &table))
}

/// What kube-apiserver says of whatever is no Scale.
const NO_SCALE: &str = "no kind is registered for the type v1.Scale in scheme \
     \"k8s.io/apiextensions-apiserver/pkg/apiserver/customresource_handler.go:781\"";

/// How bodies are read.
static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::scale);

pub(crate) async fn update(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Update)?;
    let parsed = match content_type(&call.headers) {
        ContentType::Yaml => yaml::parse(&bytes).ok().map(|parsed| parsed.value),
        _ => json::parse_trusted(&bytes).ok(),
    };
    let no_scale = || ApiError::bad_request(NO_SCALE);
    let mut scale = parsed.filter(Value::is_object).ok_or_else(no_scale)?;
    let text = |key: &str| scale.get(key).and_then(Value::as_str).unwrap_or_default();
    // A body may leave its type out.
    if !matches!(text("kind"), "" | "Scale") || !matches!(text("apiVersion"), "" | "autoscaling/v1")
    {
        return Err(no_scale());
    }
    let unknown = typed(&mut scale).map_err(|_| no_scale())?;
    match options.field_validation {
        FieldValidation::Strict if !unknown.is_empty() => return Err(no_scale()),
        FieldValidation::Warn => call.warn(unknown),
        _ => {}
    }
    decode::check_name(call, &scale)?;
    run(call, &options, Change::Replace(scale)).await
}

/// Gives a Scale its types, and answers what it has beside them.
///
/// # Errors
/// What does not fit, in Go's words.
fn typed(scale: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = metadata::decode(scale, true, "Scale")?;
    rdd_schema::decode(scale, &DOCUMENT.schema, "Scale")?;
    unknown.extend(rdd_schema::prune(scale, &DOCUMENT.schema));
    let unknown = unknown.iter();
    Ok(unknown
        .map(|path| format!("unknown field {}", object::quote(path)))
        .collect())
}

pub(crate) async fn patch(
    call: &mut Call,
    options: &WriteOptions,
    form: ContentType,
    bytes: &Bytes,
) -> ApiResult<Response<Body>> {
    let change = if form == ContentType::ApplyPatch {
        let parsed = yaml::parse(bytes)
            .map_err(|error| ApiError::bad_request(format!("error decoding YAML: {error}")))?;
        Change::Patch(Parsed::merge(parsed.value))
    } else {
        Change::Patch(patch::parse(form, bytes, options.field_validation)?)
    };
    run(call, options, change).await
}

enum Change {
    Replace(Value),
    Patch(Parsed),
}

async fn run(call: &mut Call, options: &WriteOptions, change: Change) -> ApiResult<Response<Body>> {
    let mut scaled = Scaled {
        change,
        validation: options.field_validation,
        result: None,
    };
    write::run(call, options, &mut scaled).await?;
    // The answer of the write shows the parent; the client asked for its Scale.
    let key = call.resource.key(call.namespace(), call.name());
    let mut object = scaled
        .result
        .ok_or_else(|| ApiError::not_found(&call.resource, call.name()))?;
    if !options.given.dry_run
        && let Some(entry) = call.server.store.get(&key).await.map_err(store_error)?
    {
        object::set_revision(&mut object, entry.revision);
    }
    answer(call, &view(&call.resource, &object)?)
}

struct Scaled {
    change: Change,
    validation: FieldValidation,
    result: Option<Value>,
}

impl Scaled {
    /// The Scale that a patch makes of the current one.
    fn patched(&self, call: &mut Call, patch: &Parsed, current: &Value) -> ApiResult<Value> {
        let resource = Arc::clone(&call.resource);
        let mut scale = patch::apply_patch(&resource, patch, &view(&resource, current)?)?;
        let dump = scale.to_string();
        let refused = |text: &str| patch::invalid_patch_text(dump.clone(), text);
        let text = |key: &str| scale.get(key).and_then(Value::as_str).unwrap_or_default();
        let (kind, version) = (text("kind"), text("apiVersion"));
        if kind.is_empty() {
            return Err(refused(&format!("Object 'Kind' is missing in '{scale}'")));
        }
        if kind != "Scale" || version != "autoscaling/v1" {
            return Err(refused(&format!(
                "no kind \"{kind}\" is registered for version \"{version}\" in scheme \
                 \"k8s.io/client-go/scale/util.go:146\""
            )));
        }
        let unknown = typed(&mut scale).map_err(|text| refused(&text))?;
        match self.validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                let text = format!("strict decoding error: {}", unknown.join(", "));
                return Err(refused(&text));
            }
            FieldValidation::Warn => call.warn(unknown),
            _ => {}
        }
        decode::check_name(call, &scale)?;
        Ok(scale)
    }
}

impl Compute for Scaled {
    fn compute(&mut self, call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let resource = Arc::clone(&call.resource);
        let current = current.ok_or_else(|| ApiError::not_found(&resource, call.name()))?;
        let scale = match &self.change {
            Change::Replace(scale) => scale.clone(),
            Change::Patch(patch) => self.patched(call, patch, current)?,
        };
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        let field = format!(".{}", paths(&resource)?.spec_replicas.join("."));
        if replicas < 0 || replicas > i64::from(i32::MAX) {
            let text = if replicas < 0 {
                "should be a non-negative integer"
            } else {
                "should be less than or equal to 2147483647"
            };
            let error = FieldError::invalid(field, replicas, text);
            return Err(ApiError::invalid(&resource, call.name(), &[error]));
        }
        let mut object = current.clone();
        let asked = object::meta(&scale, "resourceVersion").to_owned();
        if !asked.is_empty()
            && let Some(metadata) = object::metadata_mut(&mut object)
        {
            metadata.insert("resourceVersion".to_owned(), json!(asked));
        }
        put(
            &mut object,
            &paths(&resource)?.spec_replicas,
            json!(replicas),
        );
        self.result = Some(object.clone());
        Ok(Computed {
            object,
            tracked: false,
        })
    }

    fn creates(&self, _resource: &Resource) -> bool {
        false
    }

    fn expected_uid(&self) -> Option<&str> {
        let Change::Replace(scale) = &self.change else {
            return None;
        };
        Some(object::meta(scale, "uid")).filter(|uid| !uid.is_empty())
    }
}
