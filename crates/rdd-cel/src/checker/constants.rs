//! Conversions of constants, which are made when an expression is compiled.

use std::collections::BTreeMap;

use super::{Node, NodeKind};
use crate::{
    budget::{Budget, Error, Result},
    library::regex::Pattern,
    value::{Key, Value},
};

/// Looks for a conversion of a constant or for a constant pattern that fails. The answer
/// is the value of the node, if that is known.
///
/// # Errors
/// The first failure.
pub(crate) fn convert(node: &Node) -> Result<Option<Value<'static>>> {
    match &node.kind {
        NodeKind::Literal(literal) => Ok(Some(Value::of_literal(literal))),
        NodeKind::Type(name) if super::made::is_made(name) => {
            Err(Error::new(format!("reference to undefined type: {name}")))
        }
        NodeKind::Type(name) => Ok(Some(Value::Type(name.clone()))),
        NodeKind::Variable(_) | NodeKind::Local(_) => Ok(None),
        NodeKind::Select { operand, .. } => convert(operand).map(|_| None),
        NodeKind::And(nodes) | NodeKind::Or(nodes) => all(nodes.iter()).map(|_| None),
        NodeKind::Condition(nodes) => all(nodes.iter()).map(|_| None),
        NodeKind::List(items) => {
            let values = all(items.iter().map(|(item, _)| item))?;
            let is_plain = items.iter().all(|(_, optional)| !optional);
            Ok(values.filter(|_| is_plain).map(Value::from))
        }
        NodeKind::Map(entries) => {
            let keys = all(entries.iter().map(|(key, _, _)| key))?;
            let values = all(entries.iter().map(|(_, value, _)| value))?;
            let is_plain = entries.iter().all(|(_, _, optional)| !optional);
            let Some((keys, values)) = keys.zip(values).filter(|_| is_plain) else {
                return Ok(None);
            };
            let pairs: Option<BTreeMap<Key, Value<'static>>> = keys
                .iter()
                .zip(values)
                .map(|(key, value)| Some((Key::of(key)?, value)))
                .collect();
            Ok(pairs.map(Value::from))
        }
        NodeKind::Made(made) => all(made.fields.iter().map(|(_, one, _)| one)).map(|_| None),
        NodeKind::Fold(fold) => {
            convert(&fold.range)?;
            if let Some(filter) = &fold.filter {
                convert(filter)?;
            }
            convert(&fold.body).map(|_| None)
        }
        NodeKind::OptMap(inner) => {
            convert(&inner.target)?;
            convert(&inner.body).map(|_| None)
        }
        NodeKind::Call { function, args, .. } => {
            let mut values = Vec::with_capacity(args.len());
            for arg in args {
                values.push(convert(arg)?);
            }
            match (function.name, values.as_slice()) {
                (
                    "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string"
                    | "timestamp" | "type" | "uint",
                    [Some(value)],
                ) => {
                    let mut budget = Budget::new(Budget::PER_EXPRESSION);
                    let value = function.call(std::slice::from_ref(value), &mut budget);
                    match value {
                        // What is too large is left to the evaluation.
                        Err(Error::Budget) => Ok(None),
                        value => value.map(Some),
                    }
                }
                ("matches" | "find" | "findAll", [_, Some(Value::String(text)), ..]) => {
                    Pattern::compile(text.as_str()).map(|_| None)
                }
                _ => Ok(None),
            }
        }
    }
}

/// The values of all nodes, if all are known.
fn all<'n>(nodes: impl Iterator<Item = &'n Node>) -> Result<Option<Vec<Value<'static>>>> {
    let mut values = Some(Vec::new());
    for node in nodes {
        match (convert(node)?, &mut values) {
            (Some(value), Some(values)) => values.push(value),
            _ => values = None,
        }
    }
    Ok(values)
}
