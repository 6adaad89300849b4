//! Events: one thing, two spellings.
//!
//! They are stored as the core group spells them. `events.k8s.io` renames fields and
//! is strict about new Events; the errors of both name the core fields, except for the
//! reporting controller.

use std::sync::Arc;

use rdd_schema::{FieldError, names};
use serde_json::{Map, Value};

use super::zero::Form;
use crate::{
    catalog::{Strategy, WriteContext},
    object::meta,
};

/// Core name, `events.k8s.io` name.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The most characters in the short texts of a new Event.
const TEXT_MAX: usize = 128;

/// The most characters in its message.
const MESSAGE_MAX: usize = 1024;

/// Fields that an update through `events.k8s.io` leaves alone, in the order in which
/// errors are listed. (`reason` is checked twice, as upstream does.)
const IMMUTABLE: &[&str] = &[
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "reason",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
];

/// Events in the core group.
pub(super) struct CoreEventStrategy(pub(super) Arc<Form>);

impl Strategy for CoreEventStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        common_errors(object, "reportingComponent")
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        _old: &Value,
    ) -> Vec<FieldError> {
        common_errors(object, "reportingComponent")
    }

    fn name_errors(&self, name: &str, _prefix: bool) -> Vec<String> {
        names::path_segment(name)
    }
}

/// Events in `events.k8s.io`.
pub(super) struct EventsEventStrategy(pub(super) Arc<Form>);

impl Strategy for EventsEventStrategy {
    fn blank(&self) -> Value {
        self.0.empty()
    }

    fn default(&self, _cx: &WriteContext<'_>, object: &mut Value) {
        self.0.apply(object);
    }

    fn validate_create(&self, _cx: &WriteContext<'_>, object: &Value) -> Vec<FieldError> {
        let event = core_form(object);
        let mut errors = common_errors(&event, "reportingController");
        errors.extend(series_errors(&event));
        errors.extend(new_event_errors(&event));
        errors
    }

    fn validate_update(
        &self,
        _cx: &WriteContext<'_>,
        object: &Value,
        old: &Value,
    ) -> Vec<FieldError> {
        let (event, old) = (core_form(object), core_form(old));
        let mut errors = common_errors(&event, "reportingController");
        if event.get("series") != old.get("series") {
            errors.extend(series_errors(&event));
        }
        for field in IMMUTABLE {
            // The core form spells this one field differently.
            let stored = if *field == "reportingController" {
                "reportingComponent"
            } else {
                field
            };
            if event.get(stored) != old.get(stored) {
                let value = event.get(stored).cloned().unwrap_or_default();
                errors.push(FieldError::invalid(*field, value, "field is immutable"));
            }
        }
        errors
    }

    fn to_storage(&self, object: &mut Value) {
        let Some(members) = object.as_object_mut() else {
            return;
        };
        for (core, named) in RENAMED {
            rename(members, named, core);
        }
        if let Some(series) = members.get_mut("series").and_then(Value::as_object_mut)
            && series.get("count") == Some(&0.into())
        {
            series.remove("count");
        }
        for always in ["reportingComponent", "reportingInstance"] {
            members
                .entry(always)
                .or_insert_with(|| Value::String(String::new()));
        }
        members.insert("apiVersion".to_owned(), "v1".into());
    }

    fn from_storage(&self, object: &mut Value) {
        let Some(members) = object.as_object_mut() else {
            return;
        };
        for (core, named) in RENAMED {
            rename(members, core, named);
        }
        for text in ["reportingController", "reportingInstance"] {
            if members.get(text).and_then(Value::as_str) == Some("") {
                members.remove(text);
            }
        }
        // Here the count is always written.
        if let Some(series) = members.get_mut("series").and_then(Value::as_object_mut) {
            series.entry("count").or_insert_with(|| 0.into());
        }
        members.insert("apiVersion".to_owned(), "events.k8s.io/v1".into());
    }

    fn serves_stored_form(&self) -> bool {
        false
    }
}

fn rename(members: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = members.remove(from) {
        members.insert(to.to_owned(), value);
    }
}

