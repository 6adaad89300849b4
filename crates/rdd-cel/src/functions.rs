//! Every function that expressions may call, with the types it takes.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use crate::{
    budget::{Budget, Error, Result},
    library,
    types::Type,
    value::Value,
};

/// How a library is called: the function's name, its arguments with the receiver first.
pub(crate) type Run = for<'a> fn(&str, &[Value<'a>], &mut Budget) -> Result<Value<'a>>;

/// All functions of one name.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    run: Run,
    pub(crate) overloads: Vec<Overload>,
}

impl Function {
    /// Calls it; a refusal of the arguments names the function as cel-go does.
    pub(crate) fn call<'a>(&self, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
        (self.run)(self.name, args, budget).map_err(|error| {
            if error == Error::overload() {
                self.refusal(args)
            } else {
                error
            }
        })
    }

    pub(crate) fn refusal(&self, args: &[Value<'_>]) -> Error {
        let name = self.name;
        let types: Vec<&str> = args.iter().map(Value::type_name).collect();
        // Operators ask the left side first whether it knows the operation at all.
        let knows = |kinds: &[&str]| types.first().is_some_and(|left| kinds.contains(left));
        let shown = match name {
            "size" | "sort" | "matches" => name.to_owned(),
            "flatten" => {
                let (receiver, rest) = types.split_first().unwrap_or((&"", &[]));
                format!("{receiver}.flatten({})", rest.join(", "))
            }
            "_+_" if knows(&["list", "string", "bytes"]) => return Error::overload(),
            "_+_" | "_-_" if knows(&TIMES) || knows(&NUMBERS) => return Error::overload(),
            "_*_" | "_/_" if knows(&NUMBERS) => return Error::overload(),
            "_%_" if knows(&NUMBERS[..2]) => return Error::overload(),
            "_<_" | "_<=_" | "_>_" | "_>=_"
                if knows(&NUMBERS) || knows(&TIMES) || knows(&["bool", "string", "bytes"]) =>
            {
                return Error::overload();
            }
            "@in" | "_==_" | "_!=_" | "_[_]" | "_[?_]" | "!_" | "containsIP" => {
                return Error::overload();
            }
            _ if name.starts_with(['_', '-']) => name.to_owned(),
            _ => format!("{name}({})", types.join(", ")),
        };
        Error::new(format!("no such overload: {shown}"))
    }
}

const NUMBERS: [&str; 3] = ["int", "uint", "double"];

const TIMES: [&str; 2] = ["google.protobuf.Timestamp", "google.protobuf.Duration"];

/// A function of one name with the types that it takes.
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    /// Whether the first parameter is the receiver.
    pub(crate) member: bool,
    pub(crate) params: Vec<Type>,
    pub(crate) result: Type,
    /// How many type parameters (`A`, `B`) there are.
    pub(crate) generics: usize,
}

/// Type parameters of declarations; each call gets fresh ones.
const PARAMS: [&str; 2] = ["A", "B"];

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Function> = HashMap::new();
    for (run, declarations) in library::DECLARATIONS {
        for line in declarations.lines().filter(|line| !line.trim().is_empty()) {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            let (name, overload) = declaration(&words);
            functions
                .entry(name)
                .or_insert_with(|| Function {
                    name,
                    run: *run,
                    overloads: Vec::new(),
                })
                .overloads
                .push(overload);
        }
    }
    functions
});

/// The functions of a name.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.get(name)
}

/// `name id receiver . param param : result`, without `receiver .` for a global function.
fn declaration(words: &[&'static str]) -> (&'static str, Overload) {
    let (name, id) = (words[0], words[1]);
    let rest = &words[2..];
    let colon = rest
        .iter()
        .position(|word| *word == ":")
        .expect("every declaration has a result");
    let member = rest[..colon].contains(&".");
    let params: Vec<Type> = rest[..colon]
        .iter()
        .filter(|word| **word != ".")
        .map(|word| parse(word))
        .collect();
    let generics = PARAMS
        .iter()
        .rposition(|param| rest.iter().any(|word| mentions(word, param)))
        .map_or(0, |index| index + 1);
    let overload = Overload {
        id,
        member,
        params,
        result: parse(rest[colon + 1]),
        generics,
    };
    (name, overload)
}

fn mentions(word: &str, param: &str) -> bool {
    word.split(['<', '>', ',']).any(|part| part == param)
}

fn parse(word: &str) -> Type {
    let inner = |prefix: &str| {
        word.strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix('>'))
    };
    if let Some(item) = inner("list<") {
        return Type::list(parse(item));
    }
    if let Some(item) = inner("optional<") {
        return Type::Optional(Arc::new(parse(item)));
    }
    if let Some(item) = inner("type<") {
        return Type::Type(Arc::new(parse(item)));
    }
    if let Some(pair) = inner("map<") {
        let (key, value) = pair.split_once(',').expect("a map has keys and values");
        return Type::Map(Arc::new(parse(key)), Arc::new(parse(value)));
    }
    match word {
        "dyn" => Type::Dyn,
        "null" => Type::Null,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "timestamp" => Type::Timestamp,
        "duration" => Type::Duration,
        "url" => Type::Opaque("kubernetes.URL"),
        "ip" => Type::Opaque("net.IP"),
        "cidr" => Type::Opaque("net.CIDR"),
        "quantity" => Type::Opaque("kubernetes.Quantity"),
        "semver" => Type::Opaque("kubernetes.Semver"),
        "format" => Type::Opaque("kubernetes.NamedFormat"),
        "authorizer" => Type::Opaque("kubernetes.authorization.Authorizer"),
        "pathcheck" => Type::Opaque("kubernetes.authorization.PathCheck"),
        "groupcheck" => Type::Opaque("kubernetes.authorization.GroupCheck"),
        "resourcecheck" => Type::Opaque("kubernetes.authorization.ResourceCheck"),
        "decision" => Type::Opaque("kubernetes.authorization.Decision"),
        other => Type::Param(
            PARAMS
                .iter()
                .position(|param| *param == other)
                .expect("a type is known or a parameter"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declaration_can_be_read() {
        for (_, declarations) in library::DECLARATIONS {
            for line in declarations.lines().filter(|line| !line.trim().is_empty()) {
                let name = line.split_whitespace().next().unwrap_or_default();
                assert!(find(name).is_some(), "{line}");
            }
        }
    }
}
