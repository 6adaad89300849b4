//! `AdmissionReview`: the question on the wire, and what an answer says.

use base64::{DecodeError, Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use rdd_admission::AdmissionRequest;
use rdd_apply::json_patch::{Decoder, JsonPatch};
use serde_json::{Value, json};

use crate::{encoding::json::parse_trusted, outbound::Answer};

const GROUP: &str = "admission.k8s.io";

/// The body of a question in this version of AdmissionReview.
pub(super) fn question(request: &AdmissionRequest, version: &str) -> Result<Bytes, String> {
    let mut body = serde_json::to_value(request).map_err(|error| error.to_string())?;
    if !request.sub_resource.is_empty() {
        body["requestSubResource"] = json!(request.sub_resource);
    }
    let review = json!({
        "kind": "AdmissionReview", "apiVersion": format!("{GROUP}/{version}"), "request": body,
    });
    Ok(review.to_string().into())
}

/// Annotations of one webhook that are recorded, and the bytes of each.
const ANNOTATIONS_MAX: usize = 32;
const ANNOTATION_MAX: usize = 4096;

/// What a webhook decided.
#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) warnings: Vec<String>,
    /// What the webhook wants to have recorded.
    pub(super) annotations: Vec<(String, String)>,
    pub(super) outcome: Outcome,
}

/// Yes or no.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Yes, with changes.
    Allowed(Option<Patch>),
    /// No; the `status` of the answer, which may be null.
    Denied(Value),
}

/// The changes that come with a yes.
#[derive(Debug)]
pub(super) struct Patch {
    kind: String,
    bytes: Vec<u8>,
}

impl Patch {
    /// The patch, or none when it has no operations.
    ///
    /// # Errors
    /// What the webhook did wrong; its failure policy decides.
    pub(super) fn parse(&self) -> Result<Option<JsonPatch>, String> {
        let broken =
            |text: String| format!("received undecodable patch in webhook response: {text}");
        let document = parse_trusted(&self.bytes).map_err(|error| broken(error.to_string()))?;
        if document.as_array().is_none_or(Vec::is_empty) && !document.is_object() {
            return Ok(None);
        }
        if self.kind != "JSONPatch" {
            return Err(format!("unsupported patch type {:?}", self.kind));
        }
        JsonPatch::parse(&document, Decoder::Lax)
            .map(|(patch, _)| Some(patch))
            .map_err(|error| broken(error.to_string()))
    }
}

