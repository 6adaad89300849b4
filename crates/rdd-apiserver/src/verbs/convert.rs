//! From one served version of a resource to another.

use serde_json::Value;

use crate::{catalog::Resource, status::ApiResult, verbs::decode};

/// The object in the version of `to`.
///
/// # Errors
/// When the conversion fails.
pub(crate) async fn between(from: &Resource, to: &Resource, mut object: Value) -> ApiResult<Value> {
    if from.api_version() == to.api_version() {
        return Ok(object);
    }
    if to.is_custom() {
        object["apiVersion"] = Value::String(to.api_version());
        decode::shape(to, &mut object);
    } else {
        from.strategy.to_storage(&mut object);
        to.strategy.from_storage(&mut object);
        object["apiVersion"] = Value::String(to.api_version());
    }
    Ok(object)
}
