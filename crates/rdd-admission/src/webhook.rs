//! A rule behind HTTP: an `AdmissionReview` in, an `AdmissionReview` out.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::admit::{AdmissionRequest, Admit, Admitted, Denial, Listing, Phase};

/// The versions of AdmissionReview that [`review`] speaks, the preferred one first.
pub const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

/// The body of a request that is no question.
#[derive(Debug, thiserror::Error)]
#[error("the body is no AdmissionReview of admission.k8s.io/v1 or v1beta1: {0}")]
pub struct Unreadable(String);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    request: AdmissionRequest,
}

/// Where a rule is served: `/validate-` or `/mutate-`, the group with dashes, version and kind.
#[must_use]
pub fn path(rule: &dyn Admit, listing: &Listing) -> String {
    let verb = match rule.phase() {
        Phase::Mutating => "mutate",
        Phase::Validating => "validate",
    };
    let group = rule.matches().first().map_or("", |first| &first.group);
    format!(
        "/{verb}-{}-{}-{}",
        group.replace('.', "-"),
        listing.version,
        listing.kind
    )
}

/// Lets a rule answer the question in a body. A write that the rule does not want to
/// see is allowed: who configured that it is asked has asked for too much.
///
/// # Errors
/// When there is no question in it.
pub async fn review(rule: &dyn Admit, body: &[u8]) -> Result<Vec<u8>, Unreadable> {
    let review: Review =
        serde_json::from_slice(body).map_err(|error| Unreadable(error.to_string()))?;
    let known = REVIEW_VERSIONS
        .iter()
        .any(|version| review.api_version == format!("admission.k8s.io/{version}"));
    if !known {
        return Err(Unreadable(format!("apiVersion {:?}", review.api_version)));
    }
    let request = review.request;
    let wanted = rule
        .matches()
        .iter()
        .any(|one| one.covers(&request.resource, &request.sub_resource, request.operation));
    let judged = if wanted {
        rule.admit(&request).await
    } else {
        Ok(Admitted::default())
    };
    let answer = json!({
        "apiVersion": review.api_version,
        "kind": "AdmissionReview",
        "response": response(rule.phase(), &request, judged),
    });
    Ok(answer.to_string().into_bytes())
}

fn response(phase: Phase, request: &AdmissionRequest, judged: Result<Admitted, Denial>) -> Value {
    let mut response = json!({"uid": request.uid, "allowed": judged.is_ok()});
    match judged {
        Ok(Admitted { object, warnings }) => {
            if !warnings.is_empty() {
                response["warnings"] = json!(warnings);
            }
            let changed =
                object.filter(|object| phase == Phase::Mutating && *object != request.object);
            if let Some(object) = changed {
                let mut steps = Vec::new();
                difference("", &request.object, &object, &mut steps);
                response["patchType"] = json!("JSONPatch");
                response["patch"] = json!(STANDARD.encode(Value::Array(steps).to_string()));
            }
        }
        Err(denial) => {
            response["status"] = json!({
                "code": denial.code, "reason": denial.reason, "message": denial.message,
            });
        }
    }
    response
}

