//! Lists: the Kubernetes library, cel-go's extension, and sets.

use std::{cmp::Ordering, sync::Arc};

use crate::{
    budget::{Budget, Error, Result, size},
    library::standard::{count, order},
    value::{List, Value},
};

pub(crate) const DECLARATIONS: &str = "
isSorted list_int_is_sorted_bool list<int> . : bool
isSorted list_uint_is_sorted_bool list<uint> . : bool
isSorted list_double_is_sorted_bool list<double> . : bool
isSorted list_bool_is_sorted_bool list<bool> . : bool
isSorted list_string_is_sorted_bool list<string> . : bool
isSorted list_bytes_is_sorted_bool list<bytes> . : bool
isSorted list_timestamp_is_sorted_bool list<timestamp> . : bool
isSorted list_duration_is_sorted_bool list<duration> . : bool
sum list_int_sum_int list<int> . : int
sum list_uint_sum_uint list<uint> . : uint
sum list_double_sum_double list<double> . : double
sum list_duration_sum_duration list<duration> . : duration
min list_int_min_int list<int> . : int
min list_uint_min_uint list<uint> . : uint
min list_double_min_double list<double> . : double
min list_bool_min_bool list<bool> . : bool
min list_string_min_string list<string> . : string
min list_bytes_min_bytes list<bytes> . : bytes
min list_timestamp_min_timestamp list<timestamp> . : timestamp
min list_duration_min_duration list<duration> . : duration
max list_int_max_int list<int> . : int
max list_uint_max_uint list<uint> . : uint
max list_double_max_double list<double> . : double
max list_bool_max_bool list<bool> . : bool
max list_string_max_string list<string> . : string
max list_bytes_max_bytes list<bytes> . : bytes
max list_timestamp_max_timestamp list<timestamp> . : timestamp
max list_duration_max_duration list<duration> . : duration
indexOf list_a_indexOf_int list<A> . A : int
lastIndexOf list_a_lastIndexOf_int list<A> . A : int
sort list_int_sort list<int> . : list<int>
sort list_uint_sort list<uint> . : list<uint>
sort list_double_sort list<double> . : list<double>
sort list_bool_sort list<bool> . : list<bool>
sort list_string_sort list<string> . : list<string>
sort list_bytes_sort list<bytes> . : list<bytes>
sort list_timestamp_sort list<timestamp> . : list<timestamp>
sort list_duration_sort list<duration> . : list<duration>
distinct list_distinct list<A> . : list<A>
reverse list_reverse list<A> . : list<A>
slice list_slice list<A> . int int : list<A>
flatten list_flatten list<list<A>> . : list<A>
flatten list_flatten_int list<dyn> . int : list<dyn>
first list_first list<A> . : optional<A>
last list_last list<A> . : optional<A>
lists.range lists_range int : list<int>
sets.contains list_sets_contains_list list<A> list<A> : bool
sets.equivalent list_sets_equivalent_list list<A> list<A> : bool
sets.intersects list_sets_intersects_list list<A> list<A> : bool
";

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("sets.contains", [Value::List(list), Value::List(wanted)]) => {
            Ok(Value::Bool(includes(list, wanted, budget)?))
        }
        ("sets.equivalent", [Value::List(left), Value::List(right)]) => Ok(Value::Bool(
            includes(left, right, budget)? && includes(right, left, budget)?,
        )),
        ("sets.intersects", [Value::List(left), Value::List(right)]) => {
            for item in right.iter() {
                if position(left, &item, budget)?.is_some() {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        ("lists.range", [Value::Int(end)]) => {
            let end = (*end).max(0);
            budget.spend(end.unsigned_abs())?;
            Ok((0..end).map(Value::Int).collect::<Vec<_>>().into())
        }
        (_, [Value::List(list), rest @ ..]) => of_list(name, list, rest, budget),
        _ => Err(Error::overload()),
    }
}

fn of_list<'a>(
    name: &str,
    list: &List<'a>,
    rest: &[Value<'a>],
    budget: &mut Budget,
) -> Result<Value<'a>> {
    match (name, rest) {
        ("isSorted" | "min" | "max", [])
            if list.get(0).is_some_and(|first| !is_comparable(&first)) =>
        {
            Err(Error::overload())
        }
        ("isSorted", []) => {
            for index in 1..list.len() {
                if let (Some(left), Some(right)) = (list.get(index - 1), list.get(index))
                    && order(&left, &right).ok_or_else(Error::overload)?.is_gt()
                {
                    return Ok(Value::Bool(false));
                }
            }
            Ok(Value::Bool(true))
        }
        ("sum", []) => sum(list),
        ("min" | "max", []) => {
            let wanted = if name == "min" {
                Ordering::Less
            } else {
                Ordering::Greater
            };
            let mut best: Option<Value<'a>> = None;
            for item in list.iter() {
                let better = match &best {
                    None => true,
                    Some(best) => order(&item, best).ok_or_else(Error::overload)? == wanted,
                };
                if better {
                    best = Some(item);
                }
            }
            best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
        }
        ("indexOf", [item]) => Ok(position(list, item, budget)?.map_or(Value::Int(-1), count)),
        ("lastIndexOf", [item]) => {
            for index in (0..list.len()).rev() {
                if let Some(other) = list.get(index)
                    && item.equals(&other, budget)?
                {
                    return Ok(count(index));
                }
            }
            Ok(Value::Int(-1))
        }
        ("sort", []) => {
            let items: Vec<(Value<'a>, Value<'a>)> =
                list.iter().map(|item| (item.clone(), item)).collect();
            budget.spend(size(items.len()).saturating_mul(20))?;
            Ok(sorted(items)?.into())
        }
        ("distinct", []) => {
            let mut found: Vec<Value<'a>> = Vec::new();
            for item in list.iter() {
                budget.spend(1 + size(found.len()) / 10)?;
                let mut is_new = true;
                for other in &found {
                    if item.equals(other, budget)? {
                        is_new = false;
                        break;
                    }
                }
                if is_new {
                    found.push(item);
                }
            }
            Ok(found.into())
        }
        ("reverse", []) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            items.reverse();
            Ok(items.into())
        }
        ("slice", [Value::Int(start), Value::Int(end)]) => slice(list, *start, *end),
        ("flatten", []) => flatten(list, 1, budget),
        ("flatten", [Value::Int(levels)]) => match usize::try_from(*levels) {
            Ok(levels) => flatten(list, levels, budget),
            Err(_) => Err(Error::new("level must be non-negative")),
        },
        ("first", []) => Ok(Value::Optional(list.get(0).map(Arc::new))),
        ("last", []) => {
            let last = list.len().checked_sub(1).and_then(|last| list.get(last));
            Ok(Value::Optional(last.map(Arc::new)))
        }
        _ => Err(Error::overload()),
    }
}

