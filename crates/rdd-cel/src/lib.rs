//! CEL as Kubernetes uses it: rules in CustomResourceDefinitions, and the expressions of
//! admission.
//!
//! A text becomes a [`Program`] in an [`Environment`] that names the variables: it is
//! parsed, every name and type is checked, and its cost is estimated from the sizes that
//! schemas allow. A program is evaluated with [`Bindings`] and within a [`Budget`], over
//! JSON that stays where it is. [`rules`] does both for a whole schema. Texts of errors,
//! costs and limits are those of Kubernetes 1.36, which users see.
//!
//! Invariant: no step of an evaluation is taken before it is paid for, and no pass
//! recurses deeper than an expression may be nested.

mod source;
mod syntax;

mod lexer;
mod parser;

mod types;

mod functions;
mod infer;

mod checker;
mod estimate;

mod budget;
mod charge;
mod value;

mod evaluator;
mod library;

mod environment;

pub mod rules;

pub use budget::{Budget, Error};
pub use environment::{Bindings, Environment, Program, Resolve};
pub use library::authorizer::{Authority, Check, Ruling};
pub use source::CompileError;
pub use types::{Declared, Field, ObjectType, Type};
pub use value::{
    Key, List, Map, Text, Value,
    made::{Made, Odd, Whole},
};
