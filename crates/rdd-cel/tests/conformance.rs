//! The conformance cases of CEL's specification, kept as data: an expression, what its
//! variables are, and what it gives. What does not apply is listed with its reason, and
//! nothing that is listed may hold, or fail in another way.

use std::collections::{BTreeMap, BTreeSet};

use rdd_cel::{Bindings, Budget, Environment, Key, Type, Value};
use serde_json::Value as Json;

const CASES: &str = include_str!("conformance/cases.jsonl");

/// The cases that do not hold, one by one.
const EXCEPTIONS: &str = include_str!("conformance/exceptions.txt");

/// How many there are at most: what holds leaves the list, and nothing joins it.
const LISTED_MAX: usize = 985;

/// How many cases hold at least.
const HELD_MIN: usize = 1470;

fn number<T: std::str::FromStr>(json: &Json) -> T {
    let text = json.as_str().expect("numbers are kept as text");
    text.parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

fn bytes(json: &Json) -> Vec<u8> {
    let digits = json.as_str().expect("bytes are kept in hex");
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex"))
        .collect()
}

/// A value as it is kept; none for what only protocol buffers have.
fn value(json: &Json) -> Option<Value<'static>> {
    let (kind, inner) = json.as_object()?.iter().next()?;
    Some(match kind.as_str() {
        "null" => Value::Null,
        "bool" => Value::Bool(inner.as_bool()?),
        "int" => Value::Int(number(inner)),
        "uint" => Value::Uint(number(inner)),
        "double" => Value::Double(number(inner)),
        "string" => inner.as_str()?.to_owned().into(),
        "bytes" => Value::Bytes(bytes(inner).into()),
        "type" => Value::Type(inner.as_str()?.into()),
        "duration" => {
            let (seconds, nanos): (i64, i64) = (number(&inner[0]), number(&inner[1]));
            Value::Duration(seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?)
        }
        "list" => {
            let items: Option<Vec<Value<'static>>> = inner.as_array()?.iter().map(value).collect();
            items?.into()
        }
        "map" => {
            let pair = |pair: &Json| Some((key(&value(&pair[0])?)?, value(&pair[1])?));
            let entries: Option<BTreeMap<Key, Value<'static>>> =
                inner.as_array()?.iter().map(pair).collect();
            entries?.into()
        }
        _ => return None,
    })
}

fn key(value: &Value<'_>) -> Option<Key> {
    Some(match value {
        Value::Bool(value) => Key::Bool(*value),
        Value::Int(value) => Key::Int(*value),
        Value::Uint(value) => i64::try_from(*value).map_or(Key::Uint(*value), Key::Int),
        Value::String(text) => text.as_str().into(),
        _ => return None,
    })
}

fn is(found: &Value<'_>, wanted: &Json) -> bool {
    let Some((kind, inner)) = wanted.as_object().and_then(|one| one.iter().next()) else {
        return false;
    };
    match (kind.as_str(), found) {
        ("list", Value::List(list)) => {
            let items = inner.as_array().expect("a list");
            list.len() == items.len() && list.iter().zip(items).all(|(one, item)| is(&one, item))
        }
        ("map", Value::Map(map)) => {
            let pairs = inner.as_array().expect("a map");
            map.len() == pairs.len()
                && pairs.iter().all(|pair| {
                    let name = value(&pair[0]).as_ref().and_then(key);
                    name.and_then(|name| map.get(&name))
                        .is_some_and(|found| is(&found, &pair[1]))
                })
        }
        ("timestamp", Value::Timestamp(time)) => {
            let expression = format!("int(timestamp('{time}'))");
            let program = Environment::new().compile(&expression).expect("a time");
            let seconds = program.evaluate(&Bindings::new(), &mut Budget::new(1000));
            matches!(seconds, Ok(Value::Int(seconds)) if seconds == number::<i64>(&inner[0]))
        }
        ("duration", Value::Duration(nanos)) => {
            i128::from(*nanos)
                == i128::from(number::<i64>(&inner[0])) * 1_000_000_000
                    + i128::from(number::<i64>(&inner[1]))
        }
        ("double", Value::Double(found)) => {
            let wanted: f64 = number(inner);
            wanted.to_bits() == found.to_bits()
                || wanted == *found
                || (wanted.is_nan() && found.is_nan())
        }
        ("null", Value::Null) => true,
        ("bool", Value::Bool(found)) => inner == found,
        ("int", Value::Int(found)) => *found == number::<i64>(inner),
        ("uint", Value::Uint(found)) => *found == number::<u64>(inner),
        ("string", Value::String(found)) => inner == found.as_str(),
        ("bytes", Value::Bytes(found)) => **found == *bytes(inner),
        ("type", Value::Type(found)) => inner == &**found,
        _ => false,
    }
}