/// The steps of a JSON patch that lead from one value to another.
fn difference(path: &str, from: &Value, to: &Value, steps: &mut Vec<Value>) {
    if from == to {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (from, to) else {
        steps.push(json!({"op": "replace", "path": path, "value": to}));
        return;
    };
    let place = |key: &str| format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
    let gone = |members: &Map<String, Value>, key: &String| !members.contains_key(key);
    for key in old.keys().filter(|key| gone(new, key)) {
        steps.push(json!({"op": "remove", "path": place(key)}));
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) => difference(&place(key), before, value, steps),
            None => steps.push(json!({"op": "add", "path": place(key), "value": value})),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admit::{Frame, Matches, Operation};
    use async_trait::async_trait;

    /// Refuses what is named `bad`; makes everything else blue.
    struct Blue(Frame);

    #[async_trait]
    impl Admit for Blue {
        fn frame(&self) -> &Frame {
            &self.0
        }

        async fn admit(&self, request: &AdmissionRequest) -> Result<Admitted, Denial> {
            if request.name == "bad" {
                return Err(Denial::forbidden("blue.example.com", "bad is not good"));
            }
            let mut object = request.object.clone();
            object["metadata"]["labels"]["a/b"] = json!("blue");
            Ok(Admitted {
                object: Some(object),
                warnings: vec!["painted".to_owned()],
            })
        }
    }

    fn blue(phase: Phase) -> Blue {
        let operations = [Operation::Create];
        let matches = [Matches::resource("example.com", "things", operations)];
        Blue(Frame::new("blue.example.com", phase, matches))
    }

    fn question(name: &str, operation: &str) -> Vec<u8> {
        let kind = json!({"group": "example.com", "version": "v1", "kind": "Thing"});
        let resource = json!({"group": "example.com", "version": "v1", "resource": "things"});
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {
                "uid": "u1", "kind": kind, "resource": resource, "requestSubResource": "",
                "name": name, "operation": operation, "userInfo": {"username": "somebody"},
                "object": {"metadata": {"name": name}}, "oldObject": null, "dryRun": false,
                "options": null,
            },
        });
        review.to_string().into_bytes()
    }

    async fn ask(phase: Phase, name: &str, operation: &str) -> Value {
        let answer = review(&blue(phase), &question(name, operation)).await;
        let answer: Value = serde_json::from_slice(&answer.expect("a question")).expect("JSON");
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], "u1");
        answer["response"].clone()
    }

    #[tokio::test]
    async fn a_refusal_has_its_code_its_reason_and_its_text() {
        let response = ask(Phase::Validating, "bad", "CREATE").await;
        assert_eq!(response["allowed"], false);
        assert_eq!(
            response["status"],
            json!({"code": 403, "reason": "Forbidden", "message": "bad is not good"})
        );
    }

    #[tokio::test]
    async fn a_change_is_a_patch_and_only_of_a_mutating_rule() {
        let response = ask(Phase::Mutating, "good", "CREATE").await;
        assert_eq!(response["allowed"], true);
        assert_eq!(response["warnings"], json!(["painted"]));
        let patch = STANDARD.decode(response["patch"].as_str().expect("a patch"));
        let patch: Value = serde_json::from_slice(&patch.expect("base64")).expect("JSON");
        assert_eq!(
            patch,
            json!([{"op": "add", "path": "/metadata/labels", "value": {"a/b": "blue"}}])
        );
        let response = ask(Phase::Validating, "good", "CREATE").await;
        assert!(response.get("patch").is_none() && response.get("patchType").is_none());
    }

    #[tokio::test]
    async fn what_a_rule_does_not_want_to_see_is_allowed() {
        assert_eq!(
            ask(Phase::Validating, "bad", "DELETE").await["allowed"],
            true
        );
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused_with_what_is_wrong() {
        for (body, wanted) in [
            (&b"{"[..], "EOF"),
            (
                b"{\"apiVersion\": \"admission.k8s.io/v1\"}",
                "missing field `request`",
            ),
        ] {
            let error = review(&blue(Phase::Validating), body).await;
            let error = error.expect_err("no question").to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn steps_lead_from_one_object_to_the_other() {
        let mut steps = Vec::new();
        let from = json!({"a": 1, "b": {"c~/d": 2, "e": 3}, "f": [1]});
        let to = json!({"b": {"c~/d": 4, "e": 3}, "f": [2], "g": null});
        difference("", &from, &to, &mut steps);
        assert_eq!(
            Value::Array(steps),
            json!([
                {"op": "remove", "path": "/a"},
                {"op": "replace", "path": "/b/c~0~1d", "value": 4},
                {"op": "replace", "path": "/f", "value": [2]},
                {"op": "add", "path": "/g", "value": null},
            ])
        );
    }

    #[test]
    fn a_path_names_what_is_judged() {
        let rule = blue(Phase::Validating);
        let listing = |kind| Listing {
            configuration: "x",
            version: "v1",
            kind,
        };
        assert_eq!(
            path(&rule, &listing("thing")),
            "/validate-example-com-v1-thing"
        );
        let matches = [Matches::resource("", "configmaps", [Operation::Create])];
        let core = Blue(Frame::mutating("blue.example.com", matches));
        assert_eq!(path(&core, &listing("configmap")), "/mutate--v1-configmap");
    }
}
