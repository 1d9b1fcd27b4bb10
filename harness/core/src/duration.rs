//! Durations as people write them: `2m`, `90s`, `1m30s`, `500ms`.

use std::time::Duration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a duration; hint: write a number with a unit, such as 500ms, 90s, 2m, 1m30s or 1h"
)]
pub struct DurationError(pub String);

/// Reads a duration: one or more whole numbers, each with a unit `ms`, `s`, `m` or `h`, largest unit first.
///
/// # Errors
/// When the text is empty, zero, misses a unit, repeats one, or is longer than [`u64::MAX`] nanoseconds.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.to_owned());
    let mut rest = text.trim();
    let mut total: u64 = 0;
    let mut last_unit = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit_ns: u64 = match &rest[..letters] {
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(wrong()),
        };
        if unit_ns >= last_unit {
            return Err(wrong());
        }
        last_unit = unit_ns;
        rest = &rest[letters..];
        total = count
            .checked_mul(unit_ns)
            .and_then(|ns| total.checked_add(ns))
            .ok_or_else(wrong)?;
    }
    if total == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_nanos(total))
}

/// Writes a duration for people: `350 ms`, `12.3 s`, `2 min 5 s`.
pub fn show_duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        let whole = seconds.round() as u64;
        format!("{} min {} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("2m", 120_000),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            (" 1h1m1s1ms ", 3_661_001),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(ms)),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            " ",
            "0s",
            "5",
            "m",
            "1x",
            "1s1m",
            "1s1s",
            "-1s",
            "1.5s",
            "18446744073709551616s",
            "9999999999999h",
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert!(error.contains("hint"), "{text}: {error}");
        }
    }

    #[test]
    fn shows_them_short() {
        assert_eq!(show_duration(Duration::from_millis(350)), "350 ms");
        assert_eq!(show_duration(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(show_duration(Duration::from_secs(125)), "2 min 5 s");
    }
}
