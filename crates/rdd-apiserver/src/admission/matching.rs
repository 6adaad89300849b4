//! Whether a webhook or a policy is meant by a write.

use rdd_admission::{AdmissionRequest, GroupVersionResource, Operation};
use rdd_store::Key;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;

use super::is_namespace;
use crate::{
    catalog::Resource,
    status::{ApiError, ApiResult},
    verbs::{call::Call, store_error},
};

/// Which writes are meant, before any expression is evaluated.
#[derive(Clone, Debug)]
pub(super) struct Criteria {
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    /// Rules hold for exactly the versions that they name.
    exact: bool,
    namespace: LabelSelector,
    object: LabelSelector,
}

impl Criteria {
    /// Reads a webhook, or the resources that a policy or a binding matches; `rules`
    /// names the list of rules.
    pub(super) fn read(source: &Value, rules: &str) -> Self {
        Self {
            rules: items(source, rules).map(Rule::read).collect(),
            exclude: items(source, "excludeResourceRules")
                .map(Rule::read)
                .collect(),
            exact: source["matchPolicy"] == "Exact",
            namespace: LabelSelector::read(&source["namespaceSelector"]),
            object: LabelSelector::read(&source["objectSelector"]),
        }
    }

    /// Whether any rule is about such writes at all. Most writes are nobody's business,
    /// which is to be known before a question is put together.
    pub(super) fn may_mean(
        &self,
        resource: &Resource,
        subresource: &str,
        operation: Operation,
    ) -> bool {
        self.rules.iter().any(|rule| {
            rule.is_about(operation, &resource.plural, subresource)
                && (holds(&rule.groups, &resource.group)
                    || resource
                        .served_api_versions
                        .iter()
                        .any(|version| holds(&rule.groups, group_of(version))))
        })
    }

    /// The resource as which the write is meant: its own, or an equivalent one in
    /// another version. A list of rules that is empty means nothing.
    pub(super) async fn meant(
        &self,
        subject: &Subject<'_>,
    ) -> ApiResult<Option<GroupVersionResource>> {
        let request = subject.request;
        let Some(found) = self.find(&self.rules, subject) else {
            return Ok(None);
        };
        if self.find(&self.exclude, subject).is_some() || !self.takes_object(request) {
            return Ok(None);
        }
        let takes =
            self.namespace.is_everything() || subject.namespace_fits(&self.namespace).await?;
        Ok(takes.then_some(found))
    }

    /// As [`Criteria::meant`], for criteria that mean everything when they have no rules.
    pub(super) async fn narrowed(
        &self,
        subject: &Subject<'_>,
    ) -> ApiResult<Option<GroupVersionResource>> {
        if !self.rules.is_empty() {
            return self.meant(subject).await;
        }
        let excluded = self.find(&self.exclude, subject).is_some();
        if excluded || !self.takes_object(subject.request) {
            return Ok(None);
        }
        let takes =
            self.namespace.is_everything() || subject.namespace_fits(&self.namespace).await?;
        Ok(takes.then(|| subject.request.resource.clone()))
    }

    fn find(&self, rules: &[Rule], subject: &Subject<'_>) -> Option<GroupVersionResource> {
        let request = subject.request;
        if rules
            .iter()
            .any(|rule| rule.covers(request, &request.resource))
        {
            return Some(request.resource.clone());
        }
        if self.exact || rules.is_empty() {
            return None;
        }
        let others = equivalents(&subject.call.resource);
        rules.iter().find_map(|rule| {
            others
                .iter()
                .find(|other| rule.covers(request, other))
                .cloned()
        })
    }

    fn takes_object(&self, request: &AdmissionRequest) -> bool {
        self.object.is_everything()
            || [&request.object, &request.old_object]
                .into_iter()
                .any(|object| !object.is_null() && self.object.accepts(labels(object)))
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The other versions in which the same objects are served.
fn equivalents(resource: &Resource) -> Vec<GroupVersionResource> {
    let own = resource.api_version();
    resource
        .served_api_versions
        .iter()
        .filter(|version| **version != own)
        .map(|version| {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            GroupVersionResource {
                group: group.to_owned(),
                version: version.to_owned(),
                resource: resource.plural.clone(),
            }
        })
        .collect()
}

/// A write, and what has been looked up for it.
pub(super) struct Subject<'a> {
    pub(super) call: &'a Call,
    pub(super) request: &'a AdmissionRequest,
    namespace: OnceCell<Option<Value>>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(call: &'a Call, request: &'a AdmissionRequest) -> Self {
        Self {
            call,
            request,
            namespace: OnceCell::new(),
        }
    }

    /// The Namespace of the write as it is stored now; none for cluster-scoped objects.
    pub(super) async fn namespace(&self) -> ApiResult<Option<&Value>> {
        let name = &self.request.namespace;
        if name.is_empty() {
            return Ok(None);
        }
        let find = || async {
            let key = Key::new(format!("/registry/namespaces/{name}"));
            let entry = self
                .call
                .server
                .store
                .get(&key)
                .await
                .map_err(store_error)?;
            entry
                .map(|entry| crate::object::parse_entry(&entry))
                .transpose()
        };
        Ok(self.namespace.get_or_try_init(find).await?.as_ref())
    }

    async fn namespace_fits(&self, selector: &LabelSelector) -> ApiResult<bool> {
        let request = self.request;
        let itself = is_namespace(&request.resource);
        if itself
            && request.sub_resource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
        {
            return Ok(selector.accepts(labels(&request.object)));
        }
        if request.namespace.is_empty() {
            return Ok(!itself);
        }
        match self.namespace().await? {
            Some(namespace) => Ok(selector.accepts(labels(namespace))),
            None => Err(ApiError::named_not_found(
                "namespaces",
                "",
                &request.namespace,
            )),
        }
    }
}

#[derive(Clone, Debug)]
struct Rule {
    names: Vec<String>,
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let texts = |field: &str| {
            let texts = items(rule, field).filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Self {
            names: texts("resourceNames"),
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: rule["scope"].as_str().unwrap_or("*").to_owned(),
        }
    }

