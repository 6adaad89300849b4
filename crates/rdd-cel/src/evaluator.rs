//! Runs a checked tree. Every step is paid for before it is taken.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    budget::{Budget, Error, Result},
    charge,
    checker::{FoldNode, Node, NodeKind, OptMapNode},
    environment::Resolve,
    library::{self, collections, regex, standard::not_in_list},
    syntax::{Access, FoldKind},
    value::{Key, Value, made::Made},
};

/// The value of a tree.
pub(crate) fn evaluate<'a>(
    node: &'a Node,
    bindings: &dyn Resolve<'a>,
    budget: &mut Budget,
) -> Result<Value<'a>> {
    let mut machine = Machine {
        bindings,
        budget,
        locals: Vec::new(),
        patterns: regex::Recent::default(),
    };
    machine.node(node)
}

struct Machine<'a, 'b> {
    bindings: &'b dyn Resolve<'a>,
    budget: &'b mut Budget,
    locals: Vec<Value<'a>>,
    patterns: regex::Recent,
}

impl<'a> Machine<'a, '_> {
    fn node(&mut self, node: &'a Node) -> Result<Value<'a>> {
        match &node.kind {
            NodeKind::Literal(one) => Ok(Value::of_literal(one)),
            NodeKind::Type(name) => Ok(Value::Type(Arc::clone(name))),
            NodeKind::Variable(name) => {
                self.budget.spend(1)?;
                self.bindings
                    .resolve(name, self.budget)?
                    .ok_or_else(|| Error::new(format!("no such attribute(s): {name}")))
            }
            NodeKind::Local(index) => {
                self.budget.spend(1)?;
                self.locals.get(*index).cloned().ok_or_else(Error::overload)
            }
            NodeKind::Select {
                operand,
                field,
                how,
            } => self.select(operand, field, *how),
            NodeKind::Call { .. } => self.call(node),
            NodeKind::And(nodes) => self.logic(&nodes[0], &nodes[1], false),
            NodeKind::Or(nodes) => self.logic(&nodes[0], &nodes[1], true),
            NodeKind::Condition(nodes) => match self.node(&nodes[0])? {
                Value::Bool(true) => self.node(&nodes[1]),
                Value::Bool(false) => self.node(&nodes[2]),
                _ => Err(Error::overload()),
            },
            NodeKind::List(items) => {
                self.budget.spend(charge::LIST)?;
                let mut values = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.node(item)?, optional) {
                        (Value::Optional(inner), true) => {
                            values.extend(inner.map(|inner| (*inner).clone()));
                        }
                        (value, _) => values.push(value),
                    }
                }
                Ok(values.into())
            }
            NodeKind::Map(entries) => {
                self.budget.spend(charge::MAP)?;
                let mut values = BTreeMap::new();
                for (key, value, optional) in entries {
                    let (key, value) = (self.node(key)?, self.node(value)?);
                    self.budget.spend(key.size() / 100)?;
                    let value = match (value, optional) {
                        (Value::Optional(None), true) => continue,
                        (Value::Optional(Some(inner)), true) => (*inner).clone(),
                        (value, _) => value,
                    };
                    insert(&mut values, &key, value)?;
                }
                Ok(values.into())
            }
            NodeKind::Made(made) => {
                self.budget.spend(charge::MADE)?;
                let mut fields = BTreeMap::new();
                for (name, value, optional) in &made.fields {
                    let value = match (self.node(value)?, optional) {
                        (Value::Optional(None), true) => {
                            fields.remove(name);
                            continue;
                        }
                        (Value::Optional(Some(inner)), true) => (*inner).clone(),
                        (value, _) => value,
                    };
                    fields.insert(Arc::clone(name), value);
                }
                Made::new(Arc::clone(&made.name), fields).map(Value::from)
            }
            NodeKind::Fold(fold) => self.fold(fold),
            NodeKind::OptMap(inner) => self.opt_map(inner),
        }
    }

    /// `&&` (decided by false) and `||` (by true): an error on one side does not matter
    /// if the other side decides.
    fn logic(&mut self, left: &'a Node, right: &'a Node, decides: bool) -> Result<Value<'a>> {
        let left = self.truth(left)?;
        if left == Ok(decides) {
            return Ok(Value::Bool(decides));
        }
        let right = self.truth(right)?;
        match (left, right) {
            (_, Ok(right)) if right == decides => Ok(Value::Bool(decides)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!decides)),
        }
    }

    /// The truth of a node; only what ends the evaluation is an error of the whole.
    fn truth(&mut self, node: &'a Node) -> Result<Result<bool>> {
        match self.node(node) {
            Ok(Value::Bool(value)) => Ok(Ok(value)),
            Ok(_) => Ok(Err(Error::overload())),
            Err(error @ (Error::Budget | Error::Undecided)) => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    fn select(&mut self, operand: &'a Node, field: &str, how: Access) -> Result<Value<'a>> {
        let operand = self.node(operand)?;
        if how != Access::Test {
            self.budget.spend(1)?;
        }
        let (holder, optional) = match operand {
            Value::Optional(None) => {
                return Ok(match how {
                    Access::Test => Value::Bool(false),
                    _ => Value::Optional(None),
                });
            }
            Value::Optional(Some(inner)) => ((*inner).clone(), true),
            other => (other, false),
        };
        let map = match (holder, how) {
            (Value::Map(map), _) => map,
            (Value::Made(made), _) => return made.select(field, how, optional),
            (Value::List(_), _) => return Err(not_in_list("string")),
            // Nothing else has fields.
            (_, Access::Test) => return Ok(Value::Bool(false)),
            (_, Access::Read) => {
                return Err(Error::new(format!("no such key: {field}")));
            }
            _ => return Ok(Value::Optional(None)),
        };
        if how == Access::Test {
            return Ok(Value::Bool(map.has(field)));
        }
        let found = map.field(field);
        if let Some(found) = &found {
            self.budget.spend(charge::reached(found))?;
        }
        match how {
            Access::Test => Err(Error::overload()),
            Access::Read if !optional => {
                found.ok_or_else(|| Error::new(format!("no such key: {field}")))
            }
            Access::Read | Access::Optional => Ok(Value::Optional(found.map(Arc::new))),
        }
    }

    fn call(&mut self, node: &'a Node) -> Result<Value<'a>> {
        let NodeKind::Call {
            function,
            args,
            pattern,
            ..
        } = &node.kind
        else {
            return Err(Error::overload());
        };
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.node(arg)?);
        }
        // `or` and `orValue` aside, functions are strict, so that this is the whole cost.
        self.budget.spend(charge::call(function.name, &values))?;
        if matches!(function.name, "matches" | "find" | "findAll") {
            let known = pattern.as_deref();
            let found = regex::call(
                function.name,
                &values,
                known,
                &mut self.patterns,
                self.budget,
            );
            return found.map_err(|error| {
                if error == Error::overload() {
                    function.refusal(&values)
                } else {
                    error
                }
            });
        }
        let value = function.call(&values, self.budget)?;
        if function.name == "_[_]" {
            self.budget.spend(charge::reached(&value))?;
        }
        Ok(value)
    }

    fn fold(&mut self, fold: &'a FoldNode) -> Result<Value<'a>> {
        let range = self.node(&fold.range)?;
        self.budget.spend(charge::fold_start(fold.kind))?;
        let depth = self.locals.len();
        let mut result = Folded::default();
        match &range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let Some(item) = list.get(index) else { break };
                    self.budget.spend(charge::reached(&item))?;
                    let key = Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
                    if fold.pairs {
                        self.locals.push(key.clone());
                    }
                    self.locals.push(item.clone());
                    let goes_on = self.step(fold, key, item, &mut result);
                    self.locals.truncate(depth);
                    if !goes_on? {
                        break;
                    }
                }
            }
            Value::Map(map) => {
                self.budget.spend(charge::entries(map))?;
                for (key, value) in map.entries() {
                    let item = if fold.pairs {
                        self.locals.push(key.clone());
                        self.locals.push(value.clone());
                        value
                    } else {
                        self.locals.push(key.clone());
                        key.clone()
                    };
                    let goes_on = self.step(fold, key, item, &mut result);
                    self.locals.truncate(depth);
                    if !goes_on? {
                        break;
                    }
                }
            }
            other => {
                let name = other.go_type();
                return Err(Error::new(if fold.pairs {
                    format!("unsupported comprehension range type: {name}")
                } else {
                    format!("got '{name}', expected iterable type")
                }));
            }
        }
        if fold.kind == FoldKind::SortBy {
            self.budget.spend(charge::sorting(&result.sorted))?;
        }
        result.finish(fold.kind)
    }

    /// One element; the answer is whether there is a next one.
    fn step(
        &mut self,
        fold: &'a FoldNode,
        key: Value<'a>,
        item: Value<'a>,
        result: &mut Folded<'a>,
    ) -> Result<bool> {
        self.budget.spend(charge::fold_step(fold.kind))?;
        if let Some(filter) = &fold.filter {
            match self.node(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(true),
                _ => return Err(Error::overload()),
            }
        }
        match fold.kind {
            FoldKind::All | FoldKind::Exists => {
                let decides = fold.kind == FoldKind::Exists;
                match self.truth(&fold.body)? {
                    Ok(value) if value == decides => {
                        result.decided = true;
                        return Ok(false);
                    }
                    Ok(_) => {}
                    Err(error) => {
                        result.error.get_or_insert(error);
                    }
                }
            }
            FoldKind::ExistsOne => match self.node(&fold.body)? {
                Value::Bool(true) => result.count += 1,
                Value::Bool(false) => {}
                _ => return Err(Error::overload()),
            },
            FoldKind::List => {
                let value = self.node(&fold.body)?;
                result.items.push(value);
            }
            FoldKind::SortBy => {
                let by = self.node(&fold.body)?;
                result.sorted.push((by, item));
            }
            FoldKind::Map => {
                let value = self.node(&fold.body)?;
                self.budget.spend(key.size() / 100)?;
                insert(&mut result.entries, &key, value)?;
            }
            FoldKind::MapEntry => {
                let Value::Map(map) = self.node(&fold.body)? else {
                    return Err(Error::overload());
                };
                for (key, value) in map.entries() {
                    self.budget.spend(1 + key.size() / 100)?;
                    insert(&mut result.entries, &key, value)?;
                }
            }
        }
        Ok(true)
    }

    fn opt_map(&mut self, inner: &'a OptMapNode) -> Result<Value<'a>> {
        let target = self.node(&inner.target)?;
        self.budget.spend(charge::OPT_MAP)?;
        let Value::Optional(content) = target else {
            return Err(Error::overload());
        };
        let Some(content) = content else {
            return Ok(Value::Optional(None));
        };
        self.locals.push((*content).clone());
        let body = self.node(&inner.body);
        self.locals.pop();
        let body = body?;
        Ok(if inner.flat {
            body
        } else {
            Value::Optional(Some(Arc::new(body)))
        })
    }
}

