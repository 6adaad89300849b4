//! Points in time and durations.

use jiff::{
    SignedDuration, Timestamp,
    civil::Date,
    tz::{Offset, TimeZone},
};

use crate::{
    budget::{Budget, Error, Result},
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

/// Times lie between the years 1 and 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(crate) fn call<'a>(name: &str, args: &[Value<'a>], _budget: &mut Budget) -> Result<Value<'a>> {
    match (name, args) {
        ("timestamp", [Value::String(text)]) => timestamp(text.as_str())
            .map(Value::Timestamp)
            .ok_or_else(|| conversion("google.protobuf.Timestamp")),
        ("timestamp", [Value::Int(seconds)]) => within(Timestamp::from_second(*seconds).ok()),
        ("timestamp", [Value::Timestamp(_)]) | ("duration", [Value::Duration(_)]) => {
            Ok(args[0].clone())
        }
        ("duration", [Value::String(text)]) => duration(text.as_str())
            .map(Value::Duration)
            .ok_or_else(|| conversion("google.protobuf.Duration")),
        ("duration", [Value::Int(nanos)]) => Ok(Value::Duration(*nanos)),
        (_, [Value::Timestamp(time)]) => part(name, *time, &TimeZone::UTC),
        (_, [Value::Timestamp(time), Value::String(zone)]) => {
            part(name, *time, &zone_of(zone.as_str())?)
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

fn within<'a>(time: Option<Timestamp>) -> Result<Value<'a>> {
    time.filter(|time| SECONDS.contains(&time.as_second()))
        .map(Value::Timestamp)
        .ok_or_else(|| Error::new("timestamp overflow"))
}

fn zone_of(name: &str) -> Result<TimeZone> {
    let unknown = || Error::new(format!("unknown time zone {name}"));
    if matches!(name, "" | "UTC") {
        return Ok(TimeZone::UTC);
    }
    let Some((hours, minutes)) = name.split_once(':') else {
        return TimeZone::get(name).map_err(|_| unknown());
    };
    let negative = hours.starts_with('-');
    let hours: i32 = hours.parse().map_err(|_| unknown())?;
    let minutes: i32 = minutes.parse().map_err(|_| unknown())?;
    if !(-23..=23).contains(&hours) || !(0..60).contains(&minutes) {
        return Err(unknown());
    }
    let minutes = if negative { -minutes } else { minutes };
    let offset = Offset::from_seconds(hours * 3600 + minutes * 60).map_err(|_| unknown())?;
    Ok(TimeZone::fixed(offset))
}

fn part<'a>(name: &str, time: Timestamp, zone: &TimeZone) -> Result<Value<'a>> {
    let there = zone.to_datetime(time);
    Ok(Value::Int(match name {
        "getFullYear" => i64::from(there.year()),
        "getMonth" => i64::from(there.month()) - 1,
        "getDayOfYear" => i64::from(there.day_of_year()) - 1,
        "getDayOfMonth" => i64::from(there.day()) - 1,
        "getDate" => i64::from(there.day()),
        "getDayOfWeek" => i64::from(there.weekday().to_sunday_zero_offset()),
        "getHours" => i64::from(there.hour()),
        "getMinutes" => i64::from(there.minute()),
        "getSeconds" => i64::from(there.second()),
        "getMilliseconds" => i64::from(there.millisecond()),
        _ => return Err(Error::overload()),
    }))
}

pub(crate) fn arithmetic<'a>(name: &str, left: &Value<'a>, right: &Value<'a>) -> Result<Value<'a>> {
    let overflow = || Error::new("duration overflow");
    match (name, left, right) {
        ("_+_", Value::Timestamp(time), Value::Duration(nanos))
        | ("_+_", Value::Duration(nanos), Value::Timestamp(time)) => {
            within(time.checked_add(SignedDuration::from_nanos(*nanos)).ok())
        }
        ("_-_", Value::Timestamp(time), Value::Duration(nanos)) => {
            within(time.checked_sub(SignedDuration::from_nanos(*nanos)).ok())
        }
        ("_-_", Value::Timestamp(left), Value::Timestamp(right)) => {
            i64::try_from(left.as_nanosecond() - right.as_nanosecond())
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

/// A time as RFC 3339 writes it.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let separated = text
        .as_bytes()
        .get(10)
        .is_some_and(|one| matches!(one, b'T' | b't' | b' '));
    let time: Timestamp = text.parse().ok()?;
    (separated && SECONDS.contains(&time.as_second())).then_some(time)
}

/// Midnight of a day.
pub(crate) fn date(text: &str) -> Option<Timestamp> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let date: Date = text.parse().ok()?;
    Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// A duration as Go writes it (`1h30m`), with days and weeks besides.
pub(crate) fn duration(text: &str) -> Option<i64> {
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
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
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
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (seconds, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    if fraction == 0 {
        return format!("{sign}{seconds}s");
    }
    let fraction = format!("{fraction:09}");
    format!("{sign}{seconds}.{}s", fraction.trim_end_matches('0'))
}

/// As RFC 3339 writes it, in UTC.
pub(crate) fn shown(time: Timestamp) -> String {
    time.to_string()
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
