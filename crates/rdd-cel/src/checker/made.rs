//! Objects that are written out: what mutations are made of.

use std::sync::Arc;

use super::{Checker, MadeNode, Node, NodeKind, nothing, typed};
use crate::{syntax::Made, types::Type};

const PATCH: &str = "JSONPatch";

/// The type of a field of such an object. Nothing is known of those of an `Object`.
pub(super) fn field(holder: &str, name: &str) -> Option<Type> {
    match (holder, name) {
        (PATCH, "op" | "path" | "from") => Some(Type::String),
        (PATCH, "value") => Some(Type::Dyn),
        (PATCH, _) => None,
        _ => Some(Type::Dyn),
    }
}

/// Whether this is the name of such a type.
pub(super) fn is_made(name: &str) -> bool {
    name == "Object" || name == PATCH || name.starts_with("Object.")
}

impl Checker<'_> {
    /// The type of objects of this name, where mutations are made.
    pub(super) fn made_type(&self, name: &str) -> Option<Type> {
        (is_made(name) && self.environment.has_patches()).then(|| Type::Made(name.into()))
    }

    pub(super) fn made(&mut self, at: usize, made: &Made) -> Node {
        let name = made.name.strip_prefix('.').unwrap_or(&made.name);
        let r#type = match self.made_type(name) {
            Some(r#type) => r#type,
            None if matches!(
                name,
                "bool" | "int" | "uint" | "double" | "string" | "bytes" | "type"
            ) =>
            {
                self.problem(at, format!("'{name}' is not a message type"));
                Type::Error
            }
            None => return self.undeclared(at, &made.name),
        };
        let mut fields = Vec::with_capacity(made.fields.len());
        for one in &made.fields {
            let value = self.node(&one.value);
            let given = self.element(&value.r#type, one.optional, one.value.at);
            let (wanted, shown) = match &r#type {
                Type::Made(holder) => match field(holder, &one.name) {
                    Some(wanted) => (wanted.clone(), wanted.to_string()),
                    // A type of no name, which only what is not known is.
                    None => (Type::Opaque(""), String::new()),
                },
                _ => {
                    self.problem(one.at, format!("undefined field '{}'", one.name));
                    continue;
                }
            };
            let mark = self.inference.mark();
            if !self.inference.fits(&given, &wanted) {
                self.inference.back(mark);
                let given = self.inference.resolve(&given);
                self.problem(
                    one.at,
                    format!(
                        "expected type of field '{}' is '{shown}' but provided type is '{given}'",
                        one.name
                    ),
                );
            }
            fields.push((Arc::from(one.name.as_str()), value, one.optional));
        }
        let Type::Made(name) = &r#type else {
            return nothing();
        };
        let kind = NodeKind::Made(Box::new(MadeNode {
            name: Arc::clone(name),
            fields,
        }));
        typed(r#type, kind)
    }
}
