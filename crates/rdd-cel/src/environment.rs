//! The public face: declare variables, compile a text, evaluate it within a budget.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    budget::{Budget, Error, Result},
    checker::{self, Node, NodeKind, constants},
    estimate::{self, Cost},
    evaluator, parser,
    source::{CompileError, Problem},
    types::{Declared, Type},
    value::Value,
};

/// The variables that expressions may name, with their types. Names may have dots:
/// `variables.x` declared as a whole is looked up as a whole.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: BTreeMap<String, (Type, Option<Arc<Declared>>)>,
    /// Of variables that are expressions themselves.
    heights: BTreeMap<String, usize>,
    patches: bool,
}

/// How high expressions may stand on each other: the nodes on the longest way down through
/// an expression, the variables that it names, those that they name, and so on. Values are
/// as deep at most, and so is the stack of whoever evaluates variables as they are named.
const HEIGHT_MAX: usize = 1000;

impl Environment {
    /// No variables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a variable of which only the type is known.
    #[must_use]
    pub fn with(mut self, name: &str, r#type: Type) -> Self {
        self.variables.insert(name.to_owned(), (r#type, None));
        self
    }

    /// With a variable whose value is that of an expression of this [height](Program::height).
    #[must_use]
    pub fn with_computed(mut self, name: &str, r#type: Type, height: usize) -> Self {
        self.heights.insert(name.to_owned(), height);
        self.with(name, r#type)
    }

    pub(crate) fn height(&self, name: &str) -> usize {
        self.heights.get(name).copied().unwrap_or_default()
    }

    /// With a variable of the type and the sizes that a schema gives.
    #[must_use]
    pub fn with_declared(mut self, name: &str, declared: &Arc<Declared>) -> Self {
        let known = (declared.r#type.clone(), Some(Arc::clone(declared)));
        self.variables.insert(name.to_owned(), known);
        self
    }

    /// With a variable that is an optional of such a value.
    #[must_use]
    pub fn with_optional(mut self, name: &str, declared: &Arc<Declared>) -> Self {
        let r#type = Type::Optional(Arc::new(declared.r#type.clone()));
        let known = (r#type, Some(Arc::clone(declared)));
        self.variables.insert(name.to_owned(), known);
        self
    }

    /// With what mutations are made of: `Object`, the types of its fields, `JSONPatch` and
    /// the functions for its paths.
    #[must_use]
    pub fn with_patches(mut self) -> Self {
        self.patches = true;
        self
    }

    pub(crate) fn has_patches(&self) -> bool {
        self.patches
    }

    pub(crate) fn variable(&self, name: &str) -> Option<(&Type, Option<&Arc<Declared>>)> {
        let (r#type, declared) = self.variables.get(name)?;
        Some((r#type, declared.as_ref()))
    }

    /// Reads and checks an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it, printed as Kubernetes prints it.
    pub fn compile(&self, source: &str) -> std::result::Result<Program, CompileError> {
        let expr = parser::parse(source)?;
        let (node, below, problems) = checker::check(&expr, self);
        let height = expr.depth + below;
        if problems.is_empty() && height > HEIGHT_MAX {
            let problem = Problem {
                at: expr.at,
                text: format!("expression recursion limit exceeded: {HEIGHT_MAX}"),
            };
            return Err(CompileError::new(source, vec![problem]));
        }
        if !problems.is_empty() {
            return Err(CompileError::new(source, problems));
        }
        let root = self.variables.values().find_map(|(_, one)| one.as_ref());
        let cost = estimate::estimate(&node, root);
        let failure = constants::convert(&node).err();
        Ok(Program {
            node,
            height,
            cost,
            failure,
        })
    }
}

/// An expression that can be evaluated, again and again, from many threads.
#[derive(Clone)]
pub struct Program {
    node: Node,
    height: usize,
    cost: Cost,
    failure: Option<Error>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Program")
            .field("result", &self.node.r#type)
            .field("cost", &self.cost)
            .finish_non_exhaustive()
    }
}

impl Program {
    /// The type of what it gives.
    #[must_use]
    pub fn result(&self) -> &Type {
        &self.node.r#type
    }

    /// How high it stands on the variables that it names: for those that stand on it.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// Why the expression can never be evaluated, although its types are in order: the
    /// conversion of a constant fails, or a constant is no pattern.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// The most that an evaluation can cost, by the sizes that the schemas allow.
    #[must_use]
    pub fn cost_max(&self) -> u64 {
        self.cost.max
    }

    /// Whether the expression names a variable.
    #[must_use]
    pub fn uses(&self, variable: &str) -> bool {
        uses(&self.node, variable)
    }

    /// Evaluates it. What it costs is taken from `budget` before it is done, so that no
    /// expression runs for longer than the budget is worth.
    ///
    /// # Errors
    /// When the budget ends, or when the expression has no value.
    pub fn evaluate<'a>(
        &'a self,
        bindings: &dyn Resolve<'a>,
        budget: &mut Budget,
    ) -> std::result::Result<Value<'a>, Error> {
        evaluator::evaluate(&self.node, bindings, budget)
    }
}

/// Gives variables their values. Implement it where values are made only when they are
/// asked for; else use [`Bindings`].
pub trait Resolve<'a> {
    /// The value of a declared variable; absent means that there is none this time.
    ///
    /// # Errors
    /// When making the value fails; the expression then fails with it.
    fn resolve(&self, name: &str, budget: &mut Budget) -> Result<Option<Value<'a>>>;
}

/// Variables and their values.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    /// No values.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.values.push((name, value));
        self
    }
}

impl<'a> Resolve<'a> for Bindings<'a> {
    fn resolve(&self, name: &str, _budget: &mut Budget) -> Result<Option<Value<'a>>> {
        let found = self.values.iter().find(|(known, _)| *known == name);
        Ok(found.map(|(_, value)| value.clone()))
    }
}

fn uses(node: &Node, variable: &str) -> bool {
    let any = |nodes: &[Node]| nodes.iter().any(|node| uses(node, variable));
    match &node.kind {
        NodeKind::Variable(name) => &**name == variable,
        NodeKind::Literal(_) | NodeKind::Type(_) | NodeKind::Local(_) => false,
        NodeKind::Select { operand, .. } => uses(operand, variable),
        NodeKind::Call { args, .. } => any(args),
        NodeKind::And(nodes) | NodeKind::Or(nodes) => any(&nodes[..]),
        NodeKind::Condition(nodes) => any(&nodes[..]),
        NodeKind::List(items) => items.iter().any(|(item, _)| uses(item, variable)),
        NodeKind::Map(entries) => entries
            .iter()
            .any(|(key, value, _)| uses(key, variable) || uses(value, variable)),
        NodeKind::Made(made) => made.fields.iter().any(|(_, one, _)| uses(one, variable)),
        NodeKind::Fold(fold) => {
            uses(&fold.range, variable)
                || fold.filter.as_ref().is_some_and(|one| uses(one, variable))
                || uses(&fold.body, variable)
        }
        NodeKind::OptMap(inner) => uses(&inner.target, variable) || uses(&inner.body, variable),
    }
}
