//! Durations, sizes and whole numbers as a pipeline file writes them.
//!
//! An error completes a sentence that begins with the value as found, and so does not repeat it.

use std::time::Duration;

use toml::de::DeInteger;

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;

const DURATIONS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, usize); 4] = [("B", 1), ("KiB", KIB), ("MiB", MIB), ("GiB", GIB)];

/// `250ms`, `3s`, `10m`, `24h`, `7d`.
///
/// # Errors
/// When it is none.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let millis = DURATIONS.iter().find(|(name, _)| *name == unit).and_then(|(_, millis)| {
        let number: u64 = number.parse().ok()?;
        number.checked_mul(*millis)
    });
    millis.map(Duration::from_millis).ok_or_else(|| {
        "is not a duration: a whole number and its unit, as \"250ms\", \"3s\", \"10m\", \"24h\" or \"7d\"".to_owned()
    })
}

/// `64MiB`, `512KiB`, `1GiB`, or plain bytes.
///
/// # Errors
/// When it is none.
pub fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    let bytes = SIZES.iter().find(|(name, _)| *name == unit).and_then(|(_, bytes)| {
        let number: usize = number.parse().ok()?;
        number.checked_mul(*bytes)
    });
    bytes.ok_or_else(|| {
        "is not a size: a whole number and its unit, as \"512KiB\", \"64MiB\" or \"1GiB\", or a number of bytes"
            .to_owned()
    })
}

/// In the largest unit that shows it exactly; days only from two on, since `24h` is the common way to say one.
pub(super) fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let fits =
        |(name, unit): &&(&str, u64)| millis > 0 && millis.is_multiple_of(*unit) && (*name != "d" || millis / unit > 1);
    match DURATIONS.iter().rev().find(fits) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => format!("{millis}ms"),
    }
}

/// In the largest unit that shows it exactly.
pub(super) fn show_size(bytes: usize) -> String {
    match SIZES.iter().rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes}B"),
    }
}

/// `None`: out of an i64's range.
pub(super) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn split(text: &str) -> (&str, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(duration("24 h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for wrong in ["", "3", "s", "-3s", "1.5s", "3 sec", "3S", "99999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_a_whole_number_of_bytes_or_has_a_binary_unit() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("512KiB"), Ok(512 << 10));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("1000"), Ok(1000));
        for wrong in ["", "64MB", "64M", "-1", "1.5GiB", "99999999999999GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_is_shown_in_its_largest_exact_unit() {
        let shown =
            [100, 3_000, 600_000, 86_400_000, 604_800_000, 1_500, 0].map(|ms| show_duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["100ms", "3s", "10m", "24h", "7d", "1500ms", "0ms"]);
        assert_eq!([64 << 20, 1536, 7].map(show_size), ["64MiB", "1536B", "7B"]);
        assert_eq!([5 << 30, 1025 << 10].map(show_size), ["5GiB", "1025KiB"]);
    }
}
