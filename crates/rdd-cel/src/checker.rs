//! From a tree to a typed tree in which every name is resolved.

use std::sync::Arc;

use crate::{
    environment::Environment,
    functions::{self, Function, Overload},
    infer::{Inference, instantiate},
    library::{regex::Pattern, time},
    source::Problem,
    syntax::{Access, Expr, ExprKind, Fold, FoldKind, Literal, OptMap},
    types::{Declared, Type},
};

/// A typed node.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) r#type: Type,
    pub(crate) kind: NodeKind,
}

#[derive(Clone)]
pub(crate) enum NodeKind {
    Literal(Literal),
    Type(Arc<str>),
    Variable(Arc<str>, Option<Arc<Declared>>),
    /// A variable of a macro, by its place on the stack of them.
    Local(usize),
    Select {
        operand: Box<Node>,
        /// The name in JSON.
        field: Arc<str>,
        how: Access,
    },
    Call {
        function: &'static Function,
        member: bool,
        overloads: Vec<&'static Overload>,
        /// The receiver first.
        args: Vec<Node>,
        /// The compiled pattern, where it is a constant.
        pattern: Option<Arc<Pattern>>,
    },
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Condition(Box<[Node; 3]>),
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Fold(Box<FoldNode>),
    OptMap(Box<OptMapNode>),
}

#[derive(Clone)]
pub(crate) struct FoldNode {
    pub(crate) kind: FoldKind,
    pub(crate) range: Node,
    /// Whether there are two variables.
    pub(crate) pairs: bool,
    pub(crate) filter: Option<Node>,
    pub(crate) body: Node,
}

#[derive(Clone)]
pub(crate) struct OptMapNode {
    pub(crate) target: Node,
    pub(crate) body: Node,
    pub(crate) flat: bool,
}

/// The typed tree, and every problem.
pub(crate) fn check(expr: &Expr, environment: &Environment) -> (Node, Vec<Problem>) {
    let mut checker = Checker {
        environment,
        inference: Inference::default(),
        locals: Vec::new(),
        problems: Vec::new(),
        mixed: false,
    };
    let node = checker.node(expr);
    (node, checker.problems)
}

struct Checker<'a> {
    environment: &'a Environment,
    inference: Inference,
    locals: Vec<(String, Type)>,
    problems: Vec<Problem>,
    /// Whether lists may hold values of several types: anywhere in what `format` gets.
    mixed: bool,
}

