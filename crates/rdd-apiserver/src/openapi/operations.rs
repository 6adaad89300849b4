//! The operations of the documents: what can be done at which path, and how it is asked for.
//!
//! kubectl reads two things from them: which patch types a resource takes, and whether the
//! server validates fields itself (the `fieldValidation` parameter). Client generators read
//! all of it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::document::{META, SCALE, gvk};
use crate::catalog::{Resource, Subresource, Verb};

/// The two forms of the documents.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    V2,
    V3,
}

/// The query parameters of lists and watches.
const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];

/// Those of a deletion.
const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "orphanDependents",
    "propagationPolicy",
];

/// Those of a write.
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];

/// Where something can be done.
#[derive(Clone, Copy)]
struct Place {
    /// In one namespace.
    namespaced: bool,
    /// Across all namespaces.
    everywhere: bool,
    subresource: Option<Subresource>,
}

/// Adds the paths of a resource.
pub(super) fn add_paths(
    paths: &mut Map<String, Value>,
    resource: &Resource,
    reference: &str,
    style: Style,
) {
    let base = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    let namespaced = resource.is_namespaced();
    let collection = if namespaced {
        format!("{base}/namespaces/{{namespace}}/{}", resource.plural)
    } else {
        format!("{base}/{}", resource.plural)
    };
    let has = |verb: Verb| resource.verbs.contains(&verb);
    let maker = Maker {
        resource,
        reference,
        style,
    };
    let mut add = |path: String, place: Place, named: bool, actions: &[(&str, &str, bool)]| {
        let actions: Vec<(&str, &str)> = actions
            .iter()
            .filter(|(.., present)| *present)
            .map(|(method, action, _)| (*method, *action))
            .collect();
        if !actions.is_empty() {
            paths.insert(path, maker.item(place, named, &actions));
        }
    };
    let place = Place {
        namespaced,
        everywhere: false,
        subresource: None,
    };
    let on_collection = [
        ("get", "list", has(Verb::List)),
        ("post", "post", has(Verb::Create)),
        ("delete", "deletecollection", has(Verb::DeleteCollection)),
    ];
    add(collection.clone(), place, false, &on_collection);
    let everywhere = Place {
        namespaced: false,
        everywhere: true,
        ..place
    };
    let across = namespaced && has(Verb::List);
    let path = format!("{base}/{}", resource.plural);
    add(
        path,
        everywhere,
        false,
        &[("get", "list", across)][usize::from(!across)..],
    );
    let on_object = [
        ("get", "get", has(Verb::Get)),
        ("put", "put", has(Verb::Update)),
        ("patch", "patch", has(Verb::Patch)),
        ("delete", "delete", has(Verb::Delete)),
    ];
    add(format!("{collection}/{{name}}"), place, true, &on_object);
    for subresource in &resource.subresources {
        let actions: &[(&str, &str, bool)] = match subresource {
            Subresource::Finalize => &[("put", "put", true)],
            Subresource::Token => &[("post", "post", true)],
            _ => &[
                ("get", "get", true),
                ("put", "put", true),
                ("patch", "patch", true),
            ],
        };
        let place = Place {
            subresource: Some(*subresource),
            ..place
        };
        let path = format!("{collection}/{{name}}/{}", subresource.as_str());
        add(path, place, true, actions);
    }
}

struct Maker<'a> {
    resource: &'a Resource,
    reference: &'a str,
    style: Style,
}

