//! Kubernetes' protobuf: bodies and answers of built-in types, by their schema documents.
//!
//! A body is the magic `k8s\0` and a `runtime.Unknown` that names the type and holds the
//! object. client-go's typed clients send this form for every built-in type. The numbers
//! of the fields stand in the schema documents; see `catalog::builtin::document`.

pub mod answer;
mod message;
mod wire;
mod write;

pub use message::Message;

use wire::{Payload, Reader};

/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// The crate's results.
type Result<T> = std::result::Result<T, Error>;

/// A body whose type is known and whose object has yet to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `v1`, `apps/v1`; may be empty.
    pub api_version: String,
    /// May be empty.
    pub kind: String,
    /// The object as a message of its type.
    pub raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Reads the outside of a body.
    ///
    /// # Errors
    /// In the words of Kubernetes' own reader where it has any.
    pub fn read(body: &'a [u8]) -> Result<Self> {
        if body.is_empty() {
            return Err(Error("empty data".to_owned()));
        }
        let Some(body) = body.strip_prefix(MAGIC) else {
            return Err(Error(format!(
                "provided data does not appear to be a protobuf message, expected prefix [{} {} {} {}]",
                MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]
            )));
        };
        if body.is_empty() {
            return Err(Error("empty body".to_owned()));
        }
        let mut envelope = Self {
            api_version: String::new(),
            kind: String::new(),
            raw: &[],
        };
        let mut reader = Reader::new(body);
        while let Some((number, payload)) = reader.next()? {
            match (number, payload) {
                (1, Payload::Bytes(type_meta)) => {
                    let mut reader = Reader::new(type_meta);
                    while let Some((number, payload)) = reader.next()? {
                        match (number, payload) {
                            (1, Payload::Bytes(text)) => envelope.api_version = wire::text(text)?,
                            (2, Payload::Bytes(text)) => envelope.kind = wire::text(text)?,
                            _ => {}
                        }
                    }
                }
                (2, Payload::Bytes(raw)) => envelope.raw = raw,
                _ => {}
            }
        }
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_body_is_told_in_the_words_of_kubernetes() {
        let check = |body: &[u8], wanted: &str| {
            let error = Envelope::read(body).expect_err("it is refused");
            assert_eq!(error.to_string(), wanted);
        };
        check(b"", "empty data");
        check(b"k8s\0", "empty body");
        check(
            b"{}",
            "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]",
        );
        assert!(Envelope::read(b"k8s\0\xff\xff\xff").is_err());
        assert!(Envelope::read(b"k8s\0\x12\x7f").is_err());
    }

    #[test]
    fn an_envelope_names_the_type_and_holds_the_object() {
        let body = b"k8s\0\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02ab\x1a\0\x22\0";
        let envelope = Envelope::read(body).expect("it is one");
        assert_eq!(
            (envelope.api_version.as_str(), envelope.kind.as_str()),
            ("v1", "ConfigMap")
        );
        assert_eq!(envelope.raw, b"ab");
    }
}
