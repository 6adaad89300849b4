//! Roles and their bindings; [`crate::auth::rbac`] decides by them.

use std::sync::Arc;

use rdd_schema::{FieldError, names};
use serde_json::{Value, json};

use super::{rules, zero::Form};
use crate::catalog::{Strategy, WriteContext};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Rules.
pub(super) struct RoleStrategy {
    pub(super) form: Arc<Form>,
    /// A Role rather than a ClusterRole.
    pub(super) namespaced: bool,
}

impl Strategy for RoleStrategy {
    fn blank(&self) -> Value {
        self.form.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        let no_rules = object.get("rules") == Some(&json!([]));
        self.form.apply(object);
        // Who sends an empty list owns the field, and yet no list is stored.
        if no_rules {
            object["rules"] = json!([]);
        }
    }

    fn prepare_create(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.form.apply(object);
    }

    fn prepare_update(&self, _cx: &WriteContext<'_>, object: &mut Value, _old: &Value) {
        self.form.apply(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        self.validate(object)
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }
}

impl RoleStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, rule) in list(object, "rules").enumerate() {
            let at = |field: &str| format!("rules[{index}].{field}");
            let empty = |field: &str| list(rule, field).next().is_none();
            if empty("verbs") {
                errors.push(FieldError::required(
                    at("verbs"),
                    "verbs must contain at least one value",
                ));
            }
            if !empty("nonResourceURLs") {
                if self.namespaced {
                    errors.push(FieldError::invalid(
                        at("nonResourceURLs"),
                        rule["nonResourceURLs"].clone(),
                        "namespaced rules cannot apply to non-resource URLs",
                    ));
                }
                let of_resources = ["apiGroups", "resources", "resourceNames"];
                if !of_resources.into_iter().all(empty) {
                    errors.push(FieldError::invalid(
                        at("nonResourceURLs"),
                        rule["nonResourceURLs"].clone(),
                        "rules cannot apply to both regular resources and non-resource URLs",
                    ));
                }
                continue;
            }
            if empty("apiGroups") {
                errors.push(FieldError::required(
                    at("apiGroups"),
                    "resource rules must supply at least one api group",
                ));
            }
            if empty("resources") {
                errors.push(FieldError::required(
                    at("resources"),
                    "resource rules must supply at least one resource",
                ));
            }
        }
        if let Some(rule) = object
            .get("aggregationRule")
            .filter(|rule| rule.is_object())
        {
            aggregation_errors(rule, &mut errors);
        }
        errors
    }
}

fn aggregation_errors(rule: &Value, errors: &mut Vec<FieldError>) {
    let at = "aggregationRule.clusterRoleSelectors";
    let mut selectors = list(rule, "clusterRoleSelectors").enumerate().peekable();
    if selectors.peek().is_none() {
        errors.push(FieldError::required(
            at,
            "at least one clusterRoleSelector required if aggregationRule is non-nil",
        ));
    }
    for (index, selector) in selectors {
        let at = format!("{at}[{index}]");
        let before = errors.len();
        rules::selector_errors(selector, &at, errors);
        if errors.len() > before {
            errors.push(FieldError::invalid(
                at,
                Value::Null,
                "invalid label selector.",
            ));
        }
    }
}

/// Subjects and the role that they get.
pub(super) struct BindingStrategy {
    pub(super) form: Arc<Form>,
    /// A RoleBinding rather than a ClusterRoleBinding.
    pub(super) namespaced: bool,
}