/// Reads an answer.
///
/// # Errors
/// What follows `failed calling webhook "…": `.
pub(super) fn judgement(
    answer: &Answer,
    version: &str,
    uid: &str,
    mutating: bool,
) -> Result<Judgement, String> {
    let failed = |text: String| format!("failed to call webhook: {text}");
    if let Some(refusal) = answer.refusal() {
        return Err(failed(refusal));
    }
    if answer.body.is_empty() {
        return Err(failed(
            "0-length response with status code: 200 and content type: application/json".to_owned(),
        ));
    }
    let review = parse_trusted(&answer.body).map_err(|error| {
        failed(format!(
            "couldn't get version/kind; json parse error: {error}"
        ))
    })?;
    let invalid = |text: String| Err(format!("received invalid webhook response: {text}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let response = match review.get("response") {
        None | Some(Value::Null) => return invalid("webhook response was absent".to_owned()),
        Some(response) if !response.is_object() => {
            return Err(failed(format!(
                "json: cannot unmarshal {} into Go struct field AdmissionReview.response of \
                     type v1.AdmissionResponse",
                rdd_schema::found(response)
            )));
        }
        Some(response) => response,
    };
    if let Some(other) = response
        .get("allowed")
        .filter(|it| !it.is_null() && !it.is_boolean())
    {
        return Err(failed(format!(
            "json: cannot unmarshal {} into Go struct field AdmissionResponse.response.allowed of \
             type bool",
            rdd_schema::found(other)
        )));
    }
    let strict = version == "v1";
    if strict {
        let answered = text(&response["uid"]);
        if answered != uid {
            return invalid(format!("expected response.uid={uid:?}, got {answered:?}"));
        }
        let api_version = text(&review["apiVersion"]);
        let kind = text(&review["kind"]);
        if api_version != format!("{GROUP}/v1") || kind != "AdmissionReview" {
            let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
            return invalid(format!(
                "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got \
                 {group}/{version}, Kind={kind}"
            ));
        }
    }
    let bytes = match response["patch"].as_str() {
        None | Some("") => Vec::new(),
        Some(patch) => STANDARD.decode(patch).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                DecodeError::InvalidLength(_) | DecodeError::InvalidPadding => patch.len(),
            };
            failed(format!("illegal base64 data at input byte {at}"))
        })?,
    };
    let kind = response["patchType"].as_str();
    let patch = match (bytes.is_empty(), kind) {
        (false, _) if !mutating && strict => {
            return invalid("validating webhook may not return response.patch".to_owned());
        }
        (_, Some(_)) if !mutating && strict => {
            return invalid("validating webhook may not return response.patchType".to_owned());
        }
        _ if !mutating => None,
        (false, None) if strict => {
            return invalid(
                "webhook returned response.patch but not response.patchType".to_owned(),
            );
        }
        (true, Some(_)) if strict => {
            return invalid(
                "webhook returned response.patchType but not response.patch".to_owned(),
            );
        }
        (_, Some("")) if strict => {
            return invalid("webhook returned invalid response.patchType of \"\"".to_owned());
        }
        (false, kind) => Some(Patch {
            kind: kind.unwrap_or("JSONPatch").to_owned(),
            bytes,
        }),
        (true, _) => None,
    };
    let warnings = response["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let annotations = response["auditAnnotations"]
        .as_object()
        .into_iter()
        .flatten()
        .take(ANNOTATIONS_MAX)
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .filter(|(key, value)| key.len() + value.len() <= ANNOTATION_MAX)
        .collect();
    let outcome = if response["allowed"] == true {
        Outcome::Allowed(patch)
    } else {
        Outcome::Denied(response["status"].clone())
    };
    Ok(Judgement {
        warnings,
        annotations,
        outcome,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(code: u16, body: &Value, mutating: bool) -> Result<Judgement, String> {
        let answer = Answer {
            code,
            is_text: true,
            unreadable: None,
            body: body.to_string().into(),
        };
        judgement(&answer, "v1", "u1", mutating)
    }

    fn review(response: Value) -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    #[test]
    fn an_answer_keeps_to_the_protocol_or_is_none() {
        let check = |body: Value, mutating: bool, expect: &str| {
            let error = judge(200, &body, mutating).expect_err("an invalid answer");
            assert_eq!(error, expect);
        };
        check(
            json!({}),
            true,
            "received invalid webhook response: webhook response was absent",
        );
        check(
            review(json!({"uid": "x", "allowed": true})),
            true,
            "received invalid webhook response: expected response.uid=\"u1\", got \"x\"",
        );
        check(
            json!({"response": {"uid": "u1", "allowed": true}}),
            true,
            "received invalid webhook response: expected webhook response of \
             admission.k8s.io/v1, Kind=AdmissionReview, got /, Kind=",
        );
        check(
            review(json!({"uid": "u1", "allowed": true, "patch": "W10="})),
            true,
            "received invalid webhook response: webhook returned response.patch but not \
             response.patchType",
        );
        check(
            review(json!({"uid": "u1", "allowed": "yes"})),
            true,
            "failed to call webhook: json: cannot unmarshal string into Go struct field \
             AdmissionResponse.response.allowed of type bool",
        );
        check(
            review(json!({"uid": "u1", "allowed": true, "patchType": "JSONPatch"})),
            true,
            "received invalid webhook response: webhook returned response.patchType but not \
             response.patch",
        );
        check(
            review(json!({"uid": "u1", "allowed": true, "patch": "W10="})),
            false,
            "received invalid webhook response: validating webhook may not return response.patch",
        );
    }

    #[test]
    fn codes_that_are_no_success_are_told_in_words() {
        let check = |code: u16, body: &str, expect: &str| {
            let answer = Answer {
                code,
                is_text: true,
                unreadable: None,
                body: body.to_owned().into(),
            };
            let error = judgement(&answer, "v1", "u1", false).expect_err("no success");
            assert_eq!(error, format!("failed to call webhook: {expect}"));
        };
        check(
            500,
            "boom\n",
            "an error on the server (\"boom\") has prevented the request from succeeding",
        );
        check(404, "", "the server could not find the requested resource");
        check(
            302,
            "",
            "the server responded with the status code 302 but did not return more information",
        );
        check(
            403,
            r#"{"kind": "Status", "status": "Failure", "message": "go away"}"#,
            "go away",
        );
    }

    #[test]
    fn a_patch_without_operations_is_none() {
        let patch = |kind: &str, text: &str| Patch {
            kind: kind.to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        assert!(matches!(patch("JSONPatch", "[]").parse(), Ok(None)));
        assert!(matches!(patch("MergePatch", "[]").parse(), Ok(None)));
        for (kind, text) in [
            ("MergePatch", r#"[{"op": "add", "path": "/a", "value": 1}]"#),
            ("JSONPatch", "{}"),
            ("JSONPatch", "["),
        ] {
            let parsed = patch(kind, text).parse();
            assert!(parsed.is_err(), "{text}");
        }
    }
}
