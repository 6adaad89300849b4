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

/// Where a value comes from, as far as sizes go.
#[derive(Clone, Default)]
enum Path {
    /// From nowhere: it was made.
    #[default]
    Made,
    /// From a schema, if that says something about the place.
    In(Option<Arc<Declared>>),
}

/// What is known about the value of a node.
#[derive(Clone, Default)]
struct Known {
    /// What the node itself says.
    size: Option<Size>,
    path: Path,
    /// Sizes of keys and values.
    entries: Option<Entries>,
    /// What a variable of a macro says where neither schema nor type do.
    fallback: Option<Size>,
}

#[derive(Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Size,
    value: Size,
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

fn both(left: Option<Entries>, right: Option<Entries>) -> Option<Entries> {
    Some(left?.union(right?))
}

impl Known {
    fn sized(size: Size) -> Self {
        Self {
            size: Some(size),
            ..Self::default()
        }
    }

    /// The size of the value of a node of that type.
    fn of(&self, r#type: &Type) -> Option<Size> {
        let by_schema = || match &self.path {
            Path::In(Some(declared)) => Some(Size {
                min: 0,
                max: declared.elements_max,
            }),
            _ => None,
        };
        self.size
            .or_else(by_schema)
            .or_else(|| is_scalar(r#type).then_some(fixed(1)))
            .or(self.fallback)
    }
}

/// Estimates a whole expression.
pub(crate) fn estimate(node: &Node, root: Option<&Arc<Declared>>) -> Cost {
    let mut estimator = Estimator {
        root,
        locals: Vec::new(),
    };
    estimator.node(node).0
}

struct Estimator<'a> {
    /// What the schema says about `self`. Kubernetes looks every path up below it, also
    /// those that begin with something that was made.
    root: Option<&'a Arc<Declared>>,
    locals: Vec<Known>,
}

fn is_scalar(r#type: &Type) -> bool {
    match r#type {
        Type::Bool | Type::Double | Type::Duration | Type::Int | Type::Timestamp | Type::Uint => {
            true
        }
        Type::Optional(inner) => is_scalar(inner),
        _ => false,
    }
}

