//! `status.conditions`.

use serde_json::{Value, json};

use crate::object::Time;

/// Sets a condition in its place, or adds it; its time moves when the status does.
/// Answers whether anything changed.
pub(crate) fn set(
    object: &mut Value,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
) -> bool {
    let conditions = &mut object["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else {
        return false;
    };
    let mut condition = json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": Time::now().to_string(),
    });
    let Some(old) = list.iter_mut().find(|one| one["type"] == kind) else {
        list.push(condition);
        return true;
    };
    if old["status"] == status {
        condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
    }
    let changed = ["status", "reason", "message"]
        .iter()
        .any(|field| old[field] != condition[field]);
    if changed {
        *old = condition;
    }
    changed
}

/// Whether a condition of this type is true.
pub(crate) fn is_true(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["type"] == kind && one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_changes_in_place_and_only_when_it_says_something_new() {
        let mut object = json!({"status": {"conditions": null}});
        assert!(set(&mut object, "A", "False", "R", "m"));
        assert!(!is_true(&object, "A"));
        assert!(!set(&mut object, "A", "False", "R", "m"));
        assert!(set(&mut object, "A", "True", "R", "m"));
        assert!(is_true(&object, "A"));
        assert_eq!(
            object["status"]["conditions"].as_array().map(Vec::len),
            Some(1)
        );
    }
}
