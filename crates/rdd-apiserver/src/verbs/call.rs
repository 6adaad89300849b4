//! One request to a resource, from its parsed head to its answer.

use std::{sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, header};
use rdd_store::Revision;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    admission,
    api_server::Inner,
    audit::Notes,
    auth::Identity,
    catalog::{Resource, Subresource, WriteContext},
    encoding::{
        negotiate::{Accepted, Format, View},
        protobuf::answer,
        table, yaml,
    },
    http::{
        body::Body,
        request_info::{Query, ResourceRequest},
        response,
    },
    object::{self, Time},
    status::{ApiError, ApiResult},
    verbs::served,
};

/// How long any write may take, also when others keep changing the object.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(34);

/// Warning texts are sent in full up to this many characters together …
const WARNINGS_MAX: usize = 4096;
/// … and each one cut to this many beyond.
const WARNING_MAX: usize = 256;

/// One request to a resource.
pub(crate) struct Call {
    pub(crate) server: Arc<Inner>,
    pub(crate) resource: Arc<Resource>,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) info: ResourceRequest,
    pub(crate) identity: Arc<Identity>,
    pub(crate) headers: HeaderMap,
    pub(crate) query: Query,
    pub(crate) accepted: Accepted,
    pub(crate) now: Time,
    pub(crate) deadline: Instant,
    pub(crate) warnings: Vec<String>,
    /// The object of this create has a name only because the server made one up.
    pub(crate) name_generated: bool,
    /// What the audit log is to say besides; absent where there is no log.
    pub(crate) notes: Option<Arc<Notes>>,
}

impl Call {
    /// The namespace of the URL.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.info.object_namespace()
    }

    /// The object's name in the URL.
    pub(crate) fn name(&self) -> &str {
        &self.info.name
    }

    /// The user agent, from which a field manager's name is taken.
    pub(crate) fn user_agent(&self) -> &str {
        let agent = self.headers.get(header::USER_AGENT);
        agent
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// What strategies may know.
    pub(crate) fn write_context(&self) -> WriteContext<'_> {
        WriteContext {
            resource: &self.resource,
            subresource: self.subresource,
            now: self.now,
            user: &self.identity.name,
        }
    }

    /// Whether there is anything to warn of.
    pub(crate) fn has_warnings(&self) -> bool {
        !self.warnings.is_empty()
    }

    pub(crate) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }

    /// Adds an annotation to the request's record, if one is kept.
    pub(crate) fn annotate(&self, key: impl FnOnce() -> String, value: impl FnOnce() -> String) {
        if let Some(notes) = &self.notes {
            notes.annotate(key(), value());
        }
    }

    /// Fails once the write's time is up.
    pub(crate) fn check_deadline(&self) -> ApiResult<()> {
        if Instant::now() < self.deadline {
            Ok(())
        } else {
            Err(ApiError::deadline())
        }
    }

    /// Tells whoever follows this resource about a write that the store has acknowledged.
    pub(crate) fn committed(&self, name: &str, object: Option<&Value>, revision: Revision) {
        self.resource.strategy.committed(name, object, revision);
        admission::observe(
            &self.server.admission,
            &self.resource,
            name,
            object,
            revision,
        );
    }

    // === answers ===

    /// An object as stored, in the representation that the client takes.
    pub(crate) fn answer_stored(
        &self,
        code: u16,
        stored: &Bytes,
        revision: Option<rdd_store::Revision>,
    ) -> ApiResult<Response<Body>> {
        let plain = self.accepted.view == View::Object && self.accepted.format == Format::Json;
        if plain {
            let mut out = BytesMut::with_capacity(stored.len() + 48);
            match revision {
                Some(revision) if self.resource.is_custom() => {
                    object::splice_in_order(stored, revision, &mut out);
                }
                Some(revision) => object::splice(stored, revision, &mut out),
                None => out.put_slice(stored),
            }
            out.put_u8(b'\n');
            return Ok(self.json(code, out.freeze()));
        }
        let mut value = crate::encoding::json::parse_trusted(stored).map_err(ApiError::internal)?;
        if let Some(revision) = revision {
            object::set_revision(&mut value, revision);
        }
        self.answer_object(code, &value)
    }

    /// An entry of the store, in this request's version.
    pub(crate) fn answer_entry(
        &self,
        code: u16,
        entry: &rdd_store::Entry,
    ) -> ApiResult<Response<Body>> {
        let stored = served::bytes(&self.resource, entry)?;
        self.answer_stored(code, &stored, Some(entry.revision))
    }

    /// A parsed object, in the representation that the client takes.
    pub(crate) fn answer_object(&self, code: u16, object: &Value) -> ApiResult<Response<Body>> {
        match self.accepted.view {
            View::Object => Ok(self.document(code, object)),
            View::Partial(version) => Ok(self.document(code, &table::partial(object, version))),
            View::PartialList(_) => {
                if self.resource.is_custom() && self.subresource != Some(Subresource::Scale) {
                    return Err(ApiError::bare("content is not a list"));
                }
                let go_type = match self.subresource {
                    Some(Subresource::Scale) => "*v1.Scale".to_owned(),
                    _ => format!("*{}.{}", self.resource.family(), self.resource.kind),
                };
                Err(ApiError::not_acceptable(format!(
                    "you requested PartialObjectMetadataList, but the requested object is not a \
                     list ({go_type})"
                )))
            }
            View::Table(version) => {
                let include = table::include_object(&self.query)?;
                let rows = std::slice::from_ref(object);
                let revision = object.pointer("/metadata/resourceVersion");
                let metadata = match revision {
                    Some(revision) => serde_json::json!({"resourceVersion": revision}),
                    None => serde_json::json!({}),
                };
                let table =
                    table::table(&self.resource, version, include, metadata, rows, self.now);
                Ok(self.document(code, &table))
            }
        }
    }

    /// A document that is shown as it is: a list, a Status.
    pub(crate) fn document(&self, code: u16, document: &Value) -> Response<Body> {
        match self.accepted.format {
            Format::Json => {
                let mut out = object::to_json(document);
                out.push(b'\n');
                self.json(code, out.into())
            }
            Format::Yaml => response::bytes(code, "application/yaml", yaml::write(document)),
            Format::Protobuf => match answer::encode(&self.resource, document) {
                Ok(body) => response::compressible(code, answer::MEDIA, &self.headers, body.into()),
                Err(error) => response::error(&ApiError::internal(error), Format::Json),
            },
        }
    }

    /// Finished JSON.
    pub(crate) fn json(&self, code: u16, body: Bytes) -> Response<Body> {
        let body = if self.accepted.pretty {
            response::pretty(&body).into()
        } else {
            body
        };
        response::compressible(code, "application/json", &self.headers, body)
    }

    /// Adds the Warning headers.
    pub(crate) fn with_warnings(&self, mut answer: Response<Body>) -> Response<Body> {
        add_warnings(answer.headers_mut(), &self.warnings);
        answer
    }
}

/// Adds a Warning header per text, within the bounds of what proxies let through.
pub(crate) fn add_warnings(headers: &mut HeaderMap, warnings: &[String]) {
    let total: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let mut sent = 0;
    for text in warnings {
        let most = if total > WARNINGS_MAX {
            WARNING_MAX
        } else {
            usize::MAX
        };
        let text: String = text
            .chars()
            .take(most)
            .map(|character| {
                if character.is_control() {
                    ' '
                } else {
                    character
                }
            })
            .collect();
        sent += text.chars().count();
        if sent > WARNINGS_MAX {
            return;
        }
        let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}
