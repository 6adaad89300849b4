//! What steps cost when they are taken. The numbers are those of cel-go and of the
//! libraries of Kubernetes, since limits are part of what users see; where those count
//! less than the work that is done here, the work counts.

use crate::{
    budget::traversal,
    syntax::FoldKind,
    value::{Map, Value},
};

/// Making a list.
pub(crate) const LIST: u64 = 10;

/// Making a map.
pub(crate) const MAP: u64 = 30;

/// Making an object of a named type.
pub(crate) const MADE: u64 = 40;

/// `optMap` beyond its target and body: asking whether there is a value, taking it, and
/// wrapping the result.
pub(crate) const OPT_MAP: u64 = 13;

/// A fold before its first element: the empty result, and reading it at the end.
pub(crate) fn fold_start(kind: FoldKind) -> u64 {
    match kind {
        FoldKind::All | FoldKind::Exists => 1,
        FoldKind::ExistsOne => 2,
        FoldKind::List | FoldKind::SortBy => 1 + LIST,
        FoldKind::Map | FoldKind::MapEntry => 1 + MAP,
    }
}

/// One element of a fold beyond filter and body.
pub(crate) fn fold_step(kind: FoldKind) -> u64 {
    match kind {
        FoldKind::All => 3,
        FoldKind::Exists => 4,
        FoldKind::ExistsOne => 2,
        FoldKind::List => 2 + LIST,
        // Sorting compares an element with a logarithm of the others.
        FoldKind::SortBy => 20 + LIST,
        FoldKind::Map => 3,
        FoldKind::MapEntry => 2,
    }
}

/// Reading a value from JSON. Bytes are decoded then, and a long text may be looked at
/// to see whether it is what its format says.
pub(crate) fn reached(value: &Value<'_>) -> u64 {
    match value {
        Value::Bytes(_) => traversal(value.size()),
        Value::String(_) => value.size() / 1000,
        Value::Optional(Some(inner)) => reached(inner),
        _ => 0,
    }
}

/// Listing the entries of a map.
pub(crate) fn entries(map: &Map<'_>) -> u64 {
    crate::budget::size(map.len()) / 4
}

/// Ordering values, each of which is compared with a logarithm of the others.
pub(crate) fn sorting(values: &[(Value<'_>, Value<'_>)]) -> u64 {
    let all = values
        .iter()
        .fold(0_u64, |sum, (by, _)| sum.saturating_add(by.size()));
    let rounds = u64::from(values.len().checked_ilog2().unwrap_or(0)) + 1;
    (all / 10).saturating_mul(rounds)
}

/// A call, without its arguments.
pub(crate) fn call(name: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    match name {
        "startsWith" | "endsWith" => traversal(size(1)),
        "@in" => match args.get(1) {
            Some(Value::List(list)) => crate::budget::size(list.len()),
            _ => 1 + size(0) / 100,
        },
        "_[_]" | "_[?_]" => match args.get(1) {
            Some(Value::String(_)) => 1 + size(1) / 100,
            _ => 1,
        },
        "getScheme" | "getHost" | "getHostname" | "getPort" | "getEscapedPath" | "getQuery" => {
            1 + size(0) / 10
        }
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" => traversal(size(0).min(size(1))),
        "_+_" => match args.first() {
            Some(Value::String(_) | Value::Bytes(_)) => traversal(size(0) + size(1)),
            _ => 1,
        },
        "contains" => traversal(size(0)).saturating_mul(traversal(size(1))),
        // The pattern's part is known once it is compiled.
        "matches" | "find" | "findAll" => 1,
        "isSorted" | "sum" | "min" | "max" | "indexOf" | "lastIndexOf" | "distinct" | "sort"
        | "reverse" | "slice" => match args.first() {
            Some(Value::List(list)) => list
                .iter()
                .fold(1, |sum: u64, item| sum.saturating_add(item.size())),
            _ => traversal(size(0)).saturating_mul(traversal(size(1)).max(1)),
        },
        "flatten" => 1 + size(0),
        "url"
        | "isURL"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "ip"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver"
        | "string"
        | "bytes"
        | "strings.quote"
        | "jsonpatch.escapeKey"
        | "charAt"
        | "int"
        | "uint"
        | "double"
        | "duration"
        | "timestamp"
        | "bool"
        | "format" => traversal(size(0)).max(1),
        "ip.isCanonical" | "replace" | "split" | "cidr.isCanonical" => {
            traversal(size(0).saturating_mul(2)).max(1)
        }
        "size" => match args.first() {
            // Characters are counted, where cel-go counts once for all.
            Some(Value::String(_)) => (size(0) / 100).max(1),
            _ => 1,
        },
        // A question to an authorizer may take long: an expression has two of them.
        "check" => 350_000,
        "join" => 1 + size(0),
        "containsIP" => traversal(size(0) * 2) + traversal(size(1)),
        "containsCIDR" => traversal(size(0) * 3) + 1 + traversal(size(1)),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).max(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).max(1),
        "validate" => traversal(size(1)).saturating_mul(16).max(1),
        _ => 1,
    }
}
