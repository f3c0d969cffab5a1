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
        out.extend_from_slice(b"null");
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(number);
    out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes());
}

/// The most bytes of a number, and of its comma.
const NUMBER: usize = 25;
/// Numbers for which there is room at one time.
const NUMBERS: usize = 64;

/// Writes numbers with commas between them, each as [`write_number`] does, which this is the fast way of.
pub fn write_numbers(out: &mut Vec<u8>, numbers: &[f64]) {
    let mut buffer = zmij::Buffer::new();
    let mut end = out.len();
    for some in numbers.chunks(NUMBERS) {
        out.resize(end + some.len() * NUMBER, 0);
        for &number in some {
            let text = if number.is_finite() { buffer.format_finite(number).as_bytes() } else { b"null" };
            let text = text.strip_suffix(b".0").unwrap_or(text);
            put(&mut out[end..], text);
            out[end + text.len()] = b',';
            end += text.len() + 1;
        }
    }
    out.truncate(end - usize::from(!numbers.is_empty()));
}

/// Copies a short text. Its length is another each time: two copies of a fixed length that overlap are cheaper than the
/// call of one that can be any.
#[inline]
fn put(out: &mut [u8], text: &[u8]) {
    fn both<const N: usize>(out: &mut [u8], text: &[u8]) -> Option<()> {
        let (first, last) = (text.first_chunk::<N>()?, text.last_chunk::<N>()?);
        let out = out.get_mut(..text.len())?;
        *out.first_chunk_mut::<N>()? = *first;
        *out.last_chunk_mut::<N>()? = *last;
        Some(())
    }
    let halves = match text.len() {
        16..=32 => both::<16>(out, text),
        8..16 => both::<8>(out, text),
        4..8 => both::<4>(out, text),
        _ => None,
    };
    if halves.is_none() {
        out[..text.len()].copy_from_slice(text);
    }
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

    proptest! {
        #[test]
        fn every_finite_number_reads_back_as_itself(bits: u64) {
            let value = f64::from_bits(bits);
            prop_assume!(value.is_finite());
            let read: f64 = serde_json::from_str(&number(value)).unwrap();
            prop_assert_eq!(read.to_bits(), bits);
        }

        #[test]
        fn many_numbers_are_written_as_one_after_the_other(numbers: Vec<f64>, whole in proptest::collection::vec(-2e17..2e17, 0..300)) {
            for numbers in [&numbers, &whole.iter().map(|number: &f64| number.round()).collect()] {
                let one_by_one: Vec<String> = numbers.iter().map(|&one| number(one)).collect();
                let mut out = b"[".to_vec();
                write_numbers(&mut out, numbers);
                prop_assert_eq!(String::from_utf8(out).unwrap(), format!("[{}", one_by_one.join(",")));
            }
        }

        #[test]
        fn every_string_reads_back_as_itself(text: String) {
            let read: String = serde_json::from_str(&string(&text)).unwrap();
            prop_assert_eq!(read, text);
        }
    }
}
