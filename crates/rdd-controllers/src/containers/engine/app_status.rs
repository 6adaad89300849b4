//! What the engine controller says on the App: its condition, and who the engine is.

use kube::api::{Api, Patch, PatchParams};
use rdd_api::names::{self, field_manager};
use rdd_api::{App, Condition, EngineStatus, condition};
use serde_json::json;

/// Writes condition and engine unless they stand already. `app` is what the verdict
/// was made from: its generation is the one that is stamped. The App as written, if it was.
pub(super) async fn write(
    client: kube::Client,
    app: &App,
    (status, reason, message): (bool, &str, &str),
    engine: Option<&EngineStatus>,
) -> kube::Result<Option<App>> {
    let current = app.status.clone().unwrap_or_default();
    let old = condition::find(&current.conditions, condition::CONTAINER_ENGINE_READY);
    let generation = app.metadata.generation.unwrap_or_default();
    let wanted = Condition::new(
        old,
        condition::CONTAINER_ENGINE_READY,
        status,
        reason,
        message,
        generation,
    );
    if old == Some(&wanted) && current.engine.as_ref() == engine {
        return Ok(None);
    }
    let mut body = json!({
        "apiVersion": names::APP_API_VERSION,
        "kind": "App",
        "metadata": {"name": names::APP, "uid": app.metadata.uid},
        "status": {"conditions": [wanted]},
    });
    if let Some(engine) = engine {
        body["status"]["engine"] = json!(engine);
    }
    let api: Api<App> = Api::all(client);
    let params = PatchParams::apply(field_manager::ENGINE).force();
    match api
        .patch_status(names::APP, &params, &Patch::Apply(&body))
        .await
    {
        // Gone, or another App by now: the next look is about that one.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(None),
        other => other.map(Some),
    }
}
