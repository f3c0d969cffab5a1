//! Strings and numbers as text.

use std::fmt::Write as _;

/// Writes a JSON string. Besides what JSON asks for, `<`, `>`, `&` and the two Unicode line separators are escaped, as
/// the predecessor does it.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut plain = 0;
    for (at, char) in text.char_indices() {
        if !matches!(char, '\0'..='\x1f' | '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}') {
            continue;
        }
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        plain = at + char.len_utf8();
        match char {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\x08' => out.extend_from_slice(b"\\b"),
            '\x0c' => out.extend_from_slice(b"\\f"),
            _ => out.extend_from_slice(format!("\\u{:04x}", u32::from(char)).as_bytes()),
        }
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
    out.push(b'"');
}

/// Writes a JSON array of strings.
pub(crate) fn write_strings(out: &mut Vec<u8>, texts: &[String]) {
    out.push(b'[');
    for (index, text) in texts.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(out, text);
    }
    out.push(b']');
}

/// Writes the shortest text that reads back as exactly this number; `null` for what JSON has no number for.
pub(crate) fn write_number(out: &mut Vec<u8>, number: f64) {
    if !number.is_finite() {
        out.extend_from_slice(NULL);
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(number);
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

/// The most bytes of a number, and of its comma.
const NUMBER: usize = 25;
/// Numbers that are formatted before the first of them is copied: a copy right behind the formatter would wait until what
/// that wrote in other pieces is in the cache. The number was measured.
const GROUP: usize = 5;
/// Groups for which room is made at one time.
const GROUPS: usize = 16;
/// The most groups that are not tried as decimals after one that is none.
const PAUSE: u32 = 31;
/// What JSON has no number for.
const NULL: &[u8] = b"null";

/// Writes numbers with commas between them, each as [`write_number`] does, which this is the fast way of.
pub fn write_numbers(out: &mut Vec<u8>, numbers: &[f64]) {
    let mut buffers = std::array::from_fn(|_| zmij::Buffer::new());
    // Neighbours are of one kind, mostly: the more groups were no decimals, the more are not tried.
    let (mut pause, mut left) = (0, 0);
    let mut end = out.len();
    let (groups, rest) = numbers.as_chunks();
    for groups in groups.chunks(GROUPS) {
        out.resize(end + groups.len() * GROUP * NUMBER, 0);
        for group in groups {
            let room = &mut out[end..];
            if left > 0 {
                left -= 1;
            } else if let Some(len) = put_decimals(room, group) {
                pause = 0;
                end += len;
                continue;
            } else {
                pause = (2 * pause + 1).min(PAUSE);
                left = pause;
            }
            end += put_numbers(room, group, &mut buffers);
        }
    }
    out.truncate(end);
    for &number in rest {
        write_number(out, number);
        out.push(b',');
    }
    if !numbers.is_empty() {
        out.pop();
    }
}

/// Puts numbers with a comma behind each; how long that is.
fn put_numbers(room: &mut [u8], group: &[f64; GROUP], buffers: &mut [zmij::Buffer; GROUP]) -> usize {
    let mut texts = [NULL; GROUP];
    for ((text, &number), buffer) in texts.iter_mut().zip(group).zip(buffers) {
        if number.is_finite() {
            *text = buffer.format_finite(number).as_bytes();
        }
    }
    let mut end = 0;
    for text in texts {
        let room = room[end..].first_chunk_mut().expect("there is room for the longest texts");
        let len = put(room, text);
        room[len] = b',';
        end += len + 1;
    }
    end
}

/// The same, where each number is missing or as [`put_decimal`] takes it.
#[inline(never)] // So that the registers are for the others, which take longer.
fn put_decimals(room: &mut [u8], group: &[f64; GROUP]) -> Option<usize> {
    let mut end = 0;
    for &number in group {
        let room = &mut room[end..];
        let len = if number.is_nan() { put_null(room)? } else { put_decimal(room, number)? };
        room[len] = b',';
        end += len + 1;
    }
    Some(end)
}

fn put_null(out: &mut [u8]) -> Option<usize> {
    out.get_mut(..NULL.len())?.copy_from_slice(NULL);
    Some(NULL.len())
}

/// Writes a number of at most 8 digits before the point and 4 behind it, as most readings are; how long that is. `None`:
/// it is no such number. At most 15 digits that read back as a number are the only so few that do, so they are the
/// shortest.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "less than 1e12"
)]
fn put_decimal(out: &mut [u8], number: f64) -> Option<usize> {
    const SCALE: f64 = 1e4;
    const TEXT: usize = 16;
    let ascii = u128::from_le_bytes(*b"00000000.0000\0\0\0");
    let magnitude = number.abs();
    if magnitude >= 1e8 - 1.0 {
        return None;
    }
    let scaled = (magnitude * SCALE + 0.5) as u64;
    if (scaled as f64 / SCALE).to_bits() != magnitude.to_bits() {
        return None;
    }
    let (whole, part) = (digits((scaled / 10_000) as u32), digits((scaled % 10_000) as u32) >> 32);
    // The first digit is the lowest byte; one is there always.
    let zeros = (whole | 1 << 56).trailing_zeros() / 8;
    let behind = 4 - (part as u32).leading_zeros() / 8;
    let text = (ascii + u128::from(whole) + (u128::from(part) << 72)) >> (8 * zeros);
    let sign = usize::from(number.is_sign_negative());
    *out.first_mut()? = b'-';
    *out.get_mut(sign..)?.first_chunk_mut::<TEXT>()? = text.to_le_bytes();
    Some(sign + (8 - zeros + behind + u32::from(behind > 0)) as usize)
}

