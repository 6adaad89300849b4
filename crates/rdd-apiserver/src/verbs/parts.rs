//! PATCH with several applies: an object and parts of it that others own, in one write.
//!
//! Whoever makes an object says what it is; its status is a request of its own, under
//! another manager. Between the two everybody sees half of it. Here each apply is judged
//! as if it had come alone, on what the one before made, and only the last result is kept.

use bytes::Bytes;
use http::Response;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    catalog::Subresource,
    encoding::{json, negotiate::APPLY_PARTS},
    http::body::Body,
    object::quote,
    options::{WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{
        call::Call,
        patch::Applied,
        write::{self, Part},
    },
};

/// Applies that one request can have.
const PARTS_MAX: usize = 8;

/// One apply.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// The part of the object, by the segment of its path; empty for the object itself.
    #[serde(default)]
    subresource: String,
    field_manager: String,
    #[serde(default)]
    force: bool,
    /// What is applied.
    object: Value,
}

pub(crate) async fn apply(call: &mut Call, bytes: &Bytes) -> ApiResult<Response<Body>> {
    let options = WriteOptions::parse(&call.query, WriteKind::Patch)?;
    if !options.field_manager.is_empty() {
        let text = "fieldManager: each apply of the request names its own";
        return Err(ApiError::bad_request(text));
    }
    let mut parts = Vec::new();
    for document in documents(bytes)? {
        let subresource = part_of(call, &document.subresource)?;
        if let Some(subresource) = subresource {
            call.server.authorize_part(call, subresource).await?;
        }
        let options = options.owned_by(&document.field_manager, document.force)?;
        let verb = Applied::new(&options, document.object, Vec::new())?;
        parts.push(Part {
            subresource,
            options,
            verb: Box::new(verb),
        });
    }
    write::run_parts(call, &options, &mut parts).await
}

fn documents(bytes: &Bytes) -> ApiResult<Vec<Document>> {
    let refuse =
        |text: String| ApiError::bad_request(format!("error decoding {APPLY_PARTS}: {text}"));
    let parsed = json::parse(bytes).map_err(|error| refuse(error.0))?;
    if let Some(path) = parsed.duplicates.first() {
        return Err(refuse(format!("duplicate field {}", quote(path))));
    }
    let documents: Vec<Document> =
        serde_json::from_value(parsed.value).map_err(|error| refuse(error.to_string()))?;
    match documents.len() {
        0 => Err(refuse("there is nothing to apply".to_owned())),
        count if count > PARTS_MAX => Err(refuse(format!(
            "{count} applies are more than the {PARTS_MAX} that are allowed"
        ))),
        _ => Ok(documents),
    }
}

/// The part of this name, which has to be one that can be applied.
fn part_of(call: &Call, name: &str) -> ApiResult<Option<Subresource>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found = Subresource::parse(name);
    let found = found.filter(|part| *part == Subresource::Status && call.resource.has(*part));
    match found {
        Some(part) => Ok(Some(part)),
        None => Err(ApiError::bad_request(format!(
            "subresource {} cannot be applied together with its object",
            quote(name)
        ))),
    }
}
