//! Conversion webhooks: custom resources whose versions differ in more than their name.
//!
//! Objects go there and back in batches. What comes back must be the same objects: of
//! their metadata, only labels and annotations may have changed.

use std::sync::OnceLock;

use bytes::Bytes;
use rdd_apply::go_type;
use rdd_schema::{FieldError, names};
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    encoding::json::parse_trusted,
    object::meta,
    outbound::{Answer, Endpoint, Services},
    status::{ApiError, ApiResult},
};

const GROUP: &str = "apiextensions.k8s.io";

/// How long one batch may take.
const BUDGET: Duration = Duration::from_secs(30);

/// How many objects go in one batch.
const BATCH_MAX: usize = 500;

/// The webhook of one definition.
pub struct Conversion {
    config: Value,
    review_version: &'static str,
    endpoint: OnceLock<Endpoint>,
}

impl Conversion {
    /// Reads `spec.conversion`; none when versions differ in their name only.
    pub(crate) fn read(conversion: &Value) -> Option<Self> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array();
        let review_version = versions.into_iter().flatten().find_map(|version| {
            match version.as_str().unwrap_or_default() {
                "v1" => Some("v1"),
                "v1beta1" => Some("v1beta1"),
                _ => None,
            }
        });
        Some(Self {
            config: webhook["clientConfig"].clone(),
            review_version: review_version.unwrap_or("v1"),
            endpoint: OnceLock::new(),
        })
    }

    /// The objects, none of which is in the version `desired`, in that version and in
    /// the same order.
    ///
    /// # Errors
    /// 500 in kube-apiserver's words.
    pub(crate) async fn convert(
        &self,
        services: &Services,
        objects: Vec<Value>,
        desired: &str,
        deadline: Instant,
    ) -> ApiResult<Vec<Value>> {
        let mut converted = Vec::with_capacity(objects.len());
        for batch in objects.chunks(BATCH_MAX) {
            let named = || described(&batch[0]);
            let failed = |text: String| {
                ApiError::bare(format!("conversion webhook for {} failed: {text}", named()))
            };
            let answered = self
                .ask(services, batch, desired, deadline)
                .await
                .map_err(failed)?;
            if answered.len() != batch.len() {
                return Err(ApiError::bare(format!(
                    "conversion webhook for {} returned {} objects, expected {}",
                    named(),
                    answered.len(),
                    batch.len()
                )));
            }
            let alone = batch.len() == 1;
            for (index, (before, mut after)) in batch.iter().zip(answered).enumerate() {
                check(before, &mut after, desired).map_err(|flaw| {
                    let what = flaw.of(index, alone);
                    ApiError::bare(format!(
                        "conversion webhook for {} returned {what}",
                        named()
                    ))
                })?;
                converted.push(after);
            }
        }
        Ok(converted)
    }

    async fn ask(
        &self,
        services: &Services,
        objects: &[Value],
        desired: &str,
        deadline: Instant,
    ) -> Result<Vec<Value>, String> {
        let endpoint = self
            .endpoint
            .get_or_init(|| Endpoint::new(&self.config, services));
        let uid = uuid::Uuid::new_v4().to_string();
        let api_version = format!("{GROUP}/{}", self.review_version);
        let review = json!({
            "kind": "ConversionReview", "apiVersion": api_version,
            "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
        });
        let body = Bytes::from(review.to_string());
        let answer = endpoint.post(body, BUDGET, deadline).await;
        let answer = answer.map_err(|error| error.to_string())?;
        objects_of(&answer, &api_version, &uid)
    }
}

