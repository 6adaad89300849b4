//! The keys of ConfigMaps and Secrets.

use rdd_schema::FieldError;

/// How many bytes the values of one object may have together: 1 MiB.
pub(super) const VALUES_MAX: usize = 1_048_576;

/// The most characters in a key.
const KEY_MAX: usize = 253;

/// What is wrong with a key, as errors of `{field}[{key}]`.
pub(super) fn errors(field: &str, key: &str) -> Vec<FieldError> {
    let mut texts = Vec::new();
    if key.len() > KEY_MAX {
        texts.push(format!("must be no more than {KEY_MAX} characters"));
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if key.is_empty() || !key.bytes().all(allowed) {
        texts.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
             'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is \
             '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    match key {
        "." | ".." => texts.push(format!("must not be '{key}'")),
        _ if key.starts_with("..") => texts.push("must not start with '..'".to_owned()),
        _ => {}
    }
    texts
        .into_iter()
        .map(|text| FieldError::invalid(format!("{field}[{key}]"), key, text))
        .collect()
}

/// How many bytes base64 text stands for.
pub(super) fn decoded_len(base64: &str) -> usize {
    let padding = base64
        .bytes()
        .rev()
        .take_while(|byte| *byte == b'=')
        .count();
    (base64.len() / 4 * 3).saturating_sub(padding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, expect: &[&str]) {
        let bodies: Vec<String> = errors("data", key).iter().map(FieldError::body).collect();
        assert_eq!(bodies.len(), expect.len(), "{key}: {bodies:?}");
        for (body, expect) in bodies.iter().zip(expect) {
            assert!(body.contains(expect), "{key}: {body}");
        }
    }

    #[test]
    fn keys_are_file_names_without_tricks() {
        check("K_e-y.1", &[]);
        check(".dot", &[]);
        check("", &["a valid config key"]);
        check("a/b", &["a valid config key"]);
        check(".", &["must not be '.'"]);
        check("..", &["must not be '..'"]);
        check("..x", &["must not start with '..'"]);
        check(&"k".repeat(254), &["must be no more than 253 characters"]);
    }

    #[test]
    fn base64_counts_what_it_stands_for() {
        assert_eq!(decoded_len(""), 0);
        assert_eq!(decoded_len("eA=="), 1);
        assert_eq!(decoded_len("eHg="), 2);
        assert_eq!(decoded_len("eHh4"), 3);
    }
}
