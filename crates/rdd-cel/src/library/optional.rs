//! Optional values.

use std::sync::Arc;

use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
optional.of optional_of A : optional<A>
optional.ofNonZeroValue optional_ofNonZeroValue A : optional<A>
optional.none optional_none : optional<A>
optional.unwrap optional_unwrap list<optional<A>> : list<A>
unwrapOpt optional_unwrapOpt list<optional<A>> . : list<A>
hasValue optional_hasValue optional<A> . : bool
value optional_value optional<A> . : A
or optional_or_optional optional<A> . optional<A> : optional<A>
orValue optional_orValue_value optional<A> . A : A
";

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], _budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("optional.of", [value]) => Ok(Value::Optional(Some(Arc::new(value.clone())))),
        ("optional.ofNonZeroValue", [value]) => Ok(Value::Optional(
            (!is_zero(value)).then(|| Arc::new(value.clone())),
        )),
        ("optional.none", []) => Ok(Value::Optional(None)),
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => {
            let mut values = Vec::new();
            for item in list.iter() {
                match item {
                    Value::Optional(Some(inner)) => values.push((*inner).clone()),
                    Value::Optional(None) => {}
                    _ => return Err(Error::overload()),
                }
            }
            Ok(values.into())
        }
        ("hasValue", [Value::Optional(inner)]) => Ok(Value::Bool(inner.is_some())),
        ("value", [Value::Optional(Some(inner))]) => Ok((**inner).clone()),
        ("value", [Value::Optional(None)]) => Err(Error::new("optional.none() dereference")),
        ("or", [first @ Value::Optional(Some(_)), _]) => Ok(first.clone()),
        ("or", [Value::Optional(None), other]) => Ok(other.clone()),
        ("orValue", [Value::Optional(Some(inner)), _]) => Ok((**inner).clone()),
        ("orValue", [Value::Optional(None), other]) => Ok(other.clone()),
        // As cel-go does: what is no optional is there.
        ("orValue", [other, _]) => Ok(other.clone()),
        _ => Err(Error::overload()),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => {
            true
        }
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.as_str().is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Optional(inner) => inner.is_none(),
        _ => false,
    }
}