/// The eight digits of a number below 1e8, a byte each, the first one lowest: halves, their halves, and the digits of those,
/// each step on all parts at once (Paul Khuong, "How to print integers really fast").
#[inline]
fn digits(number: u32) -> u64 {
    let halves = u64::from(number / 10_000) | u64::from(number % 10_000) << 32;
    let hundreds = ((halves * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let pairs = hundreds | (halves - 100 * hundreds) << 16;
    let tens = ((pairs * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (pairs - 10 * tens) << 8
}

/// Copies the text of a number, of at most 24 bytes, and says how long it is without `.0` at its end. The length is another
/// each time: copies of a fixed length that overlap are cheaper than the call of one that can be any.
#[inline]
fn put(room: &mut [u8; NUMBER], text: &[u8]) -> usize {
    const LONG: usize = 16;
    const SHORT: usize = 8;
    let len = text.len();
    if let (Some(first), Some(last)) = (text.first_chunk::<LONG>(), text.last_chunk::<LONG>()) {
        room[..LONG].copy_from_slice(first);
        room[len - LONG..len].copy_from_slice(last);
    } else if let (Some(first), Some(last)) = (text.first_chunk::<SHORT>(), text.last_chunk::<SHORT>()) {
        room[..SHORT].copy_from_slice(first);
        room[len - SHORT..len].copy_from_slice(last);
    } else {
        room[..len].copy_from_slice(text);
    }
    if text.ends_with(b".0") { len - 2 } else { len }
}

/// A string in quotes as the predecessor's error texts have it.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            // Writing to a string does not fail, here and below.
            '\0'..='\x1f' | '\x7f' => write!(quoted, "\\x{:02x}", u32::from(char)).unwrap_or_default(),
            '\u{80}'..='\u{9f}' => write!(quoted, "\\u{:04x}", u32::from(char)).unwrap_or_default(),
            _ => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn number(number: f64) -> String {
        let mut out = Vec::new();
        write_number(&mut out, number);
        String::from_utf8(out).unwrap()
    }

    fn string(text: &str) -> String {
        let mut out = Vec::new();
        write_string(&mut out, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_short_and_what_is_no_number_is_null() {
        assert_eq!(number(4.5), "4.5");
        assert_eq!(number(60.0), "60");
        assert_eq!(number(-0.0), "-0");
        assert_eq!(number(f64::NAN), "null");
        assert_eq!(number(f64::INFINITY), "null");
        assert_eq!(number(f64::NEG_INFINITY), "null");
    }

    #[test]
    fn strings_escape_what_browsers_could_take_for_markup() {
        assert_eq!(string("[METRICSTORE]> \"a\\b\"\n\u{1}"), r#""[METRICSTORE]\u003e \"a\\b\"\n\u0001""#);
        assert_eq!(string("<&\u{2028}\u{2029}ü"), "\"\\u003c\\u0026\\u2028\\u2029ü\"");
    }

    #[test]
    fn quoted_text_names_what_cannot_be_seen() {
        assert_eq!(quote("a\"b\\\n\u{7f}\u{85}ü"), "\"a\\\"b\\\\\\n\\x7f\\u0085ü\"");
    }

    /// A number of so many digits, of which so many are behind the point.
    fn decimal((digits, places): (i64, i32)) -> f64 {
        format!("{digits}e-{places}").parse().unwrap()
    }

    /// What is written in a way of its own, what is just so, and just not so any more.
    const EDGES: [f64; 14] = [
        0.0,
        -0.0,
        f64::NAN,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        99_999_998.999_9,
        99_999_999.0,
        -99_999_999.0,
        1e8,
        0.0001,
        0.00005,
        -0.00001,
        5e-324,
    ];

    proptest! {
        #[test]
        fn every_finite_number_reads_back_as_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let read: f64 = serde_json::from_str(&number(value)).unwrap();
            prop_assert_eq!(read.to_bits(), bits);
        }

        #[test]
        fn many_numbers_are_written_as_one_after_the_other(
            numbers: Vec<f64>,
            whole in vec(-2e17..2e17, 0..300),
            decimals in vec((-2_000_000_000_000_i64..2_000_000_000_000, 0..7_i32), 0..300),
        ) {
            let whole = whole.into_iter().map(f64::round).collect();
            // Around what has four decimals: shorter, longer, and the neighbours of each.
            let decimals = decimals.into_iter().map(decimal).flat_map(|at| [at, at.next_up(), at.next_down(), at / 1e8]);
            for numbers in [&numbers, &whole, &decimals.collect()] {
                let one_by_one: Vec<String> = numbers.iter().map(|&one| number(one)).collect();
                let mut out = b"[".to_vec();
                write_numbers(&mut out, numbers);
                prop_assert_eq!(String::from_utf8(out).unwrap(), format!("[{}", one_by_one.join(",")));
            }
        }

        #[test]
        fn runs_of_one_kind_are_written_as_one_after_the_other(
            runs in vec(prop_oneof![
                4 => vec((-1_000_000_000_000_i64..1_000_000_000_000, 0..5_i32).prop_map(decimal), 1..400),
                1 => vec((0..100_i64, 0..3_i32).prop_map(decimal), 1..100),
                2 => vec(any::<f64>(), 1..400),
                1 => vec(prop::sample::select(EDGES.to_vec()), 1..100),
            ], 0..5),
        ) {
            let numbers = runs.concat();
            let one_by_one: Vec<String> = numbers.iter().map(|&one| number(one)).collect();
            let mut out = Vec::new();
            write_numbers(&mut out, &numbers);
            prop_assert_eq!(String::from_utf8(out).unwrap(), one_by_one.join(","));
        }

        #[test]
        fn every_string_reads_back_as_itself(text: String) {
            let read: String = serde_json::from_str(&string(&text)).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
