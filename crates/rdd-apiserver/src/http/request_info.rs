//! What a request asks for, read from its method and path alone.

use http::Method;

use crate::catalog::Verb;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestInfo {
    /// A path below `/api/v1` or `/apis/{group}/{version}` that names a resource.
    Resource(ResourceRequest),
    /// Anything else: discovery, OpenAPI, health, version, unknown paths.
    Path {
        /// The HTTP method in lower case: what the authorizer sees as verb.
        verb: String,
        /// The path.
        path: String,
    },
}

/// A request about a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// The HTTP method.
    pub method: Method,
    /// What RBAC and admission call it; `None` for methods without a verb.
    pub verb: Option<Verb>,
    /// Empty for the core group.
    pub group: String,
    /// `v1`.
    pub version: String,
    /// Empty outside a namespace; a Namespace object's own name for itself.
    pub namespace: String,
    /// The plural.
    pub plural: String,
    /// The path segment below the object; empty for the object itself.
    pub subresource: String,
    /// Empty for a collection.
    pub name: String,
    /// The path has more segments than any endpoint.
    pub too_deep: bool,
}

impl ResourceRequest {
    /// The namespace that the objects live in: none for cluster paths and for Namespaces.
    #[must_use]
    pub fn object_namespace(&self) -> Option<&str> {
        let own = self.plural == "namespaces" && self.group.is_empty();
        Some(self.namespace.as_str()).filter(|namespace| !namespace.is_empty() && !own)
    }
}

impl RequestInfo {
    /// Reads method, path and query. `query` yields the first value of a parameter.
    #[must_use]
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        resource(method, path, query).map_or_else(
            || Self::Path {
                verb: method.as_str().to_ascii_lowercase(),
                path: path.to_owned(),
            },
            Self::Resource,
        )
    }
}

fn resource(method: &Method, path: &str, query: &Query) -> Option<ResourceRequest> {
    // An escaped slash is a slash.
    let mut segments: Vec<String> = decode_percent(path)
        .trim_matches('/')
        .split('/')
        .map(str::to_owned)
        .collect();
    let (group, mut rest) = match segments.first().map(String::as_str) {
        Some("api") if segments.len() >= 3 => (String::new(), segments.split_off(1)),
        Some("apis") if segments.len() >= 4 => {
            let rest = segments.split_off(2);
            (segments.swap_remove(1), rest)
        }
        _ => return None,
    };
    let version = rest.remove(0);
    let legacy_watch = rest.len() > 1 && rest[0] == "watch";
    if legacy_watch {
        rest.remove(0);
    }
    let mut namespace = String::new();
    if rest.len() > 1 && rest[0] == "namespaces" {
        namespace.clone_from(&rest[1]);
        let own = rest.len() == 2
            || (rest.len() == 3 && matches!(rest[2].as_str(), "status" | "finalize"));
        if !own {
            rest.drain(..2);
        }
    }
    let mut parts = rest.into_iter();
    let plural = parts.next().unwrap_or_default();
    let name = parts.next().unwrap_or_default();
    let subresource = parts.next().unwrap_or_default();
    let too_deep = parts.next().is_some();
    let verb = match (method.as_str(), name.is_empty()) {
        _ if legacy_watch => Some(Verb::Watch),
        ("GET" | "HEAD", true) if query.flag("watch") => Some(Verb::Watch),
        ("GET" | "HEAD", true) => Some(Verb::List),
        ("GET" | "HEAD", false) => Some(Verb::Get),
        ("POST", _) => Some(Verb::Create),
        ("PUT", _) => Some(Verb::Update),
        ("PATCH", _) => Some(Verb::Patch),
        ("DELETE", true) => Some(Verb::DeleteCollection),
        ("DELETE", false) => Some(Verb::Delete),
        _ => None,
    };
    let method = method.clone();
    Some(ResourceRequest {
        method,
        verb,
        group,
        version,
        namespace,
        plural,
        subresource,
        name,
        too_deep,
    })
}

/// A boolean query parameter: anything but `0` and `false` means true, also nothing.
#[must_use]
pub fn is_true(value: &str) -> bool {
    !(value == "0" || value.eq_ignore_ascii_case("false"))
}

/// Undoes `%41` in a path segment or query part; broken escapes stay as they are.
#[must_use]
pub fn decode_percent(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escape {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(out)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The query string, decoded; of repeated parameters the first counts unless all are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes the part behind the question mark.
    #[must_use]
    pub fn parse(query: &str) -> Self {
        let decode = |text: &str| decode_percent(&text.replace('+', " "));
        // A pair with a broken escape is dropped, as Go does.
        let broken = |pair: &str| {
            pair.match_indices('%').any(|(at, _)| {
                let digits = pair.get(at + 1..at + 3).unwrap_or_default();
                digits.len() < 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit())
            })
        };
        Self(
            query
                .split('&')
                .filter(|pair| !pair.is_empty() && !pair.contains(';') && !broken(pair))
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// A boolean parameter.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_verb_resource_and_object() {
        let check = |method: Method, path: &str, query: &str, expect: [&str; 7]| {
            let RequestInfo::Resource(request) =
                RequestInfo::new(&method, path, &Query::parse(query))
            else {
                panic!("{path} is a resource path");
            };
            let seen = [
                request.verb.map_or("", Verb::as_str),
                &request.group,
                &request.version,
                &request.namespace,
                &request.plural,
                &request.name,
                &request.subresource,
            ];
            assert_eq!(seen, expect, "{path}");
        };
        check(
            Method::GET,
            "/api/v1/namespaces",
            "",
            ["list", "", "v1", "", "namespaces", "", ""],
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a",
            "watch=1",
            ["get", "", "v1", "a", "namespaces", "a", ""],
        );
        check(
            Method::PUT,
            "/api/v1/namespaces/a/finalize",
            "",
            ["update", "", "v1", "a", "namespaces", "a", "finalize"],
        );
        check(
            Method::GET,
            "/api/v1/namespaces/a/configmaps",
            "watch=True",
            ["watch", "", "v1", "a", "configmaps", "", ""],
        );
        check(
            Method::GET,
            "/apis/e.io/v1/watch/namespaces/a/things/b",
            "",
            ["watch", "e.io", "v1", "a", "things", "b", ""],
        );
        check(
            Method::DELETE,
            "/apis/e.io/v1/things",
            "",
            ["deletecollection", "e.io", "v1", "", "things", "", ""],
        );
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in [
            "/",
            "/api",
            "/api/v1",
            "/apis/e.io/v1",
            "/version",
            "/healthz/ping",
        ] {
            let info = RequestInfo::new(&Method::GET, path, &Query::default());
            assert!(matches!(info, RequestInfo::Path { .. }), "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=a%3Db+c&dryRun=All&dryRun=no&watch");
        assert_eq!(query.get("labelSelector"), Some("a=b c"));
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "no"]);
        assert!(query.flag("watch") && !query.flag("pretty"));
    }
}
