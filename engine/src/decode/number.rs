//! Numbers: a float, or an integer that ends in `i` or `u`. All are rounded correctly to a finite double.

use std::num::{IntErrorKind, ParseIntError};

/// Why a text is not taken as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// It is none.
    Malformed(&'static str),
    /// It is none that fits.
    OutOfRange,
    /// The predecessor takes it, but it is hexadecimal or has `_` between its digits.
    Spelling,
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Integers up to this one are doubles exactly.
const MANTISSA_MAX: u64 = 1 << 53;
/// As many digits fit into 64 bits in any case.
const DIGITS_MAX: usize = 19;

const FLOAT: NumberError = NumberError::Malformed("invalid float value syntax");
const INTEGER: NumberError = NumberError::Malformed("invalid integer value syntax");
const UNSIGNED: NumberError = NumberError::Malformed("invalid unsigned integer value syntax");

/// The number that starts `bytes`, and its length. `None` if there is none that [`parse`] takes: it ends where a value of
/// the line protocol ends.
#[inline]
pub(super) fn leading(bytes: &[u8]) -> Option<(f64, usize)> {
    match decimal(bytes) {
        Some((value, length)) if matches!(bytes.get(length), None | Some(b' ' | b'\n')) => Some((value, length)),
        _ => leading_any(bytes),
    }
}

#[cold]
fn leading_any(bytes: &[u8]) -> Option<(f64, usize)> {
    let ends = |byte: &u8| matches!(byte, b',' | b' ' | b'\r' | b'\n');
    let text = bytes.get(..bytes.iter().position(ends).unwrap_or(bytes.len()))?;
    let is_number = matches!(text.first()?, b'-' | b'.' | b'0'..=b'9');
    parse(text).ok().filter(|_| is_number).map(|value| (value, text.len()))
}

/// A decimal number without an exponent at the start of `bytes`, and its length, if one step gives its value.
///
/// The digits make an integer and the point a power of ten. Where a double holds both exactly, their quotient is
/// rounded once, and so correctly (Clinger 1990).
#[inline]
#[expect(clippy::cast_precision_loss, reason = "the integer is at most 2^53")]
fn decimal(bytes: &[u8]) -> Option<(f64, usize)> {
    let start = usize::from(bytes.first() == Some(&b'-'));
    let mut mantissa = 0_u64;
    let mut at = start;
    while let Some(digit) = digit(bytes, at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at = at.wrapping_add(1);
    }
    let mut digits = at.wrapping_sub(start);
    let mut decimals = 0;
    if bytes.get(at) == Some(&b'.') {
        at = at.wrapping_add(1);
        let first = at;
        while let Some(digit) = digit(bytes, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at = at.wrapping_add(1);
        }
        decimals = at.wrapping_sub(first);
        digits = digits.wrapping_add(decimals);
    }
    if digits == 0 || digits > DIGITS_MAX || mantissa > MANTISSA_MAX {
        return None;
    }
    let value = mantissa as f64 / POWERS.get(decimals)?;
    Some((if start == 0 { value } else { -value }, at))
}

#[inline]
fn digit(bytes: &[u8], at: usize) -> Option<u64> {
    let digit = bytes.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// The value of a text that starts with a digit, `-` or `.`.
#[expect(clippy::cast_precision_loss, reason = "a sample is a double; an integer becomes the nearest one")]
pub(super) fn parse(text: &[u8]) -> Result<f64, NumberError> {
    if let Some((value, length)) = decimal(text)
        && length == text.len()
    {
        return Ok(value);
    }
    let text = str::from_utf8(text).map_err(|_| FLOAT)?;
    if let Some(digits) = text.strip_suffix('i') {
        digits.parse().map(|value: i64| value as f64).map_err(|error| integer_error(&error, INTEGER))
    } else if let Some(digits) = text.strip_suffix('u') {
        digits.parse().map(|value: u64| value as f64).map_err(|error| integer_error(&error, UNSIGNED))
    } else {
        float(text)
    }
}

fn float(text: &str) -> Result<f64, NumberError> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        // The standard library reads words, too.
        Ok(_) if text.bytes().any(|byte| matches!(byte, b'n' | b'N')) => Err(FLOAT),
        Ok(_) => Err(NumberError::OutOfRange),
        Err(_) if is_spelled_otherwise(text.as_bytes()) => Err(NumberError::Spelling),
        Err(_) => Err(FLOAT),
    }
}

fn integer_error(error: &ParseIntError, malformed: NumberError) -> NumberError {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => NumberError::OutOfRange,
        _ => malformed,
    }
}

