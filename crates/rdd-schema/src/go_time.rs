//! What Go says of a text that is no time.

/// A part of a layout.
enum Part {
    /// Exactly these letters.
    Literal(&'static str),
    /// So many digits, up to a number, by this name.
    Digits(usize, u32, &'static str),
    /// A point and so many digits.
    Fraction(usize),
    /// `Z`, or hours and minutes with a sign.
    Zone,
}

/// `2006-01-02T15:04:05Z07:00`, RFC 3339.
const SECONDS: &[(Part, &str)] = &[
    (Part::Digits(4, 9999, "year"), "2006"),
    (Part::Literal("-"), "-"),
    (Part::Digits(2, 12, "month"), "01"),
    (Part::Literal("-"), "-"),
    (Part::Digits(2, 31, "day"), "02"),
    (Part::Literal("T"), "T"),
    (Part::Digits(2, 23, "hour"), "15"),
    (Part::Literal(":"), ":"),
    (Part::Digits(2, 59, "minute"), "04"),
    (Part::Literal(":"), ":"),
    (Part::Digits(2, 59, "second"), "05"),
];

/// The error of Go's `time.Parse` for a text that is no RFC 3339 time; with `micro` the
/// second must have exactly six digits behind the point, as in `v1.MicroTime`.
#[must_use]
pub fn time_error(text: &str, micro: bool) -> String {
    let layout = if micro {
        "2006-01-02T15:04:05.000000Z07:00"
    } else {
        "2006-01-02T15:04:05Z07:00"
    };
    let tail: &[(Part, &str)] = if micro {
        &[(Part::Fraction(6), ".000000"), (Part::Zone, "Z07:00")]
    } else {
        &[(Part::Zone, "Z07:00")]
    };
    let mut rest = text;
    for (part, name) in SECONDS.iter().chain(tail) {
        if let (Part::Zone, false) = (part, micro) {
            rest = without_fraction(rest);
        }
        match step(part, rest) {
            Step::Goes(next) => rest = next,
            Step::Fails => {
                return format!(
                    "parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {name:?}"
                );
            }
            Step::OutOfRange(what) => {
                return format!("parsing time {text:?}: {what} out of range");
            }
        }
    }
    if rest.is_empty() {
        // Everything reads well, so that the day is none of its month.
        format!("parsing time {text:?}: day out of range")
    } else {
        format!("parsing time {text:?}: extra text: {rest:?}")
    }
}

enum Step<'a> {
    Goes(&'a str),
    Fails,
    OutOfRange(&'static str),
}

fn step<'a>(part: &Part, text: &'a str) -> Step<'a> {
    match part {
        Part::Literal(letters) => text.strip_prefix(letters).map_or(Step::Fails, Step::Goes),
        Part::Digits(count, most, name) => {
            let Some(digits) = text.get(..*count).filter(|part| all_digits(part)) else {
                return Step::Fails;
            };
            let number: u32 = digits.parse().unwrap_or(u32::MAX);
            let least = u32::from(matches!(*name, "month"));
            if number > *most || number < least {
                return Step::OutOfRange(name);
            }
            Step::Goes(&text[*count..])
        }
        Part::Fraction(count) => {
            let fits = text
                .strip_prefix('.')
                .and_then(|rest| rest.get(..*count))
                .is_some_and(all_digits);
            if fits {
                Step::Goes(&text[count + 1..])
            } else {
                Step::Fails
            }
        }
        Part::Zone => {
            if let Some(rest) = text.strip_prefix('Z') {
                return Step::Goes(rest);
            }
            let bytes = text.as_bytes();
            let fits = bytes.len() >= 6
                && matches!(bytes[0], b'+' | b'-')
                && bytes[3] == b':'
                && [1, 2, 4, 5].iter().all(|at| bytes[*at].is_ascii_digit());
            if fits {
                Step::Goes(&text[6..])
            } else {
                Step::Fails
            }
        }
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Go takes a fraction behind the seconds that the layout does not have.
fn without_fraction(text: &str) -> &str {
    let Some(digits) = text.strip_prefix('.') else {
        return text;
    };
    let rest = digits.trim_start_matches(|letter: char| letter.is_ascii_digit());
    if rest.len() == digits.len() {
        text
    } else {
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_those_of_go() {
        let check = |text: &str, micro: bool, wanted: &str| {
            let layout = if micro {
                "2006-01-02T15:04:05.000000Z07:00"
            } else {
                "2006-01-02T15:04:05Z07:00"
            };
            let wanted = wanted.replace(
                "LAYOUT",
                &format!("parsing time {text:?} as {layout:?}: cannot parse"),
            );
            assert_eq!(time_error(text, micro), wanted);
        };
        check("x", false, r#"LAYOUT "x" as "2006""#);
        check("", false, r#"LAYOUT "" as "2006""#);
        check("2024", false, r#"LAYOUT "" as "-""#);
        check("2024-01-02", false, r#"LAYOUT "" as "T""#);
        check(
            "2024-01-02 03:04:05Z",
            false,
            r#"LAYOUT " 03:04:05Z" as "T""#,
        );
        check("2024-01-02T03:04:05", false, r#"LAYOUT "" as "Z07:00""#);
        check("2024-01-02T03:04:05.5", false, r#"LAYOUT "" as "Z07:00""#);
        check("2024-01-02T03:04:05Z", true, r#"LAYOUT "Z" as ".000000""#);
        check(
            "2024-01-02T03:04:05.12Z",
            true,
            r#"LAYOUT ".12Z" as ".000000""#,
        );
        check(
            "2024-13-02T03:04:05Z",
            false,
            r#"parsing time "2024-13-02T03:04:05Z": month out of range"#,
        );
        check(
            "2024-02-30T03:04:05Z",
            false,
            r#"parsing time "2024-02-30T03:04:05Z": day out of range"#,
        );
        check(
            "2024-01-02T25:04:05Z",
            false,
            r#"parsing time "2024-01-02T25:04:05Z": hour out of range"#,
        );
        check(
            "2024-01-02T03:04:05Zx",
            false,
            r#"parsing time "2024-01-02T03:04:05Zx": extra text: "x""#,
        );
        check("2024-01-é2T", false, r#"LAYOUT "é2T" as "02""#);
    }
}
