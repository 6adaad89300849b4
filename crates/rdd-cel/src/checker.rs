//! From a tree to a typed tree in which every name is resolved.

use std::sync::Arc;

mod literals;
mod made;

pub(crate) mod constants;

use crate::{
    environment::Environment,
    functions::{self, Function, Overload},
    infer::{Inference, closed, instantiate, more_general},
    library::regex::Pattern,
    source::{PROBLEMS_MAX, Problem},
    syntax::{Access, Entry, Expr, ExprKind, Fold, FoldKind, Literal, OptMap},
    types::Type,
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
    Variable(Arc<str>),
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
    Made(Box<MadeNode>),
    Fold(Box<FoldNode>),
    OptMap(Box<OptMapNode>),
}

/// An object that is written out: its fields, and whether each is left out when it is an
/// empty optional.
#[derive(Clone)]
pub(crate) struct MadeNode {
    pub(crate) name: Arc<str>,
    pub(crate) fields: Vec<(Arc<str>, Node, bool)>,
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

/// The typed tree, the height of the highest variable in it, and every problem.
pub(crate) fn check(expr: &Expr, environment: &Environment) -> (Node, usize, Vec<Problem>) {
    let mut checker = Checker {
        environment,
        inference: Inference::default(),
        locals: Vec::new(),
        problems: Vec::new(),
        literals: Vec::new(),
        mixed: false,
        highest: 0,
    };
    let mut node = checker.node(expr);
    if checker.problems.is_empty() {
        // Only what has types is judged further.
        for literal in &checker.literals {
            literals::judge(literal, &checker.inference, &mut checker.problems);
        }
        checker.close(&mut node);
    }
    (node, checker.highest, checker.problems)
}

struct Checker<'a> {
    environment: &'a Environment,
    inference: Inference,
    locals: Vec<(String, Type)>,
    problems: Vec<Problem>,
    literals: Vec<literals::Literals>,
    /// Whether lists may hold values of several types: anywhere in a call of `format`.
    mixed: bool,
    /// The height of the highest variable so far.
    highest: usize,
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
            ExprKind::Map(entries) => self.map(entries),
            ExprKind::Made(made) => self.made(expr.at, made),
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
        let name = name.strip_prefix('.').unwrap_or(name);
        if let Some((r#type, _)) = self.environment.variable(name) {
            self.highest = self.highest.max(self.environment.height(name));
            let kind = NodeKind::Variable(name.into());
            return Some(typed(r#type.clone(), kind));
        }
        if let Some(r#type) = self.made_type(name) {
            let kind = NodeKind::Type(name.into());
            return Some(typed(Type::Type(Arc::new(r#type)), kind));
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
            Type::Map(_, value) => (**value).clone(),
            Type::Made(name) => made::field(name, field).unwrap_or(Type::Dyn),
            Type::Opaque(name) if !matches!(*name, "net.IP" | "net.CIDR") => {
                self.problem(expr.at, format!("unexpected failed resolution of '{name}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.inference.fits(&Type::Dyn, &holder);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            _ => {
                self.problem(
                    expr.at,
                    format!("type '{holder}' does not support field selection"),
                );
                Type::Dyn
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

    /// The type of several elements; anything, if they have none in common.
    fn joined(&mut self, before: Option<Type>, next: &Type) -> Type {
        let Some(before) = before else {
            return next.clone();
        };
        let mark = self.inference.mark();
        if self.inference.fits(&before, next) {
            return more_general(before, next);
        }
        self.inference.back(mark);
        Type::Dyn
    }

    fn list(&mut self, items: &[(Expr, bool)]) -> Node {
        let mut nodes = Vec::new();
        let mut r#type = None;
        let mut types = Vec::new();
        for (item, optional) in items {
            let node = self.node(item);
            let given = self.element(&node.r#type, *optional, item.at);
            r#type = Some(self.joined(r#type, &given));
            types.push((item.at, given));
            nodes.push((node, *optional));
        }
        if !self.mixed && types.len() > 1 {
            self.literals.push(literals::Literals::List(types));
        }
        let r#type = r#type.unwrap_or_else(|| Type::Param(self.inference.fresh()));
        typed(Type::list(r#type), NodeKind::List(nodes))
    }

    fn map(&mut self, entries: &[Entry]) -> Node {
        let mut nodes = Vec::new();
        let (mut key, mut value) = (None, None);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for entry in entries {
            let (one, two) = (self.node(&entry.key), self.node(&entry.value));
            key = Some(self.joined(key, &one.r#type));
            let given = self.element(&two.r#type, entry.optional, entry.value.at);
            value = Some(self.joined(value, &given));
            keys.push((entry.key.at, one.r#type.clone()));
            values.push((entry.value.at, given));
            nodes.push((one, two, entry.optional));
        }
        if !self.mixed && keys.len() > 1 {
            self.literals.push(literals::Literals::Map(keys, values));
        }
        // Only simple values are keys. Types of keys must not grow: each may hold all that
        // its value holds.
        let key = match key.map(|key| self.inference.resolve(&key)) {
            None => Type::Param(self.inference.fresh()),
            Some(Type::List(_) | Type::Map(..) | Type::Optional(_) | Type::Type(_)) => Type::Dyn,
            Some(key) => key,
        };
        let value = value.unwrap_or_else(|| Type::Param(self.inference.fresh()));
        typed(
            Type::Map(Arc::new(key), Arc::new(value)),
            NodeKind::Map(nodes),
        )
    }

    fn call(&mut self, at: usize, name: &str, target: Option<&Expr>, args: &[Expr]) -> Node {
        if let Some(target) = target {
            // `ip.isCanonical` is one name unless `ip` is a variable.
            let whole = self
                .qualified(target)
                .filter(|prefix| self.environment.variable(prefix).is_none())
                .map(|prefix| format!("{prefix}.{name}"));
            let known = |function: &&'static Function| {
                function.name != "jsonpatch.escapeKey" || self.environment.has_patches()
            };
            if let Some(function) = whole.as_deref().and_then(functions::find).filter(known) {
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
        let mixed = self.mixed;
        self.mixed |= function.name == "format";
        let exprs: Vec<&Expr> = target.into_iter().chain(args).collect();
        let mut nodes: Vec<Node> = exprs.iter().map(|expr| self.node(expr)).collect();
        self.mixed = mixed;
        if matches!(function.name, "_&&_" | "_||_") {
            return self.logic(function.name, nodes, &exprs);
        }
        let mut result: Option<Type> = None;
        let mut overloads = Vec::new();
        for overload in &function.overloads {
            if overload.member != member {
                continue;
            }
            let mark = self.inference.mark();
            let params: Vec<usize> = (0..overload.generics)
                .map(|_| self.inference.fresh())
                .collect();
            if overload.params.len() != nodes.len() {
                continue;
            }
            let fits = overload.params.iter().zip(&nodes).all(|(param, node)| {
                let wanted = instantiate(param, &params);
                self.inference.fits(&node.r#type, &wanted)
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
                Some(before) if before == Type::Dyn || before == given => before,
                Some(_) => Type::Dyn,
            });
        }
        let Some(result) = result else {
            let types: Vec<&Type> = nodes.iter().map(|node| &node.r#type).collect();
            self.no_overload(at, function.name, member, &types);
            return nothing();
        };
        for node in &mut nodes {
            node.r#type = self.inference.resolve(&node.r#type);
        }
        let pattern = self.constants(at, function, &nodes, &exprs, member);
        let kind = match function.name {
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

    /// `&&` and `||`, whose sides are judged one by one.
    fn logic(&mut self, name: &str, nodes: Vec<Node>, exprs: &[&Expr]) -> Node {
        let mut fine = true;
        for (node, expr) in nodes.iter().zip(exprs) {
            fine &= self.wants(&node.r#type, &Type::Bool, expr.at);
        }
        match <[Node; 2]>::try_from(nodes).map(Box::new) {
            Ok(nodes) if fine => {
                let kind = if name == "_&&_" {
                    NodeKind::And(nodes)
                } else {
                    NodeKind::Or(nodes)
                };
                typed(Type::Bool, kind)
            }
            _ => nothing(),
        }
    }

    /// Whether a value of a type may stand where another is wanted.
    fn wants(&mut self, given: &Type, wanted: &Type, at: usize) -> bool {
        let mark = self.inference.mark();
        if self.inference.fits(given, wanted) {
            return true;
        }
        self.inference.back(mark);
        let given = self.inference.resolve(given);
        self.problem(at, format!("expected type '{wanted}' but found '{given}'"));
        false
    }

    fn no_overload(&mut self, at: usize, name: &str, member: bool, types: &[&Type]) {
        let shown: Vec<String> = types
            .iter()
            .map(|one| closed(&self.inference.resolve(one)).to_string())
            .collect();
        let applied = match shown.split_first() {
            Some((receiver, rest)) if member => format!("{receiver}.({})", rest.join(", ")),
            _ => format!("({})", shown.join(", ")),
        };
        self.problem(
            at,
            format!("found no matching overload for '{name}' applied to '{applied}'"),
        );
    }

    /// Remembers constants that are to be judged, and compiles those that are patterns.
    fn constants(
        &mut self,
        at: usize,
        function: &'static Function,
        nodes: &[Node],
        exprs: &[&Expr],
        member: bool,
    ) -> Option<Arc<Pattern>> {
        let literal = |index: usize| match nodes.get(index).map(|node| &node.kind) {
            Some(NodeKind::Literal(literal)) => Some(literal),
            _ => None,
        };
        // The first argument, also where that is the text and not the pattern.
        let first = usize::from(member);
        if matches!(function.name, "matches" | "duration" | "timestamp")
            && let (Some(value), Some(expr)) = (literal(first), exprs.get(first))
        {
            self.literals.push(literals::Literals::Argument {
                at: expr.at,
                function,
                value: value.clone(),
            });
        }
        if function.name == "format"
            && member
            && let (Some(Literal::String(template)), Some(NodeKind::List(items))) =
                (literal(0), nodes.get(1).map(|node| &node.kind))
            && let Some(ExprKind::List(written)) = exprs.get(1).map(|expr| &expr.kind)
        {
            self.literals.push(literals::Literals::Format {
                at,
                template: Arc::clone(template),
                args: written
                    .iter()
                    .zip(items)
                    .map(|((expr, _), (node, _))| literals::Arg::of(expr, node))
                    .collect(),
            });
        }
        if !matches!(function.name, "matches" | "find" | "findAll") {
            return None;
        }
        match literal(1) {
            Some(Literal::String(text)) => Pattern::compile(text).ok().map(Arc::new),
            _ => None,
        }
    }

    fn fold(&mut self, at: usize, fold: &Fold) -> Node {
        if fold.kind == FoldKind::SortBy {
            self.inference.skip(1);
        }
        let range = self.node(&fold.range);
        self.inference.skip(match fold.kind {
            FoldKind::All | FoldKind::Exists | FoldKind::ExistsOne => 0,
            FoldKind::List | FoldKind::SortBy => 1,
            FoldKind::Map | FoldKind::MapEntry => 2,
        });
        let pairs = fold.key.is_some();
        let resolved = self.inference.resolve(&range.r#type);
        let (key, value) = match &resolved {
            Type::List(item) => (Type::Int, (**item).clone()),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Param(_) => {
                self.inference.fits(&Type::Dyn, &resolved);
                (Type::Dyn, Type::Dyn)
            }
            Type::Dyn | Type::Error => (Type::Dyn, Type::Dyn),
            other => {
                // What `sortBy` walks over is a variable of its own.
                let place = match fold.kind {
                    FoldKind::SortBy => at,
                    _ => fold.range.at,
                };
                self.problem(
                    place,
                    format!(
                        "expression of type '{other}' cannot be range of a comprehension (must be \
                         list, map, or dynamic)"
                    ),
                );
                (Type::Error, Type::Error)
            }
        };
        let depth = self.locals.len();
        if let Some(name) = &fold.key {
            self.locals.push((name.clone(), key.clone()));
        }
        let element = if !pairs && matches!(resolved, Type::Map(..)) {
            key.clone()
        } else {
            value
        };
        self.locals.push((fold.variable.clone(), element));
        let filter = fold.filter.as_ref().map(|filter| self.node(filter));
        let body = self.node(&fold.body);
        self.locals.truncate(depth);
        let inner = body.r#type.clone();
        self.inference.skip(match fold.kind {
            FoldKind::All | FoldKind::Exists => 0,
            FoldKind::ExistsOne => 3,
            FoldKind::List | FoldKind::SortBy => 1,
            FoldKind::Map => 4,
            FoldKind::MapEntry => 2,
        });
        let (r#type, step) = match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                self.wants(&inner, &Type::Bool, fold.body.at);
                (Type::Bool, Type::Bool)
            }
            FoldKind::ExistsOne => {
                self.chooses(at, &inner, &Type::Int);
                (Type::Bool, Type::Int)
            }
            FoldKind::List => (Type::list(inner.clone()), Type::list(inner)),
            FoldKind::SortBy => {
                let sorted = self.sorted(at, &resolved, &inner);
                (sorted.clone(), sorted)
            }
            FoldKind::Map => {
                let map = Type::Map(Arc::new(key), Arc::new(inner));
                (map.clone(), map)
            }
            FoldKind::MapEntry => {
                let map = Type::Map(
                    Arc::new(Type::Param(self.inference.fresh())),
                    Arc::new(Type::Param(self.inference.fresh())),
                );
                if !self.inference.fits(&inner, &map) {
                    self.no_overload(at, "cel.@mapInsert", false, &[&map, &inner]);
                }
                (map.clone(), map)
            }
        };
        if let Some(filter) = &filter {
            self.inference.skip(1);
            self.chooses(at, &filter.r#type, &step);
        }
        let node = FoldNode {
            kind: fold.kind,
            range,
            pairs,
            filter,
            body,
        };
        typed(r#type, NodeKind::Fold(Box::new(node)))
    }

    /// A condition between two values of a type.
    fn chooses(&mut self, at: usize, condition: &Type, of: &Type) {
        if !self.inference.fits(condition, &Type::Bool) {
            self.no_overload(at, "_?_:_", false, &[condition, of, of]);
        }
    }

    /// The type of a list that is sorted by values of another type.
    fn sorted(&mut self, at: usize, list: &Type, by: &Type) -> Type {
        let item = Type::Param(self.inference.fresh());
        self.inference.skip(7);
        let comparable = [
            Type::Int,
            Type::Uint,
            Type::Double,
            Type::Bool,
            Type::Duration,
            Type::Timestamp,
            Type::String,
            Type::Bytes,
        ];
        let wanted = Type::list(item);
        let fits = self.inference.fits(list, &wanted)
            && comparable.iter().any(|one| {
                let mark = self.inference.mark();
                let fits = self.inference.fits(by, one);
                if !fits {
                    self.inference.back(mark);
                }
                fits
            });
        if !fits {
            let keys = Type::list(by.clone());
            self.no_overload(at, "@sortByAssociatedKeys", true, &[list, &keys]);
            return Type::Error;
        }
        wanted
    }

    fn opt_map(&mut self, at: usize, inner: &OptMap) -> Node {
        let (problems, literals) = (self.problems.len(), self.literals.len());
        let params = self.inference.count();
        let target = self.node(&inner.target);
        let again = (self.inference.count() - params).min(PROBLEMS_MAX);
        self.inference.skip(again + 2);
        // It is asked whether it has a value, and once more for the value. What is told
        // twice inside of each other is told often enough.
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.extend_from_within(problems..);
        }
        if self.literals.len() < PROBLEMS_MAX {
            self.literals.extend_from_within(literals..);
        }
        let value = Type::Param(self.inference.fresh());
        let wanted = Type::Optional(Arc::new(value.clone()));
        let element = if self.inference.fits(&target.r#type, &wanted) {
            self.inference.resolve(&value)
        } else {
            for name in ["hasValue", "value"] {
                self.no_overload(at, name, true, &[&target.r#type]);
            }
            Type::Error
        };
        self.locals.push((inner.variable.clone(), element));
        let body = self.node(&inner.body);
        self.locals.pop();
        self.inference.skip(usize::from(!inner.flat));
        let none = Type::Optional(Arc::new(Type::Param(self.inference.fresh())));
        self.inference.skip(1);
        let r#type = if inner.flat {
            if self.inference.fits(&body.r#type, &none) {
                more_general(body.r#type.clone(), &none)
            } else {
                self.no_overload(at, "_?_:_", false, &[&Type::Bool, &body.r#type, &none]);
                Type::Error
            }
        } else {
            Type::Optional(Arc::new(body.r#type.clone()))
        };
        let node = OptMapNode {
            target,
            body,
            flat: inner.flat,
        };
        typed(r#type, NodeKind::OptMap(Box::new(node)))
    }

    /// Fills in what was learned; anything stands for what was not.
    fn close(&self, node: &mut Node) {
        node.r#type = closed(&self.inference.resolve(&node.r#type));
        match &mut node.kind {
            NodeKind::Literal(_)
            | NodeKind::Type(_)
            | NodeKind::Variable(..)
            | NodeKind::Local(_) => {}
            NodeKind::Select { operand, .. } => self.close(operand),
            NodeKind::Call { args, .. } => args.iter_mut().for_each(|arg| self.close(arg)),
            NodeKind::And(nodes) | NodeKind::Or(nodes) => {
                nodes.iter_mut().for_each(|node| self.close(node));
            }
            NodeKind::Condition(nodes) => nodes.iter_mut().for_each(|node| self.close(node)),
            NodeKind::List(items) => items.iter_mut().for_each(|(item, _)| self.close(item)),
            NodeKind::Map(entries) => entries.iter_mut().for_each(|(key, value, _)| {
                self.close(key);
                self.close(value);
            }),
            NodeKind::Made(made) => {
                made.fields
                    .iter_mut()
                    .for_each(|(_, one, _)| self.close(one));
            }
            NodeKind::Fold(fold) => {
                self.close(&mut fold.range);
                if let Some(filter) = &mut fold.filter {
                    self.close(filter);
                }
                self.close(&mut fold.body);
            }
            NodeKind::OptMap(inner) => {
                self.close(&mut inner.target);
                self.close(&mut inner.body);
            }
        }
    }
}
