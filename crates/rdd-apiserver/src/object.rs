//! Objects as the server holds them: their times, their stored bytes, their revision.
//!
//! The stored form is canonical JSON
//! `{"apiVersion":…,"kind":…,"metadata":{…},<the rest, sorted>}` without
//! `metadata.resourceVersion`, which only the store knows. So the wire form is the
//! stored form with `"resourceVersion":"N",` spliced in behind `"metadata":{`,
//! and an item of a typed list is that from `"metadata"` on: no parse, no second
//! serialisation.

use std::{fmt, io};

use bytes::{BufMut, Bytes, BytesMut};
use rdd_store::{Entry, Revision};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::status::ApiError;

pub mod metadata;

/// A moment in whole seconds, as `metadata` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// Any moment.
    #[must_use]
    pub fn new(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp)
    }

    /// With the fraction of the second.
    #[must_use]
    pub fn timestamp(self) -> jiff::Timestamp {
        self.0
    }
}

impl fmt::Display for Time {
    /// RFC 3339 in UTC, in whole seconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = jiff::Timestamp::from_second(self.0.as_second()).unwrap_or(self.0);
        write!(f, "{seconds}")
    }
}

/// A revision from `resourceVersion` text: `None` when it is empty or `"0"`.
///
/// # Errors
/// The parser's complaint in Go's words, when the text is not a decimal number.
pub fn parse_revision(text: &str) -> Result<Option<Revision>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match parse_uint(text)? {
        0 => Ok(None),
        revision => Ok(Some(Revision(revision))),
    }
}

/// What Go calls a value of another type.
pub(crate) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Why a document that is no object has no type, in Go's words.
pub(crate) fn typeless(document: &Value) -> String {
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of \
         type struct {{ APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \
         \"json:\\\"kind,omitempty\\\"\" }}",
        go_kind(document)
    )
}

/// Go's `strconv.ParseUint` with its error texts.
pub(crate) fn parse_uint(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "strconv.ParseUint: parsing {}: invalid syntax",
            quote(text)
        ));
    }
    text.parse().map_err(|_| {
        format!(
            "strconv.ParseUint: parsing {}: value out of range",
            quote(text)
        )
    })
}

/// Text in double quotes with Go's escapes.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..='\u{1f}' | '\u{7f}' => {
                quoted.push_str(&format!("\\x{:02x}", character as u32));
            }
            // Controls, odd spaces, marks without a width, and what has no meaning of its own.
            '\u{80}'..='\u{a0}'
            | '\u{ad}'
            | '\u{2000}'..='\u{200f}'
            | '\u{2028}'..='\u{202f}'
            | '\u{205f}'..='\u{206f}'
            | '\u{3000}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{feff}' => quoted.push_str(&format!("\\u{:04x}", character as u32)),
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The stored form of an object. `metadata.resourceVersion` is left out;
/// `metadata` is never empty, since every object has a name.
#[must_use]
pub fn canonical(object: &Value) -> Bytes {
    let mut out = BytesMut::with_capacity(512).writer();
    // Writing into memory does not fail, and every map key is a string.
    write_canonical(object, &mut out).expect("JSON values serialise into memory");
    out.into_inner().freeze()
}

fn write_canonical(object: &Value, out: &mut impl io::Write) -> io::Result<()> {
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    out.write_all(b"{\"apiVersion\":")?;
    write_json(object.get("apiVersion").unwrap_or(&Value::Null), out)?;
    out.write_all(b",\"kind\":")?;
    write_json(object.get("kind").unwrap_or(&Value::Null), out)?;
    out.write_all(b",\"metadata\":{")?;
    let mut first = true;
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        for (key, value) in metadata.iter().filter(|(key, _)| *key != "resourceVersion") {
            write_member(key, value, &mut first, out)?;
        }
    }
    out.write_all(b"}")?;
    first = false;
    for (key, value) in object {
        if !matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
            write_member(key, value, &mut first, out)?;
        }
    }
    out.write_all(b"}")
}

