//! GET on an object.

use std::time::Duration;

use http::Response;
use rdd_store::Revision;

use crate::{
    http::body::Body,
    object::{parse_uint, quote},
    options,
    status::{ApiError, ApiResult},
    verbs::{call::Call, convert, write::store_error},
};

/// How long a read waits for a revision that is not there yet.
const FUTURE_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) async fn get(call: &Call) -> ApiResult<Response<Body>> {
    options::timeout(
        &call.query,
        call.deadline
            .saturating_duration_since(tokio::time::Instant::now()),
    )?;
    if call.query.flag("export") {
        return Err(ApiError::bad_request(
            "the export parameter, deprecated since v1.14, is no longer supported",
        ));
    }
    if let Some(text) = call
        .query
        .get("resourceVersion")
        .filter(|text| !text.is_empty())
    {
        let revision = parse_uint(text).map_err(|error| {
            ApiError::bare(format!(
                "resourceVersion: Invalid value: {}: {error}",
                quote(text)
            ))
        })?;
        wait_for(call, revision).await?;
    }
    let key = call.resource.key(call.namespace(), call.name());
    let entry = call.server.store.get(&key).await.map_err(store_error)?;
    let entry = entry.ok_or_else(|| ApiError::not_found(&call.resource, call.name()))?;
    call.answer_entry(200, &convert::entry(call, entry).await?)
}

/// Waits a little for a revision in the future.
///
/// # Errors
/// 504 when it does not come.
pub(crate) async fn wait_for(call: &Call, revision: u64) -> ApiResult<()> {
    if Revision(revision) <= call.server.store.revision() {
        return Ok(());
    }
    let reached = call.server.cache.reached(Revision(revision));
    match tokio::time::timeout(FUTURE_TIMEOUT, reached).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(ApiError::revision_too_large(
            revision,
            call.server.store.revision().0,
        )),
    }
}
