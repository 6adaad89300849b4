//! Documents that are JSON already, as nearly every client of server-side apply sends them.

use serde_json::Value;

use crate::encoding::json;

/// The longest key that YAML is sure to take for one.
const KEY_MAX: usize = 256;

/// The document, when it is JSON that means the same to a YAML parser, which takes several
/// times as long. Left to that parser is whatever both could read differently: anything but
/// printable ASCII on one line, escapes of characters, numbers with a fraction, keys that
/// come twice or are very long, and all that is wrong.
pub(super) fn json(bytes: &[u8]) -> Option<Value> {
    let bytes = bytes.trim_ascii_end();
    let is_printable = |byte: &u8| matches!(byte, b' '..=b'~');
    let escapes = |pair: &[u8]| pair == b"\\u" || pair == b"\\/";
    if bytes.first() != Some(&b'{')
        || !bytes.iter().all(is_printable)
        || bytes.windows(2).any(escapes)
    {
        return None;
    }
    let parsed = json::parse(bytes).ok()?;
    (parsed.duplicates.is_empty() && is_same(&parsed.value)).then_some(parsed.value)
}

fn is_same(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number.is_i64(),
        Value::Array(items) => items.iter().all(is_same),
        Value::Object(fields) => fields
            .iter()
            .all(|(key, value)| key.len() <= KEY_MAX && is_same(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::yaml::read;

    /// Texts that YAML gives a meaning when they stand without quotes.
    const ODD: [&str; 22] = [
        "",
        " ",
        "yes",
        "~",
        "null",
        "1",
        "1.0",
        "0x10",
        "010",
        "1_000",
        ": ",
        "- ",
        "# x",
        "{",
        "]",
        "&a",
        "*a",
        "<<",
        "!!str",
        "%",
        "@",
        "a: b, [c]",
    ];

    #[test]
    fn what_is_read_as_json_is_what_yaml_says() {
        let mut texts = vec![
            "{}".to_owned(),
            r#"{"a":1,"b":-2,"c":[],"d":[{"e":null},true,false,"x"],"f":{"g":{"h":9007199254740993}}}"#
                .to_owned(),
            r#"{ "a" : [ 1 , 2 ] , "b" : "\"\\\b\f\n\r\t" }"#.to_owned(),
            "{\"a\":\"b\"}\n".to_owned(),
        ];
        for odd in ODD {
            let word = Value::from(odd);
            texts.push(format!(r#"{{{word}:{word},"z":[{word},{{{word}:1}}]}}"#));
        }
        for text in texts {
            let found = json(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            let wanted = read(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(wanted.duplicates.is_empty(), "{text}");
            assert_eq!(found, wanted.value, "{text}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_left_to_yaml() {
        for text in [
            "a: 1",
            "[1]",
            r#"{"a":1.0}"#,
            r#"{"a":1e3}"#,
            r#"{"a":18446744073709551615}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\/"}"#,
            r#"{"a":"ä"}"#,
            "{\"a\":\t1}",
            "{\"a\":\n1}",
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,}"#,
            "{a: 1}",
            "",
        ] {
            assert_eq!(json(text.as_bytes()), None, "{text}");
        }
        let long = format!(r#"{{"{}":1}}"#, "k".repeat(KEY_MAX + 1));
        assert_eq!(json(long.as_bytes()), None);
    }
}
