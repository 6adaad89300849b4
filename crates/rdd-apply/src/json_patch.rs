//! JSON patch (RFC 6902) as kube-apiserver applies it.
//!
//! It differs from the standard: `replace` of a missing key adds it, `copy` from
//! a missing key adds null, a `test` against null passes on a missing key, array
//! indexes may be negative, and the text before a path's first slash is ignored.

use serde_json::Value;

/// How many operations one patch may have.
pub const OPERATIONS_MAX: usize = 10_000;

/// How many bytes the `copy` operations of one patch may add.
const COPY_BYTES_MAX: usize = 3 * 1024 * 1024;

/// Why a patch is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPatchError {
    /// It is no JSON patch.
    #[error("{0}")]
    Malformed(String),
    /// It has this many operations, more than [`OPERATIONS_MAX`].
    #[error("a JSON patch may have {OPERATIONS_MAX} operations, got {0}")]
    TooManyOperations(usize),
    /// An operation does not fit the object; why, in the words of kube-apiserver.
    #[error("{0}")]
    NotApplicable(String),
    /// A `test` does not hold at this path.
    #[error("testing value {0} failed: test failed")]
    TestFailed(String),
    /// Its copies add this many bytes to the object, which is too much.
    #[error(
        "Unable to complete the copy, the accumulated size increase of copy is {0}, exceeding the \
         limit {COPY_BYTES_MAX}"
    )]
    TooLarge(usize),
}

/// A parsed patch, to be applied any number of times.
#[derive(Clone, Debug)]
pub struct JsonPatch(Vec<Operation>);

#[derive(Clone, Debug)]
enum Operation {
    Add(Pointer, Value),
    Replace(Pointer, Value),
    Remove(Pointer),
    Move(Pointer, Pointer),
    Copy(Pointer, Pointer),
    Test(Pointer, Value),
    /// A test for a null that is a value.
    TestNull(Pointer),
    /// Parses, but never applies, for this reason.
    Impossible(String),
}

/// A path, and its unescaped segments.
#[derive(Clone, Debug)]
struct Pointer {
    text: String,
    segments: Vec<String>,
}

impl Pointer {
    fn parse(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            segments: text
                .split('/')
                .skip(1)
                .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
                .collect(),
        }
    }
}

/// Which of kube-apiserver's two decoders reads a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// The one that also looks for fields that no operation has.
    Strict,
    /// The one of `fieldValidation=Ignore`: an operation of wrong types is one that never applies.
    Lax,
    /// None: the operations were made of values, among which null is one. To a test, it is
    /// nothing that an object holds.
    Made,
}

impl JsonPatch {
    /// Reads a patch document. `null` is the patch that does nothing. The second part of the
    /// answer is the paths of members that no operation has, such as `[0].values`.
    ///
    /// # Errors
    /// [`JsonPatchError::Malformed`] with the text of kube-apiserver, or
    /// [`JsonPatchError::TooManyOperations`].
    pub fn parse(
        document: &Value,
        decoder: Decoder,
    ) -> Result<(Self, Vec<String>), JsonPatchError> {
        let operations = match document {
            Value::Null => return Ok((Self(Vec::new()), Vec::new())),
            Value::Array(operations) => operations,
            other => {
                let wanted = ["[]handlers.jsonPatchOp", "jsonpatch.Patch"];
                return Err(mistyped(other, wanted, decoder));
            }
        };
        let read: Vec<Operation> = operations
            .iter()
            .map(|document| operation(document, decoder))
            .collect::<Result<_, _>>()?;
        if operations.len() > OPERATIONS_MAX {
            return Err(JsonPatchError::TooManyOperations(operations.len()));
        }
        let mut unknown = Vec::new();
        if decoder == Decoder::Strict {
            for (at, fields) in operations.iter().enumerate() {
                let names = fields.as_object().into_iter().flatten();
                let names = names.map(|(name, _)| name);
                unknown.extend(
                    names
                        .filter(|name| !matches!(&***name, "op" | "path" | "from" | "value"))
                        .map(|name| format!("[{at}].{name}")),
                );
            }
        }
        Ok((Self(read), unknown))
    }

