//! A JSON document as a tree, and the steps from it to values.
//!
//! Objects keep the order of their keys, so that the last of two keys that differ only in case can win.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::text::quote;

/// Why a document is not what was asked for. The texts follow the predecessor's where clients have seen them.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum JsonError {
    /// There is no document.
    #[error("EOF")]
    Empty,
    /// The document ends early.
    #[error("unexpected EOF")]
    Cut,
    /// A value begins with what no value begins with.
    #[error("invalid character {0} looking for beginning of value")]
    NoValue(String),
    /// Any other fault of the text.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong kind.
    #[error("json: cannot unmarshal {found} into Go {place} of type {wanted}")]
    Mismatch {
        /// What is there.
        found: String,
        /// Where.
        place: Place,
        /// What should be there.
        wanted: &'static str,
    },
    /// A number was expected.
    #[error("strconv.ParseFloat: parsing {0}: invalid syntax")]
    NoFloat(String),
    /// A key that nobody reads, where that is an error.
    #[error("json: unknown field {0}")]
    UnknownField(String),
    /// More items than one request may have.
    #[error("more than {limit} {what} in one request")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A word that is not one of those to choose from.
    #[error("{field}: unknown value {found}")]
    UnknownWord {
        /// The key.
        field: &'static str,
        /// The word in quotes.
        found: String,
    },
}

/// The place of a value in a document, as it appears in error texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A value in no object.
    Value,
    /// The value of a key.
    Field(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value => f.write_str("value"),
            Self::Field(path) => write!(f, "struct field {path}"),
        }
    }
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads the first value of a text; what follows is not looked at. Bytes that are no UTF-8 are replaced.
    pub(super) fn first(bytes: &[u8]) -> Result<Self, JsonError> {
        let text = String::from_utf8_lossy(bytes);
        let value = Self::deserialize(&mut serde_json::Deserializer::from_str(&text));
        value.map_err(|error| {
            let begin = text.trim_ascii_start().chars().next();
            match begin {
                None => JsonError::Empty,
                Some(_) if error.is_eof() => JsonError::Cut,
                Some(char) if !matches!(char, '{' | '[' | '"' | '-' | '0'..='9' | 't' | 'f' | 'n') => {
                    JsonError::NoValue(format!("'{}'", char.escape_default()))
                }
                Some(_) => JsonError::Syntax(error.to_string()),
            }
        })
    }

    fn mismatch(&self, place: Place, wanted: &'static str) -> JsonError {
        let found = match self {
            Self::Null => "null".to_owned(),
            Self::Bool(_) => "bool".to_owned(),
            Self::Integer(number) if wanted == INT => format!("number {number}"),
            Self::Float(number) if wanted == INT => format!("number {number}"),
            Self::Integer(_) | Self::Float(_) => "number".to_owned(),
            Self::String(_) => "string".to_owned(),
            Self::Array(_) => "array".to_owned(),
            Self::Object(_) => "object".to_owned(),
        };
        JsonError::Mismatch { found, place, wanted }
    }

    /// A boolean; `None` is `null`, here and in the following.
    pub(super) fn bool(self, place: Place) -> Result<Option<bool>, JsonError> {
        match self {
            Self::Null => Ok(None),
            Self::Bool(value) => Ok(Some(value)),
            other => Err(other.mismatch(place, "bool")),
        }
    }

    /// An integer in range, written as one: `1.0` is none.
    pub(super) fn int(self, place: Place) -> Result<Option<i64>, JsonError> {
        match self {
            Self::Null => Ok(None),
            Self::Integer(value) => match i64::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(self.mismatch(place, INT)),
            },
            other => Err(other.mismatch(place, INT)),
        }
    }

    /// A number; `null` is the missing value.
    pub(super) fn float(self) -> Result<f64, JsonError> {
        #[expect(clippy::cast_precision_loss, reason = "the nearest float is what the text means")]
        match self {
            Self::Null => Ok(f64::NAN),
            Self::Integer(value) => Ok(value as f64),
            Self::Float(value) => Ok(value),
            Self::String(text) => Err(JsonError::NoFloat(quote(&quote(&text)))),
            Self::Bool(value) => Err(JsonError::NoFloat(quote(&value.to_string()))),
            Self::Array(_) => Err(JsonError::NoFloat("an array".to_owned())),
            Self::Object(_) => Err(JsonError::NoFloat("an object".to_owned())),
        }
    }

    /// A string.
    pub(super) fn string(self, place: Place) -> Result<Option<String>, JsonError> {
        match self {
            Self::Null => Ok(None),
            Self::String(value) => Ok(Some(value)),
            other => Err(other.mismatch(place, "string")),
        }
    }

    /// An array of strings, in which `null` is the empty one.
    pub(super) fn strings(self, place: Place) -> Result<Option<Vec<String>>, JsonError> {
        let Some(items) = self.array(place, "[]string")? else { return Ok(None) };
        let strings = items.into_iter().map(|item| Ok(item.string(place)?.unwrap_or_default()));
        strings.collect::<Result<_, _>>().map(Some)
    }

    /// An array of a type.
    pub(super) fn array(self, place: Place, wanted: &'static str) -> Result<Option<Vec<Self>>, JsonError> {
        match self {
            Self::Null => Ok(None),
            Self::Array(items) => Ok(Some(items)),
            other => Err(other.mismatch(place, wanted)),
        }
    }

    /// An object of a type; `null` has no keys.
    pub(super) fn object(self, place: Place, wanted: &'static str) -> Result<Vec<(String, Self)>, JsonError> {
        match self {
            Self::Null => Ok(Vec::new()),
            Self::Object(entries) => Ok(entries),
            other => Err(other.mismatch(place, wanted)),
        }
    }
}

const INT: &str = "int64";

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Tree)
    }
}

struct Tree;

impl<'de> Visitor<'de> for Tree {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Json::Object(entries))
    }
}
