//! Timestamps.

/// Unix seconds of a timestamp, rounded down; `None` if it is no integer of 64 bits. The unit is told by the magnitude:
/// instants from 1973 to 2262 are understood in each of the four.
pub(super) fn parse(text: &[u8]) -> Option<i64> {
    let stamp = integer(text)?;
    let per_second = match stamp.unsigned_abs() {
        0..=99_999_999_999 => 1,
        100_000_000_000..=99_999_999_999_999 => 1_000,
        100_000_000_000_000..=99_999_999_999_999_999 => 1_000_000,
        _ => 1_000_000_000,
    };
    stamp.checked_div_euclid(per_second)
}

/// Digits with or without a minus. Unlike the standard library, not with a plus.
fn integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    // Counts down, since there is one more negative number.
    let value = digits.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value.checked_mul(10)?.checked_sub(i64::from(digit))
    })?;
    if negative { Some(value) } else { value.checked_neg() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_is_told_by_the_magnitude() {
        for text in ["1700000040", "1700000040000", "1700000040000000", "1700000040000000000"] {
            assert_eq!(parse(text.as_bytes()), Some(1_700_000_040), "{text}");
        }
        assert_eq!(parse(b"99999999999"), Some(99_999_999_999));
        assert_eq!(parse(b"100000000000"), Some(100_000_000));
        assert_eq!(parse(b"99999999999999"), Some(99_999_999_999));
        assert_eq!(parse(b"100000000000000"), Some(100_000_000));
        assert_eq!(parse(b"100000000000000000"), Some(100_000_000));
        assert_eq!(parse(b"0"), Some(0));
        assert_eq!(parse(b"0000000000000000000000000000001700000040"), Some(1_700_000_040));
    }

    #[test]
    fn seconds_are_rounded_down_also_before_1970() {
        assert_eq!(parse(b"1700000040999"), Some(1_700_000_040));
        assert_eq!(parse(b"-600"), Some(-600));
        assert_eq!(parse(b"-1700000040001"), Some(-1_700_000_041));
        assert_eq!(parse(b"-1700000040000"), Some(-1_700_000_040));
        assert_eq!(parse(b"-9223372036854775808"), Some(-9_223_372_037));
        assert_eq!(parse(b"9223372036854775807"), Some(9_223_372_036));
    }

    #[test]
    fn what_is_no_integer_of_64_bits_is_refused() {
        for text in ["", "-", "--1", "+1", "12x", "12-34", "1.5", "1 2", "9223372036854775808", "-9223372036854775809"]
        {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }
}