    /// Applies every operation in order; the object is left half-patched on an error.
    ///
    /// # Errors
    /// [`JsonPatchError::NotApplicable`], [`JsonPatchError::TestFailed`] or
    /// [`JsonPatchError::TooLarge`].
    pub fn apply(&self, object: &mut Value) -> Result<(), JsonPatchError> {
        let mut copied = 0;
        for operation in &self.0 {
            step(object, operation, &mut copied)?;
        }
        Ok(())
    }
}

fn mistyped(value: &Value, wanted: [&str; 2], decoder: Decoder) -> JsonPatchError {
    let found = go_kind(value);
    let text = |wanted| format!("json: cannot unmarshal {found} into Go value of type {wanted}");
    JsonPatchError::Malformed(match decoder {
        Decoder::Strict => format!("error decoding patch: {}", text(wanted[0])),
        Decoder::Lax | Decoder::Made => text(wanted[1]),
    })
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn operation(document: &Value, decoder: Decoder) -> Result<Operation, JsonPatchError> {
    let impossible = |text: &str| Ok(Operation::Impossible(text.to_owned()));
    let fields = match document {
        Value::Object(fields) => fields,
        Value::Null => return impossible("Unexpected kind: unknown"),
        other => {
            let wanted = ["handlers.jsonPatchOp", "jsonpatch.Operation"];
            return Err(mistyped(other, wanted, decoder));
        }
    };
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) if decoder != Decoder::Strict => Ok(None),
        Some(other) => Err(JsonPatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
            go_kind(other)
        ))),
    };
    let (op, path, from) = (text("op")?, text("path")?, text("from")?);
    let op = op.unwrap_or("unknown");
    let from = match (op, from.map(Pointer::parse)) {
        ("move" | "copy", Some(from)) => from,
        ("move" | "copy", None) => {
            return impossible(&format!(
                "{op} operation failed to decode from: {}",
                unread(fields.get("from"), "operation, missing from field")
            ));
        }
        ("add" | "replace" | "remove" | "test", _) => Pointer::parse(""),
        _ => return impossible(&format!("Unexpected kind: {op}")),
    };
    let Some(path) = path.map(Pointer::parse) else {
        let why = match op {
            "add" | "remove" | "copy" => MISSING.to_owned(),
            _ => unread(fields.get("path"), "operation missing path field"),
        };
        return impossible(&format!("{op} operation failed to decode path: {why}"));
    };
    let value = || fields.get("value").cloned().unwrap_or_default();
    Ok(match op {
        "add" => Operation::Add(path, value()),
        "replace" => Operation::Replace(path, value()),
        "remove" => Operation::Remove(path),
        "test" if decoder == Decoder::Made && fields.get("value") == Some(&Value::Null) => {
            Operation::TestNull(path)
        }
        "test" => Operation::Test(path, value()),
        "move" => Operation::Move(from, path),
        _ => Operation::Copy(from, path),
    })
}

/// Why a path could not be read.
fn unread(given: Option<&Value>, absent: &str) -> String {
    match given {
        None | Some(Value::Null) => format!("{absent}: {MISSING}"),
        Some(other) => format!(
            "json: cannot unmarshal {} into Go value of type string",
            go_kind(other)
        ),
    }
}

const MISSING: &str = "missing value";

fn misfit(text: impl Into<String>) -> JsonPatchError {
    JsonPatchError::NotApplicable(text.into())
}

