//! The string and number formats that Kubernetes asserts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Number;

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
        "ipv4" => ipv4(text),
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

/// Whether a type has a format; without a type, it is text.
pub(crate) fn belongs(format: &str, kind: &str) -> bool {
    match kind {
        "" | "string" => is_text(format),
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether texts are checked for a format.
pub(crate) fn is_text(format: &str) -> bool {
    is_known(format) && !matches!(format, "int32" | "int64" | "float" | "double")
}

/// Why a number is out of the range of a type, `what` being the number; without its place.
pub(crate) fn range(
    number: &Number,
    kind: &str,
    format: Option<&str>,
    what: &str,
) -> Option<String> {
    let float = number.as_f64()?;
    let whole = |low: f64, high: f64| float.fract() == 0.0 && (low..high).contains(&float);
    let (fits, format) = match (kind, format) {
        ("integer", Some("int32")) => (
            whole(f64::from(i32::MIN), f64::from(i32::MAX) + 1.0),
            format,
        ),
        ("integer", format) => (
            number.is_i64() || whole(-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0),
            format.filter(|format| *format == "int64"),
        ),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "infinity is what is looked for"
        )]
        ("number", Some("float")) => ((float as f32).is_finite(), format),
        _ => (true, None),
    };
    let format = match format {
        Some(format) => format!("with format {format}"),
        None => "(default format)".to_owned(),
    };
    (!fits).then(|| format!("{what} must be of type {kind} {format}"))
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

/// A single label, or a domain whose last label is letters only, at least two.
fn hostname(text: &str) -> bool {
    let letter = |letter: char| letter.is_alphabetic() && !letter.is_numeric();
    let plain = |one: char| one.is_ascii_digit() || letter(one) || is_symbol(one);
    if text.len() > 255 || text.split('.').any(|label| label.len() > 63) {
        return false;
    }
    let Some((domain, last)) = text.rsplit_once('.') else {
        // At most one hyphen, behind the first letter.
        let mut letters = text.chars();
        let Some(first) = letters.next() else {
            return false;
        };
        let rest = letters.as_str();
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        return plain(first) && rest.chars().count() <= 62 && rest.chars().all(plain);
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|one| plain(one) || one == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (2..=63).contains(&last.chars().count())
        && last.chars().all(letter)
        && domain.split('.').all(label)
}

/// Unicode's symbols, as far as names may hold them.
fn is_symbol(one: char) -> bool {
    matches!(one, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~')
        || (!one.is_ascii() && !one.is_alphanumeric() && !one.is_whitespace() && !one.is_control())
}

/// An IPv4 address; zeros in front of its numbers mean nothing.
fn ipv4(text: &str) -> bool {
    let numbers: Vec<&str> = text.split('.').collect();
    let number = |digits: &&str| {
        !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && digits.trim_start_matches('0').len() <= 3
            && (digits.trim_start_matches('0').is_empty()
                || digits.trim_start_matches('0').parse::<u8>().is_ok())
    };
    numbers.len() == 4 && numbers.iter().all(number)
        || (text.contains('.') && text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let plain = length.bytes().all(|byte| byte.is_ascii_digit())
        && (length == "0" || !length.starts_with('0'));
    let Ok(length) = length.parse::<u8>() else {
        return false;
    };
    if address.contains(':') {
        plain && length <= 128 && address.parse::<std::net::Ipv6Addr>().is_ok()
    } else {
        plain && length <= 32 && ipv4(address)
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

/// `123-45-6789` or `123 45 6789`; between its groups there must be something.
fn ssn(text: &str) -> bool {
    let groups: Vec<&str> = text.split(['-', ' ']).collect();
    groups.iter().map(|group| group.len()).eq([3, 2, 4])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_digit()))
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

/// Go durations; else a text with a number and the beginning of a unit's name in it
/// (`2 days`, but `P1D` as well).
fn duration(text: &str) -> bool {
    if go_duration(text) {
        return true;
    }
    const UNITS: &[(&str, &[&str])] = &[
        ("nano", &["ns"]),
        ("micro", &["us", "µs"]),
        ("milli", &["ms"]),
        ("sec", &["s"]),
        ("min", &["m"]),
        ("hour", &["h", "hr"]),
        ("day", &["d"]),
        ("week", &["w", "wk"]),
    ];
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_digit()) {
        rest = &rest[start..];
        let end = rest
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let end = behind
            .find(|letter: char| !letter.is_ascii_alphabetic() && letter != 'µ')
            .unwrap_or(behind.len());
        let unit = behind[..end].to_lowercase();
        rest = behind;
        if unit.is_empty() {
            continue;
        }
        if number.parse::<i64>().is_err() {
            return false;
        }
        let known = UNITS
            .iter()
            .any(|(begin, names)| unit.starts_with(begin) || names.contains(&unit.as_str()));
        if known {
            return true;
        }
    }
    false
}

/// What Go's `time.ParseDuration` reads.
fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
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
        let digits = &rest[..number];
        if !digits.bytes().any(|byte| byte.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return false;
        }
        rest = &rest[number..];
        let unit = rest
            .find(|letter: char| letter.is_ascii_digit() || letter == '.')
            .unwrap_or(rest.len());
        if !["ns", "us", "µs", "μs", "ms", "s", "m", "h"].contains(&&rest[..unit]) {
            return false;
        }
        rest = &rest[unit..];
    }
    true
}
