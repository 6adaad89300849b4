//! Points in time and durations.

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    budget::{Budget, Error, Result},
    library::instant::{Instant, Wrong},
    value::Value,
};

pub(crate) const DECLARATIONS: &str = "
timestamp string_to_timestamp string : timestamp
timestamp int64_to_timestamp int : timestamp
timestamp timestamp_to_timestamp timestamp : timestamp
duration string_to_duration string : duration
duration int64_to_duration int : duration
duration duration_to_duration duration : duration
getFullYear timestamp_to_year timestamp . : int
getFullYear timestamp_to_year_with_tz timestamp . string : int
getMonth timestamp_to_month timestamp . : int
getMonth timestamp_to_month_with_tz timestamp . string : int
getDayOfYear timestamp_to_day_of_year timestamp . : int
getDayOfYear timestamp_to_day_of_year_with_tz timestamp . string : int
getDayOfMonth timestamp_to_day_of_month timestamp . : int
getDayOfMonth timestamp_to_day_of_month_with_tz timestamp . string : int
getDate timestamp_to_day_of_month_1_based timestamp . : int
getDate timestamp_to_day_of_month_1_based_with_tz timestamp . string : int
getDayOfWeek timestamp_to_day_of_week timestamp . : int
getDayOfWeek timestamp_to_day_of_week_with_tz timestamp . string : int
getHours timestamp_to_hours timestamp . : int
getHours timestamp_to_hours_with_tz timestamp . string : int
getHours duration_to_hours duration . : int
getMinutes timestamp_to_minutes timestamp . : int
getMinutes timestamp_to_minutes_with_tz timestamp . string : int
getMinutes duration_to_minutes duration . : int
getSeconds timestamp_to_seconds timestamp . : int
getSeconds timestamp_to_seconds_tz timestamp . string : int
getSeconds duration_to_seconds duration . : int
getMilliseconds timestamp_to_milliseconds timestamp . : int
getMilliseconds timestamp_to_milliseconds_with_tz timestamp . string : int
getMilliseconds duration_to_milliseconds duration . : int
";

/// No time or duration is longer: reading one takes no time to speak of.
const LENGTH_MAX: usize = 256;

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], _budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("timestamp", [Value::String(text)]) => match Instant::parse(text.as_str()) {
            Ok(time) => Ok(Value::Timestamp(time)),
            Err(Wrong::Range) => Err(overflow()),
            Err(Wrong::Form) => Err(conversion("google.protobuf.Timestamp")),
        },
        ("timestamp", [Value::Int(seconds)]) => within(Instant::from_second(*seconds)),
        ("timestamp", [Value::Timestamp(_)]) | ("duration", [Value::Duration(_)]) => {
            Ok(args[0].clone())
        }
        ("duration", [Value::String(text)]) => duration(text.as_str())
            .map(Value::Duration)
            .ok_or_else(|| conversion("google.protobuf.Duration")),
        (_, [Value::Timestamp(time)]) => part(name, *time, 0),
        (_, [Value::Timestamp(time), Value::String(zone)]) => {
            part(name, *time, offset(*time, zone.as_str())?)
        }
        (_, [Value::Duration(nanos)]) => Ok(Value::Int(match name {
            "getHours" => nanos / 3_600_000_000_000,
            "getMinutes" => nanos / 60_000_000_000,
            "getSeconds" => nanos / 1_000_000_000,
            "getMilliseconds" => nanos / 1_000_000,
            _ => return Err(Error::overload()),
        })),
        _ => Err(Error::overload()),
    }
}

fn conversion(to: &str) -> Error {
    Error::new(format!("type conversion error from 'string' to '{to}'"))
}

fn overflow() -> Error {
    Error::new("timestamp overflow")
}

fn within<'a>(time: Option<Instant>) -> Result<Value<'a>> {
    time.map(Value::Timestamp).ok_or_else(overflow)
}

