//! `rdd set`, `start`, `stop` and `attach`: the App, which says what should run.

use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams, PostParams};
use rdd_api::{App, names};
use rdd_docker_cli::{DEFAULT_ENDPOINT, Files};
use serde_json::{Value, json};

use crate::args::{Attach, Set, Wait};
use crate::connect;
use crate::exit::{Outcome, classify};
use crate::properties::{self, Schema};
use crate::settings::Settings;
use crate::settle;

/// `rdd set`.
pub(crate) async fn set(settings: &Settings, set: &Set) -> Outcome {
    let properties = properties::parse(&set.properties)?;
    let client = connect::ready(settings).await?;
    let schema = schema(&client).await?;
    let patch = schema.patch(&properties)?;
    let generation = write(&client, &schema, &patch, set.dry_run).await?;
    if set.dry_run || !set.wait.wait {
        return Ok(());
    }
    settle::wait(client, generation, set.wait.timeout.0).await
}

/// `rdd start`.
pub(crate) async fn start(settings: &Settings, wait: Wait) -> Outcome {
    change(settings, &json!({"running": true}), wait).await
}

/// `rdd stop`.
pub(crate) async fn stop(settings: &Settings, wait: Wait) -> Outcome {
    let client = connect::ready(settings).await?;
    let apps: Api<App> = Api::all(client);
    let found = apps
        .get_opt(names::APP)
        .await
        .context("failed to read the App")?;
    if found.is_none() {
        tracing::info!("App does not exist; nothing to stop");
        return Ok(());
    }
    change(settings, &json!({"running": false}), wait).await
}

/// `rdd attach`.
pub(crate) async fn attach(settings: &Settings, attach: Attach) -> Outcome {
    let endpoint = match attach.endpoint {
        Some(endpoint) => endpoint,
        None => current_endpoint(settings)?,
    };
    tracing::info!("attaching to {endpoint}");
    let patch = json!({"running": true, "containerEngine": {"name": "moby", "endpoint": endpoint}});
    change(settings, &patch, attach.wait).await
}

async fn change(settings: &Settings, patch: &Value, wait: Wait) -> Outcome {
    let client = connect::ready(settings).await?;
    let schema = schema(&client).await?;
    let generation = write(&client, &schema, patch, false).await?;
    if wait.wait {
        settle::wait(client, generation, wait.timeout.0).await?;
    }
    Ok(())
}

async fn schema(client: &kube::Client) -> Outcome<Schema> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let found = definitions
        .get_opt(names::APP_CRD)
        .await
        .context("failed to read the App's definition")?;
    let definition = found.ok_or_else(|| {
        anyhow!("app CRD is not installed; make sure the control plane is running with the app controller enabled")
    })?;
    let version = definition
        .spec
        .versions
        .into_iter()
        .find(|version| version.storage);
    let document = version
        .and_then(|version| version.schema?.open_api_v3_schema)
        .context("the App's definition has no schema")?;
    let document = serde_json::to_value(document).context("failed to read the App's schema")?;
    Ok(Schema::new(&document))
}

/// Creates or patches the App; the generation is what a wait must see.
async fn write(
    client: &kube::Client,
    schema: &Schema,
    patch: &Value,
    dry_run: bool,
) -> Outcome<i64> {
    let apps: Api<App> = Api::all(client.clone());
    let params = PatchParams {
        dry_run,
        ..PatchParams::default()
    };
    let body = Patch::Merge(json!({"spec": patch}));
    let written = match apps.patch(names::APP, &params, &body).await {
        Err(kube::Error::Api(status)) if status.code == 404 => {
            let app: App = serde_json::from_value(json!({
                "apiVersion": names::APP_API_VERSION,
                "kind": "App",
                "metadata": {"name": names::APP},
                "spec": schema.complete(patch),
            }))
            .context("failed to make an App")?;
            let params = PostParams {
                dry_run,
                ..PostParams::default()
            };
            match apps.create(&params, &app).await {
                Ok(app) => {
                    if !dry_run {
                        tracing::info!("App created");
                    }
                    Ok(app)
                }
                // Somebody else was first; what they made is patched like any App.
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    let params = PatchParams::default();
                    apps.patch(names::APP, &params, &body)
                        .await
                        .map_err(|error| classify(error, "failed to update App"))
                }
                Err(error) => Err(classify(error, "failed to create App")),
            }
        }
        Ok(app) => {
            if !dry_run {
                tracing::info!("App updated");
            }
            Ok(app)
        }
        Err(error) => Err(classify(error, "failed to update App")),
    }?;
    if dry_run {
        tracing::info!("App validated (dry run)");
    }
    Ok(written.metadata.generation.unwrap_or_default())
}

/// The endpoint that the Docker client would use now.
fn current_endpoint(settings: &Settings) -> anyhow::Result<String> {
    let environment = settings.instance.environment();
    if let Some(host) = &environment.docker_host {
        return Ok(host.clone());
    }
    let files = Files::new(settings.instance.docker_config());
    let selected = match &environment.docker_context {
        Some(context) => Some(context.clone()),
        None => files.current()?,
    };
    let Some(name) = selected.filter(|name| name != "default") else {
        return Ok(DEFAULT_ENDPOINT.to_owned());
    };
    let Some(context) = files.context(&name)? else {
        bail!(
            "the Docker context {name:?} does not exist; name an endpoint: rdd attach {DEFAULT_ENDPOINT}"
        )
    };
    context
        .host
        .with_context(|| format!("the Docker context {name:?} has no endpoint"))
}
