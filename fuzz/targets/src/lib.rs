//! What is fuzzed: one function per target, from any bytes to nothing.
//!
//! A target panics when a promise is broken, and never else. Bytes that mean nothing
//! are no find: most inputs of a target are such.

use std::sync::{Arc, OnceLock};

use rdd_apiserver::{
    catalog::{self, Catalog},
    encoding::{
        json as json_encoding,
        protobuf::{Envelope, Message},
        yaml as yaml_encoding,
    },
    selector::Selector,
};
use rdd_apply::{
    apply::{Apply, apply as apply_config},
    json_patch::{Decoder, JsonPatch},
    merge, strategic,
};
use rdd_jsonpath::Template;
use rdd_schema::{FieldError, Schema, crd::JudgeDefaults};
use serde_json::{Value, json};

mod cel;

/// Text of a target that reads text.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Two JSON documents, one a line.
fn pair(data: &[u8]) -> Option<(Value, Value)> {
    let (first, second) = text(data)?.split_once('\n')?;
    let parse = |text: &str| json_encoding::parse_trusted(text.as_bytes()).ok();
    Some((parse(first)?, parse(second)?))
}

/// A body in JSON: what is read can be written and read again, and is the same.
pub fn json(data: &[u8]) {
    if let Ok(parsed) = json_encoding::parse(data) {
        let written = parsed.value.to_string();
        let again = json_encoding::parse_trusted(written.as_bytes()).expect("what was written");
        assert_eq!(again, parsed.value);
    }
}

/// A body in YAML: what is read is JSON.
pub fn yaml(data: &[u8]) {
    if let Ok(parsed) = yaml_encoding::parse(data) {
        let written = parsed.value.to_string();
        json_encoding::parse_trusted(written.as_bytes()).expect("what was written");
    }
}

/// A body in protobuf, as the built-in type that it says it is.
pub fn protobuf(data: &[u8]) {
    let Ok(envelope) = Envelope::read(data) else {
        return;
    };
    for resource in builtins().resources() {
        if resource.kind == envelope.kind
            && let Some(message) = &resource.message
        {
            let message: &Message = message;
            // An error is as good as an object.
            let _read = message.read(envelope.raw);
        }
    }
}

/// A document and a JSON patch of it.
pub fn json_patch(data: &[u8]) {
    let Some((object, patch)) = pair(data) else {
        return;
    };
    for decoder in [Decoder::Strict, Decoder::Lax] {
        if let Ok((patch, _)) = JsonPatch::parse(&patch, decoder) {
            let _refused = patch.apply(&mut object.clone());
        }
    }
}

/// A document and a merge patch of it: what is merged twice is merged once.
pub fn merge_patch(data: &[u8]) {
    if let Some((mut object, patch)) = pair(data) {
        merge::apply(&mut object, &patch);
        let once = object.clone();
        merge::apply(&mut object, &patch);
        assert_eq!(object, once);
    }
}

/// A ConfigMap, or whatever it is, and a strategic merge patch of it.
pub fn strategic_patch(data: &[u8]) {
    if let Some((mut object, patch)) = pair(data) {
        for (group, version, plural) in [
            ("", "v1", "namespaces"),
            (
                "admissionregistration.k8s.io",
                "v1",
                "validatingwebhookconfigurations",
            ),
        ] {
            if let Some(resource) = builtins().resource(group, version, plural) {
                let _refused = strategic::apply(&mut object, &patch, &resource.schema);
            }
        }
    }
}

/// A live object and a configuration: what is applied twice is applied once.
pub fn apply(data: &[u8]) {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let document = json!({"type": "object", "properties": {"spec": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {
                "set": {
                    "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"},
                },
                "map": {
                    "type": "array", "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {
                        "type": "object", "required": ["k"], "properties": {
                            "k": {"type": "string"}, "v": {"type": "integer"},
                        },
                    },
                },
                "atom": {"type": "object", "x-kubernetes-map-type": "atomic",
                    "additionalProperties": {"type": "string"}},
            },
        }}});
        Schema::parse(&document).expect("a schema")
    });
    let Some((live, config)) = pair(data) else {
        return;
    };
    let blank = json!({});
    let request = Apply {
        schema,
        kind: "Widget",
        api_version: "example.com/v1",
        manager: "fuzz",
        subresource: "",
        force: true,
        reset_fields: &[],
        api_versions: &["example.com/v1".to_owned()],
        blank: &blank,
        now: "2020-01-01T00:00:00Z",
        custom: true,
        other_versions: &[],
        undeclared: &[],
    };
    let live = live.is_object().then_some(live);
    if let Ok(once) = apply_config(live.as_ref(), &config, &request)
        && let Ok(twice) = apply_config(Some(&once), &config, &request)
    {
        assert_eq!(twice, once);
    }
}

/// A label selector and a field selector, one a line.
pub fn selector(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let (labels, fields) = text.split_once('\n').unwrap_or((text, ""));
    let secrets = builtins()
        .resource("", "v1", "secrets")
        .expect("a built-in");
    if let Ok(selector) = Selector::parse(secrets, Some(labels), Some(fields)) {
        let object = json!({"metadata": {"name": "a", "labels": {"a": "1"}}, "type": "Opaque"});
        let _accepts = selector.accepts_object(secrets, &object);
    }
}

/// A JSONPath template: it renders, and as a column it finds what it finds.
pub fn jsonpath(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let document = json!({
        "metadata": {"name": "a", "labels": {"a.b/c": "d"}},
        "spec": {"l": [{"t": "A", "v": 1}, {"t": "B"}], "s": "x", "n": [[1, 2], [3]]},
    });
    if let Ok(template) = Template::parse(text) {
        let _text = template.render(&document);
    }
    if let Ok(template) = Template::parse_path(text) {
        let _found = template.find(&document);
    }
}

/// Has nothing against any default.
struct Lenient;

impl JudgeDefaults for Lenient {
    fn objects(&self, _: &Value, _: &Schema) -> Vec<FieldError> {
        Vec::new()
    }

    fn rules(&self, _: &Value, _: &Schema, _: bool, _: &str) -> Vec<FieldError> {
        Vec::new()
    }
}

/// A schema and a value: what a schema that may stand prunes and defaults once, it leaves
/// alone the second time.
pub fn schema(data: &[u8]) {
    let Some((document, mut value)) = pair(data) else {
        return;
    };
    let errors = rdd_schema::crd::validate_document(&document, "S", false, &Lenient);
    let Ok(schema) = Schema::parse(&document) else {
        return;
    };
    if !errors.is_empty() {
        return;
    }
    let prepare = |value: &mut Value| {
        rdd_schema::prune(value, &schema);
        rdd_schema::drop_nulls(value, &schema);
        rdd_schema::default(value, &schema);
    };
    prepare(&mut value);
    let once = value.clone();
    prepare(&mut value);
    assert_eq!(value, once);
    let errors = rdd_schema::validate(&value, &schema);
    assert!(rdd_schema::validate_update(&value, &value, &schema).len() <= errors.len());
    let _doubles = rdd_schema::duplicates(&value, &schema);
}

/// An expression, and in the lines after it JSON for `self`: it is refused, fails or ends
/// within its budget.
pub fn cel(data: &[u8]) {
    assert!(cel::run(data) <= cel::LIMIT);
}

fn builtins() -> &'static Catalog {
    static CATALOG: OnceLock<Arc<Catalog>> = OnceLock::new();
    CATALOG.get_or_init(|| catalog::crd::served().0.load())
}
