//! What Go's `regexp` refuses, in its own words, and what it reads otherwise than the
//! engine here.

/// The most repetitions that may be asked for.
const REPEAT_MAX: u32 = 1000;

/// Why Go does not take a pattern, as far as its form tells.
pub(super) fn problem(text: &str) -> Option<String> {
    let told = |what: &str, part: &str| Some(format!("{what}: `{part}`"));
    let bytes = text.as_bytes();
    let (mut at, mut open) = (0, 0_u32);
    // Where the last operator of repetition begins; what can be repeated.
    let (mut repeated, mut operand): (Option<usize>, bool) = (None, false);
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\\' => {
                let Some(next) = text[at + 1..].chars().next() else {
                    return told("trailing backslash at end of expression", "");
                };
                if next == 'Q' {
                    let end = text[at + 2..].find("\\E").map(|end| at + 2 + end + 2);
                    at = end.unwrap_or(bytes.len());
                    (repeated, operand) = (None, true);
                    continue;
                }
                if next == 'C' || !escapes(next) {
                    let end = at + 1 + next.len_utf8();
                    return told("invalid escape sequence", &text[at..end]);
                }
                at += 1 + next.len_utf8();
                (repeated, operand) = (None, true);
            }
            b'[' => {
                at = class_end(text, at)?;
                (repeated, operand) = (None, true);
            }
            b'(' => {
                open += 1;
                at += 1;
                if let Some(rest) = text[at..].strip_prefix('?') {
                    if ["=", "!", "<=", "<!"]
                        .iter()
                        .any(|one| rest.starts_with(one))
                    {
                        return told(
                            "invalid or unsupported Perl syntax",
                            &text[start..start + 3],
                        );
                    }
                    at += 1 + rest.find([':', ')', '>']).unwrap_or(0);
                    if bytes.get(at) == Some(&b')') {
                        open -= 1;
                    }
                    at += 1;
                }
                (repeated, operand) = (None, false);
            }
            b')' => {
                if open == 0 {
                    return told("unexpected )", text);
                }
                open -= 1;
                at += 1;
                (repeated, operand) = (None, true);
            }
            b'|' => {
                at += 1;
                (repeated, operand) = (None, false);
            }
            b'*' | b'+' | b'?' | b'{' => {
                let length = match repetition(&text[at..]) {
                    Ok(Some(length)) => length,
                    Ok(None) => {
                        at += 1;
                        (repeated, operand) = (None, true);
                        continue;
                    }
                    Err(length) => {
                        return told("invalid repeat count", &text[at..at + length]);
                    }
                };
                at += length;
                if bytes.get(at) == Some(&b'?') {
                    at += 1;
                }
                if !operand {
                    return told("missing argument to repetition operator", &text[start..at]);
                }
                if let Some(before) = repeated {
                    return told("invalid nested repetition operator", &text[before..at]);
                }
                repeated = Some(start);
            }
            _ => {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
                (repeated, operand) = (None, true);
            }
        }
    }
    if open > 0 {
        return told("missing closing )", text);
    }
    None
}

/// Whether a character means something, or itself, after a backslash.
fn escapes(one: char) -> bool {
    one.is_ascii_punctuation() || "abBAzdDsSwWfnrtvxpP01234567".contains(one)
}

/// Past the closing bracket of the class that begins at `at`. What is wrong inside is left
/// to the engine.
fn class_end(text: &str, at: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut end = at + 1;
    if bytes.get(end) == Some(&b'^') {
        end += 1;
    }
    if bytes.get(end) == Some(&b']') {
        end += 1;
    }
    while let Some(one) = bytes.get(end) {
        match one {
            b']' => return Some(end + 1),
            b'\\' => end += 2,
            b'[' if bytes.get(end + 1) == Some(&b':') => {
                end += text.get(end..)?.find(":]").map_or(1, |length| length + 2);
            }
            _ => end += 1,
        }
    }
    None
}

/// How long an operator of repetition is; none if a brace is only a brace.
fn repetition(text: &str) -> Result<Option<usize>, usize> {
    let Some(inner) = text.strip_prefix('{') else {
        return Ok(Some(1));
    };
    let Some(end) = inner.find('}') else {
        return Ok(None);
    };
    let (least, most) = match inner[..end].split_once(',') {
        Some((least, "")) => (least, least),
        Some((least, most)) => (least, most),
        None => (&inner[..end], &inner[..end]),
    };
    let is_number = |digits: &str| {
        !digits.is_empty()
            && digits.bytes().all(|one| one.is_ascii_digit())
            && (digits.len() == 1 || !digits.starts_with('0'))
    };
    if !is_number(least) || !is_number(most) {
        return Ok(None);
    }
    let number = |digits: &str| digits.parse::<u32>().unwrap_or(u32::MAX);
    let (least, most) = (number(least), number(most));
    if least > REPEAT_MAX || most > REPEAT_MAX || least > most {
        return Err(end + 2);
    }
    Ok(Some(end + 2))
}

/// Whether a brace at the beginning of a text is only a brace.
pub(super) fn is_plain_brace(text: &str) -> bool {
    matches!(repetition(text), Ok(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_gos() {
        for (text, expect) in [
            ("(", Some("missing closing ): `(`")),
            ("a)", Some("unexpected ): `a)`")),
            ("a**", Some("invalid nested repetition operator: `**`")),
            ("*a", Some("missing argument to repetition operator: `*`")),
            ("a{1001}", Some("invalid repeat count: `{1001}`")),
            ("a{2,1}", Some("invalid repeat count: `{2,1}`")),
            ("\\Z", Some("invalid escape sequence: `\\Z`")),
            ("(?=a)", Some("invalid or unsupported Perl syntax: `(?=`")),
            ("a{,2}", None),
            ("(?i)a+?|[)*]\\Q(\\E", None),
        ] {
            assert_eq!(problem(text).as_deref(), expect, "{text}");
        }
    }
}
