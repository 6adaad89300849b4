//! Operators and conversions of the specification.

use std::cmp::Ordering;

use crate::{
    budget::{Budget, Error, Result},
    library::{strings, time},
    value::{Key, Value},
};

pub(crate) const DECLARATIONS: &str = "
!_ logical_not bool : bool
-_ negate_int64 int : int
-_ negate_double double : double
_&&_ logical_and bool bool : bool
_||_ logical_or bool bool : bool
_?_:_ conditional bool A A : A
_==_ equals A A : bool
_!=_ not_equals A A : bool
_+_ add_int64 int int : int
_+_ add_uint64 uint uint : uint
_+_ add_double double double : double
_+_ add_string string string : string
_+_ add_bytes bytes bytes : bytes
_+_ add_list list<A> list<A> : list<A>
_+_ add_timestamp_duration timestamp duration : timestamp
_+_ add_duration_timestamp duration timestamp : timestamp
_+_ add_duration_duration duration duration : duration
_-_ subtract_int64 int int : int
_-_ subtract_uint64 uint uint : uint
_-_ subtract_double double double : double
_-_ subtract_timestamp_timestamp timestamp timestamp : duration
_-_ subtract_timestamp_duration timestamp duration : timestamp
_-_ subtract_duration_duration duration duration : duration
_*_ multiply_int64 int int : int
_*_ multiply_uint64 uint uint : uint
_*_ multiply_double double double : double
_/_ divide_int64 int int : int
_/_ divide_uint64 uint uint : uint
_/_ divide_double double double : double
_%_ modulo_int64 int int : int
_%_ modulo_uint64 uint uint : uint
_<_ less_bool bool bool : bool
_<_ less_int64 int int : bool
_<_ less_int64_uint64 int uint : bool
_<_ less_int64_double int double : bool
_<_ less_uint64 uint uint : bool
_<_ less_uint64_int64 uint int : bool
_<_ less_uint64_double uint double : bool
_<_ less_double double double : bool
_<_ less_double_int64 double int : bool
_<_ less_double_uint64 double uint : bool
_<_ less_string string string : bool
_<_ less_bytes bytes bytes : bool
_<_ less_timestamp timestamp timestamp : bool
_<_ less_duration duration duration : bool
_<=_ less_equals_bool bool bool : bool
_<=_ less_equals_int64 int int : bool
_<=_ less_equals_int64_uint64 int uint : bool
_<=_ less_equals_int64_double int double : bool
_<=_ less_equals_uint64 uint uint : bool
_<=_ less_equals_uint64_int64 uint int : bool
_<=_ less_equals_uint64_double uint double : bool
_<=_ less_equals_double double double : bool
_<=_ less_equals_double_int64 double int : bool
_<=_ less_equals_double_uint64 double uint : bool
_<=_ less_equals_string string string : bool
_<=_ less_equals_bytes bytes bytes : bool
_<=_ less_equals_timestamp timestamp timestamp : bool
_<=_ less_equals_duration duration duration : bool
_>_ greater_bool bool bool : bool
_>_ greater_int64 int int : bool
_>_ greater_int64_uint64 int uint : bool
_>_ greater_int64_double int double : bool
_>_ greater_uint64 uint uint : bool
_>_ greater_uint64_int64 uint int : bool
_>_ greater_uint64_double uint double : bool
_>_ greater_double double double : bool
_>_ greater_double_int64 double int : bool
_>_ greater_double_uint64 double uint : bool
_>_ greater_string string string : bool
_>_ greater_bytes bytes bytes : bool
_>_ greater_timestamp timestamp timestamp : bool
_>_ greater_duration duration duration : bool
_>=_ greater_equals_bool bool bool : bool
_>=_ greater_equals_int64 int int : bool
_>=_ greater_equals_int64_uint64 int uint : bool
_>=_ greater_equals_int64_double int double : bool
_>=_ greater_equals_uint64 uint uint : bool
_>=_ greater_equals_uint64_int64 uint int : bool
_>=_ greater_equals_uint64_double uint double : bool
_>=_ greater_equals_double double double : bool
_>=_ greater_equals_double_int64 double int : bool
_>=_ greater_equals_double_uint64 double uint : bool
_>=_ greater_equals_string string string : bool
_>=_ greater_equals_bytes bytes bytes : bool
_>=_ greater_equals_timestamp timestamp timestamp : bool
_>=_ greater_equals_duration duration duration : bool
@in in_list A list<A> : bool
@in in_map A map<A,B> : bool
_[_] index_list list<A> int : A
_[_] index_map map<A,B> A : B
_[_] optional_list_index optional<list<A>> int : optional<A>
_[_] optional_map_index optional<map<A,B>> A : optional<B>
_[?_] list_optindex list<A> int : optional<A>
_[?_] optional_list_optindex optional<list<A>> int : optional<A>
_[?_] map_optindex map<A,B> A : optional<B>
_[?_] optional_map_optindex optional<map<A,B>> A : optional<B>
size size_string string : int
size size_bytes bytes : int
size size_list list<A> : int
size size_map map<A,B> : int
size string_size string . : int
size bytes_size bytes . : int
size list_size list<A> . : int
size map_size map<A,B> . : int
type type A : type<A>
dyn to_dyn A : dyn
bool bool_to_bool bool : bool
bool string_to_bool string : bool
int int64_to_int64 int : int
int uint64_to_int64 uint : int
int double_to_int64 double : int
int string_to_int64 string : int
int timestamp_to_int64 timestamp : int
int duration_to_int64 duration : int
uint uint64_to_uint64 uint : uint
uint int64_to_uint64 int : uint
uint double_to_uint64 double : uint
uint string_to_uint64 string : uint
double double_to_double double : double
double int64_to_double int : double
double uint64_to_double uint : double
double string_to_double string : double
string string_to_string string : string
string bool_to_string bool : string
string int64_to_string int : string
string uint64_to_string uint : string
string double_to_string double : string
string bytes_to_string bytes : string
string timestamp_to_string timestamp : string
string duration_to_string duration : string
string ip_to_string ip : string
string cidr_to_string cidr : string
bytes bytes_to_bytes bytes : bytes
bytes string_to_bytes string : bytes
";

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("!_", [Value::Bool(value)]) => Ok(Value::Bool(!value)),
        ("-_", [Value::Int(value)]) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        ("-_", [Value::Double(value)]) => Ok(Value::Double(-value)),
        ("_==_" | "_!=_", [Value::Asking(_) | Value::Ruling(_), _]) => Err(Error::overload()),
        ("_==_" | "_!=_", [left, right]) if left.insists() && !left.is_like(right) => {
            Err(Error::overload())
        }
        ("_==_", [left, right]) => Ok(Value::Bool(left.equals(right, budget)?)),
        ("_!=_", [left, right]) => Ok(Value::Bool(!left.equals(right, budget)?)),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => compare(name, left, right),
        ("@in", [item, Value::List(list)]) => {
            for other in list.iter() {
                if item.equals(&other, budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("@in", [key, Value::Map(map)]) => {
            let found = Key::of(key).and_then(|key| map.get(&key));
            Ok(Value::Bool(found.is_some()))
        }
        ("_[_]", [Value::Optional(Some(inner)), index]) => optional_index(inner, index),
        ("_[?_]", [Value::Optional(Some(inner)), index]) => optional_index(inner, index),
        ("_[_]" | "_[?_]", [Value::Optional(None), _]) => Ok(Value::Optional(None)),
        ("_[_]", [range, index]) => at(range, index),
        ("_[?_]", [range, index]) => optional_index(range, index),
        ("size", [Value::String(text)]) => Ok(count(text.as_str().chars().count())),
        ("size", [Value::Bytes(bytes)]) => Ok(count(bytes.len())),
        ("size", [Value::List(list)]) => Ok(count(list.len())),
        ("size", [Value::Map(map)]) => Ok(count(map.len())),
        ("type", [value]) => Ok(Value::Type(value.type_name().into())),
        ("dyn", [value]) => Ok(value.clone()),
        ("bool" | "int" | "uint" | "double" | "string" | "bytes", [value]) => convert(name, value),
        (_, [left, right]) => arithmetic(name, left, right, budget),
        _ => Err(Error::overload()),
    }
}

fn overflow() -> Error {
    Error::new("integer overflow")
}

pub(crate) fn count<'a>(count: usize) -> Value<'a> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The order of two values that have one.
pub(crate) fn order(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => Some(left.as_str().cmp(right.as_str())),
        (Value::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
        (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
        _ => left.compare_numbers(right),
    }
}

fn compare<'a>(name: &str, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    let is_number =
        |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    let unordered = |value: &Value<'_>| matches!(value, Value::Double(one) if one.is_nan());
    if unordered(left) || (is_number(left) && unordered(right)) {
        return Err(Error::new("NaN values cannot be ordered"));
    }
    let order = order(left, right).ok_or_else(Error::overload)?;
    Ok(Value::Bool(match name {
        "_<_" => order.is_lt(),
        "_<=_" => order.is_le(),
        "_>_" => order.is_gt(),
        _ => order.is_ge(),
    }))
}

fn optional_index<'a>(range: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
    let found = match (range, index) {
        (Value::Map(map), key) => Key::of(key).and_then(|key| map.get(&key)),
        (Value::List(list), index) => position(index)?.and_then(|index| list.get(index)),
        // Nothing else has elements.
        _ => None,
    };
    Ok(Value::Optional(found.map(std::sync::Arc::new)))
}

