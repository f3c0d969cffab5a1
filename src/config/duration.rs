//! Durations as the predecessor writes them: `48h`, `1h30m`, `500ms`, after Go's `time.ParseDuration`.

use std::{fmt::Write as _, time::Duration};

/// The units with their nanoseconds, largest first, synonyms last.
const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
];

/// How many of `UNITS` are no synonyms.
const UNITS_PRINTED: usize = 6;

/// Fraction digits that count; a tenth of that is below a nanosecond of an hour.
const FRACTION_DIGITS: usize = 15;

/// Parses a duration to nanoseconds, which may be negative. The error says what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let wrong =
        |why: &str| format!("{text:?} is no duration: {why}; write for example \"48h\", \"1h30m\" or \"500ms\"");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(wrong("it is empty"));
    }
    let mut total = 0_u128;
    while !rest.is_empty() {
        let (whole, after) = digits(rest);
        let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(wrong("a number is missing"));
        }
        let unit_len = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let Some(&(_, nanos)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(match unit {
                "" => wrong("a unit is missing"),
                "d" => wrong("there is no unit for days"),
                _ => wrong("the unit is unknown"),
            });
        };
        let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
        let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        // No digits are zero; too many digits overflow the type and are too long a duration all the same.
        let number = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u64>().ok() };
        let whole = number(whole).ok_or_else(|| wrong("it is too long"))?;
        let fraction = number(fraction).unwrap_or(0);
        total += u128::from(whole) * u128::from(nanos) + u128::from(fraction) * u128::from(nanos) / scale;
        if total > i64::MAX as u128 {
            return Err(wrong("it is too long"));
        }
        rest = after;
    }
    let total = i64::try_from(total).map_err(|_| wrong("it is too long"))?;
    Ok(if negative { -total } else { total })
}

/// Splits off the leading digits.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Prints a duration so that [`parse`] reads it back.
pub(super) fn print(duration: Duration) -> String {
    let mut rest = duration.as_nanos();
    let mut text = String::new();
    for (unit, nanos) in &UNITS[..UNITS_PRINTED] {
        let nanos = u128::from(*nanos);
        if rest >= nanos {
            write!(text, "{}{unit}", rest / nanos).expect("writing to a string does not fail");
            rest %= nanos;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_mean_what_they_mean_in_go() {
        let second = 1_000_000_000;
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("0s", 0),
            ("48h", 48 * 3600 * second),
            ("1h30m", 5400 * second),
            ("1h15m30.918273645s", 4_530_918_273_645),
            ("500ms", 500_000_000),
            (".5s", 500_000_000),
            ("5.s", 5 * second),
            ("-1.5h", -5400 * second),
            ("+5s", 5 * second),
            ("10ns", 10),
            ("11us", 11_000),
            ("12\u{b5}s", 12_000),
            ("12\u{3bc}s", 12_000),
            ("0.100000000000000000000h", 360 * second),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse(text), Ok(nanos), "{text}");
        }
        for text in [
            "",
            "3",
            "-",
            "s",
            ".",
            "-.",
            ".s",
            "+.s",
            "1d",
            "2 h",
            "1h ",
            "h1",
            "1e3s",
            "9223372036854775808ns",
            "3000000h",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("2d").unwrap_err().contains("no unit for days"));
    }

    #[test]
    fn printed_durations_are_short() {
        assert_eq!(print(Duration::from_hours(48)), "48h");
        assert_eq!(print(Duration::from_mins(90)), "1h30m");
        assert_eq!(print(Duration::from_millis(1500)), "1s500ms");
        assert_eq!(print(Duration::ZERO), "0s");
    }

    proptest! {
        #[test]
        fn printed_durations_read_back(nanos in 0..=i64::MAX) {
            prop_assert_eq!(parse(&print(Duration::from_nanos(nanos.unsigned_abs()))), Ok(nanos));
        }

        #[test]
        fn any_text_is_a_duration_or_an_error(text in "[-+0-9.hmsnuµd ]{0,40}|.*") {
            drop(parse(&text));
        }
    }
}
