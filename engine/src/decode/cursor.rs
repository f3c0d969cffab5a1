//! The tokens of one line. Says what they are, not what they mean.

use super::error::{At, Byte, Fault, Quoted};

/// A name as it stands in the body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// The text with its escapes.
    pub(super) text: &'a str,
    /// Whether there is any escape.
    escaped: bool,
    set: Set,
}

impl<'a> Token<'a> {
    /// The token without its escapes, held by `buffer` if there are any.
    #[inline]
    pub(super) fn unescape(self, buffer: &'a mut String) -> &'a str {
        if !self.escaped {
            return self.text;
        }
        buffer.clear();
        self.push_to(buffer);
        buffer
    }

    /// Whether it has an escape, so that its name is not what stands in the line.
    pub(super) fn is_escaped(self) -> bool {
        self.escaped
    }

    fn push_to(self, buffer: &mut String) {
        let mut chars = self.text.chars().peekable();
        while let Some(char) = chars.next() {
            let escaped = if char == '\\' { chars.next_if(|&next| self.set.is_escapable(next)) } else { None };
            buffer.push(escaped.unwrap_or(char));
        }
    }
}

/// Which bytes end a token, and which of them may be escaped.
#[derive(Clone, Copy, Debug)]
pub(super) enum Set {
    /// Measurements.
    Measurement,
    /// Tag keys, tag values and field keys: `=` ends these, too.
    Tag,
}

impl Set {
    /// Whether a run of plain bytes is over: the end of the token or a backslash.
    #[inline]
    fn stops(self, byte: u8) -> bool {
        let stops = match self {
            Self::Measurement => &MEASUREMENT_STOPS,
            Self::Tag => &TAG_STOPS,
        };
        stops.get(usize::from(byte)).is_none_or(|stops| *stops)
    }

