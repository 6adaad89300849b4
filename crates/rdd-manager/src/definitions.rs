//! Bringing definitions to the embedded version, and waiting until they are served.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use tokio::time::sleep;

use crate::error::{Error, Result};

/// The first pause between two looks; it doubles up to [`LOOK_MAX`].
const LOOK_MIN: Duration = Duration::from_millis(2);

/// The longest pause between two looks.
const LOOK_MAX: Duration = Duration::from_millis(100);

/// Applies every definition, so that a store written by an earlier release gets
/// this release's schemas, and returns when all of them are served. Definitions
/// that are not ours are left alone, and none is ever deleted.
pub(crate) async fn install(
    client: &kube::Client,
    field_manager: &str,
    definitions: Vec<CustomResourceDefinition>,
    deadline: Duration,
) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let installs = definitions
        .into_iter()
        .map(|definition| install_one(&api, field_manager, definition, deadline));
    try_join_all(installs).await?;
    Ok(())
}

async fn install_one(
    api: &Api<CustomResourceDefinition>,
    field_manager: &str,
    definition: CustomResourceDefinition,
    deadline: Duration,
) -> Result<()> {
    let begin = Instant::now();
    let name = definition.name_any();
    let params = PatchParams::apply(field_manager).force();
    let mut seen = api
        .patch(&name, &params, &Patch::Apply(&definition))
        .await
        .map_err(Error::api(format!("apply the definition {name}")))?;
    let mut pause = LOOK_MIN;
    loop {
        match establishment(&seen) {
            Establishment::Done => return Ok(()),
            Establishment::Waiting(state) if begin.elapsed() >= deadline => {
                return Err(Error::NotEstablished {
                    name,
                    seconds: deadline.as_secs(),
                    state,
                });
            }
            Establishment::Waiting(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_MAX);
        seen = api
            .get(&name)
            .await
            .map_err(Error::api(format!("read the definition {name}")))?;
    }
}

#[derive(Debug, PartialEq)]
enum Establishment {
    Done,
    Waiting(String),
}

fn establishment(definition: &CustomResourceDefinition) -> Establishment {
    let conditions = definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut state = None;
    for condition in conditions {
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Established", "True") => return Establishment::Done,
            // What is wrong with it, rather than that something is.
            ("NamesAccepted", "False") | ("NonStructuralSchema", "True") => {
                state = condition.message.clone();
                break;
            }
            ("Established", _) => state = condition.message.clone(),
            _ => {}
        }
    }
    let state = state
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "the server has not looked at it".to_owned());
    Establishment::Waiting(state)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_established_counts_and_refused_names_are_told() {
        let check = |conditions: serde_json::Value, expect: Establishment| {
            let definition = serde_json::from_value(json!({
                "metadata": {"name": "as.b.c"},
                "spec": {"group": "b.c", "scope": "Namespaced", "names": {"kind": "A", "plural": "as"}, "versions": []},
                "status": {"conditions": conditions, "acceptedNames": {"kind": "A", "plural": "as"}, "storedVersions": ["v1"]},
            }))
            .expect("a definition");
            assert_eq!(establishment(&definition), expect);
        };
        check(
            json!([]),
            Establishment::Waiting("the server has not looked at it".into()),
        );
        check(
            json!([{"type": "Established", "status": "True", "message": "x"}]),
            Establishment::Done,
        );
        check(
            json!([{"type": "NamesAccepted", "status": "False", "message": "as is taken"},
                   {"type": "Established", "status": "False", "message": "not all names are accepted"}]),
            Establishment::Waiting("as is taken".into()),
        );
        check(
            json!([{"type": "Established", "status": "False", "message": "in a moment"},
                   {"type": "NamesAccepted", "status": "True", "message": "no conflicts found"}]),
            Establishment::Waiting("in a moment".into()),
        );
    }
}
