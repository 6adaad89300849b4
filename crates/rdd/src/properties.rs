//! `PROPERTY=VALUE` words, judged by the App's schema before anything is sent.

use anyhow::{Result, anyhow, bail};
use rdd_instance::parse_bool;
use serde_json::{Map, Value, json};

/// A word, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    path: String,
    value: String,
}

/// Takes words apart; of two for one property the later wins.
pub(crate) fn parse(words: &[String]) -> Result<Vec<Property>> {
    let mut properties: Vec<Property> = Vec::new();
    for word in words {
        let Some((path, value)) = word.split_once('=') else {
            bail!("invalid argument {word:?}: expected PROPERTY=VALUE format");
        };
        if path.is_empty() {
            bail!("invalid argument {word:?}: property name must not be empty");
        }
        properties.retain(|property| property.path != path);
        properties.push(Property {
            path: path.to_owned(),
            value: value.to_owned(),
        });
    }
    Ok(properties)
}

/// The settable part of the App: its spec's schema without what cannot be changed.
pub(crate) struct Schema(Value);

impl Schema {
    /// From `openAPIV3Schema` of the App's definition.
    pub(crate) fn new(document: &Value) -> Self {
        let mut spec = document["properties"]["spec"].clone();
        if let Some(properties) = spec["properties"].as_object_mut() {
            properties.remove("namespace");
        }
        Self(spec)
    }

    /// Of the App that this program ships.
    pub(crate) fn built_in() -> Self {
        let versions = rdd_api::App::crd().spec.versions;
        let schema = versions
            .into_iter()
            .next()
            .and_then(|version| version.schema?.open_api_v3_schema);
        // Our own definition is plain data and always JSON.
        Self::new(&serde_json::to_value(schema).unwrap_or_default())
    }

    /// The merge patch of `spec` that the properties ask for.
    pub(crate) fn patch(&self, properties: &[Property]) -> Result<Value> {
        let mut patch = json!({});
        for property in properties {
            let value = self
                .value(property)
                .map_err(|error| anyhow!("{}: {error}", property.path))?;
            let mut place = &mut patch;
            for name in property.path.split('.') {
                place = &mut place[name];
            }
            *place = value;
        }
        Ok(patch)
    }

    /// A whole `spec`: the patch plus zero values of the required fields that it leaves out.
    pub(crate) fn complete(&self, patch: &Value) -> Value {
        let mut spec = patch.clone();
        strip_nulls(&mut spec);
        fill(&mut spec, &self.0);
        spec
    }

    fn value(&self, property: &Property) -> Result<Value> {
        let mut schema = &self.0;
        let mut parent: Option<&str> = None;
        for name in property.path.split('.') {
            let children = schema["properties"].as_object();
            let Some(children) = children else {
                bail!(
                    "{:?} is not an object and has no sub-properties",
                    parent.unwrap_or_default()
                );
            };
            let Some(child) = children.get(name) else {
                let valid: Vec<&str> = children.keys().map(String::as_str).collect();
                let under = parent.map_or(String::new(), |parent| format!(" under {parent:?}"));
                bail!(
                    "unknown property {name:?}{under}; valid properties: {}",
                    valid.join(", ")
                );
            };
            schema = child;
            parent = Some(name);
        }
        scalar(property, schema)
    }

    /// `path`, type and first sentence of the description of every property.
    pub(crate) fn rows(&self) -> Vec<(String, String, String)> {
        let mut rows = Vec::new();
        collect(&self.0, "", &mut rows);
        rows
    }
}

fn scalar(property: &Property, schema: &Value) -> Result<Value> {
    let (path, value) = (&property.path, property.value.as_str());
    let invalid = |expected: &str| anyhow!("invalid value {value:?} for {path:?}: {expected}");
    let words = words(schema);
    match schema["type"].as_str() {
        Some("object") => {
            let child = schema["properties"]
                .as_object()
                .and_then(|children| children.keys().next())
                .map_or("name", String::as_str);
            bail!("{path:?} is an object; set its fields, e.g. \"{path}.{child}\"")
        }
        Some("boolean") => parse_bool(value)
            .map(Value::from)
            .ok_or_else(|| invalid("expected boolean; use \"true\" or \"false\"")),
        Some("integer") => value
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| invalid("expected integer")),
        _ if !words.is_empty() && !words.contains(&value) => {
            Err(invalid(&format!("valid values: {}", words.join(", "))))
        }
        // An empty value clears an optional text.
        _ if value.is_empty() => Ok(Value::Null),
        _ => Ok(Value::from(value)),
    }
}

fn words(schema: &Value) -> Vec<&str> {
    schema["enum"]
        .as_array()
        .map(|words| words.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default()
}

fn strip_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(strip_nulls);
    }
}