fn position(index: &Value<'_>) -> Result<Option<usize>> {
    match index {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => Ok(match Key::of(index) {
            Some(Key::Int(index)) => usize::try_from(index).ok(),
            _ => None,
        }),
        other => Err(not_in_list(other.type_name())),
    }
}

pub(crate) fn not_in_list(type_name: &str) -> Error {
    Error::new(format!("unsupported index type '{type_name}' in list"))
}

fn at<'a>(range: &Value<'a>, index: &Value<'a>) -> Result<Value<'a>> {
    match optional_index(range, index)? {
        Value::Optional(Some(found)) => Ok((*found).clone()),
        _ => Err(Error::new(match range {
            Value::List(_) => format!("index out of bounds: {}", shown(index)),
            _ => format!("no such key: {}", shown(index)),
        })),
    }
}

/// A value within an error text.
pub(crate) fn shown(value: &Value<'_>) -> String {
    match convert("string", value) {
        Ok(Value::String(text)) => text.as_str().to_owned(),
        _ => value.type_name().to_owned(),
    }
}

fn arithmetic<'a>(
    name: &str,
    left: &Value<'a>,
    right: &Value<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>> {
    match (name, left, right) {
        ("_+_", Value::String(left), Value::String(right)) => {
            Ok(format!("{}{}", left.as_str(), right.as_str()).into())
        }
        ("_+_", Value::Bytes(left), Value::Bytes(right)) => {
            Ok(Value::Bytes([&left[..], &right[..]].concat().into()))
        }
        ("_+_", Value::List(left), Value::List(right)) => left.joined(right, budget),
        ("_/_" | "_%_", Value::Int(_), Value::Int(0))
        | ("_/_" | "_%_", Value::Uint(_), Value::Uint(0)) => Err(Error::new(if name == "_/_" {
            "division by zero"
        } else {
            "modulus by zero"
        })),
        (_, Value::Int(left), Value::Int(right)) => {
            let result = match name {
                "_+_" => left.checked_add(*right),
                "_-_" => left.checked_sub(*right),
                "_*_" => left.checked_mul(*right),
                "_/_" => left.checked_div(*right),
                "_%_" => left.checked_rem(*right),
                _ => return Err(Error::overload()),
            };
            result.map(Value::Int).ok_or_else(overflow)
        }
        (_, Value::Uint(left), Value::Uint(right)) => {
            let result = match name {
                "_+_" => left.checked_add(*right),
                "_-_" => left.checked_sub(*right),
                "_*_" => left.checked_mul(*right),
                "_/_" => left.checked_div(*right),
                "_%_" => left.checked_rem(*right),
                _ => return Err(Error::overload()),
            };
            let text = "unsigned integer overflow";
            result.map(Value::Uint).ok_or_else(|| Error::new(text))
        }
        (_, Value::Double(left), Value::Double(right)) => Ok(Value::Double(match name {
            "_+_" => left + right,
            "_-_" => left - right,
            "_*_" => left * right,
            "_/_" => left / right,
            _ => return Err(Error::overload()),
        })),
        _ => time::arithmetic(name, left, right),
    }
}

