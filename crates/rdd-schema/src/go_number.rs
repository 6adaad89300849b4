//! Numbers as Go converts and prints them.

use serde_json::Value;

/// A float as Go turns it into an int64: cut, and the least one where it does not fit.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
pub fn go_integer(float: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float) {
        float as i64
    } else {
        i64::MIN
    }
}

/// A JSON number as Go's `%v` prints it: floats with six digits before the point at most.
#[must_use]
pub fn go_number(number: &Value) -> String {
    match number.as_f64() {
        Some(float) if !number.is_i64() => {
            let size = float.abs();
            if float == 0.0 || (1e-4..1e6).contains(&size) {
                return format!("{float}");
            }
            let text = format!("{float:e}");
            let (digits, power) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, power) = match power.strip_prefix('-') {
                Some(power) => ('-', power),
                None => ('+', power),
            };
            format!("{digits}e{sign}{power:0>2}")
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_those_of_go() {
        for (number, expect) in [
            (json!(5), "5"),
            (json!(15.0), "15"),
            (json!(1.5), "1.5"),
            (json!(0.00001), "1e-05"),
            (json!(1e6), "1e+06"),
            (json!(1234567.5), "1.2345675e+06"),
            (json!(1e21), "1e+21"),
            (json!(-0.25), "-0.25"),
        ] {
            assert_eq!(go_number(&number), expect);
        }
        assert_eq!(go_integer(1e21), i64::MIN);
        assert_eq!(go_integer(-3.7), -3);
    }
}
