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
    /// An operation does not fit the object.
    #[error("the JSON patch does not fit the object")]
    NotApplicable,
    /// Its copies make the object too large.
    #[error("the copies of the JSON patch are too large")]
    TooLarge,
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
    /// Parses, but never applies.
    Impossible,
}

/// The unescaped segments of a path.
#[derive(Clone, Debug)]
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(text: &str) -> Self {
        Self(
            text.split('/')
                .skip(1)
                .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
                .collect(),
        )
    }
}

/// Which of kube-apiserver's two decoders reads a patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// The one that also looks for fields that no operation has.
    Strict,
    /// The one of `fieldValidation=Ignore`: an operation of wrong types is one that never applies.
    Lax,
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
    /// [`JsonPatchError::NotApplicable`] or [`JsonPatchError::TooLarge`].
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
        Decoder::Lax => text(wanted[1]),
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
    let fields = match document {
        Value::Object(fields) => fields,
        Value::Null => return Ok(Operation::Impossible),
        other => {
            let wanted = ["handlers.jsonPatchOp", "jsonpatch.Operation"];
            return Err(mistyped(other, wanted, decoder));
        }
    };
    let text = |name: &str| match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str())),
        Some(_) if decoder == Decoder::Lax => Ok(None),
        Some(other) => Err(JsonPatchError::Malformed(format!(
            "error decoding patch: json: cannot unmarshal {} into Go struct field jsonPatchOp.{name} of type string",
            go_kind(other)
        ))),
    };
    let (op, path, from) = (text("op")?, text("path")?, text("from")?);
    let Some(path) = path.map(Pointer::parse) else {
        return Ok(Operation::Impossible);
    };
    let from = from.map(Pointer::parse);
    let value = || fields.get("value").cloned().unwrap_or_default();
    Ok(match (op, from) {
        (Some("add"), _) => Operation::Add(path, value()),
        (Some("replace"), _) => Operation::Replace(path, value()),
        (Some("remove"), _) => Operation::Remove(path),
        (Some("test"), _) => Operation::Test(path, value()),
        (Some("move"), Some(from)) => Operation::Move(from, path),
        (Some("copy"), Some(from)) => Operation::Copy(from, path),
        _ => Operation::Impossible,
    })
}

fn step(
    object: &mut Value,
    operation: &Operation,
    copied: &mut usize,
) -> Result<(), JsonPatchError> {
    match operation {
        Operation::Add(path, value) => add(object, path, value.clone()),
        Operation::Replace(path, value) => replace(object, path, value),
        Operation::Remove(path) => take(object, path).map(|_| ()),
        Operation::Move(from, path) => {
            let value = take(object, from)?;
            add(object, path, value)
        }
        Operation::Copy(from, path) => {
            let (parent, last) = parent(object, from)?;
            let value = find(parent, last)?.map_or(Value::Null, |value| value.clone());
            *copied += size(&value);
            if *copied > COPY_BYTES_MAX {
                return Err(JsonPatchError::TooLarge);
            }
            add(object, path, value)
        }
        Operation::Test(path, expected) => test(object, path, expected),
        Operation::Impossible => Err(JsonPatchError::NotApplicable),
    }
}

/// The container of a path's last segment. The root itself has none.
fn parent<'o, 'p>(
    object: &'o mut Value,
    path: &'p Pointer,
) -> Result<(&'o mut Value, &'p str), JsonPatchError> {
    let Some((last, above)) = path.0.split_last() else {
        return Err(JsonPatchError::NotApplicable);
    };
    let mut at = object;
    for segment in above {
        at = find(at, segment)?.ok_or(JsonPatchError::NotApplicable)?;
    }
    if at.is_object() || at.is_array() {
        Ok((at, last))
    } else {
        Err(JsonPatchError::NotApplicable)
    }
}

/// What is at a segment; `None` for a missing key.
fn find<'o>(at: &'o mut Value, segment: &str) -> Result<Option<&'o mut Value>, JsonPatchError> {
    match at {
        Value::Object(fields) => Ok(fields.get_mut(segment)),
        Value::Array(items) => {
            let index = index(segment, items.len())?;
            items
                .get_mut(index)
                .map(Some)
                .ok_or(JsonPatchError::NotApplicable)
        }
        _ => Err(JsonPatchError::NotApplicable),
    }
}

/// An index as Go's `Atoi` reads it (`01`, `+1`); negative ones count from the end.
fn index(segment: &str, length: usize) -> Result<usize, JsonPatchError> {
    let index: i64 = segment.parse().map_err(|_| JsonPatchError::NotApplicable)?;
    let length = i64::try_from(length).map_err(|_| JsonPatchError::NotApplicable)?;
    let index = if index < 0 { index + length } else { index };
    usize::try_from(index).map_err(|_| JsonPatchError::NotApplicable)
}

fn add(object: &mut Value, path: &Pointer, value: Value) -> Result<(), JsonPatchError> {
    match parent(object, path)? {
        (Value::Object(fields), name) => {
            fields.insert(name.to_owned(), value);
            Ok(())
        }
        (Value::Array(items), "-") => {
            items.push(value);
            Ok(())
        }
        (Value::Array(items), segment) => {
            // Counted on the list as it will be: -1 is its last element.
            let index = index(segment, items.len() + 1)?;
            if index > items.len() {
                return Err(JsonPatchError::NotApplicable);
            }
            items.insert(index, value);
            Ok(())
        }
        _ => Err(JsonPatchError::NotApplicable),
    }
}

fn replace(object: &mut Value, path: &Pointer, value: &Value) -> Result<(), JsonPatchError> {
    if path.0.is_empty() {
        if !value.is_object() && !value.is_array() {
            return Err(JsonPatchError::NotApplicable);
        }
        *object = value.clone();
        return Ok(());
    }
    let (parent, last) = parent(object, path)?;
    if let Value::Object(fields) = parent {
        fields.insert(last.to_owned(), value.clone());
    } else if let Some(place) = find(parent, last)? {
        *place = value.clone();
    }
    Ok(())
}

fn take(object: &mut Value, path: &Pointer) -> Result<Value, JsonPatchError> {
    match parent(object, path)? {
        (Value::Object(fields), name) => fields.remove(name).ok_or(JsonPatchError::NotApplicable),
        (Value::Array(items), segment) => {
            let index = index(segment, items.len())?;
            if index >= items.len() {
                return Err(JsonPatchError::NotApplicable);
            }
            Ok(items.remove(index))
        }
        _ => Err(JsonPatchError::NotApplicable),
    }
}

/// Numbers are equal when they are written alike: 1 is not 1.0.
fn test(object: &mut Value, path: &Pointer, expected: &Value) -> Result<(), JsonPatchError> {
    let same = if path.0.is_empty() {
        &*object == expected
    } else {
        let (parent, last) = parent(object, path)?;
        match find(parent, last)? {
            Some(found) => &*found == expected,
            None => expected.is_null(),
        }
    };
    if same {
        Ok(())
    } else {
        Err(JsonPatchError::NotApplicable)
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
            answer,
            expected
                .map(|change| {
                    let mut whole = object.clone();
                    crate::merge::apply(&mut whole, &change);
                    whole
                })
                .ok_or(JsonPatchError::NotApplicable),
            "{patch}"
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
        assert!(patched(&object, &copies(100)) == Err(JsonPatchError::TooLarge));
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
