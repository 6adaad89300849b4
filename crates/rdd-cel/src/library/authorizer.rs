//! Asking whether somebody may do something else. The functions are known everywhere, as
//! their names appear in errors; values of their types come only from a variable that an
//! environment declares.

use std::{fmt, sync::Arc};

use rdd_schema::names;

use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
path authorizer_path authorizer . string : pathcheck
group authorizer_group authorizer . string : groupcheck
serviceAccount authorizer_serviceaccount authorizer . string string : authorizer
resource groupcheck_resource groupcheck . string : resourcecheck
subresource resourcecheck_subresource resourcecheck . string : resourcecheck
namespace resourcecheck_namespace resourcecheck . string : resourcecheck
name resourcecheck_name resourcecheck . string : resourcecheck
fieldSelector authorizer_fieldselector resourcecheck . string : resourcecheck
labelSelector authorizer_labelselector resourcecheck . string : resourcecheck
check pathcheck_check pathcheck . string : decision
check resourcecheck_check resourcecheck . string : decision
allowed decision_allowed decision . : bool
reason decision_reason decision . : string
errored decision_errored decision . : bool
error decision_error decision . : string
";

/// A question to an authorizer: may somebody use a verb on a path or on a resource?
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    /// Namespace and name of the service account that is meant; the caller otherwise.
    pub account: Option<(String, String)>,
    /// `get` and the like.
    pub verb: String,
    /// A path outside of resources.
    pub path: Option<String>,
    /// The group of a resource; empty for the core group.
    pub group: String,
    /// The plural.
    pub resource: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// Empty for all namespaces, and for what lies in none.
    pub namespace: String,
    /// Empty for any name.
    pub name: String,
    /// To what fields the question is narrowed, as it was written.
    pub field_selector: String,
    /// To what labels the question is narrowed, as it was written.
    pub label_selector: String,
}

/// The answer to a [`Check`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruling {
    /// Whether they may.
    pub allowed: bool,
    /// Why; may be empty.
    pub reason: String,
    /// What went wrong; empty if nothing did.
    pub error: String,
}

/// Who answers. An answer that takes time is none at first: the evaluation then ends with
/// [`Error::Undecided`], and is begun anew once the answer is known.
pub trait Authority: fmt::Debug + Sync {
    /// The answer, if it is known.
    fn rule(&self, check: &Check) -> Option<Ruling>;
}

/// What has been said so far, on the way to a question.
#[derive(Clone, Debug)]
pub struct Asking<'a> {
    authority: &'a dyn Authority,
    stage: Stage,
    check: Arc<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

impl PartialEq for Asking<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.stage == other.stage && self.check == other.check
    }
}

impl<'a> Asking<'a> {
    /// `authorizer`: nothing has been said.
    pub(crate) fn about_anything(authority: &'a dyn Authority) -> Self {
        Self {
            authority,
            stage: Stage::Authorizer,
            check: Arc::default(),
        }
    }

    /// `authorizer.requestResource`: all but the verb has been said.
    pub(crate) fn about_resource(authority: &'a dyn Authority, check: Check) -> Self {
        Self {
            authority,
            stage: Stage::Resource,
            check: Arc::new(check),
        }
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Authorizer => "kubernetes.authorization.Authorizer",
            Stage::Path => "kubernetes.authorization.PathCheck",
            Stage::Group => "kubernetes.authorization.GroupCheck",
            Stage::Resource => "kubernetes.authorization.ResourceCheck",
        }
    }

    fn with(&self, stage: Stage, change: impl FnOnce(&mut Check)) -> Value<'a> {
        let mut check = (*self.check).clone();
        change(&mut check);
        Value::Asking(Self {
            authority: self.authority,
            stage,
            check: Arc::new(check),
        })
    }
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    match args {
        [Value::Asking(asking), rest @ ..] => {
            let mut texts = Vec::new();
            for text in rest {
                let text = text.as_str().ok_or_else(Error::overload)?;
                budget.spend(crate::budget::size(text.len()) / 100)?;
                texts.push(text.to_owned());
            }
            ask(name, asking, texts)
        }
        [Value::Ruling(ruling)] => match name {
            "allowed" => Ok(Value::Bool(ruling.allowed)),
            "reason" => Ok(ruling.reason.as_str().into()),
            "errored" => Ok(Value::Bool(!ruling.error.is_empty())),
            "error" => Ok(ruling.error.as_str().into()),
            _ => Err(Error::overload()),
        },
        _ => Err(Error::overload()),
    }
}

fn ask<'a>(name: &str, asking: &Asking<'a>, mut texts: Vec<String>) -> Result<Value<'a>> {
    use Stage::{Authorizer, Group, Path, Resource};
    let text = texts.pop().ok_or_else(Error::overload)?;
    let is_blank = text.trim().is_empty();
    Ok(match (name, asking.stage) {
        ("path", Authorizer) if is_blank => return Err(Error::new("path must not be empty")),
        ("path", Authorizer) => asking.with(Path, |check| check.path = Some(text)),
        ("group", Authorizer) => asking.with(Group, |check| check.group = text),
        ("serviceAccount", Authorizer) => {
            let namespace = texts.pop().ok_or_else(Error::overload)?;
            if !names::dns1123_subdomain(&text).is_empty() {
                return Err(Error::new("Invalid service account name"));
            }
            if !names::dns1123_label(&namespace).is_empty() {
                return Err(Error::new("Invalid service account namespace"));
            }
            asking.with(Authorizer, |check| check.account = Some((namespace, text)))
        }
        ("resource", Group) if is_blank => {
            return Err(Error::new("resource must not be empty"));
        }
        ("resource", Group) => asking.with(Resource, |check| check.resource = text),
        ("subresource", Resource) => asking.with(Resource, |check| check.subresource = text),
        ("namespace", Resource) => asking.with(Resource, |check| check.namespace = text),
        ("name", Resource) => asking.with(Resource, |check| check.name = text),
        ("fieldSelector", Resource) => asking.with(Resource, |check| check.field_selector = text),
        ("labelSelector", Resource) => asking.with(Resource, |check| check.label_selector = text),
        ("check", Path | Resource) => {
            let mut check = (*asking.check).clone();
            check.verb = text;
            let ruling = asking.authority.rule(&check).ok_or(Error::Undecided)?;
            Value::Ruling(Arc::new(ruling))
        }
        _ => return Err(Error::overload()),
    })
}