impl Strategy for BindingStrategy {
    fn blank(&self) -> Value {
        self.form.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.form.apply(object);
        if object["roleRef"]["apiGroup"] == "" {
            object["roleRef"]["apiGroup"] = GROUP.into();
        }
        for subject in object["subjects"].as_array_mut().into_iter().flatten() {
            let is_person = subject["kind"] == "User" || subject["kind"] == "Group";
            if is_person && subject.get("apiGroup").is_none() {
                subject["apiGroup"] = GROUP.into();
            }
        }
        // Indexing has made an absent list null.
        if let Some(members) = object.as_object_mut()
            && members.get("subjects") == Some(&Value::Null)
        {
            members.remove("subjects");
        }
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        self.validate(object)
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let mut errors = self.validate(object);
        let role = &object["roleRef"];
        if *role != old["roleRef"] {
            // Upstream prints the fields as Go names them.
            let value = json!({
                "APIGroup": role["apiGroup"], "Kind": role["kind"], "Name": role["name"],
            });
            errors.push(FieldError::invalid(
                "roleRef",
                value,
                "cannot change roleRef",
            ));
        }
        errors
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }
}

impl BindingStrategy {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let role = &object["roleRef"];
        let group = text(role, "apiGroup");
        if group != GROUP {
            errors.push(FieldError::not_supported(
                "roleRef.apiGroup",
                group,
                &[GROUP],
            ));
        }
        let kinds: &[&str] = if self.namespaced {
            &["Role", "ClusterRole"]
        } else {
            &["ClusterRole"]
        };
        let kind = text(role, "kind");
        if !kinds.contains(&kind) {
            errors.push(FieldError::not_supported("roleRef.kind", kind, kinds));
        }
        let name = text(role, "name");
        if name.is_empty() {
            errors.push(FieldError::required("roleRef.name", ""));
        }
        for problem in names::path_segment(name) {
            errors.push(FieldError::invalid("roleRef.name", name, problem));
        }
        for (index, subject) in list(object, "subjects").enumerate() {
            self.subject_errors(&format!("subjects[{index}]"), subject, &mut errors);
        }
        errors
    }

    fn subject_errors(&self, path: &str, subject: &Value, errors: &mut Vec<FieldError>) {
        let at = |field: &str| format!("{path}.{field}");
        let name = text(subject, "name");
        if name.is_empty() {
            errors.push(FieldError::required(at("name"), ""));
        }
        let group = text(subject, "apiGroup");
        match text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    for problem in names::dns1123_subdomain(name) {
                        errors.push(FieldError::invalid(at("name"), name, problem));
                    }
                }
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(at("apiGroup"), group, &[""]));
                }
                if !self.namespaced && text(subject, "namespace").is_empty() {
                    errors.push(FieldError::required(at("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.push(FieldError::not_supported(at("apiGroup"), group, &[GROUP]));
                }
            }
            kind => errors.push(FieldError::not_supported(
                at("kind"),
                kind,
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::builtin::Document;

    fn check(binding: &Value, expect: &[&str]) {
        let strategy = BindingStrategy {
            form: Document::role_binding().form,
            namespaced: true,
        };
        let texts: Vec<String> = strategy
            .validate(binding)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts, expect);
    }

    #[test]
    fn a_binding_names_a_role_and_whom_it_is_for() {
        let role = json!({"apiGroup": GROUP, "kind": "Role", "name": "r"});
        check(&json!({"roleRef": role}), &[]);
        check(
            &json!({"roleRef": role, "subjects": [{"kind": "Odd", "name": "s"}]}),
            &[
                "subjects[0].kind: Unsupported value: \"Odd\": supported values: \
               \"ServiceAccount\", \"User\", \"Group\"",
            ],
        );
        check(
            &json!({"roleRef": {"apiGroup": GROUP, "kind": "Role", "name": ""}}),
            &["roleRef.name: Required value"],
        );
    }

    #[test]
    fn a_rule_says_what_may_be_done_to_what() {
        let strategy = RoleStrategy {
            form: Document::role().form,
            namespaced: true,
        };
        let errors = strategy.validate(&json!({"rules": [{"apiGroups": [""]}]}));
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].resources: Required value: resource rules must supply at least one resource",
            ]
        );
        let role = json!({"aggregationRule": {"clusterRoleSelectors": []}});
        let errors = strategy.validate(&role);
        assert_eq!(
            errors[0].to_string(),
            "aggregationRule.clusterRoleSelectors: Required value: at least one \
             clusterRoleSelector required if aggregationRule is non-nil"
        );
    }
}
