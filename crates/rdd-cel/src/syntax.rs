//! The tree of an expression as it was written, macros already recognised.

use std::sync::Arc;

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

/// A node and the character at which errors about it point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    /// Nodes from here to the deepest leaf.
    pub(crate) depth: usize,
    pub(crate) kind: ExprKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExprKind {
    Literal(Literal),
    /// A name; with a dot in front, one that no macro declares.
    Ident(String),
    Select {
        operand: Box<Expr>,
        field: String,
        how: Access,
    },
    Call {
        function: String,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// Elements, and whether each is left out when it is an empty optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<Entry>),
    Made(Made),
    Fold(Box<Fold>),
    OptMap(Box<OptMap>),
}

/// How a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `a.b`: an absent field is an error.
    Read,
    /// `has(a.b)`.
    Test,
    /// `a.?b`: an absent field is an empty optional.
    Optional,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// An object of a named type, written out: `Object.spec{replicas: 1}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) fields: Vec<MadeField>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MadeField {
    /// Where errors about the field point: at its colon.
    pub(crate) at: usize,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A macro that walks over a list or a map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fold {
    pub(crate) kind: FoldKind,
    pub(crate) range: Expr,
    /// The first of two variables: index or key.
    pub(crate) key: Option<String>,
    /// The element; over a map with one variable, the key.
    pub(crate) variable: String,
    pub(crate) filter: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FoldKind {
    All,
    Exists,
    ExistsOne,
    /// `map`, `filter` and `transformList`.
    List,
    /// `transformMap`.
    Map,
    /// `transformMapEntry`.
    MapEntry,
    /// `sortBy`: the elements in the order of the bodies.
    SortBy,
}

/// `optMap` and `optFlatMap`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OptMap {
    pub(crate) target: Expr,
    pub(crate) variable: String,
    pub(crate) body: Expr,
    pub(crate) flat: bool,
}
