//! Durations as Go writes them: `90s`, `1h30m`, `1.5ms`; `0` needs no unit.

use std::time::Duration;

/// A limit on a wait; `None` is no limit, written `0`.
pub(crate) type Limit = Option<Duration>;

/// Reads a limit.
pub(crate) fn parse_limit(text: &str) -> Result<Limit, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    if text == "0" {
        return Ok(None);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let (number, behind) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = behind
            .find(|character: char| character.is_ascii_digit() || character == '.')
            .unwrap_or(behind.len());
        let (unit, next) = behind.split_at(end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = next;
    }
    Ok((!total.is_zero()).then_some(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in [
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("1ms", 1),
            ("1.5s", 1_500),
            (".5s", 500),
            ("1m0.5s", 60_500),
        ] {
            let limit = parse_limit(text).expect(text);
            assert_eq!(limit, Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "0s", "0h0m"] {
            assert_eq!(parse_limit(text), Ok(None), "{text}");
        }
        for text in ["", "5", "s", "1x", "1s2", "-1s", "1..2s"] {
            assert!(parse_limit(text).is_err(), "{text}");
        }
    }
}