fn r#type(json: &Json) -> Type {
    match json {
        Json::Array(parts) if parts[0] == "list" => Type::list(r#type(&parts[1])),
        Json::Array(parts) => Type::Map(r#type(&parts[1]).into(), r#type(&parts[2]).into()),
        other => match other.as_str().unwrap_or_default() {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "null" => Type::Null,
            "timestamp" => Type::Timestamp,
            "duration" => Type::Duration,
            _ => Type::Dyn,
        },
    }
}

/// Why a case does not hold; none if it does.
fn run(case: &Json) -> Option<String> {
    let expression = case["expr"].as_str().expect("an expression");
    let mut environment = Environment::new();
    let members = |name: &str| case[name].as_object().into_iter().flatten();
    for (name, _) in members("bindings") {
        environment = environment.with(name, Type::Dyn);
    }
    for (name, of) in members("types") {
        environment = environment.with(name, r#type(of));
    }
    let mut bindings = Bindings::new();
    for (name, bound) in members("bindings") {
        match value(bound) {
            Some(bound) => bindings = bindings.with(name, bound),
            None => return Some("binds a message".to_owned()),
        }
    }
    let fails = case["error"] == true;
    let program = match environment.compile(expression) {
        Err(_) if fails => return None,
        Err(error) => return Some(format!("is not taken: {error}")),
        Ok(program) if program.failure().is_some() && fails => return None,
        Ok(program) => program,
    };
    if case["check_only"] == true {
        return None;
    }
    match program.evaluate(&bindings, &mut Budget::new(Budget::PER_OBJECT)) {
        Err(_) if fails => None,
        Err(error) => Some(format!("fails: {error}")),
        Ok(found) if fails => Some(format!("does not fail but gives {found:?}")),
        Ok(found) if is(&found, &case["value"]) => None,
        Ok(found) => Some(format!("gives {found:?}, not {}", case["value"])),
    }
}

/// One case that does not hold here.
struct Exception<'a> {
    /// What of Kubernetes stands against it: a heading of the list.
    reason: &'a str,
    /// What happens instead.
    outcome: &'a str,
}

/// The list: headings with `#`, and below each the cases as `name | outcome`.
fn exceptions() -> BTreeMap<&'static str, Exception<'static>> {
    let mut reason = "";
    let mut listed = BTreeMap::new();
    for line in EXCEPTIONS.lines().filter(|line| !line.is_empty()) {
        if let Some(heading) = line.strip_prefix("# ") {
            reason = heading;
            continue;
        }
        let (name, outcome) = line.split_once(" | ").expect("a name and an outcome");
        assert!(!name.contains('*'), "{name}: cases are listed one by one");
        assert!(!reason.is_empty() && !outcome.is_empty(), "{name}: why?");
        let before = listed.insert(name, Exception { reason, outcome });
        assert!(before.is_none(), "{name} is listed twice");
    }
    listed
}

#[test]
fn the_specification_holds_but_for_what_is_listed() {
    let listed = exceptions();
    // Some names stand for several cases.
    let mut unused: BTreeSet<&str> = listed.keys().copied().collect();
    assert!(
        listed.len() <= LISTED_MAX,
        "the list only shrinks: {}",
        listed.len()
    );
    let (mut held, mut wrong) = (0, Vec::new());
    for line in CASES.lines() {
        let case: Json = serde_json::from_str(line).expect("a case");
        let name = case["name"].as_str().expect("a name").replace(' ', "~");
        unused.remove(name.as_str());
        match (run(&case), listed.get(name.as_str())) {
            (None, None) => held += 1,
            (None, Some(_)) => wrong.push(format!("{name} holds and must leave the list")),
            (Some(why), Some(Exception { reason, outcome })) if !why.contains(outcome) => {
                wrong.push(format!("{name} ({reason}): {why}, not {outcome}"));
            }
            (Some(_), Some(_)) => {}
            (Some(why), None) => wrong.push(format!("{name}: {}: {why}", case["expr"])),
        }
    }
    assert!(unused.is_empty(), "no cases: {unused:?}");
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(held >= HELD_MIN, "only {held} cases hold");
}