fn typed(r#type: Type, kind: NodeKind) -> Node {
    Node { r#type, kind }
}

fn nothing() -> Node {
    typed(Type::Error, NodeKind::Literal(Literal::Null))
}

impl Checker<'_> {
    fn problem(&mut self, at: usize, text: impl Into<String>) {
        self.problems.push(Problem {
            at,
            text: text.into(),
        });
    }

    fn undeclared(&mut self, at: usize, name: &str) -> Node {
        self.problem(
            at,
            format!("undeclared reference to '{name}' (in container '')"),
        );
        nothing()
    }

    fn node(&mut self, expr: &Expr) -> Node {
        match &expr.kind {
            ExprKind::Literal(literal) => {
                let r#type = match literal {
                    Literal::Null => Type::Null,
                    Literal::Bool(_) => Type::Bool,
                    Literal::Int(_) => Type::Int,
                    Literal::Uint(_) => Type::Uint,
                    Literal::Double(_) => Type::Double,
                    Literal::String(_) => Type::String,
                    Literal::Bytes(_) => Type::Bytes,
                };
                typed(r#type, NodeKind::Literal(literal.clone()))
            }
            ExprKind::Ident(name) => match self.named(name) {
                Some(node) => node,
                None => self.undeclared(expr.at, name),
            },
            ExprKind::Select {
                operand,
                field,
                how,
            } => self.select(expr, operand, field, *how),
            ExprKind::Call {
                function,
                target,
                args,
            } => self.call(expr.at, function, target.as_deref(), args),
            ExprKind::List(items) => self.list(items),
            ExprKind::Map(entries) => {
                let mut nodes = Vec::new();
                let (mut key, mut value) = (None, None);
                for entry in entries {
                    let (one, two) = (self.node(&entry.key), self.node(&entry.value));
                    key = self.joined(key, &one.r#type, entry.key.at);
                    let given = self.element(&two.r#type, entry.optional, entry.value.at);
                    value = self.joined(value, &given, entry.value.at);
                    nodes.push((one, two, entry.optional));
                }
                // Only simple values are keys. Types of keys must not grow: each may
                // hold all that its value holds.
                let key = key.map(|key| self.inference.resolve(&key));
                let key = match key {
                    None => Type::Param(self.inference.fresh()),
                    Some(Type::List(_) | Type::Map(..) | Type::Optional(_) | Type::Type(_)) => {
                        Type::Dyn
                    }
                    Some(key) => key,
                };
                let value = value.unwrap_or_else(|| Type::Param(self.inference.fresh()));
                typed(
                    Type::Map(Arc::new(key), Arc::new(value)),
                    NodeKind::Map(nodes),
                )
            }
            ExprKind::Fold(fold) => self.fold(expr.at, fold),
            ExprKind::OptMap(inner) => self.opt_map(expr.at, inner),
        }
    }

    /// A macro's variable, a declared variable or the name of a type.
    fn named(&mut self, name: &str) -> Option<Node> {
        let local = self.locals.iter().rposition(|(local, _)| local == name);
        if let Some(index) = local {
            let r#type = self.inference.resolve(&self.locals[index].1);
            return Some(typed(r#type, NodeKind::Local(index)));
        }
        if let Some((r#type, declared)) = self.environment.variable(name) {
            let kind = NodeKind::Variable(name.into(), declared.cloned());
            return Some(typed(r#type.clone(), kind));
        }
        let r#type = match name {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "uint" => Type::Uint,
            "double" => Type::Double,
            "string" => Type::String,
            "bytes" => Type::Bytes,
            "list" => Type::list(Type::Dyn),
            "map" => Type::Map(Arc::new(Type::Dyn), Arc::new(Type::Dyn)),
            "null_type" => Type::Null,
            "type" => Type::Type(Arc::new(Type::Dyn)),
            "google.protobuf.Timestamp" => Type::Timestamp,
            "google.protobuf.Duration" => Type::Duration,
            "optional_type" => Type::Optional(Arc::new(Type::Dyn)),
            "kubernetes.URL" => Type::Opaque("kubernetes.URL"),
            "net.IP" => Type::Opaque("net.IP"),
            "net.CIDR" => Type::Opaque("net.CIDR"),
            "kubernetes.Quantity" => Type::Opaque("kubernetes.Quantity"),
            "kubernetes.Semver" => Type::Opaque("kubernetes.Semver"),
            _ => return None,
        };
        Some(typed(
            Type::Type(Arc::new(r#type)),
            NodeKind::Type(name.into()),
        ))
    }

    /// `a.b.c`, unless `a` is a macro's variable.
    fn qualified(&self, expr: &Expr) -> Option<String> {
        match &expr.kind {
            ExprKind::Ident(name) => {
                let is_local = self.locals.iter().any(|(local, _)| local == name);
                (!is_local).then(|| name.clone())
            }
            ExprKind::Select {
                operand,
                field,
                how: Access::Read,
            } => Some(format!("{}.{field}", self.qualified(operand)?)),
            _ => None,
        }
    }

    fn select(&mut self, expr: &Expr, operand: &Expr, field: &str, how: Access) -> Node {
        // Names with dots are rare and short; longer chains are fields.
        if how == Access::Read
            && expr.depth <= 4
            && let Some(name) = self.qualified(expr)
            && let Some(node) = self.named(&name)
        {
            return node;
        }
        let operand = self.node(operand);
        let resolved = self.inference.resolve(&operand.r#type);
        let (holder, optional) = match resolved {
            Type::Optional(inner) => ((*inner).clone(), true),
            other => (other, false),
        };
        let mut name = field.to_owned();
        let found = match &holder {
            Type::Object(object) => match object.field(field) {
                Some(field) => {
                    name.clone_from(&field.name);
                    field.declared.r#type.clone()
                }
                None => {
                    self.problem(expr.at, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Map(key, value) => {
                let (key, value) = ((**key).clone(), (**value).clone());
                if self.inference.fits(&key, &Type::String) {
                    value
                } else {
                    self.problem(
                        expr.at,
                        format!("type '{holder}' does not support field selection"),
                    );
                    Type::Error
                }
            }
            Type::Dyn | Type::Param(_) => Type::Dyn,
            Type::Error => Type::Error,
            _ => {
                self.problem(
                    expr.at,
                    format!("type '{holder}' does not support field selection"),
                );
                Type::Error
            }
        };
        let r#type = match how {
            Access::Test => Type::Bool,
            Access::Optional => Type::Optional(Arc::new(found)),
            Access::Read if optional => Type::Optional(Arc::new(found)),
            Access::Read => found,
        };
        let kind = NodeKind::Select {
            operand: Box::new(operand),
            field: name.into(),
            how,
        };
        typed(r#type, kind)
    }

    /// The type of an element that is left out if it is an empty optional.
    fn element(&mut self, given: &Type, optional: bool, at: usize) -> Type {
        if !optional {
            return given.clone();
        }
        match self.inference.resolve(given) {
            Type::Optional(inner) => (*inner).clone(),
            other if other.is_dyn() => Type::Dyn,
            other => {
                self.problem(
                    at,
                    format!("expected type 'optional_type({other})' but found '{other}'"),
                );
                Type::Error
            }
        }
    }

    /// The type of several elements, which are of one type except for `format`.
    fn joined(&mut self, before: Option<Type>, next: &Type, at: usize) -> Option<Type> {
        let Some(before) = before else {
            return Some(next.clone());
        };
        let mark = self.inference.mark();
        if self.inference.fits(&before, next) {
            let dynamic = before.is_dyn() || next.is_dyn();
            return Some(if dynamic { Type::Dyn } else { before });
        }
        self.inference.back(mark);
        if !self.mixed {
            let (before, next) = (
                self.inference.resolve(&before),
                self.inference.resolve(next),
            );
            self.problem(at, format!("expected type '{before}' but found '{next}'"));
        }
        Some(Type::Dyn)
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Node {
        let mut nodes = Vec::new();
        let mut r#type = None;
        for (item, optional) in items {
            let node = self.node(item);
            let given = self.element(&node.r#type, *optional, item.at);
            r#type = self.joined(r#type, &given, item.at);
            nodes.push((node, *optional));
        }
        let r#type = r#type.unwrap_or_else(|| Type::Param(self.inference.fresh()));
        typed(Type::list(r#type), NodeKind::List(nodes))
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        if let Some(target) = target {
            // `ip.isCanonical` is one name unless `ip` is a variable.
            let whole = self
                .qualified(target)
                .filter(|prefix| self.environment.variable(prefix).is_none())
                .map(|prefix| format!("{prefix}.{name}"));
            if let Some(function) = whole.as_deref().and_then(functions::find) {
                return self.resolve(at, function, None, args);
            }
        }
        match functions::find(name) {
            Some(function) => self.resolve(at, function, target, args),
            None => {
                if let Some(target) = target {
                    self.node(target);
                }
                for arg in args {
                    self.node(arg);
                }
                self.undeclared(at, name)
            }
        }
    }

    fn resolve(
        &mut self,
        at: usize,
        function: &'static Function,
        target: Option<&Expr>,
        args: &[Expr],
    ) -> Node {
        let member = target.is_some();
        let mut nodes: Vec<Node> = target.map(|target| self.node(target)).into_iter().collect();
        let mixed = self.mixed;
        self.mixed |= function.name == "format";
        nodes.extend(args.iter().map(|arg| self.node(arg)));
        self.mixed = mixed;
        let mut result: Option<Type> = None;
        let mut overloads = Vec::new();
        for overload in &function.overloads {
            if overload.member != member || overload.params.len() != nodes.len() {
                continue;
            }
            let mark = self.inference.mark();
            let params: Vec<usize> = (0..overload.generics)
                .map(|_| self.inference.fresh())
                .collect();
            let fits = overload.params.iter().zip(&nodes).all(|(param, node)| {
                let wanted = instantiate(param, &params);
                self.inference.fits(&wanted, &node.r#type)
            });
            if !fits {
                self.inference.back(mark);
                continue;
            }
            overloads.push(overload);
            let given = self
                .inference
                .resolve(&instantiate(&overload.result, &params));
            result = Some(match result {
                None => given,
                Some(before) if before == given => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types: Vec<Type> = nodes
                .iter()
                .map(|node| self.inference.resolve(&node.r#type))
                .collect();
            if !types.contains(&Type::Error) {
                let shown: Vec<String> = types.iter().map(ToString::to_string).collect();
                let applied = match shown.split_first() {
                    Some((receiver, rest)) if member => {
                        format!("{receiver}.({})", rest.join(", "))
                    }
                    _ => format!("({})", shown.join(", ")),
                };
                self.problem(
                    at,
                    format!(
                        "found no matching overload for '{}' applied to '{applied}'",
                        function.name
                    ),
                );
            }
            return nothing();
        };
        for node in &mut nodes {
            node.r#type = self.inference.resolve(&node.r#type);
        }
        let pattern = self.constants(function.name, &nodes, args);
        let take = |nodes: Vec<Node>| <[Node; 2]>::try_from(nodes).map(Box::new);
        let kind = match function.name {
            "_&&_" => take(nodes).map_or_else(|_| nothing().kind, NodeKind::And),
            "_||_" => take(nodes).map_or_else(|_| nothing().kind, NodeKind::Or),
            "_?_:_" => <[Node; 3]>::try_from(nodes).map_or_else(
                |_| nothing().kind,
                |nodes| NodeKind::Condition(Box::new(nodes)),
            ),
            _ => NodeKind::Call {
                function,
                member,
                overloads,
                args: nodes,
                pattern,
            },
        };
        typed(result, kind)
    }

    /// Judges constants that are patterns, durations and times.
    fn constants(&mut self, name: &str, nodes: &[Node], args: &[Expr]) -> Option<Arc<Pattern>> {
        let constant = |index: usize| match nodes.get(index).map(|node| &node.kind) {
            Some(NodeKind::Literal(Literal::String(text))) => Some(text),
            _ => None,
        };
        // The argument as it was written, which is where the problem is.
        let place = |index: usize| {
            let receivers = nodes.len() - args.len();
            args.get(index - receivers.min(index))
                .map_or(0, |arg| arg.at)
        };
        let (index, fine) = match name {
            "matches" | "find" | "findAll" => {
                let compiled = Pattern::compile(constant(1)?);
                if let Ok(pattern) = compiled {
                    return Some(Arc::new(pattern));
                }
                (1, false)
            }
            "duration" => (0, time::duration(constant(0)?).is_some()),
            "timestamp" => (0, time::timestamp(constant(0)?).is_some()),
            _ => return None,
        };
        if !fine {
            self.problem(place(index), format!("invalid {name} argument"));
        }
        None
    }

    fn fold(&mut self, at: usize, fold: &Fold) -> Node {
        let range = self.node(&fold.range);
        let pairs = fold.key.is_some();
        let (key, value) = match self.inference.resolve(&range.r#type) {
            Type::List(item) => (Type::Int, (*item).clone()),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            Type::Dyn | Type::Param(_) => (Type::Dyn, Type::Dyn),
            Type::Error => (Type::Error, Type::Error),
            other => {
                self.problem(
                    fold.range.at,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be \
                         list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let is_map = matches!(self.inference.resolve(&range.r#type), Type::Map(..));
        let depth = self.locals.len();
        if let Some(name) = &fold.key {
            self.locals.push((name.clone(), key.clone()));
        }
        let element = if !pairs && is_map { key.clone() } else { value };
        self.locals.push((fold.variable.clone(), element.clone()));
        let filter = fold.filter.as_ref().map(|filter| self.node(filter));
        let body = self.node(&fold.body);
        self.locals.truncate(depth);
        let body_type = self.inference.resolve(&body.r#type);
        if let Some(filter) = &filter {
            self.wants_bool(at, "_?_:_", &filter.r#type, &[&body_type, &body_type]);
        }
        let r#type = match fold.kind {
            FoldKind::All => {
                self.wants_bool(at, "_&&_", &body_type, &[]);
                Type::Bool
            }
            FoldKind::Exists => {
                self.wants_bool(at, "_||_", &body_type, &[]);
                Type::Bool
            }
            FoldKind::ExistsOne => {
                self.wants_bool(at, "_?_:_", &body_type, &[&Type::Int, &Type::Int]);
                Type::Bool
            }
            FoldKind::List => Type::list(body_type),
            FoldKind::SortBy => Type::list(element),
            FoldKind::Map => Type::Map(Arc::new(key), Arc::new(body_type)),
            FoldKind::MapEntry => match body_type {
                Type::Map(..) => body_type,
                other if other.is_dyn() => Type::Dyn,
                other => {
                    self.problem(
                        at,
                        format!(
                            "found no matching overload for 'cel.@mapInsert' applied to '(map(dyn, \
                             dyn), {other})'"
                        ),
                    );
                    Type::Error
                }
            },
        };
        let node = FoldNode {
            kind: fold.kind,
            range,
            pairs,
            filter,
            body,
        };
        typed(r#type, NodeKind::Fold(Box::new(node)))
    }

    fn wants_bool(&mut self, at: usize, operator: &str, given: &Type, rest: &[&Type]) {
        let given = self.inference.resolve(given);
        if given == Type::Bool || given.is_dyn() || matches!(given, Type::Param(_)) {
            return;
        }
        let mut types: Vec<String> = rest.iter().map(ToString::to_string).collect();
        if rest.is_empty() {
            types = vec!["bool".to_owned(), given.to_string()];
        } else {
            types.insert(0, given.to_string());
        }
        self.problem(
            at,
            format!(
                "found no matching overload for '{operator}' applied to '({})'",
                types.join(", ")
            ),
        );
    }

    fn opt_map(&mut self, at: usize, inner: &OptMap) -> Node {
        let target = self.node(&inner.target);
        let element = match self.inference.resolve(&target.r#type) {
            Type::Optional(inner) => (*inner).clone(),
            other if other.is_dyn() || matches!(other, Type::Param(_)) => Type::Dyn,
            other => {
                self.problem(
                    at,
                    format!("found no matching overload for 'hasValue' applied to '{other}.()'"),
                );
                Type::Error
            }
        };
        self.locals.push((inner.variable.clone(), element));
        let body = self.node(&inner.body);
        self.locals.pop();
        let r#type = match (inner.flat, self.inference.resolve(&body.r#type)) {
            (false, other) => Type::Optional(Arc::new(other)),
            (true, other) => other,
        };
        let node = OptMapNode {
            target,
            body,
            flat: inner.flat,
        };
        typed(r#type, NodeKind::OptMap(Box::new(node)))
    }
}