fn step(
    object: &mut Value,
    operation: &Operation,
    copied: &mut usize,
) -> Result<(), JsonPatchError> {
    match operation {
        Operation::Add(path, value) => {
            let Some((parent, key)) = parent(object, path) else {
                return Err(misfit(format!(
                    "add operation does not apply: doc is missing path: \"{}\": {MISSING}",
                    path.text
                )));
            };
            add(parent, key, value.clone())
                .map_err(|why| misfit(format!("error in add for path: '{}': {why}", path.text)))
        }
        Operation::Replace(path, value) => replace(object, path, value),
        Operation::Remove(path) => {
            let Some((parent, key)) = parent(object, path) else {
                return Err(misfit(format!(
                    "remove operation does not apply: doc is missing path: \"{}\": {MISSING}",
                    path.text
                )));
            };
            remove(parent, key)
                .map(|_| ())
                .map_err(|why| misfit(format!("error in remove for path: '{}': {why}", path.text)))
        }
        Operation::Move(from, path) => {
            let (holder, key) = source(object, from, "move")?;
            let failed = |why| misfit(format!("error in move for path: '{key}': {why}"));
            find(holder, key).map_err(failed)?;
            let value = remove(holder, key).map_err(failed)?;
            let (holder, key) = destination(object, path, "move")?;
            add(holder, key, value)
                .map_err(|why| misfit(format!("error in move for path: '{}': {why}", path.text)))
        }
        Operation::Copy(from, path) => {
            let (holder, key) = source(object, from, "copy")?;
            let found = find(holder, key)
                .map_err(|why| misfit(format!("error in copy for from: '{}': {why}", from.text)))?;
            let value = found.map_or(Value::Null, |value| value.clone());
            let (holder, key) = destination(object, path, "copy")?;
            *copied += size(&value);
            if *copied > COPY_BYTES_MAX {
                return Err(JsonPatchError::TooLarge(*copied));
            }
            add(holder, key, value)
                .map_err(|why| misfit(format!("error while adding value during copy: {why}")))
        }
        Operation::Test(path, expected) => test(object, path, expected),
        Operation::TestNull(path) => test(object, path, &Value::Null)
            .and_then(|()| Err(JsonPatchError::TestFailed(path.text.clone()))),
        Operation::Impossible(text) => Err(misfit(text)),
    }
}

fn source<'o, 'p>(
    object: &'o mut Value,
    from: &'p Pointer,
    op: &str,
) -> Result<(&'o mut Value, &'p str), JsonPatchError> {
    parent(object, from).ok_or_else(|| {
        misfit(format!(
            "{op} operation does not apply: doc is missing from path: {}: {MISSING}",
            from.text
        ))
    })
}

fn destination<'o, 'p>(
    object: &'o mut Value,
    path: &'p Pointer,
    op: &str,
) -> Result<(&'o mut Value, &'p str), JsonPatchError> {
    parent(object, path).ok_or_else(|| {
        misfit(format!(
            "{op} operation does not apply: doc is missing destination path: {}: {MISSING}",
            path.text
        ))
    })
}

/// The container of a path's last segment. The root itself has none.
fn parent<'o, 'p>(object: &'o mut Value, path: &'p Pointer) -> Option<(&'o mut Value, &'p str)> {
    let (last, above) = path.segments.split_last()?;
    let mut at = object;
    for segment in above {
        at = find(at, segment).ok()??;
    }
    (at.is_object() || at.is_array()).then_some((at, last))
}

/// What is at a segment; `None` for a missing key.
fn find<'o>(at: &'o mut Value, segment: &str) -> Result<Option<&'o mut Value>, String> {
    match at {
        Value::Object(fields) => Ok(fields.get_mut(segment)),
        Value::Array(items) => {
            let index = index(segment, items.len())?;
            Ok(items.get_mut(index))
        }
        _ => Err(MISSING.to_owned()),
    }
}

/// An index as Go's `Atoi` reads it (`01`, `+1`); negative ones count from the end.
fn index(segment: &str, length: usize) -> Result<usize, String> {
    let given = number(segment)?;
    let invalid = || format!("Unable to access invalid index: {given}: invalid index referenced");
    let length = i64::try_from(length).map_err(|_| invalid())?;
    let index = if given < 0 { given + length } else { given };
    match usize::try_from(index) {
        Ok(found) if index < length => Ok(found),
        _ => Err(invalid()),
    }
}