    /// Whether a backslash makes this a part of the token. Before any other it stands for itself.
    #[inline]
    fn is_escapable(self, char: char) -> bool {
        matches!((self, char), (_, ',' | ' ') | (Self::Tag, '='))
    }
}

static MEASUREMENT_STOPS: [bool; 256] = stops(b", \\");
static TAG_STOPS: [bool; 256] = stops(b",= \\");

/// A table of these bytes and of the control characters.
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
const fn stops(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < b' ' {
        table[byte as usize] = true;
        byte += 1;
    }
    table[0x7f] = true;
    let mut index = 0;
    while index < bytes.len() {
        table[bytes[index] as usize] = true;
        index += 1;
    }
    table
}

/// Reads one line from its start. At its end there seems to be a newline, whether or not the body has one.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    line: &'a [u8],
    /// The line up to its first byte that is no UTF-8: nearly always all of it.
    text: &'a str,
    pos: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        let text = str::from_utf8(line).unwrap_or_else(|_| line.utf8_chunks().next().map_or("", |chunk| chunk.valid()));
        Self { line, text, pos: 0 }
    }

    /// Offset from the start of the line.
    #[inline]
    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    #[inline]
    pub(super) fn seek(&mut self, pos: usize) {
        self.pos = pos;
    }

    /// The next byte.
    #[inline]
    pub(super) fn peek(&self) -> Option<u8> {
        self.line.get(self.pos).copied()
    }

    /// All that is left.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.line.get(self.pos..).unwrap_or_default()
    }

    /// Steps over the next byte.
    #[inline]
    pub(super) fn bump(&mut self) {
        self.pos = self.pos.saturating_add(1);
    }

    #[inline]
    pub(super) fn skip_spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.bump();
        }
    }

    /// A fault at the next byte.
    pub(super) fn fault(&self, fault: Fault<'a>) -> At<'a> {
        At::new(self.pos, fault)
    }

    /// The next byte for a text.
    pub(super) fn found(&self) -> Byte {
        Byte(self.peek().unwrap_or(b'\n'))
    }

    /// The name of the metric.
    #[inline]
    pub(super) fn measurement(&mut self) -> Result<Token<'a>, At<'a>> {
        let name = self.token(Set::Measurement)?;
        if name.text.is_empty() {
            return Err(self.fault(Fault::MeasurementStart { found: self.found() }));
        }
        Ok(name)
    }

    /// The next tag, or `None` if the fields begin, which is then where the cursor is.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<Option<(&'a str, Token<'a>)>, At<'a>> {
        match self.peek() {
            Some(b',') => self.bump(),
            Some(b' ') => {
                self.skip_spaces();
                return Ok(None);
            }
            _ => return Err(self.no_tag()),
        }
        if matches!(self.peek(), None | Some(b' ' | b'\r')) {
            return Err(self.fault(Fault::SpaceAfterComma));
        }
        let pos = self.pos;
        let key = self.token(Set::Tag)?.text;
        if key.is_empty() {
            return Err(self.no_tag());
        }
        if self.peek() != Some(b'=') {
            let fault = Fault::TagWithoutEquals { key: Quoted(key.as_bytes()), found: self.found() };
            return Err(At::new(pos, fault));
        }
        self.bump();
        let value = self.token(Set::Tag)?;
        if value.text.is_empty() {
            return Err(self.fault(Fault::EmptyTagValue { key: Quoted(key.as_bytes()) }));
        }
        Ok(Some((key, value)))
    }

    #[cold]
    fn no_tag(&self) -> At<'a> {
        self.fault(match self.peek() {
            Some(b'=') => Fault::EmptyTagKey,
            _ => Fault::NeitherTagNorField { found: self.found() },
        })
    }

    /// The key of the next field; the cursor is then at its value.
    #[inline]
    pub(super) fn field_key(&mut self) -> Result<&'a str, At<'a>> {
        let key = self.token(Set::Tag)?.text;
        if key.is_empty() {
            return Err(self.fault(Fault::FieldStart { found: self.found() }));
        }
        if self.peek() != Some(b'=') {
            let fault = Fault::FieldWithoutEquals { key: Quoted(key.as_bytes()), found: self.found() };
            return Err(self.fault(fault));
        }
        self.bump();
        Ok(key)
    }

    /// The value of a field that is no string.
    #[inline]
    pub(super) fn plain_value(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let length = rest.iter().position(|byte| matches!(byte, b',' | b' ' | b'\r')).unwrap_or(rest.len());
        self.pos = self.pos.saturating_add(length);
        rest.get(..length).unwrap_or(rest)
    }

    /// A name, which may be empty.
    #[inline]
    fn token(&mut self, set: Set) -> Result<Token<'a>, At<'a>> {
        let pos = self.pos;
        self.skip_plain(set);
        let escaped = self.peek() == Some(b'\\') && self.take_escapes(set);
        let text = self.text.get(pos..self.pos).map_or_else(|| self.own_text(pos), Ok)?;
        Ok(Token { text, escaped, set })
    }

    /// Goes on from a backslash to the end of the token, and says whether there was an escape.
    #[cold]
    fn take_escapes(&mut self, set: Set) -> bool {
        let mut escaped = false;
        while self.peek() == Some(b'\\') {
            self.bump();
            if self.peek().is_some_and(|byte| set.is_escapable(char::from(byte))) {
                self.bump();
                escaped = true;
            }
            self.skip_plain(set);
        }
        escaped
    }

    /// The text from `pos` on, in a line with a part that is no UTF-8.
    #[cold]
    fn own_text(&self, pos: usize) -> Result<&'a str, At<'a>> {
        let bytes = self.line.get(pos..self.pos).unwrap_or_default();
        str::from_utf8(bytes).map_err(|_| At::new(pos, Fault::NotUtf8 { token: Quoted(bytes) }))
    }

    /// Steps over the bytes that are plainly a part of a token.
    #[inline]
    fn skip_plain(&mut self, set: Set) {
        let rest = self.rest();
        let length = rest.iter().position(|byte| set.stops(*byte)).unwrap_or(rest.len());
        self.pos = self.pos.saturating_add(length);
    }
}
