//! POST on a collection.

use http::Response;

use crate::{
    encoding::negotiate::content_type,
    http::body::{self, Body},
    object::{self, metadata},
    options::{WriteKind, WriteOptions},
    status::{ApiError, ApiResult},
    verbs::{call::Call, decode, write},
};

pub(crate) async fn create(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Create)?;
    let content_type = content_type(&call.headers);
    let mut new = decode::object(call, &bytes, content_type, options.field_validation)?;
    call.resource
        .strategy
        .default(&call.write_context(), &mut new);
    if !call.name().is_empty() {
        // POST on an object's path: custom resources take the name from there.
        if object::meta(&new, "name").is_empty() {
            let name = call.name().to_owned();
            if let Some(metadata) = object::metadata_mut(&mut new) {
                metadata.insert("name".to_owned(), name.into());
            }
        } else {
            decode::check_name(call, &new)?;
        }
    }
    decode::fit_namespace(call, &mut new)?;
    if call.resource.is_namespaced() && call.namespace().is_none() {
        return Err(ApiError::page_not_found());
    }
    let warning = metadata::drop_duplicate_owners(&mut new, "");
    call.warn(warning);
    write::create(call, &options, new).await
}
