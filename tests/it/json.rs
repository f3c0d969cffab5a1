//! JSON as it was written: numbers keep their digits and objects the order of their keys, because that is what the
//! tests compare. A JSON crate does both only by features that would reach the server under test as well.

use std::fmt;

/// One JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// The digits as written.
    Number(String),
    Text(String),
    List(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses one document; anything that is not JSON is an error.
    pub(crate) fn parse(document: &str) -> Result<Self, String> {
        Parser { document, at: 0, trailing_commas: false }.document()
    }

    /// Like [`Json::parse`], but a comma may stand behind the last item, as the predecessor's debug dump has it.
    pub(crate) fn parse_with_trailing_commas(document: &str) -> Result<Self, String> {
        Parser { document, at: 0, trailing_commas: true }.document()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(entries) => entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Sets `key` of an object; other values are left alone.
    pub(crate) fn set(&mut self, key: &str, value: Self) {
        self.remove(key);
        if let Self::Object(entries) = self {
            entries.push((key.to_owned(), value));
        }
    }

    /// Takes `key` out of an object.
    pub(crate) fn remove(&mut self, key: &str) {
        if let Self::Object(entries) = self {
            entries.retain(|(name, _)| name != key);
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// A whole number.
    pub(crate) fn integer(&self) -> Option<i64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The double nearest to the digits.
    pub(crate) fn double(&self) -> Option<f64> {
        match self {
            Self::Number(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The same value with the keys of all objects in alphabetical order.
    pub(crate) fn sorted(self) -> Self {
        match self {
            Self::Object(entries) => {
                let mut entries: Vec<_> = entries.into_iter().map(|(key, value)| (key, value.sorted())).collect();
                entries.sort_by(|(left, _), (right, _)| left.cmp(right));
                Self::Object(entries)
            }
            Self::List(items) => Self::List(items.into_iter().map(Self::sorted).collect()),
            other => other,
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl fmt::Display for Json {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Number(digits) => out.write_str(digits),
            Self::Text(text) => quote(text, out),
            Self::List(items) => {
                out.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(out, "{}{item}", if index == 0 { "" } else { "," })?;
                }
                out.write_str("]")
            }
            Self::Object(entries) => {
                out.write_str("{")?;
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.write_str(if index == 0 { "" } else { "," })?;
                    quote(key, out)?;
                    write!(out, ":{value}")?;
                }
                out.write_str("}")
            }
        }
    }
}

fn quote(text: &str, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    out.write_str("\"")?;
    for character in text.chars() {
        match character {
            '"' | '\\' => write!(out, "\\{character}")?,
            '\u{0}'..'\u{20}' => write!(out, "\\u{:04x}", u32::from(character))?,
            _ => write!(out, "{character}")?,
        }
    }
    out.write_str("\"")
}

struct Parser<'a> {
    document: &'a str,
    at: usize,
    trailing_commas: bool,
}

impl Parser<'_> {
    fn document(mut self) -> Result<Json, String> {
        let value = self.value()?;
        self.skip_space();
        if self.at == self.document.len() { Ok(value) } else { self.fail("the end") }
    }

    fn value(&mut self) -> Result<Json, String> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.items(b'}', Self::entry).map(Json::Object),
            Some(b'[') => self.items(b']', Self::value).map(Json::List),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                for (word, value) in [("null", Json::Null), ("true", Json::Bool(true)), ("false", Json::Bool(false))] {
                    if self.rest().starts_with(word) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.fail("a value")
            }
        }
    }

    fn entry(&mut self) -> Result<(String, Json), String> {
        self.skip_space();
        let key = self.string()?;
        self.skip_space();
        self.expect(b':')?;
        Ok((key, self.value()?))
    }

    fn items<T>(&mut self, end: u8, item: fn(&mut Self) -> Result<T, String>) -> Result<Vec<T>, String> {
        self.at += 1;
        let mut items = Vec::new();
        loop {
            self.skip_space();
            if self.peek() == Some(end) && (items.is_empty() || self.trailing_commas) {
                break;
            }
            items.push(item(self)?);
            self.skip_space();
            if self.peek() == Some(end) {
                break;
            }
            self.expect(b',')?;
        }
        self.at += 1;
        Ok(items)
    }

    fn number(&mut self) -> Result<Json, String> {
        let length =
            self.rest().bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        let digits = &self.rest()[..length.count()];
        let plain = digits.strip_prefix('-').unwrap_or(digits);
        let leading_zero = plain.len() > 1 && plain.starts_with('0') && plain.as_bytes()[1].is_ascii_digit();
        if digits.parse::<f64>().is_err() || leading_zero || plain.ends_with('.') || plain.contains(".e") {
            return self.fail("a number");
        }
        let digits = digits.to_owned();
        self.at += digits.len();
        Ok(Json::Number(digits))
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect(b'"')?;
        let mut text = String::new();
        loop {
            let Some(character) = self.rest().chars().next() else { return self.fail("a closing quote") };
            self.at += character.len_utf8();
            match character {
                '"' => return Ok(text),
                '\\' => text.push(self.escape()?),
                '\u{0}'..'\u{20}' => return self.fail("no control character"),
                _ => text.push(character),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let Some(letter) = self.peek() else { return self.fail("an escape") };
        self.at += 1;
        Ok(match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let mut units = vec![self.unit()?];
                if (0xd800..0xdc00).contains(&units[0]) {
                    self.expect(b'\\')?;
                    self.expect(b'u')?;
                    units.push(self.unit()?);
                }
                match char::decode_utf16(units).next() {
                    Some(Ok(character)) => character,
                    _ => return self.fail("a character"),
                }
            }
            _ => return self.fail("an escape"),
        })
    }

    fn unit(&mut self) -> Result<u16, String> {
        let unit = self.rest().get(..4).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        self.at += 4;
        unit.map_or_else(|| self.fail("four hexadecimal digits"), Ok)
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.peek() != Some(byte) {
            return self.fail(&format!("`{}`", char::from(byte)));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_space(&mut self) {
        self.at += self.rest().bytes().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn rest(&self) -> &str {
        self.document.get(self.at..).unwrap_or_default()
    }

    fn fail<T>(&self, expected: &str) -> Result<T, String> {
        let found: String = self.rest().chars().take(20).collect();
        Err(format!("not JSON at byte {}: expected {expected}, found {found:?}", self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_digits_survive() {
        let document = r#"{"b":[1.50,-0.000,null],"a":{"x":"\u003e\"é","y":true}}"#;
        let parsed = Json::parse(document).unwrap();
        assert_eq!(parsed.to_string(), r#"{"b":[1.50,-0.000,null],"a":{"x":">\"é","y":true}}"#);
        assert_eq!(parsed.sorted().to_string(), r#"{"a":{"x":">\"é","y":true},"b":[1.50,-0.000,null]}"#);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for document in ["", "{", "[1,]", r#"{"a":1,}"#, "01", "1.", "NaN", "[1 2]", "{} x", r#"{"a" 1}"#, "\"\u{1}\""]
        {
            assert!(Json::parse(document).is_err(), "{document:?}");
        }
        let dump = "{\"data\":{\n\t\"x\":{\n\t},\n}}\n";
        assert!(Json::parse(dump).is_err());
        assert_eq!(Json::parse_with_trailing_commas(dump).unwrap().to_string(), r#"{"data":{"x":{}}}"#);
    }
}
