//! Where a refused line ends. Only such a line can span several physical lines, since no line with a string is good.

use memchr::{memchr, memchr2};

use super::cursor::Cursor;
use super::error::At;
use super::line_end;

/// The end of a refused line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Offset of the newline that ends the line, or of the end of the body.
    pub(super) end: usize,
    /// Whether the line ends there only because a string of it has no end in the body.
    pub(super) open: bool,
}

/// The extent of the line that starts `rest` and whose first physical line ends at `end`.
///
/// The grammar is followed from the start, for a newline in a string is no line end. Where the line breaks the grammar,
/// it ends at the next newline; for a string that does not end well, that is the one behind its first quote: a quote
/// that was forgotten takes no lines with it.
///
/// All calls for a body take linear time together, although what lies behind such a quote is looked at again: a string
/// starts behind `=`, so its first quote is never an escaped one, and ends any string that was open before it.
pub(super) fn extent(rest: &[u8], end: usize) -> Extent {
    let mut tail = rest;
    let mut line = rest.get(..end).unwrap_or(rest);
    let mut open = false;
    if memchr(b'"', line).is_some() {
        let mut cursor = Cursor::new(line);
        let mut step = if head(&mut cursor).is_ok() { fields(&mut cursor, tail) } else { Step::End };
        while let Step::Into(pos) = step {
            tail = tail.get(pos..).unwrap_or_default();
            line = first_line(tail);
            cursor = Cursor::new(line);
            step = if line.starts_with(b",") { next_fields(&mut cursor, tail) } else { Step::End };
        }
        open = step == Step::Open;
    }
    let start = rest.len().saturating_sub(tail.len());
    Extent { end: start.saturating_add(line.len()), open }
}

/// Offset behind the string that starts with the quote at `pos`, if it ends at all.
pub(super) fn string_end(bytes: &[u8], pos: usize) -> Option<usize> {
    let mut pos = pos.saturating_add(1);
    loop {
        let found = pos.saturating_add(memchr2(b'"', b'\\', bytes.get(pos..)?)?);
        pos = found.saturating_add(1);
        match bytes.get(found)? {
            b'"' => return Some(pos),
            // Whatever the backslash stands before, it is not the end.
            _ => pos = pos.saturating_add(1),
        }
    }
}

/// Whether a field with a string may be followed by this.
pub(super) fn ends_field(next: Option<&u8>) -> bool {
    matches!(next, None | Some(b',' | b' ' | b'\r' | b'\n'))
}

/// How the fields of a physical line end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// With the line.
    End,
    /// In a string without an end.
    Open,
    /// With a string that ends before this offset, in a later line.
    Into(usize),
}

fn head<'a>(cursor: &mut Cursor<'a>) -> Result<(), At<'a>> {
    cursor.skip_spaces();
    cursor.measurement()?;
    while cursor.tag()?.is_some() {}
    Ok(())
}

/// Follows the fields of the first line of `tail`.
fn fields(cursor: &mut Cursor<'_>, tail: &[u8]) -> Step {
    let line_bytes = line_end(tail);
    while cursor.field_key().is_ok() {
        match cursor.peek() {
            Some(b'"') => match string_end(tail, cursor.pos()) {
                None => return Step::Open,
                Some(end) if !ends_field(tail.get(end)) => return Step::End,
                Some(end) if end > line_bytes => return Step::Into(end),
                Some(end) => cursor.seek(end),
            },
            Some(b'-' | b'.' | b'0'..=b'9' | b't' | b'T' | b'f' | b'F') => {
                cursor.plain_value();
            }
            _ => return Step::End,
        }
        if cursor.peek() != Some(b',') {
            return Step::End;
        }
        cursor.bump();
    }
    Step::End
}

/// The same behind a comma.
fn next_fields(cursor: &mut Cursor<'_>, tail: &[u8]) -> Step {
    cursor.bump();
    fields(cursor, tail)
}

fn first_line(bytes: &[u8]) -> &[u8] {
    bytes.get(..line_end(bytes)).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(body: &str) -> (usize, bool) {
        let extent = extent(body.as_bytes(), line_end(body.as_bytes()));
        (extent.end, extent.open)
    }

    #[test]
    fn a_newline_in_a_string_is_no_line_end() {
        assert_eq!(end("m v=\"a\nb\" 1\nrest"), (11, false));
        assert_eq!(end("m v=1,w=\"a\nb\",x=\"c\n\nd\"\nrest"), (22, false));
        assert_eq!(end("m,t=\\\"a v=\"\\\"\n\\\\\"\nrest"), (17, false));
        assert_eq!(end("m v=\"a\nb\",w=\"c\" 17\nrest"), (18, false));
    }

    #[test]
    fn a_quote_elsewhere_starts_no_string() {
        assert_eq!(end("m\"x v=1\n\"rest"), (7, false));
        assert_eq!(end("m,t=\"a v=1\n\"rest"), (10, false));
        assert_eq!(end("m v=1\"\n\"rest"), (6, false));
        assert_eq!(end("m v=1 \"\n\"rest"), (7, false));
        assert_eq!(end("m, v=\"\n\" 1\nrest"), (6, false));
        assert_eq!(end("m v=x,w=\"\n\" 1\nrest"), (9, false));
    }

    #[test]
    fn a_string_that_does_not_end_well_takes_no_lines_with_it() {
        assert_eq!(end("m v=\"a\nm v=1\n"), (6, true));
        assert_eq!(end("m v=\"a\nm v=1\nm v=\"x\" 1\n"), (6, false));
        assert_eq!(end("m v=\"a\nb\",w=\"c\nm v=1\n"), (14, true));
    }
}
