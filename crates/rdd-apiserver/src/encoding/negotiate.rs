//! What representation the client takes.

use http::{HeaderMap, header};

use crate::{
    http::request_info::Query,
    status::{ApiError, ApiResult},
};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
    /// `application/vnd.kubernetes.protobuf`.
    Protobuf,
}

/// Versions of `meta.k8s.io` in which transformed answers exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVersion {
    /// `meta.k8s.io/v1`.
    V1,
    /// `meta.k8s.io/v1beta1`.
    V1Beta1,
}

impl MetaVersion {
    /// The `apiVersion` text.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// What the client wants to see of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of it.
    Object,
    /// As rows with cells.
    Table(MetaVersion),
    /// `metadata` alone.
    Partial(MetaVersion),
    /// The `metadata` of every item of a list.
    PartialList(MetaVersion),
}

/// The chosen representation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The form.
    pub format: Format,
    /// What is shown.
    pub view: View,
    /// Indented for people.
    pub pretty: bool,
}

/// The endpoint that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// A custom resource: `application/*` is understood.
    pub custom: bool,
    /// A watch: JSON lines only.
    pub watch: bool,
    /// A collection that is read, which could be watched, too.
    pub collection: bool,
    /// Partial metadata can be had.
    pub transforms: bool,
    /// So can Tables.
    pub tables: bool,
    /// What can be had in protobuf.
    pub protobuf: Protobuf,
}

/// What an endpoint has in protobuf. Tables never are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protobuf {
    /// Nothing.
    Nothing,
    /// Partial metadata.
    Metadata,
    /// Objects as well.
    Objects,
}

const TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const STREAMS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

struct Clause<'a> {
    media: &'a str,
    subtype: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';');
        let (media, subtype) = parts
            .next()?
            .trim()
            .split_once('/')
            .unwrap_or((text.trim(), ""));
        let mut quality = 1.0;
        let mut parameters = Vec::new();
        for part in parts {
            let (key, value) = part.trim().split_once('=').unwrap_or((part.trim(), ""));
            if key == "q" {
                quality = value.parse().unwrap_or(1.0);
            } else {
                parameters.push((key, value));
            }
        }
        (!media.is_empty()).then_some(Self {
            media,
            subtype,
            quality,
            parameters,
        })
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        self.parameters
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    /// Exact types before wildcards, as Go's autoneg orders equal qualities.
    fn wildness(&self) -> u8 {
        u8::from(self.media == "*") + u8::from(self.subtype == "*")
    }
}

/// Chooses by `Accept`, `pretty` and, for people, the user agent.
///
/// # Errors
/// 406 when nothing fits.
pub fn negotiate(headers: &HeaderMap, query: &Query, offer: Offer) -> ApiResult<Accepted> {
    let accept = accept(headers);
    let clauses = clauses(&accept);
    let pretty = wants_pretty(headers, query);
    if clauses.is_empty() {
        return Ok(Accepted {
            format: Format::Json,
            view: View::Object,
            pretty,
        });
    }
    let mut known = false;
    for clause in &clauses {
        let format = match (clause.media, clause.subtype) {
            ("*", "*" | "") | ("application", "json") => Format::Json,
            ("application", "*") if offer.custom => Format::Json,
            ("application", "yaml") if !offer.watch => Format::Yaml,
            ("application", "vnd.kubernetes.protobuf") => Format::Protobuf,
            ("application", "yaml") => {
                known = true;
                continue;
            }
            _ => continue,
        };
        known = true;
        let view = view(clause, offer);
        if let Some(view) = view.filter(|view| format != Format::Protobuf || offer.has(*view)) {
            let pretty = pretty || clause.get("pretty").is_some_and(|value| value == "1");
            return Ok(Accepted {
                format,
                view,
                pretty,
            });
        }
    }
    let asked = |clause: &Clause<'_>| clause.subtype == "vnd.kubernetes.protobuf";
    // What could be answered whole is refused for not being a stream, all else before that.
    let whole = clauses.iter().any(|clause| clause.subtype == "yaml");
    let watch = match offer.custom {
        true => offer.watch && !clauses.iter().any(asked),
        false => offer.watch && whole,
    };
    Err(not_acceptable(Offer { watch, ..offer }, known))
}