/// Seconds east of Greenwich, in a named zone at that time or as `+01:30` says.
fn offset(time: Instant, zone: &str) -> Result<i32> {
    if matches!(zone, "" | "UTC" | "Local") {
        return Ok(0);
    }
    let Some((hours, minutes)) = zone.split_once(':') else {
        // Zones change their rules within the range that the library has.
        let seconds = time.second();
        let (least, most) = (Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let time = Timestamp::from_second(seconds.clamp(least, most)).unwrap_or_default();
        let zone =
            TimeZone::get(zone).map_err(|_| Error::new(format!("unknown time zone {zone}")))?;
        return Ok(zone.to_offset(time).seconds());
    };
    let number = |digits: &str| {
        digits
            .parse::<i32>()
            .ok()
            .filter(|number| number.abs() < 10_000)
            .ok_or_else(|| Error::new(format!("strconv.Atoi: parsing {digits:?}: invalid syntax")))
    };
    let sign = if hours.starts_with('-') { -1 } else { 1 };
    Ok(number(hours)? * 3600 + sign * number(minutes)? * 60)
}

fn part<'a>(name: &str, time: Instant, offset: i32) -> Result<Value<'a>> {
    let there = time.parts(offset);
    Ok(Value::Int(match name {
        "getFullYear" => there.year,
        "getMonth" => there.month - 1,
        "getDayOfYear" => there.day_of_year,
        "getDayOfMonth" => there.day - 1,
        "getDate" => there.day,
        "getDayOfWeek" => there.weekday,
        "getHours" => there.hour,
        "getMinutes" => there.minute,
        "getSeconds" => there.second,
        "getMilliseconds" => there.nanos / 1_000_000,
        _ => return Err(Error::overload()),
    }))
}

pub(crate) fn arithmetic<'a>(name: &str, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    let overflow = || Error::new("integer overflow");
    match (name, left, right) {
        ("_+_", Value::Timestamp(time), Value::Duration(nanos))
        | ("_+_", Value::Duration(nanos), Value::Timestamp(time)) => {
            within(time.plus(i128::from(*nanos)))
        }
        ("_-_", Value::Timestamp(time), Value::Duration(nanos)) => {
            within(time.plus(-i128::from(*nanos)))
        }
        ("_-_", Value::Timestamp(left), Value::Timestamp(right)) => {
            i64::try_from(left.since(*right))
                .map(Value::Duration)
                .map_err(|_| overflow())
        }
        ("_+_", Value::Duration(left), Value::Duration(right)) => left
            .checked_add(*right)
            .map(Value::Duration)
            .ok_or_else(overflow),
        ("_-_", Value::Duration(left), Value::Duration(right)) => left
            .checked_sub(*right)
            .map(Value::Duration)
            .ok_or_else(overflow),
        _ => Err(Error::overload()),
    }
}

/// What `format: date-time` holds: RFC 3339, and what else validation lets pass.
pub(crate) fn date_time(text: &str) -> Option<Instant> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    Instant::parse(text).ok().or_else(|| {
        let time: Timestamp = text.parse().ok()?;
        Instant::from_second(time.as_second())?.plus(i128::from(time.subsec_nanosecond()))
    })
}

/// What `format: duration` holds: as Go writes it, with days and weeks besides.
pub(crate) fn long_duration(text: &str) -> Option<i64> {
    read_duration(text, true)
}

/// A duration as Go writes it (`1h30m`).
pub(crate) fn duration(text: &str) -> Option<i64> {
    read_duration(text, false)
}

fn read_duration(text: &str, days: bool) -> Option<i64> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    let mut whole = 0_i128;
    while !rest.is_empty() {
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, after) = rest.split_at(end);
        let end = after
            .find(|one: char| one.is_ascii_digit() || one == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let nanos: i128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" if days => 86_400_000_000_000,
            "w" if days => 604_800_000_000_000,
            _ => return None,
        };
        if number.is_empty() || number.len() > 40 {
            return None;
        }
        match number.parse::<i128>() {
            Ok(count) => whole = whole.checked_add(count.checked_mul(nanos)?)?,
            Err(_) => total += number.parse::<f64>().ok()? * nanos as f64,
        }
        rest = next;
    }
    let sum = whole + total.round() as i128;
    i64::try_from(if negative { -sum } else { sum }).ok()
}

/// `90.5s`.
pub(crate) fn duration_shown(nanos: i64) -> String {
    format!("{}s", nanos as f64 / 1e9)
}

/// What `format: byte` holds.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for one in text.bytes() {
        let digit = match one {
            b'A'..=b'Z' => one - b'A',
            b'a'..=b'z' => one - b'a' + 26,
            b'0'..=b'9' => one - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(digit)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}
