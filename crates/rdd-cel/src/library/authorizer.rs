//! Asking whether the caller may do something else. The functions are known everywhere,
//! as their names appear in errors; values of their types come only from a variable that
//! an environment declares.

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
check pathcheck_check pathcheck . string : decision
check resourcecheck_check resourcecheck . string : decision
allowed decision_allowed decision . : bool
reason decision_reason decision . : string
errored decision_errored decision . : bool
error decision_error decision . : string
";

pub(crate) fn call<'a>(
    _name: &str,
    _args: &[Value<'a>],
    _budget: &mut Budget,
) -> Result<Value<'a>> {
    Err(Error::overload())
}
