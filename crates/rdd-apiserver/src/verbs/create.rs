//! POST on a collection.

use http::Response;

use crate::{
    encoding::negotiate::content_type,
    http::body::{self, Body},
    object::metadata,
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
    decode::fit_namespace(call, &mut new)?;
    if call.resource.is_namespaced() && call.namespace().is_none() {
        return Err(ApiError::page_not_found());
    }
    let warning = metadata::drop_duplicate_owners(&mut new, "");
    call.warn(warning);
    write::create(call, &options, new).await
}
