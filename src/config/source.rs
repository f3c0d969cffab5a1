//! The text of a file, and where in it a key stands.
//!
//! The JSON library gives raw values that borrow from the text but no positions; the position of a key is found by
//! walking back from its value over the colon. A text is checked whole when it is read, so later steps meet JSON only.

use std::{fmt, fs::File, io::Read as _, path::Path, path::PathBuf};

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::ConfigError;

/// The longest file that is read. A configuration with ten thousand metrics has one megabyte.
const MAX_LEN_BYTES: u64 = 4 << 20;

/// The text of one file, valid JSON.
#[derive(Debug)]
pub(super) struct Source {
    path: PathBuf,
    text: String,
    /// Offsets of the line ends, ascending.
    line_ends: Vec<usize>,
}

/// A line of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'s> {
    pub(super) path: &'s Path,
    /// Counted from 1.
    pub(super) line: usize,
}

/// A member of an object.
#[derive(Clone, Debug)]
pub(super) struct Entry<'s> {
    pub(super) key: String,
    pub(super) place: Place<'s>,
    pub(super) value: Value<'s>,
}

/// The value of a member.
#[derive(Clone, Debug)]
pub(super) enum Value<'s> {
    /// A part of a file.
    Text { source: &'s Source, json: &'s str },
    /// Put together from members that stand elsewhere in the file.
    Object(Vec<Entry<'s>>),
    /// JSON that stands in no file.
    Given(&'static str),
}

impl Source {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, ConfigError> {
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MAX_LEN_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        if bytes.len() as u64 > MAX_LEN_BYTES {
            return Err(ConfigError::TooLong { path: path.to_owned(), limit_bytes: MAX_LEN_BYTES });
        }
        Self::new(path, bytes)
    }

    /// Takes the bytes of a file.
    pub(super) fn new(path: &Path, bytes: Vec<u8>) -> Result<Self, ConfigError> {
        let syntax = |line, column, reason| ConfigError::Syntax { path: path.to_owned(), line, column, reason };
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line_start = valid.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
            let line = valid.split(|&b| b == b'\n').count();
            syntax(line, 1 + valid.len() - line_start, "the text is not UTF-8".to_owned())
        })?;
        // Parsed to a value, not merely skipped over: this bounds the depth and checks every escape.
        serde_json::from_str::<serde_json::Value>(&text).map_err(|error| {
            let message = error.to_string();
            let reason = message.rsplit_once(" at line ").map_or(message.as_str(), |(reason, _)| reason);
            syntax(error.line(), error.column(), reason.to_owned())
        })?;
        let line_ends = text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(i, _)| i).collect();
        Ok(Self { path: path.to_owned(), text, line_ends })
    }

    /// The whole file.
    pub(super) fn root(&self) -> Value<'_> {
        Value::Text { source: self, json: self.text.trim_ascii() }
    }

    /// The first line.
    pub(super) fn top(&self) -> Place<'_> {
        Place { path: &self.path, line: 1 }
    }

    /// The line of `json`, a part of the text.
    fn place(&self, json: &str) -> Place<'_> {
        let offset = json.as_ptr().addr() - self.text.as_ptr().addr();
        Place { path: &self.path, line: 1 + self.line_ends.partition_point(|&end| end < offset) }
    }

    /// The line of the key whose value is `json`, a part of the text.
    fn key_place(&self, json: &str) -> Place<'_> {
        let offset = json.as_ptr().addr() - self.text.as_ptr().addr();
        let before = self.text[..offset].trim_ascii_end();
        let key_end = before.strip_suffix(':').unwrap_or(before).trim_ascii_end().len();
        Place { path: &self.path, line: 1 + self.line_ends.partition_point(|&end| end < key_end) }
    }
}

impl<'s> Value<'s> {
    /// The members in their order, or `None` if this is no object. A key may stand there twice.
    pub(super) fn into_entries(self) -> Option<Vec<Entry<'s>>> {
        match self {
            Value::Text { source, json } => {
                let Members(members) = serde_json::Deserializer::from_str(json).deserialize_map(MembersVisitor).ok()?;
                let entry =
                    |(key, json)| Entry { key, place: source.key_place(json), value: Value::Text { source, json } };
                Some(members.into_iter().map(entry).collect())
            }
            Value::Object(entries) => Some(entries),
            Value::Given(_) => None,
        }
    }

    /// The items in their order, with where each stands, or `None` if this is no array. Nothing is an empty array.
    pub(super) fn into_items(self) -> Option<Vec<(Place<'s>, Value<'s>)>> {
        let Value::Text { source, json } = self else { return None };
        let items: Option<Vec<&'s RawValue>> = serde_json::from_str(json).ok()?;
        let item = |json: &'s RawValue| (source.place(json.get()), Value::Text { source, json: json.get() });
        Some(items.unwrap_or_default().into_iter().map(item).collect())
    }

    /// The JSON, unless it was put together.
    pub(super) fn json(&self) -> Option<&'s str> {
        match self {
            Value::Text { json, .. } | Value::Given(json) => Some(json),
            Value::Object(_) => None,
        }
    }
}

/// Members of an object with their raw values.
struct Members<'s>(Vec<(String, &'s str)>);

struct MembersVisitor;

impl<'s> Visitor<'s> for MembersVisitor {
    type Value = Members<'s>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'s>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'s RawValue>()? {
            members.push((key, value.get()));
        }
        Ok(Members(members))
    }
}
