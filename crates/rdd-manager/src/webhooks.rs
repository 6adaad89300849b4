//! Rules as webhooks: served over HTTPS on loopback, and listed where clients look.
//!
//! Guarantees
//! 1. A configuration is written only when the rule behind its URL answers.
//! 2. Configurations of a manager that ends in order are gone before its leases are.
//! 3. Nobody removes the configuration of another manager that lives.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, join_all, try_join_all};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::core::ClusterResourceScope;
use kube::{Resource, ResourceExt as _};
use rdd_admission::webhook::{self, REVIEW_VERSIONS};
use rdd_admission::{Admit, Matches, Phase};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::discovery::Names;
use crate::error::{Error, Result};
use crate::listener::{Answer, plain, respond};
use crate::passthrough::Body;

/// How often a configuration is written before the start fails.
const ATTEMPTS: u32 = 20;

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);

/// The largest question, in bytes: an object, what it was before, and what is around them.
const BODY_MAX: usize = 8 * 1024 * 1024;

/// The rules of one controller.
pub(crate) struct OfController {
    pub(crate) controller: &'static str,
    pub(crate) rules: Vec<Arc<dyn Admit>>,
}

/// Rules by the path at which they are asked.
#[derive(Default)]
pub(crate) struct Served(BTreeMap<String, Arc<dyn Admit>>);

/// What is listed of one manager's rules.
pub(crate) struct Listed {
    configurations: Vec<Configuration>,
    webhooks: Vec<(String, String)>,
}

struct Configuration {
    phase: Phase,
    name: &'static str,
    document: Value,
}

/// Assigns every rule its path, and says how all of them are listed.
pub(crate) fn list(
    all: &[OfController],
    port: u16,
    authority: &str,
    names: &Names,
    manager: &str,
) -> Result<(Served, Listed)> {
    let mut served = Served::default();
    let mut webhooks = Vec::new();
    let mut found: BTreeMap<(&str, bool), (&str, Vec<Value>)> = BTreeMap::new();
    let rules = all
        .iter()
        .flat_map(|of| of.rules.iter().map(|rule| (of.controller, rule)));
    for (controller, rule) in rules {
        let broken = |what: &str| Error::Admission {
            text: format!("rule {:?} of controller {controller:?} {what}", rule.name()),
        };
        let listing = rule
            .listing()
            .ok_or_else(|| broken("cannot be served as a webhook"))?;
        let path = webhook::path(&**rule, &listing);
        let url = format!("https://127.0.0.1:{port}{path}");
        if served.0.insert(path, Arc::clone(rule)).is_some() {
            return Err(broken("is served where another one is"));
        }
        let rules = rule
            .matches()
            .iter()
            .map(|one| described(one, listing.version));
        let entry = json!({
            "name": rule.name(),
            "clientConfig": {"url": url, "caBundle": bundle(authority)},
            "rules": rules.collect::<Vec<_>>(),
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": REVIEW_VERSIONS,
        });
        webhooks.push((rule.name().to_owned(), url));
        let key = (listing.configuration, rule.phase() == Phase::Mutating);
        let (_, entries) = found.entry(key).or_insert((controller, Vec::new()));
        entries.push(entry);
    }
    let configurations = found
        .into_iter()
        .map(|((name, mutating), (controller, entries))| {
            let kind = if mutating { "Mutating" } else { "Validating" };
            Configuration {
                phase: if mutating {
                    Phase::Mutating
                } else {
                    Phase::Validating
                },
                name,
                document: json!({
                    "apiVersion": "admissionregistration.k8s.io/v1",
                    "kind": format!("{kind}WebhookConfiguration"),
                    "metadata": {
                        "name": name,
                        "labels": {names.controller: controller},
                        "annotations": {names.manager: manager},
                    },
                    "webhooks": entries,
                }),
            }
        })
        .collect();
    Ok((
        served,
        Listed {
            configurations,
            webhooks,
        },
    ))
}

fn bundle(authority: &str) -> Value {
    json!(k8s_openapi::ByteString(authority.as_bytes().to_vec()))
}

fn described(one: &Matches, version: &str) -> Value {
    let resource = match one.subresource.as_str() {
        "" => one.resource.clone(),
        subresource => format!("{}/{subresource}", one.resource),
    };
    json!({
        "apiGroups": [one.group],
        "apiVersions": [version],
        "resources": [resource],
        "operations": one.operations,
    })
}