fn convert<'a>(to: &str, value: &Value<'a>) -> Result<Value<'a>> {
    let failed = || {
        Error::new(format!(
            "type conversion error from '{}' to '{to}'",
            value.type_name()
        ))
    };
    let range = || {
        Error::new(if to == "int" {
            "integer overflow"
        } else {
            "unsigned integer overflow"
        })
    };
    match (to, value) {
        ("bool", Value::Bool(_))
        | ("int", Value::Int(_))
        | ("uint", Value::Uint(_))
        | ("double", Value::Double(_))
        | ("string", Value::String(_))
        | ("bytes", Value::Bytes(_)) => Ok(value.clone()),
        ("bool", Value::String(text)) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(failed()),
        },
        ("int", Value::Uint(number)) => i64::try_from(*number).map(Value::Int).map_err(|_| range()),
        ("int", Value::Double(number)) => {
            // Doubles next to the ends of the range lie outside of it.
            if number.abs() < 9_223_372_036_854_775_807.0 {
                Ok(Value::Int(*number as i64))
            } else {
                Err(range())
            }
        }
        ("int", Value::String(text)) => text.as_str().parse().map(Value::Int).map_err(|_| failed()),
        ("int", Value::Timestamp(time)) => Ok(Value::Int(time.second())),
        ("int", Value::Duration(nanos)) => Ok(Value::Int(*nanos)),
        ("uint", Value::Int(number)) => {
            u64::try_from(*number).map(Value::Uint).map_err(|_| range())
        }
        ("uint", Value::Double(number)) => {
            if (0.0..1.844_674_407_370_955e19).contains(number) {
                Ok(Value::Uint(*number as u64))
            } else {
                Err(range())
            }
        }
        ("uint", Value::String(text)) => match text.as_str() {
            text if text.starts_with('+') => Err(failed()),
            text => text.parse().map(Value::Uint).map_err(|_| failed()),
        },
        ("double", Value::Int(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::Uint(number)) => Ok(Value::Double(*number as f64)),
        ("double", Value::String(text)) => match text.as_str().parse::<f64>() {
            // A number of digits is not infinite.
            Ok(number)
                if number.is_infinite()
                    && text.as_str().contains(|one: char| one.is_ascii_digit()) =>
            {
                Err(failed())
            }
            Ok(number) => Ok(Value::Double(number)),
            Err(_) => Err(failed()),
        },
        ("string", Value::Bool(value)) => Ok(value.to_string().into()),
        ("string", Value::Int(number)) => Ok(number.to_string().into()),
        ("string", Value::Uint(number)) => Ok(number.to_string().into()),
        ("string", Value::Double(number)) => Ok(strings::double(*number).into()),
        ("string", Value::Bytes(bytes)) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.into()),
            Err(_) => Err(Error::new(
                "invalid UTF-8 in bytes, cannot convert to string",
            )),
        },
        ("string", Value::Timestamp(time)) => Ok(time.to_string().into()),
        ("string", Value::Duration(nanos)) => Ok(time::duration_shown(*nanos).into()),
        ("string", Value::Ip(address)) => Ok(address.to_string().into()),
        ("string", Value::Cidr(address, bits)) => Ok(format!("{address}/{bits}").into()),
        ("bytes", Value::String(text)) => Ok(Value::Bytes(text.as_str().as_bytes().into())),
        _ => Err(Error::overload()),
    }
}
