//! The Table columns of the built-in kinds. Names, types and descriptions are those of
//! kube-apiserver, since clients compare them.
//!
//! A list holds what follows the leading `Name`; if it has a column of format `name`
//! itself (Events put theirs last), there is no leading one.

use serde_json::Value;

use super::age;
use crate::{
    catalog::{Cell, PrinterColumn},
    object::Time,
};

/// The description of a `Name` column.
pub const NAME: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";

/// The description of an `Age` column.
pub const AGE: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";

/// What stands for a reference that is not given.
const UNSET: &str = "<unset>";

type CellFn = fn(&Value, Time) -> Value;

fn column(name: &str, description: &str, cell: CellFn) -> PrinterColumn {
    PrinterColumn {
        name: name.to_owned(),
        r#type: "string".to_owned(),
        format: String::new(),
        description: description.to_owned(),
        priority: 0,
        cell: Cell::Computed(cell),
    }
}

fn wide(name: &str, description: &str, cell: CellFn) -> PrinterColumn {
    PrinterColumn {
        priority: 1,
        ..column(name, description, cell)
    }
}

fn count(name: &str, description: &str, cell: CellFn) -> PrinterColumn {
    PrinterColumn {
        r#type: "integer".to_owned(),
        ..column(name, description, cell)
    }
}

fn age_column() -> PrinterColumn {
    column("Age", AGE, |object, now| {
        since(&object["metadata"]["creationTimestamp"], now).into()
    })
}

/// `autoscaling/v1` Scale, what `/scale` shows of any object.
#[must_use]
pub fn scale() -> Vec<PrinterColumn> {
    fn replicas(part: &Value) -> Value {
        part["replicas"].as_i64().unwrap_or_default().into()
    }
    vec![
        count("Desired", "Number of desired replicas", |scale, _| {
            replicas(&scale["spec"])
        }),
        count("Available", "Number of actual replicas", |scale, _| {
            replicas(&scale["status"])
        }),
        PrinterColumn {
            r#type: "date".to_owned(),
            ..age_column()
        },
    ]
}

/// Kinds that show nothing but their age.
#[must_use]
pub fn age_only() -> Vec<PrinterColumn> {
    vec![age_column()]
}

pub(super) fn namespace() -> Vec<PrinterColumn> {
    vec![
        column("Status", "The status of the namespace", |object, _| {
            text(&object["status"]["phase"]).into()
        }),
        age_column(),
    ]
}

pub(super) fn config_map() -> Vec<PrinterColumn> {
    const DATA: &str = "Data contains the configuration data. Each key must consist of alphanumeric characters, '-', '_' or '.'. Values with non-UTF-8 byte sequences must use the BinaryData field. The keys stored in Data must not overlap with the keys in the BinaryData field, this is enforced during validation process.";
    vec![
        column("Data", DATA, |object, _| {
            (members(&object["data"]) + members(&object["binaryData"])).into()
        }),
        age_column(),
    ]
}

pub(super) fn secret() -> Vec<PrinterColumn> {
    const TYPE: &str = "Used to facilitate programmatic handling of secret data. More info: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types";
    const DATA: &str = "Data contains the secret data. Each key must consist of alphanumeric characters, '-', '_' or '.'. The serialized form of the secret data is a base64 encoded string, representing the arbitrary (possibly non-string) data value here. Described in https://tools.ietf.org/html/rfc4648#section-4";
    vec![
        column("Type", TYPE, |object, _| text(&object["type"]).into()),
        column("Data", DATA, |object, _| members(&object["data"]).into()),
        age_column(),
    ]
}

pub(super) fn lease() -> Vec<PrinterColumn> {
    const HOLDER: &str = "holderIdentity contains the identity of the holder of a current lease. If Coordinated Leader Election is used, the holder identity must be equal to the elected LeaseCandidate.metadata.name field.";
    vec![
        column("Holder", HOLDER, |object, _| {
            text(&object["spec"]["holderIdentity"]).into()
        }),
        age_column(),
    ]
}

pub(super) fn role_binding() -> Vec<PrinterColumn> {
    binding(
        "RoleRef can reference a Role in the current namespace or a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
        "roleBinding",
    )
}

pub(super) fn cluster_role_binding() -> Vec<PrinterColumn> {
    binding(
        "RoleRef can only reference a ClusterRole in the global namespace. If the RoleRef cannot be resolved, the Authorizer must return an error.",
        "clusterRoleBinding",
    )
}