/// A copy in the core group's words.
fn core_form(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(members) = object.as_object_mut() {
        for (core, named) in RENAMED {
            rename(members, named, core);
        }
    }
    object
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// What both APIs ask: an old Event lives where its object lives, a new one (which has
/// an `eventTime`) says who reports it.
fn common_errors(event: &Value, reporter_field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(event, "eventTime").is_empty() {
        let namespace = meta(event, "namespace");
        let involved = event
            .get("involvedObject")
            .map_or("", |object| text(object, "namespace"));
        let matches = if involved.is_empty() {
            namespace.is_empty() || namespace == "default"
        } else {
            involved == namespace
        };
        if !matches {
            errors.push(FieldError::invalid(
                "involvedObject.namespace",
                involved,
                "does not match event.namespace",
            ));
        }
        return errors;
    }
    let involved = event
        .get("involvedObject")
        .map_or("", |object| text(object, "namespace"));
    if involved.is_empty() && !["default", "kube-system"].contains(&meta(event, "namespace")) {
        errors.push(FieldError::invalid(
            "involvedObject.namespace",
            "",
            "does not match event.namespace",
        ));
    }
    let reporter = text(event, "reportingComponent");
    if reporter.is_empty() {
        errors.push(FieldError::required(reporter_field, ""));
    }
    for problem in names::qualified_name(reporter) {
        errors.push(FieldError::invalid(reporter_field, reporter, problem));
    }
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(event, field);
        if value.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        if value.len() > TEXT_MAX {
            errors.push(too_long(field, TEXT_MAX));
        }
    }
    if text(event, "message").len() > MESSAGE_MAX {
        errors.push(too_long("message", MESSAGE_MAX));
    }
    errors
}

fn too_long(field: &str, max: usize) -> FieldError {
    FieldError::invalid(field, "", format!("can have at most {max} characters"))
}

fn series_errors(event: &Value) -> Vec<FieldError> {
    let Some(series) = event.get("series").filter(|series| !series.is_null()) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if series
        .get("count")
        .and_then(Value::as_i64)
        .unwrap_or_default()
        < 2
    {
        errors.push(FieldError::invalid(
            "series.count",
            "",
            "should be at least 2",
        ));
    }
    if text(series, "lastObservedTime").is_empty() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}

/// What `events.k8s.io` asks of an Event that is created.
fn new_event_errors(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if text(event, "eventTime").is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(event, "type");
    if !["Normal", "Warning"].contains(&kind) {
        errors.push(FieldError::invalid(
            "type",
            "",
            format!("has invalid value: {kind}"),
        ));
    }
    let set = |field: &str| match event.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(Value::Object(members)) => !members.is_empty(),
        Some(_) => true,
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if set(field) {
            errors.push(FieldError::invalid(field, "", "needs to be unset"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::builtin::Document;

    #[test]
    fn the_two_spellings_convert_into_each_other() {
        let strategy = EventsEventStrategy(Document::events_event().form);
        let mut event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a"},
            "regarding": {"name": "x"}, "note": "n", "eventTime": null, "deprecatedCount": 3,
            "deprecatedSource": {}, "deprecatedFirstTimestamp": null,
            "deprecatedLastTimestamp": null, "series": {"count": 0},
        });
        let original = event.clone();
        strategy.to_storage(&mut event);
        assert_eq!(event["involvedObject"], json!({"name": "x"}));
        assert_eq!(event["message"], "n");
        assert_eq!(event["count"], 3);
        assert_eq!(event["reportingComponent"], "");
        assert_eq!(event["series"], json!({}));
        strategy.from_storage(&mut event);
        assert_eq!(event, original);
    }

    #[test]
    fn an_old_event_lives_with_its_object() {
        let event = |namespace: &str, involved: &str| json!({"metadata": {"namespace": namespace}, "involvedObject": {"namespace": involved}});
        assert!(common_errors(&event("a", "a"), "reportingComponent").is_empty());
        assert!(common_errors(&event("default", ""), "reportingComponent").is_empty());
        let errors = common_errors(&event("a", ""), "reportingComponent");
        assert_eq!(
            errors[0].to_string(),
            "involvedObject.namespace: Invalid value: \"\": does not match event.namespace"
        );
    }
}