fn fill(value: &mut Value, schema: &Value) {
    let Value::Object(fields) = value else {
        return;
    };
    let required = schema["required"].as_array();
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let child = &schema["properties"][name];
        fields.entry(name).or_insert_with(|| zero(child));
    }
    for (name, value) in fields {
        fill(value, &schema["properties"][name.as_str()]);
    }
}

fn zero(schema: &Value) -> Value {
    if let Some(default) = schema.get("default") {
        return default.clone();
    }
    match schema["type"].as_str() {
        Some("boolean") => false.into(),
        Some("integer" | "number") => 0.into(),
        Some("object") => {
            let mut object = Value::Object(Map::new());
            fill(&mut object, schema);
            object
        }
        _ => words(schema).first().copied().unwrap_or_default().into(),
    }
}

fn collect(schema: &Value, prefix: &str, rows: &mut Vec<(String, String, String)>) {
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        let words = words(child);
        let kind = if words.is_empty() {
            child["type"].as_str().unwrap_or("string").to_owned()
        } else {
            words.join("|")
        };
        let text = child["description"].as_str().unwrap_or_default();
        let sentence = text.split_inclusive(". ").next().unwrap_or_default().trim();
        rows.push((path.clone(), kind, sentence.to_owned()));
        collect(child, &path, rows);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(&json!({"properties": {"spec": {
            "type": "object",
            "required": ["running"],
            "properties": {
                "running": {"type": "boolean", "description": "Whether it runs. More."},
                "namespace": {"type": "string"},
                "note": {"type": "string"},
                "containerEngine": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "enum": ["moby", "containerd"]},
                    "endpoint": {"type": "string"}}},
                "kubernetes": {"type": "object", "required": ["enabled"], "properties": {
                    "enabled": {"type": "boolean"},
                    "port": {"type": "integer"}}}
            }
        }}}))
    }

    fn check(word: &str, wanted: Result<Value, &str>) {
        let patch = parse(&[word.to_owned()]).and_then(|properties| schema().patch(&properties));
        match (patch, wanted) {
            (Ok(patch), Ok(wanted)) => assert_eq!(patch, wanted, "{word}"),
            (Err(error), Err(wanted)) => assert_eq!(error.to_string(), wanted, "{word}"),
            (patch, wanted) => panic!("{word}: {patch:?} instead of {wanted:?}"),
        }
    }

    #[test]
    fn properties_are_judged_by_the_schema() {
        check("running=true", Ok(json!({"running": true})));
        check("running=1", Ok(json!({"running": true})));
        check("kubernetes.port=7", Ok(json!({"kubernetes": {"port": 7}})));
        check("note=", Ok(json!({"note": null})));
        check("note=a=b", Ok(json!({"note": "a=b"})));
        check(
            "containerEngine.name=containerd",
            Ok(json!({"containerEngine": {"name": "containerd"}})),
        );
        check(
            "running",
            Err("invalid argument \"running\": expected PROPERTY=VALUE format"),
        );
        check(
            "=x",
            Err("invalid argument \"=x\": property name must not be empty"),
        );
        check(
            "running=yes",
            Err(
                "running: invalid value \"yes\" for \"running\": expected boolean; use \"true\" or \"false\"",
            ),
        );
        check(
            "running=",
            Err(
                "running: invalid value \"\" for \"running\": expected boolean; use \"true\" or \"false\"",
            ),
        );
        check(
            "kubernetes.port=x",
            Err("kubernetes.port: invalid value \"x\" for \"kubernetes.port\": expected integer"),
        );
        check(
            "containerEngine.name=podman",
            Err(
                "containerEngine.name: invalid value \"podman\" for \"containerEngine.name\": valid values: moby, containerd",
            ),
        );
        check(
            "containerEngine.name=",
            Err(
                "containerEngine.name: invalid value \"\" for \"containerEngine.name\": valid values: moby, containerd",
            ),
        );
        check(
            "namespace=x",
            Err(
                "namespace: unknown property \"namespace\"; valid properties: containerEngine, kubernetes, note, running",
            ),
        );
        check(
            "kubernetes.x=1",
            Err(
                "kubernetes.x: unknown property \"x\" under \"kubernetes\"; valid properties: enabled, port",
            ),
        );
        check(
            "running.x=1",
            Err("running.x: \"running\" is not an object and has no sub-properties"),
        );
        check(
            "kubernetes=1",
            Err(
                "kubernetes: \"kubernetes\" is an object; set its fields, e.g. \"kubernetes.enabled\"",
            ),
        );
    }

    #[test]
    fn the_last_of_two_values_wins() {
        let properties = parse(&["running=true".into(), "running=false".into()]).expect("parses");
        assert_eq!(
            schema().patch(&properties).expect("valid"),
            json!({"running": false})
        );
    }

    #[test]
    fn a_new_app_gets_zero_values_for_what_is_required() {
        let complete = schema().complete(&json!({"kubernetes": {"port": 7}, "note": null}));
        assert_eq!(
            complete,
            json!({"running": false, "kubernetes": {"enabled": false, "port": 7}})
        );
    }
}