/// The form in which a client takes the aggregated discovery document, if it asks for it
/// at all: plain clauses do not count, wherever they stand.
pub(crate) fn aggregated_discovery(headers: &HeaderMap, query: &Query) -> Option<Accepted> {
    let accept = accept(headers);
    let clause = clauses(&accept).into_iter().find_map(|clause| {
        let asked = [
            ("as", "APIGroupDiscoveryList"),
            ("g", "apidiscovery.k8s.io"),
            ("v", "v2"),
        ];
        let asked = asked
            .iter()
            .all(|(key, value)| clause.get(key) == Some(*value));
        let format = match (clause.media, clause.subtype) {
            ("*", "*") | ("application", "json" | "*") => Format::Json,
            ("application", "yaml") => Format::Yaml,
            ("application", "vnd.kubernetes.protobuf") => Format::Protobuf,
            _ => return None,
        };
        asked.then_some((format, clause.get("pretty") == Some("1")))
    });
    clause.map(|(format, pretty)| Accepted {
        format,
        view: View::Object,
        pretty: pretty || wants_pretty(headers, query),
    })
}

impl Offer {
    /// Whether a view can be had in protobuf.
    fn has(self, view: View) -> bool {
        match view {
            View::Object => self.protobuf == Protobuf::Objects,
            View::Partial(_) | View::PartialList(_) => self.protobuf != Protobuf::Nothing,
            View::Table(_) => false,
        }
    }
}

fn accept(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::ACCEPT).iter();
    let values: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    values.join(",")
}

/// What is accepted, the best first.
fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| {
        b.quality
            .total_cmp(&a.quality)
            .then_with(|| a.wildness().cmp(&b.wildness()))
    });
    clauses
}

fn not_acceptable(offer: Offer, known: bool) -> ApiError {
    if offer.custom || known {
        let types = if offer.watch { STREAMS } else { TYPES };
        return ApiError::not_acceptable(format!(
            "only the following media types are accepted: {types}"
        ));
    }
    let more = if offer.collection {
        format!(", {STREAMS}")
    } else {
        String::new()
    };
    ApiError::no_representation(&format!("{TYPES}{more}"))
}

/// The form of an error, which is always shown whole and has no other 406.
#[must_use]
pub fn error_format(headers: &HeaderMap) -> Format {
    let accept = accept(headers);
    let format = clauses(&accept)
        .into_iter()
        .filter(|clause| ["as", "g", "v"].iter().all(|key| clause.get(key).is_none()))
        .find_map(|clause| match (clause.media, clause.subtype) {
            ("*", "*" | "") | ("application", "json") => Some(Format::Json),
            ("application", "yaml") => Some(Format::Yaml),
            ("application", "vnd.kubernetes.protobuf") => Some(Format::Protobuf),
            _ => None,
        });
    format.unwrap_or(Format::Json)
}

fn view(clause: &Clause<'_>, offer: Offer) -> Option<View> {
    let Some(kind) = clause.get("as") else {
        let transforms = clause.get("g").is_some() || clause.get("v").is_some();
        return (!transforms).then_some(View::Object);
    };
    if !offer.transforms || clause.get("g") != Some("meta.k8s.io") {
        return None;
    }
    let version = match clause.get("v")? {
        "v1" => MetaVersion::V1,
        "v1beta1" => MetaVersion::V1Beta1,
        _ => return None,
    };
    match kind {
        "Table" if offer.tables => Some(View::Table(version)),
        "PartialObjectMetadata" => Some(View::Partial(version)),
        "PartialObjectMetadataList" => Some(View::PartialList(version)),
        _ => None,
    }
}

fn wants_pretty(headers: &HeaderMap, query: &Query) -> bool {
    if let Some(pretty) = query.get("pretty") {
        return crate::http::request_info::is_true(pretty);
    }
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| {
        ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|person| agent.starts_with(person))
    })
}

/// The media type of several applies in one request, to an object and to its status.
pub const APPLY_PARTS: &str = "application/vnd.rancherdesktop.apply-parts+json";

