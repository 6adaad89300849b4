//! The string and number formats that Kubernetes asserts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Number;

use crate::structural::Type;

/// Formats that are checked; others are accepted with a warning.
const KNOWN: &[&str] = &[
    "int32",
    "int64",
    "float",
    "double",
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "date-time",
    "datetime",
    "k8s-short-name",
    "k8s-long-name",
];

/// Whether a format is checked.
pub(crate) fn is_known(format: &str) -> bool {
    KNOWN.contains(&format)
}

/// Whether a text has a format; unknown formats fit everything.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    match format {
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.contains(':') && text.parse::<std::net::Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some('3')),
        "uuid4" => uuid(text, Some('4')),
        "uuid5" => uuid(text, Some('5')),
        "bsonobjectid" => text.len() == 24 && hexadecimal(text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => ssn(text),
        "hexcolor" => {
            let digits = text.strip_prefix('#').unwrap_or(text);
            matches!(digits.len(), 3 | 6) && hexadecimal(digits)
        }
        "rgbcolor" => rgb_color(text),
        "byte" => !text.is_empty() && STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "date-time" | "datetime" => date_time(text),
        "duration" => duration(text),
        "k8s-short-name" => crate::names::dns1123_label(text).is_empty(),
        "k8s-long-name" => crate::names::dns1123_subdomain(text).is_empty(),
        _ => true,
    }
}

/// Why a number does not fit its format, without its place.
pub(crate) fn number(
    number: &Number,
    r#type: Option<Type>,
    format: Option<&str>,
) -> Option<String> {
    let float = number.as_f64()?;
    match (r#type, format) {
        (Some(Type::Integer), Some("int32")) => (!(f64::from(i32::MIN)..=f64::from(i32::MAX))
            .contains(&float))
        .then(|| "Checked value must be of type integer with format int32".to_owned()),
        (Some(Type::Integer), Some("int64")) => (!fits_64_bits(number))
            .then(|| "Checked value must be of type integer with format int64".to_owned()),
        (Some(Type::Integer), None) => (!fits_64_bits(number))
            .then(|| "Checked value must be of type integer (default format)".to_owned()),
        (Some(Type::Number), Some("float")) => (float.abs() > f64::from(f32::MAX))
            .then(|| "Checked value must be of type number with format float".to_owned()),
        _ => None,
    }
}

/// Whether the number, written without exponent, is an integer of 64 bits.
fn fits_64_bits(number: &Number) -> bool {
    number.is_i64()
        || number
            .as_f64()
            .is_some_and(|float| float.fract() == 0.0 && float.abs() < 9_223_372_036_854_775_808.0)
}

fn hexadecimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Go's `url.ParseRequestURI`: an absolute path, or a scheme and something behind it.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let mut letters = scheme.bytes();
    letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
}

fn email(text: &str) -> bool {
    let address = match (text.rfind('<'), text.ends_with('>')) {
        (Some(start), true) => &text[start + 1..text.len() - 1],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    !local.is_empty()
        && !domain.is_empty()
        && !address.contains(char::is_whitespace)
        && !local.starts_with('.')
        && !local.ends_with('.')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
}

fn hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    (1..=255).contains(&name.len()) && name.split('.').all(label)
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    match (address.parse::<std::net::IpAddr>(), length.parse::<u8>()) {
        (Ok(std::net::IpAddr::V4(_)), Ok(length)) => plain && length <= 32,
        (Ok(std::net::IpAddr::V6(_)), Ok(length)) => plain && length <= 128,
        _ => false,
    }
}

fn mac(text: &str) -> bool {
    let groups = |separator: char, digits: usize, counts: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len())
            && parts
                .iter()
                .all(|part| part.len() == digits && hexadecimal(part))
    };
    groups(':', 2, &[6, 8, 20]) || groups('-', 2, &[6, 8, 20]) || groups('.', 4, &[3, 4, 10])
}

fn uuid(text: &str, version: Option<char>) -> bool {
    let plain: String = text.chars().filter(|letter| *letter != '-').collect();
    if plain.len() != 32 || !hexadecimal(&plain) {
        return false;
    }
    let grouped = !text.contains('-') || {
        let lengths: Vec<usize> = text.split('-').map(str::len).collect();
        lengths == [8, 4, 4, 4, 12]
    };
    let variant = version.is_none_or(|version| {
        version == '3'
            || matches!(
                plain.as_bytes()[16].to_ascii_lowercase(),
                b'8' | b'9' | b'a' | b'b'
            )
    });
    grouped && variant && version.is_none_or(|version| plain.chars().nth(12) == Some(version))
}

fn digits(text: &str) -> Vec<u32> {
    text.chars()
        .filter(|letter| !matches!(letter, ' ' | '-'))
        .map(|letter| letter.to_digit(10).unwrap_or(10))
        .collect()
}

fn isbn10(text: &str) -> bool {
    let digits = digits(text);
    let last_is_x = text.ends_with(['X', 'x']);
    let valid = digits
        .iter()
        .enumerate()
        .all(|(index, digit)| *digit < 10 || (index == 9 && last_is_x));
    digits.len() == 10
        && valid
        && digits
            .iter()
            .zip((1..=10).rev())
            .map(|(digit, weight)| digit * weight)
            .sum::<u32>()
            % 11
            == 0
}

fn isbn13(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits
        .iter()
        .enumerate()
        .map(|(index, digit)| if index % 2 == 0 { *digit } else { digit * 3 })
        .sum();
    digits.len() == 13 && digits.iter().all(|digit| *digit < 10) && sum.is_multiple_of(10)
}

fn credit_card(text: &str) -> bool {
    let digits = digits(text);
    if !(12..=19).contains(&digits.len()) || digits.iter().any(|digit| *digit > 9) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, digit)| match (index % 2, digit * 2) {
            (0, _) => *digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}

fn ssn(text: &str) -> bool {
    let plain: String = text
        .chars()
        .filter(|letter| !matches!(letter, ' ' | '-'))
        .collect();
    plain.len() == 9 && plain.bytes().all(|byte| byte.is_ascii_digit())
}

fn rgb_color(text: &str) -> bool {
    let Some(inner) = text
        .strip_prefix("rgb(")
        .and_then(|rest| rest.strip_suffix(')'))
    else {
        return false;
    };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.len() == 3 && parts.iter().all(|part| part.parse::<u8>().is_ok())
}

fn date_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 20
        && matches!(bytes[10], b'T' | b't')
        && text.to_ascii_uppercase().parse::<jiff::Timestamp>().is_ok()
}

/// Go durations, and the words that its OpenAPI library takes besides (`2 days`).
fn duration(text: &str) -> bool {
    let mut rest = text.trim().strip_prefix(['+', '-']).unwrap_or(text.trim());
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        if number == 0 || rest[..number].parse::<f64>().is_err() {
            return false;
        }
        rest = rest[number..].trim_start();
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == ' ')
            .unwrap_or(rest.len());
        let known = [
            "ns",
            "us",
            "µs",
            "μs",
            "ms",
            "s",
            "m",
            "h",
            "d",
            "w",
            "nano",
            "nanosecond",
            "nanoseconds",
            "micro",
            "microsecond",
            "microseconds",
            "milli",
            "millisecond",
            "milliseconds",
            "sec",
            "secs",
            "second",
            "seconds",
            "min",
            "mins",
            "minute",
            "minutes",
            "hr",
            "hrs",
            "hour",
            "hours",
            "day",
            "days",
            "week",
            "weeks",
            "wk",
        ];
        if !known.contains(&&rest[..unit]) {
            return false;
        }
        rest = rest[unit..].trim_start();
    }
    true
}
