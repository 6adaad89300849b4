//! Answers: JSON, YAML or protobuf bytes with the headers that all of them share.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::{
    encoding::{json, negotiate::Format, protobuf, yaml},
    http::body::{self, Body},
    object::to_json,
    status::ApiError,
};

/// An answer of these bytes.
#[must_use]
pub fn bytes(code: u16, content_type: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let bytes = bytes.into();
    let length = bytes.len();
    let mut answer = Response::new(body::full(bytes));
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    answer
}

/// Above this size an answer is compressed for who can read that.
pub(crate) const COMPRESS_FROM: usize = 128 * 1024;

/// A finished body, compressed when it is large and the client takes gzip.
#[must_use]
pub fn compressible(
    code: u16,
    content_type: &'static str,
    request: &HeaderMap,
    body: Bytes,
) -> Response<Body> {
    if body.len() <= COMPRESS_FROM || !takes_gzip(request) {
        return bytes(code, content_type, body);
    }
    let level = flate2::Compression::fast();
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 8), level);
    let compressed = encoder.write_all(&body).and_then(|()| encoder.finish());
    let Ok(compressed) = compressed else {
        return bytes(code, content_type, body);
    };
    let mut answer = bytes(code, content_type, compressed);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

/// An answer whose body is made while it is sent, compressed when the client takes gzip.
pub(crate) fn streamed(
    content_type: &'static str,
    request: &HeaderMap,
    pieces: impl Iterator<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    let zipped = takes_gzip(request);
    let mut answer = Response::new(if zipped {
        body::lazy(Zipped::new(pieces))
    } else {
        body::lazy(pieces.map(Ok))
    });
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if zipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    answer
}

/// Pieces, compressed as one stream.
struct Zipped<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Zipped<I> {
    fn new(pieces: I) -> Self {
        let level = flate2::Compression::fast();
        let encoder = Some(GzEncoder::new(Vec::new(), level));
        Self { pieces, encoder }
    }
}

impl<I: Iterator<Item = Bytes>> Zipped<I> {
    fn advance(&mut self) -> io::Result<Option<Bytes>> {
        let Some(encoder) = &mut self.encoder else {
            return Ok(None);
        };
        for piece in self.pieces.by_ref() {
            encoder.write_all(&piece)?;
            let made = std::mem::take(encoder.get_mut());
            if !made.is_empty() {
                return Ok(Some(made.into()));
            }
        }
        let rest = self.encoder.take().map(GzEncoder::finish).transpose()?;
        Ok(rest.map(Bytes::from))
    }
}

impl<I: Iterator<Item = Bytes>> Iterator for Zipped<I> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

fn takes_gzip(request: &HeaderMap) -> bool {
    let accept = request
        .get(header::ACCEPT_ENCODING)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|coding| coding.trim() == "gzip"))
}

/// A refusal: a Status, or plain text for paths that no API owns.
#[must_use]
pub fn error(error: &ApiError, format: Format) -> Response<Body> {
    let mut answer = if error.is_plain() {
        let text = format!("{}\n", error.message());
        let mut answer = bytes(error.code(), "text/plain; charset=utf-8", text);
        answer.headers_mut().insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        answer
    } else {
        let status = error.to_status();
        match (format, protobuf::answer::status(&status)) {
            (Format::Yaml, _) => bytes(error.code(), "application/yaml", yaml::write(&status)),
            (Format::Protobuf, Ok(body)) => bytes(error.code(), protobuf::answer::MEDIA, body),
            _ => value(error.code(), &status),
        }
    };
    if let Some(seconds) = error.retry_after_seconds() {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}

/// Any JSON document, with the newline that Go's encoder ends on.
#[must_use]
pub fn value(code: u16, document: &Value) -> Response<Body> {
    let mut out = to_json(document);
    out.push(b'\n');
    bytes(code, "application/json", out)
}

/// Indented JSON, for people.
#[must_use]
pub fn pretty(document: &[u8]) -> Vec<u8> {
    let Ok(value) = json::parse_trusted(document) else {
        return document.to_vec();
    };
    let mut out = serde_json::to_vec_pretty(&value).unwrap_or_default();
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_streamed_is_whole_plain_and_zipped() {
        let pieces = || (0..300_u32).map(|number| Bytes::from(number.to_string().repeat(99)));
        let whole = pieces().collect::<Vec<_>>().concat();
        let mut request = HeaderMap::new();
        let plain = streamed("application/json", &request, pieces());
        assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        let body = plain.into_body().collect().await.expect("it ends");
        assert_eq!(body.to_bytes(), whole);

        request.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        let zipped = streamed("application/json", &request, pieces());
        assert_eq!(zipped.headers()[header::CONTENT_ENCODING], "gzip");
        let body = zipped.into_body().collect().await.expect("it ends");
        let mut unzipped = Vec::new();
        flate2::read::GzDecoder::new(&body.to_bytes()[..])
            .read_to_end(&mut unzipped)
            .expect("it is whole");
        assert_eq!(unzipped, whole);
    }
}