/// The forms of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// JSON, also when nothing is said.
    Json,
    /// YAML.
    Yaml,
    /// The Kubernetes protobuf envelope.
    Protobuf,
    /// RFC 6902.
    JsonPatch,
    /// RFC 7386.
    MergePatch,
    /// Strategic merge patch.
    StrategicPatch,
    /// Server-side apply.
    ApplyPatch,
    /// Several of them, of an object and its parts ([`APPLY_PARTS`]).
    ApplyParts,
    /// Anything else.
    Unknown,
}

/// What the body is said to be.
#[must_use]
pub fn content_type(headers: &HeaderMap) -> ContentType {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return ContentType::Json;
    };
    let Ok(value) = value.to_str() else {
        return ContentType::Unknown;
    };
    let mut parts = value.split(';');
    let media = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    // Go's mime parser refuses a parameter without a value.
    if parts.any(|part| !part.trim().is_empty() && !part.contains('=')) {
        return ContentType::Unknown;
    }
    match media.as_str() {
        "" | "application/json" => ContentType::Json,
        "application/yaml" => ContentType::Yaml,
        "application/vnd.kubernetes.protobuf" => ContentType::Protobuf,
        "application/json-patch+json" => ContentType::JsonPatch,
        "application/merge-patch+json" => ContentType::MergePatch,
        "application/strategic-merge-patch+json" => ContentType::StrategicPatch,
        "application/apply-patch+yaml" => ContentType::ApplyPatch,
        APPLY_PARTS => ContentType::ApplyParts,
        _ => ContentType::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(accept: &str, offer: Offer) -> Result<(Format, View), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().expect("a header"));
        negotiate(&headers, &Query::default(), offer)
            .map(|accepted| (accepted.format, accepted.view))
            .map_err(|error| error.code())
    }

    const BUILTIN: Offer = Offer {
        custom: false,
        watch: false,
        collection: false,
        transforms: true,
        tables: true,
        protobuf: Protobuf::Objects,
    };
    const CUSTOM: Offer = Offer {
        custom: true,
        protobuf: Protobuf::Metadata,
        ..BUILTIN
    };

    #[test]
    fn an_error_takes_the_form_of_the_best_clause_without_a_view() {
        let check = |accept: &str, wanted: Format| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().expect("a header"));
            assert_eq!(error_format(&headers), wanted, "{accept}");
        };
        let protobuf = "application/vnd.kubernetes.protobuf";
        check("application/yaml", Format::Yaml);
        check("text/html", Format::Json);
        check(&format!("{protobuf},*/*"), Format::Protobuf);
        let partial = format!("{protobuf};as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
        check(&format!("{partial},application/json"), Format::Json);
    }

    #[test]
    fn the_best_clause_that_fits_wins() {
        let check = |accept: &str, offer: Offer, expect: Result<(Format, View), u16>| {
            assert_eq!(choose(accept, offer), expect, "{accept}");
        };
        let json = Ok((Format::Json, View::Object));
        check("*/*", BUILTIN, json);
        check("application/*", BUILTIN, Err(406));
        check("application/*", CUSTOM, json);
        check(
            "application/json;q=0.5, application/yaml",
            BUILTIN,
            Ok((Format::Yaml, View::Object)),
        );
        check("application/json;q=0", BUILTIN, json);
        check("text/html, */*;q=0.1", BUILTIN, json);
        let protobuf = "application/vnd.kubernetes.protobuf";
        let message = Ok((Format::Protobuf, View::Object));
        check(&format!("{protobuf}, */*"), BUILTIN, message);
        check(&format!("{protobuf}, application/json"), CUSTOM, json);
        check(protobuf, CUSTOM, Err(406));
        let of_meta = |kind: &str| format!("{protobuf};as={kind};g=meta.k8s.io;v=v1");
        let partial = Ok((Format::Protobuf, View::Partial(MetaVersion::V1)));
        check(&of_meta("PartialObjectMetadata"), CUSTOM, partial);
        check(&of_meta("Table"), BUILTIN, Err(406));
        check("APPLICATION/YAML", CUSTOM, Err(406));
        check(
            "application/json;as=Table;v=v2;g=meta.k8s.io,application/json",
            BUILTIN,
            json,
        );
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            BUILTIN,
            Ok((Format::Json, View::Table(MetaVersion::V1))),
        );
        check(
            "application/yaml",
            Offer {
                watch: true,
                ..BUILTIN
            },
            Err(406),
        );
    }
}
