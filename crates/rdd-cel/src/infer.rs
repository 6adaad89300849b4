//! Which types fit which: unification with type parameters.

use std::sync::Arc;

use crate::types::Type;

/// What is known about type parameters so far.
#[derive(Default)]
pub(crate) struct Inference {
    found: Vec<Option<Type>>,
    /// Which parameters were learned, in order, and what was known before.
    trail: Vec<(usize, Option<Type>)>,
}

/// A moment of an inference to which it may be taken back.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    trail: usize,
}

impl Inference {
    /// A parameter of which nothing is known.
    pub(crate) fn fresh(&mut self) -> usize {
        self.found.push(None);
        self.found.len() - 1
    }

    /// Takes so many that nobody asks for. Errors show the numbers of parameters, and
    /// macros that are written out in full have more of them.
    pub(crate) fn skip(&mut self, count: usize) {
        self.found.extend(std::iter::repeat_n(None, count));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.found.len()
    }

    /// Now.
    pub(crate) fn mark(&self) -> Mark {
        Mark {
            trail: self.trail.len(),
        }
    }

    /// Forgets what was learned since. Parameters stay: errors show their numbers.
    pub(crate) fn back(&mut self, mark: Mark) {
        while self.trail.len() > mark.trail {
            if let Some((index, before)) = self.trail.pop() {
                self.found[index] = before;
            }
        }
    }

    fn learn(&mut self, index: usize, r#type: Type) {
        let before = self.found[index].replace(r#type);
        self.trail.push((index, before));
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

    /// Whether a value of the first type may stand where the second is wanted. Where a
    /// parameter meets several types, the most general of them is learned. What is
    /// learned is kept, also when the answer is no: go back to a mark then.
    pub(crate) fn fits(&mut self, given: &Type, wanted: &Type) -> bool {
        if let Type::Param(index) = wanted {
            match self.stands_for(given, *index) {
                Stands::Yes => return true,
                Stands::No => return false,
                Stands::Unknown => {}
            }
        }
        if let Type::Param(index) = given {
            return matches!(self.stands_for(wanted, *index), Stands::Yes);
        }
        match (given, wanted) {
            (Type::Dyn | Type::Error, _)
            | (_, Type::Dyn | Type::Error)
            | (Type::Type(_), Type::Type(_)) => true,
            (Type::List(left), Type::List(right))
            | (Type::Optional(left), Type::Optional(right)) => self.fits(left, right),
            (Type::Map(left, values), Type::Map(right, others)) => {
                self.fits(left, right) && self.fits(values, others)
            }
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null
                    | Type::Object(_)
                    | Type::Made(_)
                    | Type::Timestamp
                    | Type::Duration
                    | Type::Opaque(_)
                    | Type::Optional(_)
            ),
            (left, right) => left == right,
        }
    }

    /// Whether a type is a possible meaning of a parameter.
    fn stands_for(&mut self, r#type: &Type, index: usize) -> Stands {
        if *r#type == Type::Param(index) {
            return Stands::Yes;
        }
        match self.found[index].clone() {
            Some(found) if found == *r#type => Stands::Yes,
            Some(found) => {
                if !self.fits(r#type, &found) {
                    return Stands::No;
                }
                let general = if at_most_as_specific(r#type, &found) {
                    r#type
                } else {
                    &found
                };
                if *general != found && !self.mentions(general, index) {
                    self.learn(index, general.clone());
                }
                Stands::Yes
            }
            None if self.mentions(r#type, index) => Stands::Unknown,
            None => {
                self.learn(index, r#type.clone());
                Stands::Yes
            }
        }
    }

    /// Whether a type is made of a parameter, itself included.
    fn mentions(&self, r#type: &Type, index: usize) -> bool {
        match r#type {
            Type::Param(other) => {
                *other == index
                    || self.found[*other]
                        .as_ref()
                        .is_some_and(|found| self.mentions(found, index))
            }
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => {
                self.mentions(inner, index)
            }
            Type::Map(key, value) => self.mentions(key, index) || self.mentions(value, index),
            _ => false,
        }
    }
}

enum Stands {
    Yes,
    No,
    /// Not that way around.
    Unknown,
}

/// Of two types that fit, the more general one.
pub(crate) fn more_general(left: Type, right: &Type) -> Type {
    if at_most_as_specific(&left, right) {
        left
    } else {
        right.clone()
    }
}

fn at_most_as_specific(left: &Type, right: &Type) -> bool {
    match (left, right) {
        (Type::Dyn | Type::Param(_), _) | (Type::Type(_), Type::Type(_)) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::List(left), Type::List(right)) | (Type::Optional(left), Type::Optional(right)) => {
            at_most_as_specific(left, right)
        }
        (Type::Map(left, values), Type::Map(right, others)) => {
            at_most_as_specific(left, right) && at_most_as_specific(values, others)
        }
        (left, right) => left == right,
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

/// The type with `dyn` for every parameter that is open.
pub(crate) fn closed(r#type: &Type) -> Type {
    match r#type {
        Type::Param(_) => Type::Dyn,
        Type::List(item) => Type::List(Arc::new(closed(item))),
        Type::Map(key, value) => Type::Map(Arc::new(closed(key)), Arc::new(closed(value))),
        Type::Optional(inner) => Type::Optional(Arc::new(closed(inner))),
        Type::Type(inner) => Type::Type(Arc::new(closed(inner))),
        other => other.clone(),
    }
}
