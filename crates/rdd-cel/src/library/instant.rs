//! Points in time between the years 1 and 9999, with the offset in which they were
//! written: texts keep it, comparisons and parts do not see it.

use std::cmp::Ordering;

/// Seconds since 1970 of the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

const NANOS: i128 = 1_000_000_000;

const DAY: i64 = 86_400;

/// A point in time.
#[derive(Clone, Copy, Debug)]
pub struct Instant {
    /// Nanoseconds since 1970.
    nanos: i128,
    /// Seconds east of Greenwich.
    offset: i32,
}

impl PartialEq for Instant {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Instant {}

impl PartialOrd for Instant {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Instant {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// Why a text is no point in time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Form,
    Range,
}

/// The parts of a point in time at some place.
pub(crate) struct Parts {
    pub(crate) year: i64,
    /// From one.
    pub(crate) month: i64,
    /// From one.
    pub(crate) day: i64,
    /// From zero.
    pub(crate) day_of_year: i64,
    /// From Sunday, which is zero.
    pub(crate) weekday: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    pub(crate) nanos: i64,
}

impl Instant {
    /// So many seconds after 1970, if that is within range.
    pub(crate) fn from_second(seconds: i64) -> Option<Self> {
        Self {
            nanos: i128::from(seconds) * NANOS,
            offset: 0,
        }
        .within()
    }

    fn within(self) -> Option<Self> {
        SECONDS.contains(&self.second()).then_some(self)
    }

    /// Seconds since 1970.
    pub(crate) fn second(self) -> i64 {
        i64::try_from(self.nanos.div_euclid(NANOS)).unwrap_or(i64::MAX)
    }

    /// Later by so many nanoseconds.
    pub(crate) fn plus(self, nanos: i128) -> Option<Self> {
        Self {
            nanos: self.nanos + nanos,
            ..self
        }
        .within()
    }

    /// Nanoseconds from another one to this.
    pub(crate) fn since(self, other: Self) -> i128 {
        self.nanos - other.nanos
    }

    /// Midnight of a day, if there is such a day.
    pub(crate) fn of_date(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        let (year, month, day) = date_of(bytes)?;
        (bytes.len() == 10).then_some(Self {
            nanos: i128::from(days(year, month, day) * DAY) * NANOS,
            offset: 0,
        })
    }

    /// A time as RFC 3339 writes it, read as strictly as Go does.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        read(text.as_bytes())
            .ok_or(Wrong::Form)?
            .within()
            .ok_or(Wrong::Range)
    }

    /// Its parts so many seconds east of Greenwich.
    pub(crate) fn parts(self, offset: i32) -> Parts {
        let seconds = self.second() + i64::from(offset);
        let (number, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = civil(number);
        Parts {
            year,
            month,
            day,
            day_of_year: number - days(year, 1, 1),
            weekday: (number + 4).rem_euclid(7),
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            nanos: i64::try_from(self.nanos.rem_euclid(NANOS)).unwrap_or(0),
        }
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.parts(self.offset);
        write!(
            formatter,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            parts.year, parts.month, parts.day, parts.hour, parts.minute, parts.second
        )?;
        if parts.nanos != 0 {
            let digits = format!("{:09}", parts.nanos);
            write!(formatter, ".{}", digits.trim_end_matches('0'))?;
        }
        if self.offset == 0 {
            return formatter.write_str("Z");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let minutes = self.offset.abs() / 60;
        write!(formatter, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

fn number(bytes: &[u8]) -> Option<i64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        bytes
            .iter()
            .fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')),
    )
}

fn date_of(bytes: &[u8]) -> Option<(i64, i64, i64)> {
    if bytes.len() < 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (
        number(&bytes[..4])?,
        number(&bytes[5..7])?,
        number(&bytes[8..10])?,
    );
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let most = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    ((1..=12).contains(&month) && (1..=most).contains(&day)).then_some((year, month, day))
}

fn read(bytes: &[u8]) -> Option<Instant> {
    let (year, month, day) = date_of(bytes)?;
    if bytes.len() < 20 || bytes[10] != b'T' || bytes[13] != b':' || bytes[16] != b':' {
        return None;
    }
    let (hour, minute, second) = (
        number(&bytes[11..13])?,
        number(&bytes[14..16])?,
        number(&bytes[17..19])?,
    );
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &bytes[19..];
    let mut nanos = 0;
    if matches!(rest[0], b'.' | b',') {
        let count = rest[1..]
            .iter()
            .take_while(|one| one.is_ascii_digit())
            .count();
        if count == 0 {
            return None;
        }
        let kept = count.min(9);
        let scale = u32::try_from(9 - kept).ok()?;
        nanos = number(&rest[1..=kept])? * 10_i64.pow(scale);
        rest = &rest[1 + count..];
    }
    let offset = match rest {
        [b'Z'] => 0,
        [sign @ (b'+' | b'-'), hours @ .., b':', _, _] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&rest[4..6])?);
            if hours > 24 || minutes > 60 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            i32::try_from(if *sign == b'-' { -seconds } else { seconds }).ok()?
        }
        _ => return None,
    };
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let nanos = i128::from(seconds - i64::from(offset)) * NANOS + i128::from(nanos);
    Some(Instant { nanos, offset })
}

/// Days since 1970. Years begin in March here, so that a leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let of_cycle = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * 146_097 + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - 719_468
}

/// Year, month and day of a number of days since 1970.
fn civil(number: i64) -> (i64, i64, i64) {
    let number = number + 719_468;
    let (cycle, of_cycle) = (number.div_euclid(146_097), number.rem_euclid(146_097));
    let year = (of_cycle - of_cycle / 1_460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for number in (-719_162..2_932_896).step_by(97) {
            let (year, month, day) = civil(number);
            assert_eq!(days(year, month, day), number);
        }
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(civil(18_321), (2020, 2, 29));
    }

    #[test]
    fn texts_come_back_as_they_were() {
        for text in [
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
            "2020-02-29T12:34:56.5+01:30",
            "1969-12-31T23:59:59.001-08:00",
        ] {
            let read = Instant::parse(text).map(|time| time.to_string());
            assert_eq!(read.as_deref(), Ok(text));
        }
        for (text, wrong) in [
            ("2020-02-30T00:00:00Z", Wrong::Form),
            ("2020-01-01T00:00:60Z", Wrong::Form),
            ("2020-01-01t00:00:00Z", Wrong::Form),
            ("2020-01-01T00:00Z", Wrong::Form),
            ("0000-01-01T00:00:00Z", Wrong::Range),
        ] {
            assert_eq!(Instant::parse(text), Err(wrong), "{text}");
        }
    }
}
