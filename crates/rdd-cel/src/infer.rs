//! Which types fit which: unification with type parameters.

use std::sync::Arc;

use crate::types::Type;

/// What is known about type parameters so far.
#[derive(Default)]
pub(crate) struct Inference {
    found: Vec<Option<Type>>,
    /// Which parameters were found, in order.
    trail: Vec<usize>,
}

/// A moment of an inference to which it may be taken back.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    found: usize,
    trail: usize,
}

impl Inference {
    /// A parameter of which nothing is known.
    pub(crate) fn fresh(&mut self) -> usize {
        self.found.push(None);
        self.found.len() - 1
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            found: self.found.len(),
            trail: self.trail.len(),
        }
    }

    /// Forgets what was learned since.
    pub(crate) fn back(&mut self, mark: Mark) {
        for index in self.trail.drain(mark.trail..) {
            self.found[index] = None;
        }
        self.found.truncate(mark.found);
    }

    /// The type with all that is known filled in; the rest stays open.
    pub(crate) fn resolve(&self, r#type: &Type) -> Type {
        match r#type {
            Type::Param(index) => match self.found.get(*index) {
                Some(Some(found)) => self.resolve(found),
                _ => r#type.clone(),
            },
            Type::List(item) => Type::List(Arc::new(self.resolve(item))),
            Type::Map(key, value) => {
                Type::Map(Arc::new(self.resolve(key)), Arc::new(self.resolve(value)))
            }
            Type::Optional(inner) => Type::Optional(Arc::new(self.resolve(inner))),
            Type::Type(inner) => Type::Type(Arc::new(self.resolve(inner))),
            other => other.clone(),
        }
    }

    /// Whether a value of the second type may stand where the first is wanted. What is
    /// learned is kept, also when the answer is no: go back to a mark then.
    pub(crate) fn fits(&mut self, wanted: &Type, given: &Type) -> bool {
        let (wanted, given) = (self.resolve(wanted), self.resolve(given));
        match (&wanted, &given) {
            (Type::Param(left), Type::Param(right)) if left == right => true,
            (Type::Param(index), other) | (other, Type::Param(index)) => {
                if mentions(other, *index) {
                    return false;
                }
                self.found[*index] = Some(other.clone());
                self.trail.push(*index);
                true
            }
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::List(left), Type::List(right))
            | (Type::Optional(left), Type::Optional(right))
            | (Type::Type(left), Type::Type(right)) => self.fits(left, right),
            (Type::Map(left, values), Type::Map(right, others)) => {
                self.fits(left, right) && self.fits(values, others)
            }
            (
                Type::Null,
                Type::Object(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Opaque(_)
                | Type::Optional(_),
            )
            | (
                Type::Object(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Opaque(_)
                | Type::Optional(_),
                Type::Null,
            ) => true,
            (left, right) => left == right,
        }
    }
}

/// Replaces the parameters of a declaration by the ones of a call.
pub(crate) fn instantiate(r#type: &Type, params: &[usize]) -> Type {
    match r#type {
        Type::Param(index) => Type::Param(params[*index]),
        Type::List(item) => Type::List(Arc::new(instantiate(item, params))),
        Type::Map(key, value) => Type::Map(
            Arc::new(instantiate(key, params)),
            Arc::new(instantiate(value, params)),
        ),
        Type::Optional(inner) => Type::Optional(Arc::new(instantiate(inner, params))),
        Type::Type(inner) => Type::Type(Arc::new(instantiate(inner, params))),
        other => other.clone(),
    }
}

fn mentions(r#type: &Type, index: usize) -> bool {
    match r#type {
        Type::Param(other) => *other == index,
        Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => mentions(inner, index),
        Type::Map(key, value) => mentions(key, index) || mentions(value, index),
        _ => false,
    }
}