/// Whether this is a float of Go: like ours, but with `_` between digits, or hexadecimal with a binary exponent.
#[cold]
fn is_spelled_otherwise(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let hex = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X"));
    let is_digit = |byte: &u8| if hex.is_some() { byte.is_ascii_hexdigit() } else { byte.is_ascii_digit() };
    let digits = hex.unwrap_or(text);

    // The prefix counts as a digit here.
    let mut after_digit = hex.is_some();
    let mut pairs = digits.iter().zip(digits.iter().skip(1).map(Some).chain([None]));
    let separates = pairs.all(|(byte, next)| {
        let good = *byte != b'_' || after_digit && next.is_some_and(is_digit);
        after_digit = is_digit(byte);
        good
    });

    let mut bytes = digits.iter().filter(|byte| **byte != b'_').peekable();
    let mut has_digits = false;
    while bytes.next_if(|byte| is_digit(byte)).is_some() {
        has_digits = true;
    }
    if bytes.next_if(|byte| **byte == b'.').is_some() {
        while bytes.next_if(|byte| is_digit(byte)).is_some() {
            has_digits = true;
        }
    }
    let exponent = match (bytes.next(), hex) {
        (None, None) => true,
        (Some(b'e' | b'E'), None) | (Some(b'p' | b'P'), Some(_)) => {
            bytes.next_if(|byte| matches!(byte, b'+' | b'-'));
            bytes.peek().is_some() && bytes.all(u8::is_ascii_digit)
        }
        _ => false,
    };
    separates && has_digits && exponent
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The short way gives what the standard library gives, for the decimals that people and programs write.
        #[test]
        fn short_decimals_are_what_the_standard_library_says(text in "-?[0-9]{0,20}\\.?[0-9]{0,24}") {
            if let Some((value, length)) = decimal(text.as_bytes()) {
                let expected: f64 = text[..length].parse().unwrap();
                prop_assert_eq!(value.to_bits(), expected.to_bits());
            }
            let is_number = text.bytes().any(|byte| byte.is_ascii_digit());
            prop_assert_eq!(leading(text.as_bytes()).map(|(_, length)| length), is_number.then_some(text.len()));
        }

        #[test]
        fn a_number_in_a_line_is_the_number_alone(text in "-?[0-9.]{0,8}(e[-+]?[0-9]{1,3})?[iu]?", behind in "[ ,\r\n][0-9]") {
            let alone = parse(text.as_bytes()).ok().filter(|_| !text.is_empty() && !text.starts_with('e'));
            let line = format!("{text}{behind}");
            let found = leading(line.as_bytes());
            if !text.starts_with(['i', 'u', 'e']) {
                prop_assert_eq!(found, alone.map(|value| (value, text.len())));
            }
        }
    }

    #[test]
    fn floats_are_exact() {
        for (text, value) in [
            ("1", 1.0),
            ("1.", 1.0),
            (".5", 0.5),
            ("-.5", -0.5),
            ("1e3", 1000.0),
            ("1.E+3", 1000.0),
            ("5e-324", 5e-324),
            ("2.4703282292062327e-324", 0.0),
            ("1.7976931348623157e308", f64::MAX),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("0.1", 0.1),
            ("1e-999", 0.0),
        ] {
            assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Ok(value.to_bits()), "{text}");
        }
        assert_eq!(parse(b"-0").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
        assert_eq!(parse(b"-0.0e5").map(f64::to_bits), Ok((-0.0_f64).to_bits()));
    }

    #[test]
    fn integers_become_the_nearest_double() {
        assert_eq!(parse(b"-5i"), Ok(-5.0));
        assert_eq!(parse(b"9223372036854775807i"), Ok(9_223_372_036_854_775_808.0));
        assert_eq!(parse(b"-9223372036854775808i"), Ok(-9_223_372_036_854_775_808.0));
        assert_eq!(parse(b"18446744073709551615u"), Ok(18_446_744_073_709_551_616.0));
        assert_eq!(parse(b"-0i").map(f64::to_bits), Ok(0));
    }

    #[test]
    fn what_does_not_fit_is_out_of_range() {
        for text in
            ["1e999", "-1e999", "1.8e308", "9223372036854775808i", "-9223372036854775809i", "18446744073709551616u"]
        {
            assert_eq!(parse(text.as_bytes()), Err(NumberError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_malformed() {
        for text in
            ["-", ".", "-.", "1e", "1e+", "1.2.3", "0x10", "-inf", "-nan", "-Infinity", "12x", "1\t", "1é", "--1"]
        {
            assert_eq!(parse(text.as_bytes()), Err(FLOAT), "{text}");
        }
        for text in ["-i", ".5i", "12xi", "1_0i", "0x1i"] {
            assert_eq!(parse(text.as_bytes()), Err(INTEGER), "{text}");
        }
        for text in ["-1u", "-0u", "1.0u"] {
            assert_eq!(parse(text.as_bytes()), Err(UNSIGNED), "{text}");
        }
    }

    #[test]
    fn spellings_of_go_are_told_from_what_is_no_number() {
        for text in ["1_000", "1_23.50_0_0e+12", "-1_0.5", "0x1p-2", "0X_1.8P+1", "0x.8p0", "-0x_12.34_5p+1", "0x1_0p1"]
        {
            assert_eq!(parse(text.as_bytes()), Err(NumberError::Spelling), "{text}");
        }
        for text in ["1__0", "1_", "1_.5", "1._5", "1_e5", "0x", "0xp1", "0x1", "0x1p", "0x1e5", "0x1p_", "0x1_p1"] {
            assert_eq!(parse(text.as_bytes()), Err(FLOAT), "{text}");
        }
    }
}