fn write_member(
    key: &str,
    value: &Value,
    first: &mut bool,
    out: &mut impl io::Write,
) -> io::Result<()> {
    if !std::mem::replace(first, false) {
        out.write_all(b",")?;
    }
    serde_json::to_writer(&mut *out, key)?;
    out.write_all(b":")?;
    write_json(value, out)
}

fn write_json(value: &Value, out: &mut impl io::Write) -> io::Result<()> {
    let mut serializer = serde_json::Serializer::with_formatter(out, GoNumbers);
    value.serialize(&mut serializer).map_err(io::Error::from)
}

/// Any JSON the way Go's encoder prints numbers (`15`, not `15.0`).
#[must_use]
pub fn to_json(value: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_json(value, &mut out).expect("JSON values serialise into memory");
    out
}

/// Floats the way Go's encoding/json writes them: integral ones without a fraction.
struct GoNumbers;

impl serde_json::ser::Formatter for GoNumbers {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        if value == 0.0 {
            return writer.write_all(b"0");
        }
        let text = format!("{value:e}");
        let Some((mantissa, exponent)) = text.split_once('e') else {
            return writer.write_all(text.as_bytes());
        };
        let exponent: i32 = exponent.parse().unwrap_or_default();
        if !(-6..21).contains(&exponent) {
            return write!(writer, "{mantissa}e{exponent:+}");
        }
        if exponent < 15 {
            return write!(writer, "{value}");
        }
        // The shortest digits that read back, then zeros; not the exact value's digits.
        let (sign, digits) = match mantissa.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", mantissa),
        };
        let digits = digits.replace('.', "");
        let width = usize::try_from(exponent + 1).unwrap_or_default();
        write!(writer, "{sign}{digits:0<width$}")
    }
}

const METADATA: &[u8] = b"\"metadata\":{";

/// Where `"metadata":{` begins in stored bytes.
fn metadata_at(stored: &[u8]) -> usize {
    // The two members before it are plain strings, in which no bare quote can stand.
    stored
        .windows(METADATA.len())
        .position(|window| window == METADATA)
        .unwrap_or_default()
}

/// Whether stored bytes are in this `apiVersion`.
#[must_use]
pub fn stored_in(stored: &[u8], api_version: &str) -> bool {
    stored
        .strip_prefix(b"{\"apiVersion\":\"")
        .and_then(|rest| rest.strip_prefix(api_version.as_bytes()))
        .is_some_and(|rest| rest.starts_with(b"\""))
}

/// Appends the wire form of a stored object.
pub fn splice(stored: &[u8], revision: Revision, out: &mut impl BufMut) {
    splice_from(stored, 0, revision, out);
}

/// Appends the wire form without `apiVersion` and `kind`: an item of a typed list.
pub fn splice_item(stored: &[u8], revision: Revision, out: &mut impl BufMut) {
    out.put_u8(b'{');
    splice_from(stored, metadata_at(stored), revision, out);
}

/// Appends the wire form with the members of `metadata` in order, as kube-apiserver writes
/// custom resources. Finding the place takes a look at all of `metadata`, which is for
/// answers of one object.
pub fn splice_in_order(stored: &[u8], revision: Revision, out: &mut impl BufMut) {
    splice_at(stored, 0, place_in_order(stored), revision, out);
}

fn splice_from(stored: &[u8], from: usize, revision: Revision, out: &mut impl BufMut) {
    let inside = metadata_at(stored) + METADATA.len();
    splice_at(stored, from, inside, revision, out);
}

/// Writes the member before the one that begins at `at`.
fn splice_at(stored: &[u8], from: usize, at: usize, revision: Revision, out: &mut impl BufMut) {
    out.put_slice(&stored[from..at]);
    out.put_slice(b"\"resourceVersion\":\"");
    out.put_slice(revision.to_string().as_bytes());
    out.put_slice(b"\",");
    out.put_slice(&stored[at..]);
}

