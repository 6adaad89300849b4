//! Named formats and what is wrong with a text by them.

use std::sync::{Arc, LazyLock};

use rdd_schema::names;

use super::{instant::Instant, regex::Pattern, time, url};
use crate::{
    budget::{Budget, Error, Result},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
format.named format-named string : optional<format>
format.dns1123Label format-dns1123Label : format
format.dns1123Subdomain format-dns1123Subdomain : format
format.dns1035Label format-dns1035Label : format
format.dns1123LabelPrefix format-dns1123LabelPrefix : format
format.dns1123SubdomainPrefix format-dns1123SubdomainPrefix : format
format.dns1035LabelPrefix format-dns1035LabelPrefix : format
format.qualifiedName format-qualifiedName : format
format.labelValue format-labelValue : format
format.uri format-uri : format
format.uuid format-uuid : format
format.byte format-byte : format
format.date format-date : format
format.datetime format-datetime : format
validate format-validate format . string : optional<list<string>>
";

const NAMES: &[&str] = &[
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

const DNS1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or \
                       '-', start with an alphabetic character, and end with an alphanumeric \
                       character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                       '[a-z]([-a-z0-9]*[a-z0-9])?')";

static UUID: LazyLock<Option<Pattern>> = LazyLock::new(|| {
    let hex = "[0-9a-fA-F]";
    let text = format!("^{hex}{{8}}-?{hex}{{4}}-?{hex}{{4}}-?{hex}{{4}}-?{hex}{{12}}$");
    Pattern::compile(&text).ok()
});

fn named(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|known| **known == name).copied()
}

fn dns1035(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 63 {
        problems.push("must be no more than 63 characters".to_owned());
    }
    let inner = |one: u8| one.is_ascii_lowercase() || one.is_ascii_digit();
    let fits = text.bytes().all(|one| inner(one) || one == b'-')
        && text
            .bytes()
            .next()
            .is_some_and(|one| one.is_ascii_lowercase())
        && text.bytes().last().is_some_and(inner);
    if !fits {
        problems.push(DNS1035.to_owned());
    }
    problems
}

/// What is wrong with a text.
fn problems(format: &str, text: &str, budget: &mut Budget) -> Result<Vec<String>> {
    // A prefix may end with a dash, as something follows.
    let prefix = || match text.strip_suffix('-') {
        Some(start) if text.len() > 1 => format!("{start}a"),
        _ => text.to_owned(),
    };
    let unless = |fine: bool, problem: &str| {
        if fine {
            Vec::new()
        } else {
            vec![problem.to_owned()]
        }
    };
    Ok(match format {
        "dns1123Label" => names::dns1123_label(text),
        "dns1123LabelPrefix" => names::dns1123_label(&prefix()),
        "dns1123Subdomain" => names::dns1123_subdomain(text),
        "dns1123SubdomainPrefix" => names::dns1123_subdomain(&prefix()),
        "dns1035Label" => dns1035(text),
        "dns1035LabelPrefix" => dns1035(&prefix()),
        "qualifiedName" => names::qualified_name(text),
        "labelValue" => names::label_value(text),
        "uri" => match url::call("url", &[Value::from(text)], budget) {
            Ok(_) => Vec::new(),
            Err(error) => vec![error.to_string()],
        },
        "uuid" => unless(
            UUID.as_ref().is_some_and(|uuid| uuid.is_match(text)),
            "does not match the UUID format",
        ),
        "byte" => unless(
            time::base64(text).is_some() && text.len().is_multiple_of(4),
            "invalid base64",
        ),
        "date" => unless(Instant::of_date(text).is_some(), "invalid date"),
        "datetime" => unless(time::date_time(text).is_some(), "invalid datetime"),
        _ => return Err(Error::overload()),
    })
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("format.named", [Value::String(text)]) => Ok(Value::Optional(
            named(text.as_str()).map(|name| Arc::new(Value::Format(name))),
        )),
        ("validate", [Value::Format(format), Value::String(text)]) => {
            let problems = problems(format, text.as_str(), budget)?;
            if problems.is_empty() {
                return Ok(Value::Optional(None));
            }
            let problems: Vec<Value<'a>> = problems.into_iter().map(Value::from).collect();
            Ok(Value::Optional(Some(Arc::new(problems.into()))))
        }
        (_, []) => name
            .strip_prefix("format.")
            .and_then(named)
            .map(Value::Format)
            .ok_or_else(Error::overload),
        _ => Err(Error::overload()),
    }
}