/// The second of each pair, in the order of the first.
pub(crate) fn sorted<'a>(mut pairs: Vec<(Value<'a>, Value<'a>)>) -> Result<Vec<Value<'a>>> {
    if let Some((first, _)) = pairs.first() {
        if !is_comparable(first) {
            return Err(Error::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(by, _)| !by.is_like(first)) {
            return Err(Error::new("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(left, _), (right, _)| order(left, right).unwrap_or(Ordering::Equal));
    Ok(pairs.into_iter().map(|(_, item)| item).collect())
}

fn is_comparable(value: &Value<'_>) -> bool {
    order(value, value).is_some() || matches!(value, Value::Double(_))
}

fn position<'a>(list: &List<'a>, item: &Value<'a>, budget: &mut Budget) -> Result<Option<usize>> {
    for (index, other) in list.iter().enumerate() {
        if item.equals(&other, budget)? {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn includes<'a>(list: &List<'a>, wanted: &List<'a>, budget: &mut Budget) -> Result<bool> {
    for item in wanted.iter() {
        if position(list, &item, budget)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sum<'a>(list: &List<'a>) -> Result<Value<'a>> {
    let overflow = || Error::new("integer overflow");
    let mut sum: Option<Value<'a>> = None;
    for item in list.iter() {
        sum = Some(match (sum, item) {
            (
                None,
                item @ (Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)),
            ) => item,
            (Some(Value::Int(sum)), Value::Int(item)) => {
                Value::Int(sum.checked_add(item).ok_or_else(overflow)?)
            }
            (Some(Value::Uint(sum)), Value::Uint(item)) => {
                Value::Uint(sum.checked_add(item).ok_or_else(overflow)?)
            }
            (Some(Value::Double(sum)), Value::Double(item)) => Value::Double(sum + item),
            (Some(Value::Duration(sum)), Value::Duration(item)) => {
                Value::Duration(sum.checked_add(item).ok_or_else(overflow)?)
            }
            _ => return Err(Error::overload()),
        });
    }
    Ok(sum.unwrap_or(Value::Int(0)))
}

fn slice<'a>(list: &List<'a>, start: i64, end: i64) -> Result<Value<'a>> {
    let (Ok(from), Ok(to)) = (usize::try_from(start), usize::try_from(end)) else {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), negative indexes not supported"
        )));
    };
    if from > to {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    if to > list.len() {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), list is length {}",
            list.len()
        )));
    }
    let items: Vec<Value<'a>> = (from..to).filter_map(|index| list.get(index)).collect();
    Ok(items.into())
}

fn flatten<'a>(list: &List<'a>, levels: usize, budget: &mut Budget) -> Result<Value<'a>> {
    let mut flat: Vec<Value<'a>> = list.iter().collect();
    for _ in 0..levels {
        if !flat.iter().any(|item| matches!(item, Value::List(_))) {
            break;
        }
        let mut next = Vec::new();
        for item in flat {
            budget.spend(1)?;
            match item {
                Value::List(inner) => {
                    budget.spend(size(inner.len()))?;
                    next.extend(inner.iter());
                }
                other => next.push(other),
            }
        }
        flat = next;
    }
    Ok(flat.into())
}