impl Estimator<'_> {
    fn root(&self) -> Path {
        Path::In(self.root.cloned())
    }

    fn below(&self, path: &Path, step: impl FnOnce(&Declared) -> Option<&Arc<Declared>>) -> Path {
        match path {
            Path::Made => self.root(),
            Path::In(declared) => Path::In(declared.as_deref().and_then(step).cloned()),
        }
    }

    fn node(&mut self, node: &Node) -> (Cost, Known) {
        match &node.kind {
            NodeKind::Literal(literal) => {
                let size = match literal {
                    Literal::String(text) => text.chars().count(),
                    Literal::Bytes(bytes) => bytes.len(),
                    _ => 1,
                };
                (NONE, Known::sized(fixed(crate::budget::size(size))))
            }
            NodeKind::Type(_) | NodeKind::Variable(..) => {
                let path = self.root();
                (
                    fixed(1),
                    Known {
                        path,
                        ..Known::default()
                    },
                )
            }
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
                let size = |known: &Known, node: &Node| known.of(&node.r#type).unwrap_or(UNKNOWN);
                let known = Known {
                    size: Some(size(&first, &nodes[1]).union(size(&second, &nodes[2]))),
                    entries: both(first.entries, second.entries),
                    ..Known::default()
                };
                (condition.add(yes.union(no)), known)
            }
            NodeKind::List(items) => {
                let mut cost = fixed(charge::LIST);
                let mut element = Seen::default();
                for (item, _) in items {
                    let (one, known) = self.node(item);
                    cost = cost.add(one);
                    element.see(&known, item);
                }
                let known = Known {
                    size: Some(fixed(crate::budget::size(items.len()))),
                    entries: Some(Entries {
                        is_list: true,
                        key: fixed(1),
                        value: element.size(),
                    }),
                    ..Known::default()
                };
                (cost, known)
            }
            NodeKind::Map(entries) => {
                let mut cost = fixed(charge::MAP);
                let (mut keys, mut values) = (Seen::default(), Seen::default());
                for (key, value, _) in entries {
                    let (one, known) = self.node(key);
                    keys.see(&known, key);
                    let (other, known) = self.node(value);
                    values.see(&known, value);
                    cost = cost.add(one).add(other);
                }
                let known = Known {
                    size: Some(fixed(crate::budget::size(entries.len()))),
                    entries: Some(Entries {
                        is_list: false,
                        key: keys.size(),
                        value: values.size(),
                    }),
                    ..Known::default()
                };
                (cost, known)
            }
            NodeKind::Made(made) => {
                let mut cost = fixed(charge::MADE);
                for (_, value, _) in &made.fields {
                    cost = cost.add(self.node(value).0);
                }
                (cost, Known::default())
            }
            NodeKind::Fold(fold) => self.fold(fold),
            NodeKind::OptMap(inner) => {
                // It is evaluated twice: whether there is a value, and which.
                let (target, _) = self.node(&inner.target);
                let value = target;
                self.locals.push(Known::default());
                let (body, _) = self.node(&inner.body);
                self.locals.pop();
                // The value is bound to the variable, and the result wrapped again.
                let wrapped = fixed(u64::from(!inner.flat));
                let yes = fixed(charge::LIST + 1).add(value).add(body).add(wrapped);
                let cost = target.add(fixed(1)).add(yes.union(fixed(1)));
                let size = if is_scalar(&node.r#type) {
                    fixed(1)
                } else {
                    UNKNOWN
                };
                (cost, Known::sized(size))
            }
            NodeKind::Call {
                function,
                member,
                overloads,
                args,
                ..
            } => self.call(&node.r#type, function.name, *member, overloads, args),
        }
    }

    fn select(&mut self, operand: &Node, field: &str, how: Access) -> (Cost, Known) {
        let (cost, known) = self.node(operand);
        match how {
            Access::Test => return (cost, Known::default()),
            // A call like others, about which nothing is known.
            Access::Optional => return (cost.add(fixed(1)), Known::default()),
            Access::Read => {}
        }
        let counts = matches!(operand.r#type, Type::Map(..) | Type::Object(_));
        let cost = if counts { cost.add(fixed(1)) } else { cost };
        let path = self.below(&known.path, |declared| match &declared.r#type {
            Type::Object(object) => object
                .fields
                .values()
                .find(|one| one.name == field)
                .map(|field| &field.declared),
            _ => None,
        });
        let known = Known {
            path,
            ..Known::default()
        };
        (cost, known)
    }

    /// A key of the range that a macro walks over.
    fn key_of(&self, range: &Known, is_list: bool) -> Known {
        Known {
            path: self.below(&range.path, |declared| {
                declared.key.as_ref().filter(|_| !is_list)
            }),
            fallback: range.entries.map(|entries| entries.key),
            ..Known::default()
        }
    }

    fn value_of(&self, range: &Known) -> Known {
        Known {
            path: self.below(&range.path, |declared| declared.item.as_ref()),
            fallback: range.entries.map(|entries| entries.value),
            ..Known::default()
        }
    }

    fn fold(&mut self, fold: &FoldNode) -> (Cost, Known) {
        let (range, mut known) = self.node(&fold.range);
        let count = known.of(&fold.range.r#type).unwrap_or(UNKNOWN);
        if fold.kind == FoldKind::SortBy {
            // The range is bound to a variable first.
            known.fallback = known.of(&fold.range.r#type);
            known.size = None;
        }
        let is_list = known
            .entries
            .map_or(matches!(fold.range.r#type, Type::List(_)), |entries| {
                entries.is_list
            });
        let depth = self.locals.len();
        if fold.pairs {
            self.locals.push(self.key_of(&known, is_list));
            self.locals.push(self.value_of(&known));
        } else if is_list {
            self.locals.push(self.value_of(&known));
        } else {
            self.locals.push(self.key_of(&known, is_list));
        }
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
            FoldKind::List | FoldKind::SortBy => body.add(fixed(2 + charge::LIST)),
            FoldKind::Map => body.add(fixed(3)),
            FoldKind::MapEntry => body.add(fixed(2)),
        };
        if let Some(filter) = filter {
            step = filter.add(fixed(1).union(step));
        }
        let start = fixed(charge::fold_start(fold.kind));
        let cost = range.add(start).add(count.multiply(step));
        let mut made = Known::default();
        match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => made.size = Some(fixed(1)),
            FoldKind::List => {
                let inner = body_known.of(&fold.body.r#type).unwrap_or(UNKNOWN);
                made.size = Some(count);
                made.entries = Some(Entries {
                    is_list: true,
                    key: fixed(1),
                    value: inner.union(NONE),
                });
            }
            FoldKind::Map | FoldKind::MapEntry => made.size = Some(count),
            FoldKind::SortBy => {
                let texts = match &fold.body.r#type {
                    Type::String | Type::Bytes | Type::Dyn | Type::Error => 2.0 + TRAVERSAL,
                    _ => 2.0,
                };
                let (sorting, size) = allocating(texts, count.multiply(count));
                // Binding, and naming the variable twice.
                let cost = cost.add(fixed(charge::LIST + 2)).add(sorting);
                return (cost, Known::sized(size));
            }
        }
        (cost, made)
    }

    fn call(
        &mut self,
        r#type: &Type,
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
        if let ("dyn", [inner], [arg]) = (name, known.as_slice(), args) {
            let known = Known {
                size: inner.of(&arg.r#type),
                entries: inner.entries,
                ..Known::default()
            };
            return (sum.add(fixed(1)), known);
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
            let (one, size) = call.one(overload);
            cost = Some(cost.map_or(one, |cost| cost.union(one)));
            if let Some(size) = size {
                result.size = Some(result.size.map_or(size, |before| before.union(size)));
            }
            let range = known.first();
            match (overload.id, range) {
                ("index_list" | "index_map", Some(range)) => {
                    result.size = range.entries.map(|entries| entries.value);
                    result.path = self.below(&range.path, |declared| declared.item.as_ref());
                }
                ("add_string" | "add_bytes" | "add_list", _) => {
                    if let [left, right] = known.as_slice() {
                        result.entries = both(left.entries, right.entries).or(result.entries);
                    }
                }
                _ => {}
            }
            if result.size.is_none() {
                result.size = result.of(r#type);
            }
        }
        (sum.add(cost.unwrap_or(NONE)), result)
    }
}

/// The sizes of elements so far.
#[derive(Default)]
struct Seen(Option<Size>);

impl Seen {
    fn see(&mut self, known: &Known, node: &Node) {
        let size = known.of(&node.r#type).unwrap_or(UNKNOWN);
        self.0 = Some(self.0.map_or(size, |before| before.union(size)));
    }

    fn size(&self) -> Size {
        self.0.unwrap_or(NONE)
    }
}

/// A call that makes a list of that size, by so much work for each item.
fn allocating(factor: f64, size: Size) -> (Cost, Size) {
    (
        size.factor(factor).add(fixed(1)).add(fixed(charge::LIST)),
        size,
    )
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
            (Some(known), Some(node)) => known.of(&node.r#type).unwrap_or(UNKNOWN),
            _ => UNKNOWN,
        }
    }

    /// The first parameter of the receiver's type, and the size of such values where the
    /// schema says it.
    fn element(&self) -> Option<(Size, &Type)> {
        let (known, node) = (self.known.first()?, self.args.first()?);
        let item = match &node.r#type {
            Type::List(item) | Type::Optional(item) => item,
            Type::Map(key, _) => key,
            _ => return None,
        };
        let declared = match &known.path {
            Path::In(Some(declared)) => declared.item.as_ref(),
            _ => None,
        };
        let size = declared.map_or(UNKNOWN, |declared| Size {
            min: 0,
            max: declared.elements_max,
        });
        Some((size, item))
    }

    /// A constant argument that is a number.
    fn constant(&self, index: usize) -> Option<u64> {
        match self.args.get(index).map(|arg| &arg.kind) {
            Some(NodeKind::Literal(Literal::Int(value))) => {
                Some(u64::try_from(*value).unwrap_or(0))
            }
            _ => None,
        }
    }

    /// The cost of one overload and the size of its result, where that is known.
    fn one(&self, overload: &Overload) -> (Cost, Option<Size>) {
        let id = overload.id;
        let target = self.size(0);
        let once = |size: Size| size.factor(TRAVERSAL);
        let pattern = || {
            let text = once(target.add(fixed(1)));
            text.multiply(self.size(1).factor(PATTERN))
        };
        match self.name {
            "check" => (fixed(350_000), None),
            "fieldSelector" | "labelSelector" => {
                // A requirement takes two characters, and makes a list and an object.
                let text = self.size(1);
                let requirements = text.factor(0.5).factor(50.0);
                (fixed(charge::LIST).add(once(text)).add(requirements), None)
            }
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" if self.member => {
                let cost = match self.element() {
                    Some((size, Type::String | Type::Bytes)) => {
                        target.multiply(fixed(1).add(once(size)))
                    }
                    Some(_) => target,
                    None => once(target),
                };
                (cost, None)
            }
            "url" | "jsonpatch.escapeKey" => (once(target), Some(target)),
            "quantity" | "isQuantity" | "semver" | "isSemver" | "cidr" | "isIP" | "isCIDR" => {
                (once(target), None)
            }
            "ip" if id != "cidr_ip" => (once(target), None),
            "ip.isCanonical" => (target.factor(2.0 * TRAVERSAL), None),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => (once(target), Some(target)),
            "replace" => (
                target.factor(2.0 * TRAVERSAL),
                Some(replaced(target, self.size(1), self.size(2))),
            ),
            "split" => {
                let limit = match self.args.get(2).map(|arg| &arg.kind) {
                    // As Go converts it: a negative limit is very large.
                    Some(NodeKind::Literal(Literal::Int(limit))) => Some(limit.cast_unsigned()),
                    _ => None,
                };
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
            "validate" => (once(self.size(1)).factor(128.0 * PATTERN), None),
            "sets.contains" | "sets.intersects" => {
                (target.multiply(self.size(1)).add(fixed(1)), None)
            }
            "sets.equivalent" => (
                target.multiply(self.size(1)).factor(2.0).add(fixed(1)),
                None,
            ),
            "_==_" => self.equality(),
            _ => self.standard(overload, target),
        }
    }

    /// Equality of two values of one type of a library; the general case else.
    fn equality(&self) -> (Cost, Option<Size>) {
        let [left, right] = self.args else {
            return (fixed(1), None);
        };
        if let (Type::Opaque(name), true) = (&left.r#type, left.r#type == right.r#type) {
            let cost = match *name {
                "kubernetes.NamedFormat" => Cost { min: 1, max: 64 }.factor(TRAVERSAL),
                "kubernetes.URL" => {
                    let size = self.known.get(1).and_then(|known| known.of(&right.r#type));
                    Cost {
                        min: 1,
                        max: size.map_or(1, |size| size.max),
                    }
                    .factor(TRAVERSAL)
                }
                _ => fixed(1),
            };
            return (cost, None);
        }
        (self.compared(), None)
    }

    fn compared(&self) -> Cost {
        let max = self.size(0).max.min(self.size(1).max);
        let min = u64::from(max > 0);
        Cost { min, max }.factor(TRAVERSAL)
    }

    fn standard(&self, overload: &Overload, target: Size) -> (Cost, Option<Size>) {
        let once = |size: Size| size.factor(TRAVERSAL);
        let made = |factor: f64, size: Size| {
            let (cost, size) = allocating(factor, size);
            (cost, Some(size))
        };
        match overload.id {
            "string_format" => (once(target), None),
            "string_to_bytes" => {
                let size = Size {
                    min: target.min,
                    max: target.max.wrapping_mul(4),
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
            "strings_quote" => {
                let size = Size {
                    min: target.min.wrapping_add(2),
                    max: target.max.wrapping_mul(2).wrapping_add(2),
                };
                (once(target), Some(size))
            }
            "starts_with_string" | "ends_with_string" => (once(self.size(1)), None),
            "contains_string" => (once(target).multiply(once(self.size(1))), None),
            "matches_string" => {
                let text = once(target.add(fixed(1)));
                (text.multiply(self.size(1).factor(PATTERN)), None)
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
            | "not_equals" => (self.compared(), None),
            "list_slice" => {
                let start = self.constant(1).unwrap_or(0);
                let end = self.constant(2).unwrap_or(target.max);
                made(1.0, fixed(end.wrapping_sub(start)))
            }
            "list_flatten" => made(1.0, target),
            "list_flatten_int" => made(
                self.constant(1)
                    .map_or(u64::MAX as f64, |depth| depth as f64),
                target,
            ),
            "lists_range" => made(1.0, fixed(self.constant(0).unwrap_or(u64::MAX))),
            "list_reverse" => made(1.0, target),
            "list_distinct" => made(2.0, target.multiply(target)),
            "list_string_sort" | "list_bytes_sort" => {
                made(2.0 + TRAVERSAL, target.multiply(target))
            }
            id if id.ends_with("_sort") => made(2.0, target.multiply(target)),
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