fn number(segment: &str) -> Result<i64, String> {
    segment.parse().map_err(|error: std::num::ParseIntError| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            NegOverflow | PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.Atoi: parsing {segment:?}: {why}")
    })
}

fn add(holder: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match holder {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value);
            Ok(())
        }
        Value::Array(items) if key == "-" => {
            items.push(value);
            Ok(())
        }
        Value::Array(items) => {
            number(key)
                .map_err(|why| format!("value was not a proper array index: '{key}': {why}"))?;
            // Counted on the list as it will be: -1 is its last element.
            let index = index(key, items.len() + 1)?;
            items.insert(index, value);
            Ok(())
        }
        _ => Err(MISSING.to_owned()),
    }
}

fn replace(object: &mut Value, path: &Pointer, value: &Value) -> Result<(), JsonPatchError> {
    if path.text.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err(misfit(
                "replace operation value must be object or array: %!w(<nil>)",
            ));
        }
        *object = value.clone();
        return Ok(());
    }
    let missing = |what: &str| {
        misfit(format!(
            "replace operation does not apply: doc is missing {what}: {}: {MISSING}",
            path.text
        ))
    };
    let (holder, key) = parent(object, path).ok_or_else(|| missing("path"))?;
    if let Value::Object(fields) = holder {
        fields.insert(key.to_owned(), value.clone());
    } else if let Some(place) = find(holder, key).map_err(|_| missing("key"))? {
        *place = value.clone();
    }
    Ok(())
}

fn remove(holder: &mut Value, key: &str) -> Result<Value, String> {
    match holder {
        Value::Object(fields) => fields
            .remove(key)
            .ok_or_else(|| format!("Unable to remove nonexistent key: {key}: {MISSING}")),
        Value::Array(items) => {
            let index = index(key, items.len())?;
            Ok(items.remove(index))
        }
        _ => Err(MISSING.to_owned()),
    }
}

/// Numbers are equal when they are written alike: 1 is not 1.0.
fn test(object: &mut Value, path: &Pointer, expected: &Value) -> Result<(), JsonPatchError> {
    let same = if path.text.is_empty() {
        &*object == expected
    } else {
        let (holder, key) = parent(object, path).ok_or_else(|| {
            misfit(format!(
                "test operation does not apply: is missing path: {}: {MISSING}",
                path.text
            ))
        })?;
        let found = find(holder, key)
            .map_err(|why| misfit(format!("error in test for path: '{}': {why}", path.text)))?;
        match found {
            Some(found) => &*found == expected,
            None => expected.is_null(),
        }
    };
    if same {
        Ok(())
    } else {
        Err(JsonPatchError::TestFailed(path.text.clone()))
    }
}