/// `example.com/v1, Kind=Widget`.
fn described(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

/// The converted objects of an answer.
fn objects_of(answer: &Answer, api_version: &str, uid: &str) -> Result<Vec<Value>, String> {
    if let Some(refusal) = answer.refusal() {
        return Err(refusal);
    }
    let mut review = parse_trusted(&answer.body)
        .map_err(|error| format!("couldn't get version/kind; json parse error: {error}"))?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&review["apiVersion"]), text(&review["kind"]));
    // What speaks v1beta1 is not held to it.
    let strict = api_version.ends_with("/v1");
    if strict && (version != api_version || kind != "ConversionReview") {
        let (group, version) = version.split_once('/').unwrap_or(("", &version));
        return Err(format!(
            "expected webhook response of {api_version}, Kind=ConversionReview, got \
             {group}/{version}, Kind={kind}"
        ));
    }
    let response = &mut review["response"];
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    let answered = text(&response["uid"]);
    if strict && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let result = &response["result"];
    let status = text(&result["status"]);
    if status != "Success" {
        return Err(match text(&result["message"]) {
            message if !message.is_empty() => message,
            _ => format!("response.result.status was '{status}', not 'Success'"),
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// What is wrong with an object that came back.
#[derive(Debug, PartialEq)]
enum Flaw {
    /// It is of another kind or version.
    Type(String),
    /// It is another object.
    Identity(String),
    Metadata(String),
}

impl Flaw {
    /// As it is told of the object at `index`, and of one that is `alone`.
    fn of(self, index: usize, alone: bool) -> String {
        match self {
            Self::Type(text) if alone => format!("invalid object at index 0: {text}"),
            Self::Identity(text) if alone => format!("invalid object: {text}"),
            Self::Metadata(text) if alone => format!("invalid metadata: {text}"),
            Self::Type(text) | Self::Identity(text) => {
                format!("invalid converted object at index {index}: {text}")
            }
            Self::Metadata(text) => format!("invalid metadata in object at index {index}: {text}"),
        }
    }
}

/// Whether this is the same object in the desired version; gives it its metadata back.
fn check(before: &Value, after: &mut Value, desired: &str) -> Result<(), Flaw> {
    let text = |object: &Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let version = text(after, "apiVersion");
    if version != desired {
        return Err(Flaw::Type(format!(
            "invalid groupVersion (expected {desired}, received {version})"
        )));
    }
    let (expected, received) = (text(before, "kind"), text(after, "kind"));
    if expected != received {
        return Err(Flaw::Type(format!(
            "invalid kind (expected {expected}, received {received})"
        )));
    }
    for (what, field) in [("name", "name"), ("namespace", "namespace"), ("UID", "uid")] {
        let (before, after) = (meta(before, field), meta(after, field));
        if before != after {
            let text = format!("must have the same {what}: {before} != {after}");
            return Err(Flaw::Identity(text));
        }
    }
    let answered = match after.get_mut("metadata") {
        None => {
            let text = "missing metadata in converted object";
            return Err(Flaw::Metadata(text.to_owned()));
        }
        Some(metadata) => metadata.take(),
    };
    if !answered.is_object() {
        return Err(Flaw::Metadata(format!(
            "invalid metadata of type {} in converted object",
            go_type(&answered)
        )));
    }
    let mut metadata = before["metadata"].clone();
    let Some(members) = metadata.as_object_mut() else {
        let text = "the original has no metadata";
        return Err(Flaw::Metadata(text.to_owned()));
    };
    for field in ["labels", "annotations"] {
        match answered.get(field) {
            None | Some(Value::Null) => {
                members.remove(field);
            }
            Some(Value::Object(texts)) => {
                check_texts(field, texts, &before["metadata"][field]).map_err(Flaw::Metadata)?;
                members.insert(field.to_owned(), Value::Object(texts.clone()));
            }
            Some(other) => {
                return Err(Flaw::Metadata(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(other)
                )));
            }
        }
    }
    after["metadata"] = metadata;
    Ok(())
}

/// What did not change is not looked at.
fn check_texts(field: &str, texts: &Map<String, Value>, before: &Value) -> Result<(), String> {
    if let Some((key, value)) = texts.iter().find(|(_, value)| !value.is_string()) {
        return Err(format!(
            "metadata.{field}[{key}] must be a string, but is {} in converted object",
            go_type(value)
        ));
    }
    if before.as_object() == Some(texts) {
        return Ok(());
    }
    // kube-apiserver names the field of annotations in the singular.
    let field = match field {
        "annotations" => "annotation",
        other => other,
    };
    let mut problems = Vec::new();
    for (key, value) in texts {
        let mut refuse = |shown: &str, found: Vec<String>| {
            problems.extend(found.into_iter().map(|problem| {
                FieldError::invalid(format!("metadata.{field}"), shown, problem).to_string()
            }));
        };
        refuse(key, names::qualified_name(&key.to_lowercase()));
        if field == "labels" {
            let value = value.as_str().unwrap_or_default();
            refuse(value, names::label_value(value));
        }
    }
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("[{}]", several.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_is_the_same_object_with_its_own_metadata() {
        let before = json!({
            "apiVersion": "x.io/v1", "kind": "W",
            "metadata": {"name": "a", "uid": "u", "labels": {"a": "b"}, "generation": 3},
        });
        let check = |change: &dyn Fn(&mut Value), expect: Result<Value, &str>| {
            let mut after = before.clone();
            after["apiVersion"] = json!("x.io/v2");
            change(&mut after);
            let checked = super::check(&before, &mut after, "x.io/v2");
            assert_eq!(
                checked
                    .map(|()| after["metadata"].clone())
                    .map_err(|flaw| flaw.of(0, true)),
                expect.map_err(str::to_owned)
            );
        };
        check(
            &|after| {
                after["metadata"]["generation"] = json!(9);
                after["metadata"]["labels"] = json!({"c": "d"});
            },
            Ok(json!({"name": "a", "uid": "u", "labels": {"c": "d"}, "generation": 3})),
        );
        check(
            &|after| after["metadata"]["name"] = json!("b"),
            Err("invalid object: must have the same name: a != b"),
        );
        check(
            &|after| after["apiVersion"] = json!("x.io/v3"),
            Err(
                "invalid object at index 0: invalid groupVersion (expected x.io/v2, received x.io/v3)",
            ),
        );
        check(
            &|after| after["metadata"]["labels"] = json!({"c": 1}),
            Err(
                "invalid metadata: metadata.labels[c] must be a string, but is int64 in converted object",
            ),
        );
        check(
            &|after| after["kind"] = json!("X"),
            Err("invalid object at index 0: invalid kind (expected W, received X)"),
        );
        check(
            &|after| after["metadata"] = json!("text"),
            Err("invalid object: must have the same name: a != "),
        );
        check(
            &|after| after["metadata"]["annotations"] = json!([]),
            Err(
                "invalid metadata: invalid metadata.annotations of type []interface {} in converted object",
            ),
        );
        check(
            &|after| after["metadata"]["labels"] = json!({"a": "not so"}),
            Err(
                "invalid metadata: metadata.labels: Invalid value: \"not so\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
            ),
        );
    }
}
