//! What steps cost when they are taken. The numbers are those of cel-go and of the
//! libraries of Kubernetes, since limits are part of what users see; where those count
//! less than the work that is done here, the work counts.

use crate::{budget::traversal, syntax::FoldKind, value::Value};

/// Making a list.
pub(crate) const LIST: u64 = 10;

/// Making a map.
pub(crate) const MAP: u64 = 30;

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

/// A call, without its arguments.
pub(crate) fn call(name: &str, args: &[Value<'_>]) -> u64 {
    let size = |index: usize| args.get(index).map_or(0, Value::size);
    match name {
        "startsWith" | "endsWith" => traversal(size(1)),
        "@in" => match args.get(1) {
            Some(Value::List(list)) => crate::budget::size(list.len()),
            _ => 1,
        },
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
        "url" | "isURL" | "lowerAscii" | "upperAscii" | "substring" | "trim" | "cidr" | "isIP"
        | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver" | "isSemver" | "string"
        | "bytes" | "strings.quote" | "charAt" | "int" | "uint" | "double" | "duration"
        | "timestamp" | "bool" | "format" => traversal(size(0)).max(1),
        "ip.isCanonical" | "replace" | "split" | "cidr.isCanonical" => {
            traversal(size(0).saturating_mul(2)).max(1)
        }
        "size" => match args.first() {
            // Characters are counted, where cel-go counts once for all.
            Some(Value::String(_)) => (size(0) / 100).max(1),
            _ => 1,
        },
        "join" => 1 + size(0),
        "containsIP" => traversal(size(0) * 2) + traversal(size(1)),
        "containsCIDR" => traversal(size(0) * 3) + 1 + traversal(size(1)),
        "sets.contains" | "sets.intersects" => size(0).saturating_mul(size(1)).max(1),
        "sets.equivalent" => size(0).saturating_mul(size(1)).saturating_mul(2).max(1),
        "validate" => traversal(size(1)).saturating_mul(16).max(1),
        _ => 1,
    }
}