/// Where the first member of `metadata` begins whose name comes after `resourceVersion`;
/// the first of all if there is none.
fn place_in_order(stored: &[u8]) -> usize {
    let inside = metadata_at(stored) + METADATA.len();
    let (mut depth, mut in_text, mut escaped, mut member) = (0_usize, false, false, inside);
    for (at, byte) in stored.iter().enumerate().skip(inside) {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => break,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => member = at + 1,
            // No name of a member of metadata has anything to escape.
            b':' if depth == 0 && stored[member..at] > b"\"resourceVersion\""[..] => return member,
            _ => {}
        }
    }
    inside
}

/// The wire form of a stored object.
#[must_use]
pub fn wire(stored: &[u8], revision: Revision) -> Bytes {
    let mut out = BytesMut::with_capacity(stored.len() + 48);
    splice(stored, revision, &mut out);
    out.freeze()
}

/// Parses a stored object, with its revision in `metadata.resourceVersion`.
///
/// # Errors
/// 500 when the store holds something else than an object of ours.
pub fn parse_stored(stored: &[u8], revision: Revision) -> Result<Value, ApiError> {
    let mut object = crate::encoding::json::parse_trusted(stored)
        .map_err(|error| ApiError::internal(format!("stored object is damaged: {error}")))?;
    set_revision(&mut object, revision);
    Ok(object)
}

/// Parses an entry, with its revision in `metadata.resourceVersion`.
///
/// # Errors
/// 500 when the store holds something else than an object of ours.
pub fn parse_entry(entry: &Entry) -> Result<Value, ApiError> {
    parse_stored(&entry.value, entry.revision)
}

/// Writes `metadata.resourceVersion`.
pub fn set_revision(object: &mut Value, revision: Revision) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(
            "resourceVersion".to_owned(),
            Value::String(revision.to_string()),
        );
    }
}

/// `metadata` as a map; made when absent.
pub fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let object = object.as_object_mut()?;
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// A text member of `metadata`; empty when absent.
#[must_use]
pub fn meta<'a>(object: &'a Value, key: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether the object is being deleted.
#[must_use]
pub fn is_deleting(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> impl Iterator<Item = &str> {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get("finalizers"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use rdd_store::Revision;
    use serde_json::json;

    use super::{canonical, splice_in_order, to_json};

    #[test]
    fn the_revision_stands_where_its_name_belongs() {
        let check = |metadata: serde_json::Value, expect: &str| {
            let stored = canonical(&json!({
                "apiVersion": "a/v1", "kind": "A", "metadata": metadata, "uid": "\"zz\":{",
            }));
            let mut out = Vec::new();
            splice_in_order(&stored, Revision(7), &mut out);
            let out = String::from_utf8(out).expect("text");
            let metadata = out
                .strip_prefix("{\"apiVersion\":\"a/v1\",\"kind\":\"A\",\"metadata\":")
                .and_then(|rest| rest.strip_suffix(",\"uid\":\"\\\"zz\\\":{\"}"));
            assert_eq!(metadata, Some(expect), "{out}");
        };
        check(
            json!({"annotations": {"uid": "},\"z\":"}, "name": "x", "ownerReferences": [{"uid": "u"}], "uid": "i"}),
            r#"{"annotations":{"uid":"},\"z\":"},"name":"x","ownerReferences":[{"uid":"u"}],"resourceVersion":"7","uid":"i"}"#,
        );
        check(
            json!({"name": "x"}),
            r#"{"resourceVersion":"7","name":"x"}"#,
        );
    }

    #[test]
    fn floats_read_as_go_writes_them() {
        for (value, expect) in [
            (15.0, "15"),
            (1.5, "1.5"),
            (-0.0, "0"),
            (0.000_001, "0.000001"),
            (0.000_000_1, "1e-7"),
            (-1.25e-10, "-1.25e-10"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (9.223_372_036_854_776e18, "9223372036854776000"),
        ] {
            assert_eq!(to_json(&value.into()), expect.as_bytes(), "{value}");
        }
    }
}
