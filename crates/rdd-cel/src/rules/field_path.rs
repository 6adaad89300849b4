//! `fieldPath`: a JSONPath of fields and keys of maps.

use rdd_schema::{AdditionalProperties, Schema};

/// `.m['k']` as errors print it: `m[k]`; none if the schema has no such place.
pub(super) fn normalise(path: &str, schema: &Schema) -> Option<String> {
    let mut normal = String::new();
    let mut schema = schema;
    let mut rest = path;
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix("['") {
            let (unescaped, length) = quoted(after)?;
            name = unescaped;
            rest = after[length..].strip_prefix(']')?;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[', ']']).unwrap_or(after.len());
            name = after[..end].to_owned();
            rest = &after[end..];
        }
        if schema.properties.is_empty() {
            let Some(AdditionalProperties::Schema(values)) = &schema.additional_properties else {
                return None;
            };
            normal.push('[');
            normal.push_str(&name);
            normal.push(']');
            schema = values;
        } else {
            if !normal.is_empty() {
                normal.push('.');
            }
            normal.push_str(&name);
            schema = schema.properties.get(&name)?;
        }
    }
    Some(normal)
}

/// The text up to the closing quote, and where what follows it begins.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut unescaped = String::new();
    let mut characters = text.char_indices();
    while let Some((at, one)) = characters.next() {
        match one {
            '\'' => return Some((unescaped, at + 1)),
            '\\' => unescaped.push(match characters.next()?.1 {
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'v' => '\u{b}',
                plain @ ('\'' | '\\') => plain,
                _ => return None,
            }),
            other => unescaped.push(other),
        }
    }
    None
}