fn binding(role: &str, of: &str) -> Vec<PrinterColumn> {
    vec![
        column("Role", role, |object, _| {
            let role = &object["roleRef"];
            format!("{}/{}", text(&role["kind"]), text(&role["name"])).into()
        }),
        age_column(),
        wide("Users", &format!("Users in the {of}"), |object, _| {
            subjects(object, "User").into()
        }),
        wide("Groups", &format!("Groups in the {of}"), |object, _| {
            subjects(object, "Group").into()
        }),
        wide(
            "ServiceAccounts",
            &format!("ServiceAccounts in the {of}"),
            |object, _| subjects(object, "ServiceAccount").into(),
        ),
    ]
}

/// The subjects of a kind, accounts with their Namespace.
fn subjects(object: &Value, kind: &str) -> String {
    let names: Vec<String> = object["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|subject| subject["kind"] == kind)
        .map(|subject| match kind {
            "ServiceAccount" => {
                format!("{}/{}", text(&subject["namespace"]), text(&subject["name"]))
            }
            _ => text(&subject["name"]).to_owned(),
        })
        .collect();
    names.join(", ")
}

pub(super) fn event() -> Vec<PrinterColumn> {
    const REASON: &str = "This should be a short, machine understandable string that gives the reason for the transition into the object's current status.";
    const SUBOBJECT: &str = "If referring to a piece of an object instead of an entire object, this string should contain a valid JSON/Go field access statement, such as desiredState.manifest.containers[2]. For example, if the object reference is to a container within a pod, this would take on a value like: \"spec.containers{name}\" (where \"name\" refers to the name of the container that triggered the event) or if no container name is specified \"spec.containers[2]\" (container with index 2 in this pod). This syntax is chosen only to have some well-defined way of referencing a part of an object.";
    vec![
        column(
            "Last Seen",
            "The time at which the most recent occurrence of this event was recorded.",
            |event, now| last_seen(event, now).into(),
        ),
        column(
            "Type",
            "Type of this event (Normal, Warning), new types could be added in the future",
            |event, _| text(&event["type"]).into(),
        ),
        column("Reason", REASON, |event, _| text(&event["reason"]).into()),
        column(
            "Object",
            "The object that this event is about.",
            |event, _| object_of(event).into(),
        ),
        wide("Subobject", SUBOBJECT, |event, _| {
            text(&either(event, "involvedObject", "regarding")["fieldPath"]).into()
        }),
        wide(
            "Source",
            "The component reporting this event. Should be a short machine understandable string.",
            |event, _| source_of(event).into(),
        ),
        column(
            "Message",
            "A human-readable description of the status of this operation.",
            |event, _| text(either(event, "message", "note")).trim().into(),
        ),
        wide(
            "First Seen",
            "The time at which the event was first recorded. (Time of server receipt is in TypeMeta.)",
            |event, now| first_seen(event, now).into(),
        ),
        wide(
            "Count",
            "The number of times this event has occurred.",
            |event, _| count_of(event).into(),
        ),
        PrinterColumn {
            format: "name".to_owned(),
            ..wide("Name", NAME, |event, _| {
                text(&event["metadata"]["name"]).into()
            })
        },
    ]
}

pub(super) fn webhooks() -> Vec<PrinterColumn> {
    vec![
        count(
            "Webhooks",
            "Webhooks indicates the number of webhooks registered in this configuration",
            |object, _| items(&object["webhooks"]).into(),
        ),
        age_column(),
    ]
}

pub(super) fn policy() -> Vec<PrinterColumn> {
    vec![
        count(
            "Validations",
            "Validations indicates the number of validation rules defined in this configuration",
            |object, _| items(&object["spec"]["validations"]).into(),
        ),
        param_kind(),
        age_column(),
    ]
}

pub(super) fn mutating_policy() -> Vec<PrinterColumn> {
    vec![
        count(
            "Mutations",
            "Mutation indicates the number of mutations rules defined in this configuration",
            |object, _| items(&object["spec"]["mutations"]).into(),
        ),
        param_kind(),
        age_column(),
    ]
}

fn param_kind() -> PrinterColumn {
    column(
        "ParamKind",
        "ParamKind specifies the kind of resources used to parameterize this policy",
        |object, _| match &object["spec"]["paramKind"] {
            Value::Null => UNSET.into(),
            kind => format!("{}/{}", text(&kind["apiVersion"]), text(&kind["kind"])).into(),
        },
    )
}

pub(super) fn policy_binding() -> Vec<PrinterColumn> {
    vec![
        column(
            "PolicyName",
            "PolicyName indicates the policy definition which the policy binding binded to",
            |object, _| text(&object["spec"]["policyName"]).into(),
        ),
        column(
            "ParamRef",
            "ParamRef indicates the param resource which sets the configuration param",
            |object, _| match &object["spec"]["paramRef"] {
                Value::Null => UNSET.into(),
                reference => param_ref(reference).into(),
            },
        ),
        age_column(),
    ]
}

fn param_ref(reference: &Value) -> String {
    let namespace = match text(&reference["namespace"]) {
        "" => "*",
        namespace => namespace,
    };
    match text(&reference["name"]) {
        "" => namespace.to_owned(),
        name => format!("{namespace}/{name}"),
    }
}

pub(super) fn api_service() -> Vec<PrinterColumn> {
    vec![
        column(
            "Service",
            "The reference to the service that hosts this API endpoint.",
            |object, _| match &object["spec"]["service"] {
                Value::Null => "Local".into(),
                service => {
                    format!("{}/{}", text(&service["namespace"]), text(&service["name"])).into()
                }
            },
        ),
        column(
            "Available",
            "Whether this service is available.",
            |object, _| {
                let conditions = object["status"]["conditions"].as_array();
                let available = conditions
                    .into_iter()
                    .flatten()
                    .find(|condition| condition["type"] == "Available");
                match available {
                    None => "Unknown".into(),
                    Some(condition) if condition["status"] == "True" => "True".into(),
                    Some(condition) => format!(
                        "{} ({})",
                        text(&condition["status"]),
                        text(&condition["reason"])
                    )
                    .into(),
                }
            },
        ),
        age_column(),
    ]
}

fn items(value: &Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn members(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

/// The age of a moment.
fn since(moment: &Value, now: Time) -> String {
    match text(moment).parse::<jiff::Timestamp>() {
        Ok(moment) => age::human(now.timestamp().duration_since(moment).as_secs()),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// The field by its core name, else by its name in `events.k8s.io`.
fn either<'a>(event: &'a Value, core: &str, named: &str) -> &'a Value {
    event.get(core).unwrap_or(&event[named])
}

fn first_seen(event: &Value, now: Time) -> String {
    let first = either(event, "firstTimestamp", "deprecatedFirstTimestamp");
    since(
        if first.is_null() {
            &event["eventTime"]
        } else {
            first
        },
        now,
    )
}

fn last_seen(event: &Value, now: Time) -> String {
    let series = &event["series"];
    if series.is_object() {
        return since(&series["lastObservedTime"], now);
    }
    let last = either(event, "lastTimestamp", "deprecatedLastTimestamp");
    if last.is_null() {
        first_seen(event, now)
    } else {
        since(last, now)
    }
}

fn object_of(event: &Value) -> String {
    let object = either(event, "involvedObject", "regarding");
    let kind = text(&object["kind"]).to_lowercase();
    match text(&object["name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source_of(event: &Value) -> String {
    let source = either(event, "source", "deprecatedSource");
    let reporter = text(either(event, "reportingComponent", "reportingController"));
    let first = |preferred: &str, other: &str| {
        if preferred.is_empty() {
            other
        } else {
            preferred
        }
        .to_owned()
    };
    let component = first(text(&source["component"]), reporter);
    let instance = first(text(&source["host"]), text(&event["reportingInstance"]));
    if instance.is_empty() {
        component
    } else {
        format!("{component}, {instance}")
    }
}

fn count_of(event: &Value) -> i64 {
    let count = match event["series"]["count"].as_i64() {
        Some(count) => count,
        None => either(event, "count", "deprecatedCount")
            .as_i64()
            .unwrap_or_default(),
    };
    count.max(1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(event: &Value) -> Vec<Value> {
        let now = Time::new("2024-01-02T03:05:05Z".parse().expect("a time"));
        event_cells(event, now)
    }

    fn event_cells(event: &Value, now: Time) -> Vec<Value> {
        super::event()
            .iter()
            .map(|column| match column.cell {
                Cell::Computed(cell) => cell(event, now),
                Cell::Path(_) => Value::Null,
            })
            .collect()
    }

    #[test]
    fn an_event_shows_the_same_row_in_both_spellings() {
        let core = json!({
            "metadata": {"name": "a"}, "type": "Warning", "reason": "R", "message": " m\n",
            "involvedObject": {"kind": "ConfigMap", "name": "x"}, "count": 3,
            "source": {"component": "c", "host": "h"},
            "firstTimestamp": "2024-01-02T03:04:05Z", "lastTimestamp": "2024-01-02T03:04:05Z",
        });
        let named = json!({
            "metadata": {"name": "a"}, "type": "Warning", "reason": "R", "note": " m\n",
            "regarding": {"kind": "ConfigMap", "name": "x"}, "deprecatedCount": 3,
            "deprecatedSource": {"component": "c", "host": "h"},
            "deprecatedFirstTimestamp": "2024-01-02T03:04:05Z",
            "deprecatedLastTimestamp": "2024-01-02T03:04:05Z",
        });
        let expect = json!([
            "60s",
            "Warning",
            "R",
            "configmap/x",
            "",
            "c, h",
            "m",
            "60s",
            3,
            "a"
        ]);
        assert_eq!(Value::from(cells(&core)), expect);
        assert_eq!(Value::from(cells(&named)), expect);
    }
}
