//! What can be done to a resource: one module per verb, over the shared parts
//! `call` (one request), `decode` (bodies), `served` (stored ↔ served form) and
//! `write` (the pipeline behind update, patch and apply).

pub(crate) mod call;
mod continuation;
pub(crate) mod convert;
mod create;
pub(crate) mod decode;
mod delete;
mod get;
mod list;
mod list_pieces;
mod managed;
mod parts;
mod patch;
pub(crate) mod review;
pub(crate) mod scale;
pub(crate) mod served;
pub(crate) mod token;
mod update;
mod watch;
mod write;

use http::{HeaderMap, Response};

use crate::{
    catalog::{Subresource, Verb},
    encoding::negotiate,
    http::{body::Body, response},
    status::ApiResult,
    verbs::call::Call,
};

pub(crate) use write::store_error;

/// Whether a request says that it is a patch of a custom resource.
///
/// # Errors
/// 415 when its type is another one.
pub(crate) fn check_patch(headers: &HeaderMap) -> ApiResult<()> {
    patch::check_form(headers, true).map(|_| ())
}

/// Runs the verb of a request that was authenticated, authorised and routed.
pub(crate) async fn run(mut call: Call, verb: Verb, body: Body) -> ApiResult<Response<Body>> {
    let scale = call.subresource == Some(Subresource::Scale);
    let answer = match verb {
        Verb::Get if scale => scale::get(&call).await,
        Verb::Get => get::get(&call).await,
        Verb::List => list::list(&call).await,
        Verb::Watch => watch::watch(&call).await,
        Verb::Create if call.subresource == Some(Subresource::Token) => {
            token::create(&mut call, body).await
        }
        Verb::Create if review::is_review(&call.resource) => review::create(&mut call, body).await,
        Verb::Create => create::create(&mut call, body).await,
        Verb::Update => update::update(&mut call, body).await,
        Verb::Patch => patch::patch(&mut call, body).await,
        Verb::Delete => delete::delete(&mut call, body).await,
        Verb::DeleteCollection => delete::delete_collection(&mut call, body).await,
    };
    let answer = match answer {
        // What was noticed on the way to a refusal is told with it.
        Err(error) if call.has_warnings() => {
            response::error(&error, negotiate::error_format(&call.headers))
        }
        answer => answer?,
    };
    Ok(call.with_warnings(answer))
}