fn insert<'a>(
    entries: &mut BTreeMap<Key, Value<'a>>,
    key: &Value<'a>,
    value: Value<'a>,
) -> Result<()> {
    let name = Key::of(key)
        .ok_or_else(|| Error::new(format!("unsupported key type: {}", key.type_name())))?;
    if entries.insert(name, value).is_some() {
        let shown = library::standard::shown(key);
        return Err(Error::new(format!(
            "insert failed: key {shown} already exists"
        )));
    }
    Ok(())
}

/// What a fold has found so far.
#[derive(Default)]
struct Folded<'a> {
    decided: bool,
    error: Option<Error>,
    count: usize,
    items: Vec<Value<'a>>,
    sorted: Vec<(Value<'a>, Value<'a>)>,
    entries: BTreeMap<Key, Value<'a>>,
}

impl<'a> Folded<'a> {
    fn finish(self, kind: FoldKind) -> Result<Value<'a>> {
        match kind {
            FoldKind::All | FoldKind::Exists => {
                let exists = kind == FoldKind::Exists;
                match self.error {
                    Some(error) if !self.decided => Err(error),
                    _ => Ok(Value::Bool(self.decided == exists)),
                }
            }
            FoldKind::ExistsOne => Ok(Value::Bool(self.count == 1)),
            FoldKind::List => Ok(self.items.into()),
            FoldKind::SortBy => {
                let items = collections::sorted(self.sorted)?;
                Ok(items.into())
            }
            FoldKind::Map | FoldKind::MapEntry => Ok(self.entries.into()),
        }
    }
}
