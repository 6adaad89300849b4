//! PUT.

use http::Response;
use serde_json::Value;

use crate::{
    catalog::{Resource, Subresource},
    encoding::negotiate::content_type,
    http::body::{self, Body},
    object::{self, metadata},
    options::{WriteKind, WriteOptions},
    status::ApiResult,
    verbs::{
        call::Call,
        decode, managed, scale,
        write::{self, Compute, Computed},
    },
};

pub(crate) async fn update(call: &mut Call, body: Body) -> ApiResult<Response<Body>> {
    if call.subresource == Some(Subresource::Scale) {
        return scale::update(call, body).await;
    }
    let bytes = body::read(body).await?;
    let options = WriteOptions::parse(&call.query, WriteKind::Update)?;
    let content_type = content_type(&call.headers);
    let mut new = decode::object(call, &bytes, content_type, options.field_validation)?;
    call.resource
        .strategy
        .default(&call.write_context(), &mut new);
    decode::check_name(call, &new)?;
    decode::fit_namespace(call, &mut new)?;
    let warning = metadata::drop_duplicate_owners(&mut new, "");
    call.warn(warning);
    let uid = Some(object::meta(&new, "uid").to_owned()).filter(|uid| !uid.is_empty());
    let mut put = Put { new, uid };
    write::run(call, &options, &mut put).await
}

struct Put {
    new: Value,
    uid: Option<String>,
}

impl Compute for Put {
    fn compute(&mut self, _call: &mut Call, current: Option<&Value>) -> ApiResult<Computed> {
        let mut object = self.new.clone();
        match current {
            Some(current) => managed::keep_if_omitted(&mut object, current),
            None => write::wipe(&mut object),
        }
        Ok(Computed {
            object,
            tracked: false,
        })
    }

    fn creates(&self, resource: &Resource) -> bool {
        resource.create_on_update
    }

    fn expected_uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }
}