/// About how many bytes the value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| size(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            fields
                .iter()
                .map(|(name, value)| name.len() + 4 + size(value))
                .sum::<usize>()
                + 2
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(object: &Value, patch: &Value) -> Result<Value, JsonPatchError> {
        let mut object = object.clone();
        let (patch, _) = JsonPatch::parse(patch, Decoder::Strict)?;
        patch.apply(&mut object)?;
        Ok(object)
    }

    fn check(patch: Value, expected: Option<Value>) {
        let object = json!({"data": {"a": "1", "b": "2"}, "verbs": ["get", "list", "watch"]});
        let answer = patched(&object, &json!([patch]));
        assert_eq!(
            answer.map_err(|_| ()),
            expected
                .map(|change| {
                    let mut whole = object.clone();
                    crate::merge::apply(&mut whole, &change);
                    whole
                })
                .ok_or(()),
            "{patch}"
        );
    }

    #[test]
    fn what_does_not_fit_is_told_in_the_words_of_the_api_server() {
        let object = json!({"data": {"a": "1"}, "verbs": ["get"], "n": null});
        let check = |operation: Value, expect: &str| {
            let error = patched(&object, &json!([operation])).expect_err(expect);
            assert_eq!(error.to_string(), expect);
        };
        for (op, path, expect) in [
            (
                "add",
                "/x/y",
                "add operation does not apply: doc is missing path: \"/x/y\": missing value",
            ),
            (
                "add",
                "/verbs/7",
                "error in add for path: '/verbs/7': Unable to access invalid index: 7: invalid \
                 index referenced",
            ),
            (
                "add",
                "/verbs/z",
                "error in add for path: '/verbs/z': value was not a proper array index: 'z': \
                 strconv.Atoi: parsing \"z\": invalid syntax",
            ),
            (
                "remove",
                "/data/z",
                "error in remove for path: '/data/z': Unable to remove nonexistent key: z: \
                 missing value",
            ),
            (
                "remove",
                "/n/z",
                "remove operation does not apply: doc is missing path: \"/n/z\": missing value",
            ),
            (
                "replace",
                "/verbs/7",
                "replace operation does not apply: doc is missing key: /verbs/7: missing value",
            ),
            (
                "replace",
                "/x/y",
                "replace operation does not apply: doc is missing path: /x/y: missing value",
            ),
            (
                "test",
                "/data/a",
                "testing value /data/a failed: test failed",
            ),
            (
                "test",
                "/x/a",
                "test operation does not apply: is missing path: /x/a: missing value",
            ),
            ("bend", "/data/a", "Unexpected kind: bend"),
            (
                "move",
                "/data/b",
                "move operation failed to decode from: operation, missing from field: missing value",
            ),
        ] {
            check(json!({"op": op, "path": path, "value": "2"}), expect);
        }
        check(
            json!({"op": "copy", "path": "/x/y", "from": "/data/a"}),
            "copy operation does not apply: doc is missing destination path: /x/y: missing value",
        );
        check(
            json!({"op": "add"}),
            "add operation failed to decode path: missing value",
        );
    }

    #[test]
    fn operations_on_maps_follow_the_api_server() {
        let add = |path: &str| json!({"op": "add", "path": path, "value": "9"});
        check(add("/data/c"), Some(json!({"data": {"c": "9"}})));
        check(add("data/c"), Some(json!({"c": "9"})));
        check(add("/data/"), Some(json!({"data": {"": "9"}})));
        check(add("/nope/c"), None);
        check(add(""), None);
        let replace = |path: &str| json!({"op": "replace", "path": path, "value": "9"});
        check(replace("/data/zz"), Some(json!({"data": {"zz": "9"}})));
        check(replace("/nope/zz"), None);
        check(replace("/data/a/b"), None);
        check(
            json!({"op": "remove", "path": "/data/a"}),
            Some(json!({"data": {"a": null}})),
        );
        check(json!({"op": "remove", "path": "/data/z"}), None);
        check(json!({"op": "remove"}), None);
        check(json!({"op": "move", "path": "/data/a"}), None);
        check(json!({"op": "nope", "path": "/data/a"}), None);
    }

    #[test]
    fn array_indexes_are_those_of_go() {
        let add = |at: &str| json!({"op": "add", "path": format!("/verbs/{at}"), "value": "x"});
        check(
            add("0"),
            Some(json!({"verbs": ["x", "get", "list", "watch"]})),
        );
        check(
            add("-"),
            Some(json!({"verbs": ["get", "list", "watch", "x"]})),
        );
        check(
            add("3"),
            Some(json!({"verbs": ["get", "list", "watch", "x"]})),
        );
        check(
            add("-1"),
            Some(json!({"verbs": ["get", "list", "watch", "x"]})),
        );
        check(add("4"), None);
        let replace =
            |at: &str| json!({"op": "replace", "path": format!("/verbs/{at}"), "value": "x"});
        check(replace("01"), Some(json!({"verbs": ["get", "x", "watch"]})));
        check(replace("+1"), Some(json!({"verbs": ["get", "x", "watch"]})));
        check(replace("-1"), Some(json!({"verbs": ["get", "list", "x"]})));
        check(replace("-9"), None);
        check(replace("1.0"), None);
        check(replace("x"), None);
    }

    #[test]
    fn tests_compare_numbers_as_written() {
        let object = json!({"n": 1, "m": null});
        let passes = |value: Value| {
            patched(
                &object,
                &json!([{"op": "test", "path": "/n", "value": value}]),
            )
            .is_ok()
        };
        assert!(passes(json!(1)));
        assert!(!passes(json!(1.0)));
        assert!(!passes(json!("1")));
        assert!(
            patched(
                &object,
                &json!([{"op": "test", "path": "/gone", "value": null}])
            )
            .is_ok()
        );
        assert!(
            patched(
                &object,
                &json!([{"op": "test", "path": "/gone/x", "value": null}])
            )
            .is_err()
        );
    }

    #[test]
    fn a_copy_from_a_missing_key_is_null() {
        let copied = patched(
            &json!({"a": {}}),
            &json!([{"op": "copy", "from": "/a/x", "path": "/b"}]),
        );
        assert_eq!(copied, Ok(json!({"a": {}, "b": null})));
    }

    #[test]
    fn copies_cannot_grow_the_object_without_bound() {
        let copy = json!({"op": "copy", "from": "/a", "path": "/a/x"});
        let object = json!({"a": {"text": "x".repeat(1024)}});
        let copies = |count| Value::Array(vec![copy.clone(); count]);
        assert!(patched(&object, &copies(10)).is_ok());
        assert!(
            patched(&object, &copies(100))
                .is_err_and(|error| matches!(error, JsonPatchError::TooLarge(_)))
        );
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let parse = |document: &Value, decoder| JsonPatch::parse(document, decoder).map(|_| ());
        let check = |document: Value, decoder, text: &str| {
            let error = parse(&document, decoder).expect_err(text);
            assert_eq!(error.to_string(), text);
        };
        check(
            json!({"op": "add"}),
            Decoder::Strict,
            "error decoding patch: json: cannot unmarshal object into Go value of type \
             []handlers.jsonPatchOp",
        );
        check(
            json!(["x"]),
            Decoder::Strict,
            "error decoding patch: json: cannot unmarshal string into Go value of type \
             handlers.jsonPatchOp",
        );
        check(
            json!([{"op": 5}]),
            Decoder::Strict,
            "error decoding patch: json: cannot unmarshal number into Go struct field \
             jsonPatchOp.op of type string",
        );
        check(
            json!([1]),
            Decoder::Lax,
            "json: cannot unmarshal number into Go value of type jsonpatch.Operation",
        );
        assert_eq!(
            parse(&json!([{"op": 5, "path": "/a"}]), Decoder::Lax),
            Ok(())
        );
        assert_eq!(parse(&json!(null), Decoder::Strict), Ok(()));
        assert_eq!(
            parse(
                &Value::Array(vec![json!({}); OPERATIONS_MAX + 1]),
                Decoder::Strict
            ),
            Err(JsonPatchError::TooManyOperations(OPERATIONS_MAX + 1))
        );
    }

    #[test]
    fn members_that_no_operation_has_are_told() {
        let document = json!([{"op": "test", "path": "/a", "zz": 1}, {"OP": 1}]);
        let unknown = |decoder| JsonPatch::parse(&document, decoder).map(|(_, unknown)| unknown);
        assert_eq!(
            unknown(Decoder::Strict),
            Ok(vec!["[0].zz".to_owned(), "[1].OP".to_owned()])
        );
        assert_eq!(unknown(Decoder::Lax), Ok(Vec::new()));
    }
}
