//! What was written is known to whoever judges the next request, and not a little later.

use http::StatusCode;
use serde_json::json;

use super::server::{Server, config_map};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

/// Pairs of each kind.
const ROUNDS: usize = 1000;

/// A namespace and an object in it; the object that a rule reads and one that it judges.
#[tokio::test]
async fn a_thousand_pairs_back_to_back_are_judged_by_what_was_just_written() {
    let server = Server::start().await;
    let policy = json!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"judged": "yes"}},
            "resourceRules": [{
                "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
                "resources": ["configmaps"],
            }],
        },
        "validations": [{
            "expression": "object.metadata.name == params.metadata.labels.allowed",
            "message": "another name",
        }],
    });
    // Without a namespace of its own, that of the judged object is looked in.
    let binding = json!({
        "policyName": "p", "validationActions": ["Deny"],
        "paramRef": {"name": "names", "parameterNotFoundAction": "Deny"},
    });
    for (plural, spec) in [
        ("validatingadmissionpolicies", policy),
        ("validatingadmissionpolicybindings", binding),
    ] {
        let object = json!({"metadata": {"name": "p"}, "spec": spec});
        let made = server.post(&format!("{GROUP}/{plural}"), object).await;
        assert_eq!(made.code, StatusCode::CREATED, "{:?}", made.body);
    }
    for round in 0..ROUNDS {
        let namespace = format!("n{round}");
        let created = |path: String, object| {
            let server = &server;
            async move {
                let made = server.post(&path, object).await;
                assert_eq!(made.code, StatusCode::CREATED, "{path}: {:?}", made.body);
            }
        };
        let labels = json!({"judged": "yes"});
        let new = json!({"metadata": {"name": namespace, "labels": labels}});
        created("/api/v1/namespaces".to_owned(), new).await;
        let below = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
        let allowed = json!({"allowed": namespace});
        let names = json!({"metadata": {"name": "names", "labels": allowed}});
        created(below("secrets"), names).await;
        created(below("configmaps"), config_map(&namespace)).await;
        let other = server.post(&below("configmaps"), config_map("other")).await;
        assert!(
            other.message().ends_with("another name"),
            "{:?}",
            other.body
        );
    }
}
