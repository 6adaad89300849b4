//! Durations the way kubectl shows them.

/// Seconds in the units that people read: `45s`, `3m10s`, `2h`, `4d3h`, `2y30d`.
/// Negative by more than a second is `<invalid>`.
#[must_use]
pub fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let two = |large: i64, large_unit: &str, small: i64, small_unit: &str| {
        if small == 0 {
            format!("{large}{large_unit}")
        } else {
            format!("{large}{large_unit}{small}{small_unit}")
        }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 192 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 8 * 365 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: i64, expect: &str) {
        assert_eq!(human(seconds), expect, "{seconds}");
    }

    #[test]
    fn ages_lose_precision_as_they_grow() {
        check(-2, "<invalid>");
        check(-1, "0s");
        check(119, "119s");
        check(120, "2m");
        check(190, "3m10s");
        check(600, "10m");
        check(3 * 3600 - 1, "179m");
        check(3 * 3600, "3h");
        check(3 * 3600 + 60, "3h1m");
        check(47 * 3600, "47h");
        check(49 * 3600, "2d1h");
        check(8 * 86_400, "8d");
        check(729 * 86_400, "729d");
        check(731 * 86_400, "2y1d");
        check(9 * 365 * 86_400, "9y");
    }
}
