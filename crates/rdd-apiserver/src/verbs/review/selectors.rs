//! The selectors in a question about lists: authorizers may look at them, ours does not.

use rdd_schema::{FieldError, names};
use serde_json::Value;

use crate::selector;

/// Which of the two selectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Field,
    Label,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Field => "fieldSelector",
            Self::Label => "labelSelector",
        }
    }

    /// What is wrong with the selector in `asked`, which stands at `base`. Operators that
    /// are not known are no error: newer clients may know them.
    pub(super) fn errors(self, asked: &Value, base: &str) -> Vec<FieldError> {
        let given = &asked[self.name()];
        if !given.is_object() {
            return Vec::new();
        }
        let base = format!("{base}.{}", self.name());
        let raw = text(given, "rawSelector");
        let listed = requirements(given);
        let mut errors = Vec::new();
        if !raw.is_empty() && !listed.is_empty() {
            errors.push(FieldError::invalid(
                format!("{base}.rawSelector"),
                raw,
                "may not specified at the same time as requirements",
            ));
        }
        if raw.is_empty() && listed.is_empty() {
            errors.push(FieldError::required(
                format!("{base}.requirements"),
                format!("when {base} is specified, requirements or rawSelector is required"),
            ));
        }
        for (index, requirement) in listed.iter().enumerate() {
            let base = format!("{base}.requirements[{index}]");
            self.requirement_errors(requirement, &base, &mut errors);
        }
        errors
    }

    fn requirement_errors(self, requirement: &Value, base: &str, errors: &mut Vec<FieldError>) {
        let at = |field: &str| format!("{base}.{field}");
        let values = values(requirement);
        match text(requirement, "operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                at("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                at("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            _ => {}
        }
        let key = text(requirement, "key");
        if self == Self::Field {
            if key.is_empty() {
                errors.push(FieldError::required(at("key"), "must be specified"));
            }
            return;
        }
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(at("key"), key, problem));
        }
        for (place, value) in values.iter().enumerate() {
            for problem in names::label_value(value) {
                let at = format!("{}[{place}]", at("values"));
                errors.push(FieldError::invalid(at, *value, problem));
            }
        }
    }

    /// That a selector cannot be read, and so was not looked at.
    pub(super) fn ignored(self, asked: &Value, base: &str) -> Option<String> {
        let given = &asked[self.name()];
        let raw = text(given, "rawSelector");
        let listed = requirements(given);
        let (bad, good) = if listed.is_empty() {
            let readable = match self {
                Self::Field => selector::reads_as_fields(raw),
                Self::Label => selector::reads_as_labels(raw),
            };
            (!readable, false)
        } else {
            let good = listed.iter().filter(|one| self.is_known(one)).count();
            (good < listed.len(), good > 0)
        };
        let how = if good { "partially ignored" } else { "ignored" };
        bad.then(|| format!("{base}.{} {how} due to parse error", self.name()))
    }

    fn is_known(self, requirement: &Value) -> bool {
        let count = values(requirement).len();
        match (self, text(requirement, "operator")) {
            (Self::Field, "In" | "NotIn") => count == 1,
            (Self::Label, "In" | "NotIn" | "Exists" | "DoesNotExist") => true,
            _ => false,
        }
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn requirements(selector: &Value) -> &[Value] {
    selector["requirements"]
        .as_array()
        .map_or(&[], Vec::as_slice)
}

fn values(requirement: &Value) -> Vec<&str> {
    let values = requirement["values"].as_array();
    values
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn errors(kind: Kind, selector: Value) -> Vec<String> {
        let asked = json!({kind.name(): selector});
        let errors = kind.errors(&asked, "s");
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_selector_says_something_in_one_way() {
        let requirement = json!({"key": "a", "operator": "In", "values": ["b"]});
        assert_eq!(
            errors(Kind::Label, json!({})),
            [
                "s.labelSelector.requirements: Required value: when s.labelSelector is specified, \
              requirements or rawSelector is required"
            ]
        );
        assert_eq!(
            errors(
                Kind::Field,
                json!({"rawSelector": "a=b", "requirements": [requirement]})
            ),
            [
                "s.fieldSelector.rawSelector: Invalid value: \"a=b\": may not specified at the same \
              time as requirements"
            ]
        );
        assert!(errors(Kind::Label, json!({"requirements": [requirement]})).is_empty());
        let missing = json!({"requirements": [{"key": "a", "operator": "NotIn"}]});
        assert_eq!(
            errors(Kind::Field, missing),
            [
                "s.fieldSelector.requirements[0].values: Required value: must be specified when \
              `operator` is 'In' or 'NotIn'"
            ]
        );
    }

    #[test]
    fn what_cannot_be_read_is_told_and_ignored() {
        let ignored = |kind: Kind, selector: Value| {
            let asked = json!({kind.name(): selector});
            kind.ignored(&asked, "s")
        };
        let future = json!({"key": "a", "operator": "Like", "values": ["b"]});
        let known = json!({"key": "a", "operator": "In", "values": ["b"]});
        assert_eq!(
            ignored(Kind::Label, json!({"requirements": [future]})).as_deref(),
            Some("s.labelSelector ignored due to parse error")
        );
        assert_eq!(
            ignored(Kind::Field, json!({"requirements": [known, future]})).as_deref(),
            Some("s.fieldSelector partially ignored due to parse error")
        );
        assert_eq!(
            ignored(Kind::Label, json!({"rawSelector": "a in"})).as_deref(),
            Some("s.labelSelector ignored due to parse error")
        );
        assert_eq!(ignored(Kind::Field, json!({"rawSelector": "a=b"})), None);
        assert_eq!(ignored(Kind::Label, Value::Null), None);
    }
}