impl Served {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Answer for Served {
    fn answer(self: Arc<Self>, request: Request<Incoming>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let Some(rule) = self.0.get(request.uri().path()).cloned() else {
                return plain(StatusCode::NOT_FOUND, "no rule is served here\n");
            };
            if request.method() != Method::POST {
                let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "POST an AdmissionReview\n");
                let allowed = header::HeaderValue::from_static("POST");
                answer.headers_mut().insert(header::ALLOW, allowed);
                return answer;
            }
            let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(error) => {
                    let text = format!("the body cannot be read: {error}\n");
                    return plain(StatusCode::BAD_REQUEST, text);
                }
            };
            match webhook::review(&*rule, &body).await {
                Ok(answer) => respond(StatusCode::OK, "application/json", answer),
                Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
            }
        })
    }
}

impl Listed {
    /// Each listed rule's name and URL.
    pub(crate) fn webhooks(&self) -> impl Iterator<Item = (String, String)> {
        self.webhooks.iter().cloned()
    }

    /// Writes every configuration, all at once, each again while it fails.
    pub(crate) async fn apply(&self, client: &kube::Client, names: &Names) -> Result<()> {
        let all = self.configurations.iter().map(|one| async move {
            match one.phase {
                Phase::Mutating => {
                    apply_one::<MutatingWebhookConfiguration>(client, names, one).await
                }
                Phase::Validating => {
                    apply_one::<ValidatingWebhookConfiguration>(client, names, one).await
                }
            }
        });
        try_join_all(all).await?;
        Ok(())
    }
}

async fn apply_one<K>(client: &kube::Client, names: &Names, one: &Configuration) -> Result<()>
where
    K: Kind,
{
    let api: Api<K> = Api::all(client.clone());
    let params = PatchParams::apply(names.webhook_field_manager).force();
    let mut attempt = 1;
    loop {
        let applied = api
            .patch(one.name, &params, &Patch::Apply(&one.document))
            .await;
        match applied {
            Ok(_) => return Ok(()),
            Err(error) if attempt == ATTEMPTS => {
                let action = format!("list the webhooks of {:?}", one.name);
                return Err(Error::api(action)(error));
            }
            Err(error) => {
                tracing::debug!(configuration = one.name, %error, "webhooks are not listed yet");
            }
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// A kind of configuration.
trait Kind:
    Resource<Scope = ClusterResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl Kind for MutatingWebhookConfiguration {}
impl Kind for ValidatingWebhookConfiguration {}

/// Whose configurations go.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    /// Those of one manager.
    Manager(&'a str),
    /// Those of controllers that are not among these.
    AllBut(&'a [&'a str]),
}

/// Removes configurations that a manager of ours has written, and no others.
///
/// # Errors
/// The first failure; the others are tried all the same.
pub(crate) async fn remove(client: &kube::Client, names: &Names, whose: Whose<'_>) -> Result<()> {
    let (mutating, validating) = tokio::join!(
        remove_kind::<MutatingWebhookConfiguration>(client, names, whose),
        remove_kind::<ValidatingWebhookConfiguration>(client, names, whose),
    );
    mutating.and(validating)
}

async fn remove_kind<K: Kind>(
    client: &kube::Client,
    names: &Names,
    whose: Whose<'_>,
) -> Result<()> {
    let api: Api<K> = Api::all(client.clone());
    let params = ListParams::default().labels(names.controller);
    let listed = api
        .list_metadata(&params)
        .await
        .map_err(Error::api("look at the listed webhooks"))?;
    let meant = listed.items.into_iter().filter(|found| match whose {
        Whose::Manager(manager) => {
            found.annotations().get(names.manager).map(String::as_str) == Some(manager)
        }
        Whose::AllBut(kept) => {
            let controller = found.labels().get(names.controller);
            controller.is_none_or(|controller| !kept.contains(&controller.as_str()))
        }
    });
    let removals = meant.map(|found| {
        let api = &api;
        async move {
            let name = found.name_any();
            let params = DeleteParams {
                // Another manager may have written it anew since it was looked at.
                preconditions: Some(Preconditions {
                    uid: found.uid(),
                    resource_version: found.resource_version(),
                }),
                ..DeleteParams::default()
            };
            match api.delete(&name, &params).await {
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => Ok(()),
                deleted => deleted
                    .map(drop)
                    .map_err(Error::api(format!("remove the webhooks of {name:?}"))),
            }
        }
    });
    join_all(removals).await.into_iter().collect()
}

/// Removes what earlier managers left listed of controllers that nobody hosts now. For
/// the control plane alone, before anybody can write.
///
/// # Errors
/// When the API refuses.
pub async fn remove_leftovers(client: &kube::Client, names: &Names, hosted: &[&str]) -> Result<()> {
    remove(client, names, Whose::AllBut(hosted)).await
}
