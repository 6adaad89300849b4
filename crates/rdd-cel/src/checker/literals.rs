//! What is judged once every type is known: constant arguments, and lists, maps and
//! templates that are written out.

use std::sync::Arc;

use super::{Node, NodeKind};
use crate::{
    budget::Budget,
    functions::Function,
    infer::{Inference, closed},
    library::{regex::Pattern, template},
    source::Problem,
    syntax::{Expr, ExprKind, Literal},
    types::Type,
    value::Value,
};

/// What it costs at most to see whether a constant is a duration or a time.
const BUDGET: u64 = 1000;

/// Something to judge.
#[derive(Clone)]
pub(super) enum Literals {
    /// A constant where a pattern, a duration or a time is wanted.
    Argument {
        at: usize,
        function: &'static Function,
        value: Literal,
    },
    /// The elements of a list.
    List(Vec<(usize, Type)>),
    /// The keys and the values of a map.
    Map(Vec<(usize, Type)>, Vec<(usize, Type)>),
    /// A call of `format`.
    Format {
        at: usize,
        template: Arc<str>,
        args: Vec<Arg>,
    },
}

/// An argument of `format`, with what is written inside of it.
#[derive(Clone)]
pub(super) struct Arg {
    at: usize,
    r#type: Type,
    parts: Vec<Arg>,
}

impl Arg {
    pub(super) fn of(expr: &Expr, node: &Node) -> Self {
        let parts = match (&expr.kind, &node.kind) {
            (ExprKind::List(exprs), NodeKind::List(nodes)) => exprs
                .iter()
                .zip(nodes)
                .map(|((expr, _), (node, _))| Self::of(expr, node))
                .collect(),
            (ExprKind::Map(entries), NodeKind::Map(nodes)) => entries
                .iter()
                .zip(nodes)
                .flat_map(|(entry, (key, value, _))| {
                    [Self::of(&entry.key, key), Self::of(&entry.value, value)]
                })
                .collect(),
            _ => Vec::new(),
        };
        Self {
            at: expr.at,
            r#type: node.r#type.clone(),
            parts,
        }
    }

    /// The first part that `%s` cannot print.
    fn unprintable(&self, inference: &Inference) -> Option<(usize, Type)> {
        let r#type = closed(&inference.resolve(&self.r#type));
        if matches!(
            r#type,
            Type::Object(_) | Type::Made(_) | Type::Optional(_) | Type::Opaque(_)
        ) {
            return Some((self.at, r#type));
        }
        self.parts
            .iter()
            .find_map(|part| part.unprintable(inference))
    }
}

/// Adds what is wrong.
pub(super) fn judge(literals: &Literals, inference: &Inference, problems: &mut Vec<Problem>) {
    match literals {
        Literals::Argument {
            at,
            function,
            value,
        } => {
            let fine = match value {
                Literal::String(text) if function.name == "matches" => {
                    Pattern::compile(text).is_ok()
                }
                value => {
                    let mut budget = Budget::new(BUDGET);
                    function
                        .call(&[Value::of_literal(value)], &mut budget)
                        .is_ok()
                }
            };
            if !fine {
                problems.push(Problem {
                    at: *at,
                    text: format!("invalid {} argument", function.name),
                });
            }
        }
        Literals::List(items) => same(items, true, inference, problems),
        Literals::Map(keys, values) => {
            same(keys, false, inference, problems);
            same(values, false, inference, problems);
        }
        Literals::Format { at, template, args } => {
            problems.extend(format(*at, template, args, inference));
        }
    }
}

/// All elements must have the type of the first.
fn same(items: &[(usize, Type)], once: bool, inference: &Inference, problems: &mut Vec<Problem>) {
    let mut types = items
        .iter()
        .map(|(at, given)| (at, closed(&inference.resolve(given))));
    let Some((_, first)) = types.next() else {
        return;
    };
    for (at, given) in types {
        if given == first {
            continue;
        }
        problems.push(Problem {
            at: *at,
            text: format!("expected type '{first}' but found '{given}'"),
        });
        if once {
            return;
        }
    }
}

fn format(at: usize, template: &str, args: &[Arg], inference: &Inference) -> Option<Problem> {
    let problem = |at: usize, text: String| Some(Problem { at, text });
    let mut used = 0;
    for piece in template::Pieces::new(template) {
        let clause = match piece {
            Ok(template::Piece::Text(_)) => continue,
            Ok(template::Piece::End) => {
                return problem(at, "unexpected end of string".to_owned());
            }
            Ok(template::Piece::Clause(clause)) => Ok(clause),
            Err(text) => Err(text),
        };
        let Some(arg) = args.get(used) else {
            return problem(at, format!("index {used} out of range"));
        };
        used += 1;
        let clause = match clause {
            Ok(clause) => clause,
            Err(text) => return problem(at, text),
        };
        let wrong = if clause.kind == 's' {
            arg.unprintable(inference)
        } else {
            let r#type = closed(&inference.resolve(&arg.r#type));
            (!template::takes(clause.kind, &r#type)).then_some((arg.at, r#type))
        };
        if let Some((at, r#type)) = wrong {
            let name = match &r#type {
                Type::List(_) => "list".to_owned(),
                Type::Map(..) => "map".to_owned(),
                Type::Optional(_) => "optional_type".to_owned(),
                Type::Type(_) => "type".to_owned(),
                other => other.name(),
            };
            return problem(at, template::refusal(clause.kind, &name));
        }
    }
    if args.len() > used {
        let given = args.len();
        return problem(
            at,
            format!("too many arguments supplied to string.format (expected {used}, got {given})"),
        );
    }
    None
}
