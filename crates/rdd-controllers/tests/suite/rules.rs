//! Every rule about an object's content, with every verb that writes one: the same answer,
//! and a dry run that changes nothing.

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use rdd_api::names::{self, group};
use serde_json::{Value, json};

use crate::conditions::api_of;
use crate::lab;

/// What a rule takes and what it refuses.
struct Case {
    group: &'static str,
    kind: &'static str,
    name: &'static str,
    /// Merged into an object that has only a name.
    good: Value,
    /// Each is merged into a good object, and refused with these words.
    bad: Vec<(Value, &'static str)>,
    /// Each is merged into a good object, and taken.
    also_good: Vec<Value>,
}

fn cases() -> Vec<Case> {
    let kubernetes = |value: Value| json!({"spec": {"kubernetes": value}});
    let engine = |value: Value| json!({"spec": {"containerEngine": value}});
    let action =
        |action: &str| json!({"metadata": {"annotations": {names::ACTION_ANNOTATION: action}}});
    vec![
        Case {
            group: group::APP,
            kind: "App",
            name: names::APP,
            good: json!({"spec": {"running": false}}),
            bad: vec![
                (
                    engine(json!({"name": "moby", "endpoint": "ftp://x"})),
                    "must start with",
                ),
                (
                    engine(json!({"name": "moby", "endpoint": "unix://"})),
                    "must start with",
                ),
                (kubernetes(json!({})), "spec.kubernetes.enabled"),
                (
                    kubernetes(json!({"version": "1.2"})),
                    "spec.kubernetes.enabled",
                ),
                (
                    kubernetes(json!({"enabled": false, "version": "1.2"})),
                    "is not supported",
                ),
                (
                    kubernetes(json!({"enabled": true, "version": "none"})),
                    "is not supported",
                ),
                (json!({"spec": {"namespace": "B_"}}), "spec.namespace"),
            ],
            also_good: vec![
                kubernetes(Value::Null),
                kubernetes(json!({"enabled": false, "version": ""})),
                // What is missing here is filled in first, and then judged.
                kubernetes(json!({"enabled": true})),
                kubernetes(json!({"enabled": true, "version": "stable"})),
                engine(Value::Null),
                engine(json!({"name": "moby", "endpoint": ""})),
            ],
        },
        Case {
            group: group::RDD,
            kind: "Notary",
            name: "n",
            good: json!({"spec": {"value": "a", "configMapName": "n"}}),
            bad: vec![(
                json!({"spec": {"value": "InValid"}}),
                "spec.value cannot start with",
            )],
            also_good: vec![json!({"spec": {"value": "not invalid"}})],
        },
        Case {
            group: group::CONTAINERS,
            kind: "Container",
            name: "c",
            good: json!({"spec": {"state": "unknown"}}),
            bad: vec![
                (action("dance"), names::ACTION_ANNOTATION),
                (action(""), names::ACTION_ANNOTATION),
            ],
            also_good: vec![json!({"spec": {"state": "unknown"}})],
        },
    ]
}

/// RFC 7386, for what the tests need of it.
fn merge(into: &mut Value, patch: &Value) {
    let (Some(object), Some(patch)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(json!({})), value);
        }
    }
}

impl Case {
    fn document(&self, patches: &[&Value]) -> Value {
        let mut document = json!({
            "apiVersion": format!("{}/{}", self.group, names::VERSION),
            "kind": self.kind,
            "metadata": {"name": self.name},
        });
        for patch in patches {
            merge(&mut document, patch);
        }
        document
    }

    async fn write(
        &self,
        api: &Api<DynamicObject>,
        verb: &str,
        patch: &Value,
        dry_run: bool,
    ) -> kube::Result<DynamicObject> {
        let post = PostParams {
            dry_run,
            ..PostParams::default()
        };
        let mut params = PatchParams::apply("tester").force();
        params.dry_run = dry_run;
        let whole = self.document(&[&self.good, patch]);
        let object = |value: Value| serde_json::from_value(value).expect("an object");
        match verb {
            "create" => api.create(&post, &object(whole)).await,
            "apply" => api.patch(self.name, &params, &Patch::Apply(whole)).await,
            "merge" => {
                params.force = false;
                api.patch(self.name, &params, &Patch::Merge(patch)).await
            }
            // The controllers write as well; who comes second reads again.
            "replace" => loop {
                let stands = api.get(self.name).await?;
                let mut whole = serde_json::to_value(stands).expect("JSON");
                merge(&mut whole, patch);
                match api.replace(self.name, &post, &object(whole)).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    done => break done,
                }
            },
            other => panic!("no such verb: {other}"),
        }
    }
}

#[test]
fn every_rule_judges_every_verb_and_a_dry_run_changes_nothing() {
    lab::run(|lab| async move {
        let manager = lab.start("*").await;
        for case in cases() {
            let api = api_of(&lab, case.group, case.kind);
            let refused = async |verb: &str, patch: &Value, words: &str| {
                for dry_run in [true, false] {
                    let what = format!("{verb} of {} with {patch}", case.kind);
                    let answer = case.write(&api, verb, patch, dry_run).await;
                    let Err(kube::Error::Api(status)) = answer else {
                        panic!("{what}: {answer:?}");
                    };
                    assert!(status.message.contains(words), "{what}: {}", status.message);
                }
            };
            for (patch, words) in &case.bad {
                refused("create", patch, words).await;
                refused("apply", patch, words).await;
            }
            for patch in &case.also_good {
                for verb in ["create", "apply"] {
                    let tried = case.write(&api, verb, patch, true).await;
                    tried.unwrap_or_else(|error| panic!("{verb} of {patch}: {error}"));
                }
            }
            assert!(api.get_opt(case.name).await.expect("answers").is_none());

            let stands = case
                .write(&api, "create", &json!({}), false)
                .await
                .expect("it is accepted");
            for verb in ["replace", "merge", "apply"] {
                for (patch, words) in &case.bad {
                    refused(verb, patch, words).await;
                }
                for patch in &case.also_good {
                    let tried = case.write(&api, verb, patch, true).await;
                    tried.unwrap_or_else(|error| panic!("{verb} of {patch}: {error}"));
                }
            }
            let now = api.get(case.name).await.expect("it is there");
            let content = |object: &DynamicObject| {
                let spec = object.data["spec"].clone();
                (
                    object.metadata.generation,
                    object.annotations().clone(),
                    spec,
                )
            };
            assert_eq!(content(&now), content(&stands));
        }
        manager.stop().await;
    });
}
