//! URLs, as Go's `net/url` reads them for a request: absolute, or a rooted path.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    budget::{Budget, Error, Result},
    library::strings,
    value::{Key, Value},
};

pub(crate) const DECLARATIONS: &str = "
url string_to_url string : url
isURL is_url_string string : bool
getScheme url_get_scheme url . : string
getHost url_get_host url . : string
getHostname url_get_hostname url . : string
getPort url_get_port url . : string
getEscapedPath url_get_escaped_path url . : string
getQuery url_get_query url . : map<string,list<string>>
";

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

impl Url {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        let failed = |why: &str| format!("parse {}: {why}", strings::quote(text));
        if text.is_empty() {
            return Err(failed("empty url"));
        }
        if text.bytes().any(|one| one < b' ' || one == 0x7f) {
            return Err(failed("net/url: invalid control character in URL"));
        }
        let (scheme, rest) = scheme(text).map_err(&failed)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut url = Self {
            scheme: scheme.to_ascii_lowercase(),
            host: String::new(),
            path: rest.to_owned(),
            query: query.to_owned(),
        };
        if !rest.starts_with('/') {
            // `mailto:a` is opaque and has no path.
            if url.scheme.is_empty() {
                return Err(failed("invalid URI for request"));
            }
            url.path.clear();
            return Ok(url);
        }
        if let Some(authority) = rest.strip_prefix("//") {
            let end = authority.find('/').unwrap_or(authority.len());
            let (authority, path) = authority.split_at(end);
            let host = authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host);
            port_of(host).map_err(|port| {
                failed(&format!("invalid port {} after host", strings::quote(port)))
            })?;
            if let Some(odd) = host.chars().find(|one| {
                matches!(
                    one,
                    ' ' | '<' | '>' | '"' | '\\' | '^' | '`' | '{' | '|' | '}'
                )
            }) {
                return Err(failed(&format!(
                    "invalid character {} in host name",
                    strings::quote(&odd.to_string())
                )));
            }
            url.host = host.to_owned();
            url.path = path.to_owned();
        }
        if let Some(escape) = bad_escape(&url.path) {
            return Err(failed(&format!(
                "invalid URL escape {}",
                strings::quote(&escape)
            )));
        }
        Ok(url)
    }

    /// Characters of all parts.
    pub(crate) fn len(&self) -> usize {
        self.scheme.len() + self.host.len() + self.path.len() + self.query.len()
    }

    fn hostname(&self) -> &str {
        if let Some(inner) = self.host.strip_prefix('[') {
            return inner.split_once(']').map_or(inner, |(host, _)| host);
        }
        self.host
            .rsplit_once(':')
            .map_or(&self.host, |(host, _)| host)
    }

    fn port(&self) -> &str {
        let after = self
            .host
            .rsplit_once(']')
            .map_or(&*self.host, |(_, after)| after);
        after.rsplit_once(':').map_or("", |(_, port)| port)
    }

    fn query<'a>(&self, budget: &mut Budget) -> Result<Value<'a>> {
        let mut found: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
        for pair in self.query.split('&').filter(|pair| !pair.is_empty()) {
            budget.spend(1)?;
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let (Some(key), Some(value)) = (unescape(key), unescape(value)) {
                found.entry(key).or_default().push(value.into());
            }
        }
        let entries: BTreeMap<Key, Value<'a>> = found
            .into_iter()
            .map(|(key, values)| (Key::String(key.into()), values.into()))
            .collect();
        Ok(entries.into())
    }
}

/// Splits off what stands before the first colon, if it can be a scheme.
fn scheme(text: &str) -> std::result::Result<(&str, &str), &'static str> {
    for (at, one) in text.char_indices() {
        match one {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => break,
        }
    }
    Ok(("", text))
}

fn port_of(host: &str) -> std::result::Result<(), &str> {
    let after = host.rsplit_once(']').map_or(host, |(_, after)| after);
    let Some(at) = after.rfind(':') else {
        return Ok(());
    };
    let port = &after[at..];
    if port[1..].bytes().all(|one| one.is_ascii_digit()) {
        Ok(())
    } else {
        Err(port)
    }
}

fn bad_escape(path: &str) -> Option<String> {
    let bytes = path.as_bytes();
    let at = bytes.iter().enumerate().position(|(at, one)| {
        let digits = bytes.get(at + 1..at + 3);
        *one == b'%' && !digits.is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit))
    })?;
    Some(String::from_utf8_lossy(&bytes[at..bytes.len().min(at + 3)]).into_owned())
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(one) = rest.next() {
        bytes.push(match one {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a path looks like when it must be escaped.
fn escaped(path: &str) -> String {
    let mut escaped = String::with_capacity(path.len());
    for one in path.bytes() {
        if one.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&one) {
            escaped.push(char::from(one));
        } else {
            escaped.push_str(&format!("%{one:02X}"));
        }
    }
    escaped
}

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("url", [Value::String(text)]) => match Url::parse(text.as_str()) {
            Ok(url) => Ok(Value::Url(Arc::new(url))),
            Err(why) => Err(Error::new(format!(
                "URL parse error during conversion from string: {why}"
            ))),
        },
        ("isURL", [Value::String(text)]) => Ok(Value::Bool(Url::parse(text.as_str()).is_ok())),
        ("getScheme", [Value::Url(url)]) => Ok(url.scheme.as_str().into()),
        ("getHost", [Value::Url(url)]) => Ok(url.host.as_str().into()),
        ("getHostname", [Value::Url(url)]) => Ok(url.hostname().into()),
        ("getPort", [Value::Url(url)]) => Ok(url.port().into()),
        ("getEscapedPath", [Value::Url(url)]) => Ok(escaped(&url.path).into()),
        ("getQuery", [Value::Url(url)]) => url.query(budget),
        _ => Err(Error::overload()),
    }
}