impl Maker<'_> {
    /// The operations at one path. Parameters that all of them have stand beside them.
    fn item(&self, place: Place, named: bool, actions: &[(&str, &str)]) -> Value {
        let mut lists: Vec<Vec<&'static str>> = actions
            .iter()
            .map(|(_, action)| self.parameters(action))
            .collect();
        let mut common = BTreeMap::new();
        for (name, present) in [("name", named), ("namespace", place.namespaced)] {
            if present {
                common.insert(name, self.parameter(name, "path"));
            }
        }
        let shared: Vec<&'static str> = lists[0]
            .iter()
            .copied()
            .filter(|name| lists.iter().all(|list| list.contains(name)))
            .collect();
        for name in shared {
            lists
                .iter_mut()
                .for_each(|list| list.retain(|one| *one != name));
            common.insert(name, self.parameter(name, "query"));
        }
        let mut item = Map::new();
        for ((method, action), names) in actions.iter().zip(lists) {
            let operation = self.operation(place, action, &names);
            item.insert((*method).to_owned(), operation);
        }
        let common: Vec<Value> = common.into_values().collect();
        item.insert("parameters".to_owned(), common.into());
        item.into()
    }

    fn parameters(&self, action: &str) -> Vec<&'static str> {
        let own: Vec<&'static str> = match action {
            "list" => LIST.to_vec(),
            "deletecollection" if self.resource.is_custom() => LIST.to_vec(),
            "deletecollection" => {
                let selecting = LIST
                    .iter()
                    .filter(|name| !matches!(**name, "allowWatchBookmarks" | "watch"));
                let mut names: Vec<&'static str> = selecting.chain(DELETE).copied().collect();
                names.sort_unstable();
                names
            }
            "delete" => DELETE.to_vec(),
            "post" | "put" => WRITE.to_vec(),
            "patch" => [WRITE, &["force"]].concat(),
            "get" if self.resource.is_custom() => vec!["resourceVersion"],
            _ => Vec::new(),
        };
        own.into_iter().chain(["pretty"]).collect()
    }

    fn parameter(&self, name: &str, place: &str) -> Value {
        let kind = match name {
            "allowWatchBookmarks"
            | "sendInitialEvents"
            | "watch"
            | "force"
            | "orphanDependents" => "boolean",
            "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
            _ => "string",
        };
        let mut parameter = json!({"name": name, "in": place});
        if place == "path" {
            parameter["required"] = json!(true);
        }
        match self.style {
            Style::V2 => {
                parameter["type"] = json!(kind);
                parameter["uniqueItems"] = json!(true);
            }
            Style::V3 => parameter["schema"] = json!({"type": kind, "uniqueItems": true}),
        }
        parameter
    }

    /// `listExampleComV1NamespacedWidget`.
    fn id(&self, place: Place, action: &str) -> String {
        let mut id = match action {
            "get" => "read",
            "put" => "replace",
            "post" => "create",
            "deletecollection" => "delete",
            action => action,
        }
        .to_owned();
        id.push_str(&self.group());
        id.push_str(&capitalized(&self.resource.version));
        if action == "deletecollection" {
            id.push_str("Collection");
        }
        if place.namespaced {
            id.push_str("Namespaced");
        }
        id.push_str(&self.resource.kind);
        if let Some(subresource) = place.subresource {
            id.push_str(&capitalized(subresource.as_str()));
        }
        if place.everywhere {
            id.push_str("ForAllNamespaces");
        }
        id
    }

    /// The group as one word; that of Kubernetes' own goes without the last part.
    fn group(&self) -> String {
        let group = self.resource.group.as_str();
        if group.is_empty() {
            return "Core".to_owned();
        }
        let group = if self.resource.is_custom() {
            group
        } else {
            group.trim_end_matches(".k8s.io")
        };
        let words = group.split(['.', '-']).map(capitalized);
        words.collect()
    }

    fn tag(&self) -> String {
        let group = self.group();
        let (first, rest) = group.split_at(group.chars().next().map_or(0, char::len_utf8));
        format!("{}{rest}_{}", first.to_lowercase(), self.resource.version)
    }

    fn operation(&self, place: Place, action: &str, names: &[&'static str]) -> Value {
        let prefix = match self.style {
            Style::V2 => "#/definitions/",
            Style::V3 => "#/components/schemas/",
        };
        let shared = |name: &str| format!("{prefix}{META}.{name}");
        let object = match place.subresource {
            Some(Subresource::Scale) => format!("{prefix}{SCALE}"),
            _ => self.reference.to_owned(),
        };
        let answer = match action {
            "list" => format!("{}List", self.reference),
            "delete" | "deletecollection" => shared("Status"),
            _ => object.clone(),
        };
        let body = match action {
            "post" | "put" => Some((object, true)),
            "patch" => Some((shared("Patch"), true)),
            "delete" => Some((shared("DeleteOptions"), false)),
            "deletecollection" if !self.resource.is_custom() => {
                Some((shared("DeleteOptions"), false))
            }
            _ => None,
        };
        let mut codes = vec![("200", "OK")];
        if matches!(action, "post" | "put") || (action == "patch" && !self.resource.is_custom()) {
            codes.push(("201", "Created"));
        }
        if matches!(action, "post" | "delete") {
            codes.push(("202", "Accepted"));
        }
        let mut operation = json!({
            "operationId": self.id(place, action),
            "tags": [self.tag()],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": match place.subresource {
                Some(Subresource::Token) => {
                    json!({"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"})
                }
                _ => gvk(self.resource),
            },
        });
        let mut parameters: Vec<Value> = names
            .iter()
            .map(|name| self.parameter(name, "query"))
            .collect();
        let mut responses = json!({"401": {"description": "Unauthorized"}});
        match self.style {
            Style::V3 => {
                if let Some((schema, required)) = body {
                    let mut body = json!({"content": content(self.body_types(action), &schema)});
                    if required {
                        body["required"] = json!(true);
                    }
                    operation["requestBody"] = body;
                }
                for (code, text) in codes {
                    responses[code] = json!({
                        "description": text,
                        "content": content(self.answer_types(action), &answer),
                    });
                }
            }
            Style::V2 => {
                if let Some((schema, required)) = body {
                    let mut body =
                        json!({"name": "body", "in": "body", "schema": {"$ref": schema}});
                    if required {
                        body["required"] = json!(true);
                    }
                    parameters.insert(0, body);
                }
                for (code, text) in codes {
                    responses[code] = json!({"description": text, "schema": {"$ref": answer}});
                }
                operation["schemes"] = json!(["https"]);
                operation["produces"] = json!(self.answer_types(action));
                operation["consumes"] = json!(self.body_types(action));
            }
        }
        operation["responses"] = responses;
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        operation
    }

    fn body_types(&self, action: &str) -> &'static [&'static str] {
        const PATCHES: &[&str] = &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ];
        match (action, self.resource.is_custom()) {
            ("patch", true) => &PATCHES[..3],
            ("patch", false) => PATCHES,
            (_, true) => &["application/json", "application/yaml"],
            (_, false) => &["*/*"],
        }
    }

    fn answer_types(&self, action: &str) -> &'static [&'static str] {
        const TYPES: &[&str] = &[
            "application/json",
            "application/yaml",
            "application/vnd.kubernetes.protobuf",
            "application/json;stream=watch",
            "application/vnd.kubernetes.protobuf;stream=watch",
        ];
        match (action, self.resource.is_custom()) {
            (_, true) => &TYPES[..2],
            ("list", false) => TYPES,
            (_, false) => &TYPES[..3],
        }
    }
}

/// The same schema for each media type.
fn content(types: &[&str], reference: &str) -> Value {
    let each = types
        .iter()
        .map(|media| ((*media).to_owned(), json!({"schema": {"$ref": reference}})));
    Value::Object(each.collect())
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
