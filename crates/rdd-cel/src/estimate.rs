//! What an expression costs at most, before it ever runs. This follows the estimates of
//! cel-go and of the libraries of Kubernetes number by number: they decide which rules a
//! CustomResourceDefinition may hold.

use std::sync::Arc;

use crate::{
    charge,
    checker::{FoldNode, Node, NodeKind},
    functions::Overload,
    syntax::{Access, FoldKind, Literal},
    types::{Declared, Type},
};

/// From the least to the most; of a cost or of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) min: u64,
    pub(crate) max: u64,
}

type Size = Cost;

const UNKNOWN: Size = Size {
    min: 0,
    max: u64::MAX,
};

const NONE: Cost = fixed(0);

/// Going through a text costs this much per character.
const TRAVERSAL: f64 = 0.1;

/// A character of a pattern counts as a quarter of an expression.
const PATTERN: f64 = 0.25;

const fn fixed(count: u64) -> Cost {
    Cost {
        min: count,
        max: count,
    }
}

impl Cost {
    fn add(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    fn multiply(self, other: Self) -> Self {
        Self {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn factor(self, factor: f64) -> Self {
        // Casts of floats saturate, which is what is wanted.
        let scale = |count: u64| (count as f64 * factor).ceil() as u64;
        Self {
            min: scale(self.min),
            max: scale(self.max),
        }
    }
}

/// What is known about the value of a node.
#[derive(Clone, Default)]
struct Known {
    size: Option<Size>,
    /// Sizes of keys and values.
    entries: Option<(Size, Size)>,
    /// What the schema says.
    declared: Option<Arc<Declared>>,
}

/// Estimates a whole expression.
pub(crate) fn estimate(node: &Node) -> Cost {
    Estimator { locals: Vec::new() }.node(node).0
}

struct Estimator {
    locals: Vec<Known>,
}

fn is_scalar(r#type: &Type) -> bool {
    match r#type {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        // Types are names, and values of libraries take a few bytes.
        Type::Type(_) | Type::Opaque(_) => true,
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

/// The size of a value of a type: what is known, then what the schema says.
fn sized(known: &Known, r#type: &Type) -> Option<Size> {
    if known.size.is_some() && known.declared.is_none() {
        return known.size;
    }
    if let Some(declared) = &known.declared {
        return Some(Size {
            min: 0,
            max: declared.elements_max,
        });
    }
    is_scalar(r#type).then_some(fixed(1))
}

impl Estimator {
    fn node(&mut self, node: &Node) -> (Cost, Known) {
        match &node.kind {
            NodeKind::Literal(literal) => {
                let size = match literal {
                    Literal::String(text) => text.chars().count(),
                    Literal::Bytes(bytes) => bytes.len(),
                    _ => 1,
                };
                let size = Some(fixed(crate::budget::size(size)));
                (
                    NONE,
                    Known {
                        size,
                        ..Known::default()
                    },
                )
            }
            NodeKind::Type(_) => (fixed(1), Known::default()),
            NodeKind::Variable(_, declared) => (
                fixed(1),
                Known {
                    declared: declared.clone(),
                    ..Known::default()
                },
            ),
            NodeKind::Local(index) => {
                let known = self.locals.get(*index).cloned().unwrap_or_default();
                (fixed(1), known)
            }
            NodeKind::Select {
                operand,
                field,
                how,
            } => self.select(operand, field, *how),
            NodeKind::And(nodes) | NodeKind::Or(nodes) => {
                let (left, _) = self.node(&nodes[0]);
                let (right, _) = self.node(&nodes[1]);
                let cost = Cost {
                    min: left.min,
                    max: left.add(right).max,
                };
                (cost, Known::default())
            }
            NodeKind::Condition(nodes) => {
                let (condition, _) = self.node(&nodes[0]);
                let (yes, first) = self.node(&nodes[1]);
                let (no, second) = self.node(&nodes[2]);
                let size =
                    |known: &Known, node: &Node| sized(known, &node.r#type).unwrap_or(UNKNOWN);
                let known = Known {
                    size: Some(size(&first, &nodes[1]).union(size(&second, &nodes[2]))),
                    entries: both(first.entries, second.entries),
                    declared: None,
                };
                (condition.add(yes.union(no)), known)
            }
            NodeKind::List(items) => {
                let mut cost = fixed(charge::LIST);
                let mut element = (!items.is_empty()).then_some(Size {
                    min: u64::MAX,
                    max: 0,
                });
                for (item, _) in items {
                    let (one, known) = self.node(item);
                    cost = cost.add(one);
                    let size = sized(&known, &item.r#type).unwrap_or(UNKNOWN);
                    element = element.map(|element| element.union(size));
                }
                let known = Known {
                    size: Some(fixed(crate::budget::size(items.len()))),
                    entries: Some((fixed(1), element.unwrap_or(NONE))),
                    declared: None,
                };
                (cost, known)
            }
            NodeKind::Map(entries) => {
                let mut cost = fixed(charge::MAP);
                for (key, value, _) in entries {
                    cost = cost.add(self.node(key).0).add(self.node(value).0);
                }
                let known = Known {
                    size: Some(fixed(crate::budget::size(entries.len()))),
                    ..Known::default()
                };
                (cost, known)
            }
            NodeKind::Fold(fold) => self.fold(fold),
            NodeKind::OptMap(inner) => {
                let (target, known) = self.node(&inner.target);
                self.locals.push(known);
                let (body, _) = self.node(&inner.body);
                self.locals.pop();
                let cost = Cost {
                    min: 1,
                    max: charge::OPT_MAP.saturating_add(body.max),
                };
                (target.add(cost), Known::default())
            }
            NodeKind::Call {
                function,
                member,
                overloads,
                args,
                ..
            } => self.call(node, function.name, *member, overloads, args),
        }
    }

    fn select(&mut self, operand: &Node, field: &str, how: Access) -> (Cost, Known) {
        let (cost, known) = self.node(operand);
        if how == Access::Test {
            return (cost, Known::default());
        }
        let counts = matches!(
            operand.r#type,
            Type::Map(..) | Type::Object(_) | Type::Param(_)
        ) || how == Access::Optional;
        let cost = if counts { cost.add(fixed(1)) } else { cost };
        let declared = known.declared.and_then(|declared| match &declared.r#type {
            Type::Object(object) => object
                .fields
                .values()
                .find(|one| one.name == field)
                .map(|field| Arc::clone(&field.declared)),
            Type::Map(..) if how == Access::Optional => declared.item.clone(),
            _ => None,
        });
        let known = Known {
            declared,
            ..Known::default()
        };
        (cost, known)
    }

    fn fold(&mut self, fold: &FoldNode) -> (Cost, Known) {
        let (range, known) = self.node(&fold.range);
        let count = sized(&known, &fold.range.r#type).unwrap_or(UNKNOWN);
        let is_list = matches!(fold.range.r#type, Type::List(_));
        let declared = known.declared.as_ref();
        let key = Known {
            size: known.entries.map(|(key, _)| key),
            declared: declared.and_then(|one| one.key.clone()),
            entries: None,
        };
        let value = Known {
            size: known.entries.map(|(_, value)| value),
            declared: declared.and_then(|one| one.item.clone()),
            entries: None,
        };
        let depth = self.locals.len();
        let element = if fold.pairs || is_list {
            value
        } else {
            key.clone()
        };
        if fold.pairs {
            self.locals.push(key);
        }
        self.locals.push(element.clone());
        let filter = fold.filter.as_ref().map(|filter| self.node(filter).0);
        let (body, body_known) = self.node(&fold.body);
        self.locals.truncate(depth);
        let mut step = match fold.kind {
            FoldKind::All => Cost {
                min: 3,
                max: body.max.saturating_add(3),
            },
            FoldKind::Exists => Cost {
                min: 4,
                max: body.max.saturating_add(4),
            },
            FoldKind::ExistsOne => body.add(Cost { min: 1, max: 2 }),
            kind => body.add(fixed(charge::fold_step(kind))),
        };
        if let Some(filter) = filter {
            step = filter.add(fixed(1).union(step));
        }
        let start = fixed(charge::fold_start(fold.kind));
        let cost = range.add(start).add(count.multiply(step));
        let collects = matches!(
            fold.kind,
            FoldKind::List | FoldKind::Map | FoldKind::MapEntry | FoldKind::SortBy
        );
        let size = if collects { count } else { fixed(1) };
        let inner = if fold.kind == FoldKind::SortBy {
            element
        } else {
            body_known
        };
        let inner = sized(&inner, &fold.body.r#type).unwrap_or(UNKNOWN);
        let known = Known {
            size: Some(size),
            entries: collects.then_some((fixed(1), inner)),
            declared: None,
        };
        (cost, known)
    }

    fn call(
        &mut self,
        node: &Node,
        name: &str,
        member: bool,
        overloads: &[&'static Overload],
        args: &[Node],
    ) -> (Cost, Known) {
        let mut sum = NONE;
        let mut known = Vec::with_capacity(args.len());
        for arg in args {
            let (cost, one) = self.node(arg);
            sum = sum.add(cost);
            known.push(one);
        }
        if name == "dyn" {
            let inner = known.into_iter().next().unwrap_or_default();
            return (sum.add(fixed(1)), inner);
        }
        let call = Call {
            name,
            member,
            args,
            known: &known,
        };
        let mut cost: Option<Cost> = None;
        let mut result = Known::default();
        for overload in overloads {
            let (one, size) = call.one(overload.id);
            cost = Some(cost.map_or(one, |cost| cost.union(one)));
            if let Some(size) = size {
                result.size = Some(result.size.map_or(size, |before| before.union(size)));
            }
        }
        if matches!(name, "_[_]" | "_[?_]")
            && let Some(range) = known.first()
        {
            result.declared = range.declared.as_ref().and_then(|one| one.item.clone());
            result.size = range.entries.map(|(_, value)| value);
        }
        if name == "_+_"
            && let [left, right] = known.as_slice()
        {
            result.entries = both(left.entries, right.entries);
        }
        if matches!(name, "orValue" | "value" | "or")
            && let Some(first) = known.first()
        {
            result.declared.clone_from(&first.declared);
        }
        if result.size.is_none() && result.declared.is_none() && is_scalar(&node.r#type) {
            result.size = Some(fixed(1));
        }
        (sum.add(cost.unwrap_or(NONE)), result)
    }
}

fn both(left: Option<(Size, Size)>, right: Option<(Size, Size)>) -> Option<(Size, Size)> {
    let (left, right) = (left?, right?);
    Some((left.0.union(right.0), left.1.union(right.1)))
}

/// A call whose arguments are estimated.
struct Call<'a> {
    name: &'a str,
    member: bool,
    args: &'a [Node],
    known: &'a [Known],
}

impl Call<'_> {
    fn size(&self, index: usize) -> Size {
        match (self.known.get(index), self.args.get(index)) {
            (Some(known), Some(node)) => sized(known, &node.r#type).unwrap_or(UNKNOWN),
            _ => UNKNOWN,
        }
    }

    /// The size of an element of the receiver, and its type.
    fn element(&self) -> Option<(Size, &Type)> {
        let (known, node) = (self.known.first()?, self.args.first()?);
        let Type::List(item) = &node.r#type else {
            return None;
        };
        let inner = Known {
            size: None,
            entries: None,
            declared: known.declared.as_ref().and_then(|one| one.item.clone()),
        };
        Some((sized(&inner, item).unwrap_or(UNKNOWN), item))
    }

    /// The cost of one overload and the size of its result, where that is known.
    fn one(&self, id: &str) -> (Cost, Option<Size>) {
        let target = self.size(0);
        let once = |size: Size| size.factor(TRAVERSAL);
        let pattern = || {
            let text = once(target.add(fixed(1)));
            text.multiply(self.size(1).factor(PATTERN))
        };
        match self.name {
            "check" => (fixed(350_000), None),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
                let cost = match self.element() {
                    Some((size, Type::String | Type::Bytes)) => {
                        target.multiply(fixed(1).add(once(size)))
                    }
                    Some(_) => target,
                    None => once(target),
                };
                (cost, None)
            }
            "url" | "quantity" | "isQuantity" | "semver" | "isSemver" => (once(target), None),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (once(target), Some(target)),
            "replace" => (
                target.factor(2.0 * TRAVERSAL),
                Some(replaced(target, self.size(1), self.size(2))),
            ),
            "split" => {
                let limit = self.args.get(2).and_then(|arg| match &arg.kind {
                    NodeKind::Literal(Literal::Int(limit)) => u64::try_from(*limit).ok(),
                    _ => None,
                });
                let size = Size {
                    min: 0,
                    max: limit.unwrap_or(target.max),
                };
                (target.factor(2.0 * TRAVERSAL), Some(size))
            }
            "join" => {
                let mut size = self
                    .element()
                    .map_or(NONE, |(element, _)| target.multiply(element));
                if self.args.len() > 1 {
                    let between = Size {
                        min: target.min.saturating_sub(1),
                        max: target.max.saturating_sub(1),
                    };
                    size = size.add(self.size(1).multiply(between));
                }
                (once(size), Some(size))
            }
            "find" | "findAll" => {
                let size = Size {
                    min: 0,
                    max: target.max,
                };
                (pattern(), Some(size))
            }
            "matches" => (pattern(), None),
            "contains" => (once(target).multiply(once(self.size(1))), None),
            "startsWith" | "endsWith" => (once(self.size(1)), None),
            "containsIP" | "containsCIDR" => {
                let address = Size { min: 4, max: 16 };
                let mut cost = once(address.add(address));
                if self.name == "containsCIDR" {
                    cost = cost.add(once(address)).add(fixed(1));
                }
                if id.ends_with("_string") {
                    cost = cost.add(once(self.size(1)));
                }
                (cost, None)
            }
            "format" if self.member => (once(target), Some(target.add(self.size(1)))),
            "strings.quote" => {
                let size = Size {
                    min: target.min.saturating_add(2),
                    max: target.max.saturating_mul(2).saturating_add(2),
                };
                (once(target), Some(size))
            }
            "validate" => (once(self.size(1)).multiply(fixed(16)), None),
            "sets.contains" | "sets.intersects" => {
                (target.multiply(self.size(1)).add(fixed(1)), None)
            }
            "sets.equivalent" => (
                target
                    .multiply(self.size(1))
                    .multiply(fixed(2))
                    .add(fixed(1)),
                None,
            ),
            "distinct" | "sort" | "reverse" | "slice" => (target.add(fixed(1)), Some(target)),
            "flatten" => (target.add(fixed(1)), None),
            _ => self.standard(id, target),
        }
    }

    fn standard(&self, id: &str, target: Size) -> (Cost, Option<Size>) {
        let once = |size: Size| size.factor(TRAVERSAL);
        match id {
            "string_to_bytes" => {
                let size = Size {
                    min: target.min,
                    max: target.max.saturating_mul(4),
                };
                (once(target), Some(size))
            }
            "bytes_to_string" => {
                let size = Size {
                    min: target.min / 4,
                    max: target.max,
                };
                (once(target), Some(size))
            }
            "in_list" => (self.size(1), None),
            "add_string" | "add_bytes" => {
                let size = target.add(self.size(1));
                (once(size), Some(size))
            }
            "add_list" => (fixed(1), Some(target.add(self.size(1)))),
            "less_string"
            | "less_equals_string"
            | "greater_string"
            | "greater_equals_string"
            | "less_bytes"
            | "less_equals_bytes"
            | "greater_bytes"
            | "greater_equals_bytes"
            | "equals"
            | "not_equals" => {
                let max = target.max.min(self.size(1).max);
                let min = u64::from(max > 0);
                (once(Cost { min, max }), None)
            }
            _ => (fixed(1), None),
        }
    }
}

/// The size of a text after replacing.
fn replaced(text: Size, from: Size, to: Size) -> Size {
    let ceil = |count: u64, parts: u64| (count as f64 / parts as f64).ceil() as u64;
    let mut count = Size { min: 0, max: 0 };
    let mut kept = Size { min: 0, max: 0 };
    if from.min == 0 {
        count.max = text.max.saturating_add(1);
        kept.max = text.max;
    } else if to.max <= from.min {
        kept.max = text.max;
    } else {
        count.max = ceil(text.max, from.min);
    }
    if from.max == 0 {
        count.min = text.min.saturating_add(1);
        kept.min = text.min;
    } else if from.max <= to.min {
        kept.min = text.min;
    } else {
        count.min = ceil(text.min, from.max);
    }
    count.multiply(to).add(kept)
}