    fn covers(&self, request: &AdmissionRequest, resource: &GroupVersionResource) -> bool {
        self.covers_scope(request)
            && self.is_about(request.operation, &resource.resource, &request.sub_resource)
            && holds(&self.groups, &resource.group)
            && holds(&self.versions, &resource.version)
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    fn is_about(&self, operation: Operation, plural: &str, subresource: &str) -> bool {
        let operation = match operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        };
        holds(&self.operations, operation)
            && self
                .resources
                .iter()
                .any(|one| covers_resource(one, plural, subresource))
    }

    fn covers_scope(&self, request: &AdmissionRequest) -> bool {
        let namespaced = !request.namespace.is_empty() && !is_namespace(&request.resource);
        match self.scope.as_str() {
            "Namespaced" => namespaced,
            "Cluster" => !namespaced,
            _ => true,
        }
    }
}

fn holds(values: &[String], wanted: &str) -> bool {
    values.iter().any(|value| value == "*" || value == wanted)
}

fn covers_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    let (wanted, below) = pattern.split_once('/').unwrap_or((pattern, ""));
    (wanted == "*" || wanted == resource) && (below == "*" || below == subresource)
}

/// A label selector in its long form.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    /// Nothing that validation lets through.
    Unknown,
}

impl LabelSelector {
    /// Reads `matchLabels` and `matchExpressions`.
    pub(crate) fn read(selector: &Value) -> Self {
        let labels = selector["matchLabels"].as_object().into_iter().flatten();
        let mut requirements: Vec<Requirement> = labels
            .map(|(key, value)| Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            })
            .collect();
        requirements.extend(items(selector, "matchExpressions").map(|one| {
            Requirement {
                key: one["key"].as_str().unwrap_or_default().to_owned(),
                operator: match one["operator"].as_str() {
                    Some("In") => Operator::In,
                    Some("NotIn") => Operator::NotIn,
                    Some("Exists") => Operator::Exists,
                    Some("DoesNotExist") => Operator::DoesNotExist,
                    _ => Operator::Unknown,
                },
                values: items(one, "values")
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            }
        }));
        Self(requirements)
    }

    fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn accepts(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.0.iter().all(|one| {
            let value = labels
                .and_then(|labels| labels.get(&one.key))
                .and_then(Value::as_str);
            let listed = value.is_some_and(|value| one.values.iter().any(|have| have == value));
            match one.operator {
                Operator::In => listed,
                Operator::NotIn => !listed,
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
                Operator::Unknown => false,
            }
        })
    }
}

pub(super) fn labels(object: &Value) -> Option<&Map<String, Value>> {
    object.get("metadata")?.get("labels")?.as_object()
}

pub(super) fn items<'a>(source: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    source
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn resources_are_named_with_their_subresources() {
        for (pattern, resource, subresource, expect) in [
            ("pods", "pods", "", true),
            ("pods", "pods", "status", false),
            ("pods/status", "pods", "status", true),
            ("pods/*", "pods", "", true),
            ("pods/*", "pods", "status", true),
            ("*", "pods", "", true),
            ("*", "pods", "status", false),
            ("*/status", "pods", "status", true),
            ("*/status", "pods", "", false),
            ("*/*", "pods", "", true),
            ("*/*", "pods", "scale", true),
        ] {
            assert_eq!(
                covers_resource(pattern, resource, subresource),
                expect,
                "{pattern} {resource}/{subresource}"
            );
        }
    }

    #[test]
    fn a_selector_reads_labels_in_both_forms() {
        let selector = LabelSelector::read(&json!({
            "matchLabels": {"a": "1"},
            "matchExpressions": [
                {"key": "b", "operator": "NotIn", "values": ["x"]},
                {"key": "c", "operator": "DoesNotExist"},
            ],
        }));
        let check = |labels: Value, expect: bool| {
            assert_eq!(selector.accepts(labels.as_object()), expect, "{labels}");
        };
        check(json!({"a": "1"}), true);
        check(json!({"a": "1", "b": "y"}), true);
        check(json!({"a": "1", "b": "x"}), false);
        check(json!({"a": "1", "c": ""}), false);
        check(json!({}), false);
        assert!(LabelSelector::read(&Value::Null).is_everything());
    }
}
