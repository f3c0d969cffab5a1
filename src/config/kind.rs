//! The kinds of values that keys have: how each is read from JSON, within which bounds, and printed again.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive, path::PathBuf, time::Duration};

use async_nats::ServerAddr;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Durability, IoKind, archive::layout_name, duration};
use kymo_engine::paths::ArchiveLayout;

/// How a `T` stands in JSON.
pub(super) trait Kind<T> {
    /// Reads valid JSON. The error says what was expected and what was found.
    fn parse(&self, json: &str) -> Result<T, String>;

    /// Prints what `parse` reads back to an equal value; `None` if that is the absence of the key.
    fn print(&self, value: &T) -> Option<String>;
}

/// A string.
pub(super) struct Text;

impl Kind<String> for Text {
    fn parse(&self, json: &str) -> Result<String, String> {
        string(json, "a string")
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// One of a few strings.
pub(super) struct OneOf(pub(super) &'static [&'static str]);

impl Kind<&'static str> for OneOf {
    fn parse(&self, json: &str) -> Result<&'static str, String> {
        let expected = format!("one of {}", self.0.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", "));
        let found = string(json, &expected)?;
        self.0.iter().find(|name| **name == found).copied().ok_or_else(|| mismatch(&expected, json))
    }

    fn print(&self, value: &&'static str) -> Option<String> {
        Some(quote(value))
    }
}

/// A string or null.
pub(super) struct TextOrNull;

impl Kind<Option<String>> for TextOrNull {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        serde_json::from_str(json).map_err(|_| mismatch("a string or null", json))
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        Some(value.as_deref().map_or_else(|| "null".to_owned(), quote))
    }
}

/// A whole number within bounds.
pub(super) struct Count<T>(pub(super) RangeInclusive<T>);

impl<T: TryFrom<u64> + PartialOrd + Display> Kind<T> for Count<T> {
    fn parse(&self, json: &str) -> Result<T, String> {
        let number = serde_json::from_str::<u64>(json).ok().and_then(|number| T::try_from(number).ok());
        let expected = || format!("a whole number from {} to {}", self.0.start(), self.0.end());
        number.filter(|number| self.0.contains(number)).ok_or_else(|| mismatch(&expected(), json))
    }

    fn print(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }
}

/// Whole gigabytes (1e9 bytes); 0 is no bound.
pub(super) struct Gigabytes;

impl Gigabytes {
    const BYTES: u64 = 1_000_000_000;
}

impl Kind<Option<u64>> for Gigabytes {
    fn parse(&self, json: &str) -> Result<Option<u64>, String> {
        let number = Count(0..=u64::MAX / Self::BYTES).parse(json)?;
        Ok((number > 0).then_some(number * Self::BYTES))
    }

    fn print(&self, value: &Option<u64>) -> Option<String> {
        value.map(|bytes| (bytes / Self::BYTES).to_string())
    }
}

/// A duration within bounds.
pub(super) struct Period(pub(super) RangeInclusive<Duration>);

impl Period {
    /// No bound but that of the notation.
    pub(super) const LONGEST: Duration = Duration::from_nanos(i64::MAX as u64);
}

impl Kind<Duration> for Period {
    fn parse(&self, json: &str) -> Result<Duration, String> {
        let nanos = duration::parse(&string(json, "a duration as \"48h\"")?)?;
        let period = u64::try_from(nanos).map(Duration::from_nanos).ok();
        period.filter(|period| self.0.contains(period)).ok_or_else(|| {
            let expected = match (*self.0.start(), *self.0.end()) {
                (least, Self::LONGEST) => format!("a duration of at least {}", duration::print(least)),
                (least, most) => format!("a duration from {} to {}", duration::print(least), duration::print(most)),
            };
            mismatch(&expected, json)
        })
    }

    fn print(&self, value: &Duration) -> Option<String> {
        Some(quote(&duration::print(*value)))
    }
}

/// A duration; zero and less mean for ever.
pub(super) struct Retention;

impl Kind<Option<Duration>> for Retention {
    fn parse(&self, json: &str) -> Result<Option<Duration>, String> {
        let nanos = duration::parse(&string(json, "a duration as \"48h\"")?)?;
        Ok(u64::try_from(nanos).ok().filter(|&nanos| nanos > 0).map(Duration::from_nanos))
    }

    fn print(&self, value: &Option<Duration>) -> Option<String> {
        Some(quote(&duration::print(value.unwrap_or_default())))
    }
}

/// The path of a directory, which is never empty.
pub(super) struct Directory;

impl Kind<PathBuf> for Directory {
    fn parse(&self, json: &str) -> Result<PathBuf, String> {
        let path = string(json, "the path of a directory")?;
        if path.is_empty() || path.contains('\0') {
            Err(mismatch("the path of a directory", json))
        } else {
            Ok(path.into())
        }
    }

    fn print(&self, value: &PathBuf) -> Option<String> {
        Some(quote(&value.to_string_lossy()))
    }
}

/// The path of a directory; an empty one is none.
pub(super) struct OptionalDirectory;

impl Kind<Option<PathBuf>> for OptionalDirectory {
    fn parse(&self, json: &str) -> Result<Option<PathBuf>, String> {
        if json == r#""""# { Ok(None) } else { Directory.parse(json).map(Some) }
    }

    fn print(&self, value: &Option<PathBuf>) -> Option<String> {
        Directory.print(value.as_ref().unwrap_or(&PathBuf::new()))
    }
}

/// The path of a file; an empty one is none.
pub(super) struct OptionalFile;

impl Kind<Option<PathBuf>> for OptionalFile {
    fn parse(&self, json: &str) -> Result<Option<PathBuf>, String> {
        // The predecessor's old example had a null here.
        let path: Option<String> = serde_json::from_str(json).map_err(|_| mismatch("the path of a file", json))?;
        let path = path.unwrap_or_default();
        if path.contains('\0') {
            Err(mismatch("the path of a file", json))
        } else {
            Ok(Some(path).filter(|path| !path.is_empty()).map(Into::into))
        }
    }

    fn print(&self, value: &Option<PathBuf>) -> Option<String> {
        value.as_ref().map(|path| quote(&path.to_string_lossy()))
    }
}

/// True or false.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn parse(&self, json: &str) -> Result<bool, String> {
        serde_json::from_str(json).map_err(|_| mismatch("true or false", json))
    }

    fn print(&self, value: &bool) -> Option<String> {
        Some(value.to_string())
    }
}

/// A string; an empty one is none.
pub(super) struct OptionalText;

impl Kind<Option<String>> for OptionalText {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        let text = string(json, "a string")?;
        if text.contains('\0') {
            Err(mismatch("a string without zero bytes", json))
        } else {
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        value.as_ref().map(|text| quote(text))
    }
}

/// How an archive is laid out.
pub(super) struct Layout;

impl Kind<ArchiveLayout> for Layout {
    fn parse(&self, json: &str) -> Result<ArchiveLayout, String> {
        let all = [ArchiveLayout::Hive, ArchiveLayout::Flat];
        let name = OneOf(&["hive", "flat"]).parse(json)?;
        Ok(all.into_iter().find(|&layout| layout_name(layout) == name).unwrap_or_default())
    }

    fn print(&self, value: &ArchiveLayout) -> Option<String> {
        Some(quote(layout_name(*value)))
    }
}

/// The address of a server that is asked; an empty string is none.
pub(super) struct HttpUrl;

impl Kind<Option<String>> for HttpUrl {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        const EXPECTED: &str = "the address of a server, like \"http://127.0.0.1:8080\"";
        let text = string(json, EXPECTED)?;
        if text.is_empty() {
            return Ok(None);
        }
        let uri: hyper::Uri = text.parse().map_err(|error| format!("expected {EXPECTED}: {error}"))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http" | "https"), Some(_)) => Ok(Some(text.trim_end_matches('/').to_owned())),
            _ => Err(format!("expected {EXPECTED}, found {}", shorten(&text))),
        }
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        value.as_ref().map(|url| quote(url))
    }
}

/// A string that is not shown; an empty one is none.
pub(super) struct Secret;

impl Kind<Option<String>> for Secret {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        let text = string(json, "a string")?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        value.as_ref().map(|secret| quote(secret))
    }
}

/// A string; an empty one is none.
pub(super) struct Name;

impl Kind<Option<String>> for Name {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        Secret.parse(json)
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        Secret.print(value)
    }
}

/// Whole numbers within bounds, each once; kept in their order.
pub(super) struct Numbers(pub(super) RangeInclusive<u32>);

impl Kind<Vec<u32>> for Numbers {
    fn parse(&self, json: &str) -> Result<Vec<u32>, String> {
        let expected = || format!("different whole numbers from {} to {}, as [0, 1]", self.0.start(), self.0.end());
        let wrong = || format!("expected {}, found {}", expected(), shorten(json));
        let numbers: Vec<u32> = serde_json::from_str(json).map_err(|_| wrong())?;
        let differ = numbers.iter().collect::<BTreeSet<_>>().len() == numbers.len();
        let good = differ && numbers.iter().all(|number| self.0.contains(number));
        if good { Ok(numbers) } else { Err(wrong()) }
    }

    fn print(&self, value: &Vec<u32>) -> Option<String> {
        (!value.is_empty()).then(|| format!("{value:?}"))
    }
}

/// NATS servers, separated by commas; an empty string is none. Those that are asked over web sockets are servers too,
/// although kymo cannot ask them.
pub(super) struct Servers;

impl Servers {
    /// Whether one of them is asked over web sockets.
    pub(super) fn use_websockets(text: &str) -> bool {
        Self::split(text).any(|server| server.parse::<ServerAddr>().is_ok_and(|server| server.is_websocket()))
    }

    fn split(text: &str) -> impl Iterator<Item = &str> {
        text.split(',').map(str::trim).filter(|server| !server.is_empty())
    }
}

impl Kind<Option<String>> for Servers {
    fn parse(&self, json: &str) -> Result<Option<String>, String> {
        const EXPECTED: &str = "addresses of NATS servers, like \"nats://127.0.0.1:4222\", with commas between them";
        let text = string(json, EXPECTED)?;
        let servers: Vec<&str> = Self::split(&text).collect();
        for server in &servers {
            if server.parse::<ServerAddr>().map_or(true, |server| server.host().is_empty()) {
                return Err(format!("expected {EXPECTED}, found {}", shorten(server)));
            }
        }
        Ok(Some(servers.join(", ")).filter(|text| !text.is_empty()))
    }

    fn print(&self, value: &Option<String>) -> Option<String> {
        value.as_ref().map(|servers| quote(servers))
    }
}

/// A subject to subscribe to.
pub(super) struct Subject;

impl Kind<String> for Subject {
    fn parse(&self, json: &str) -> Result<String, String> {
        const EXPECTED: &str = "a subject, like \"hpc.fritz\" or \"hpc.>\"";
        let text = string(json, EXPECTED)?;
        if subject_is_valid(&text) { Ok(text) } else { Err(mismatch(EXPECTED, json)) }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(quote(value))
    }
}

/// Whether a text can be subscribed to: tokens with dots between them, `>` only as the last one.
pub(super) fn subject_is_valid(text: &str) -> bool {
    let mut tokens = text.split('.').peekable();
    let mut good = true;
    while let Some(token) = tokens.next() {
        good &= !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control());
        good &= token != ">" || tokens.peek().is_none();
    }
    good
}

/// A raw Ed25519 public key in standard base64; an empty string is none.
pub(super) struct PublicKey;

impl Kind<Option<[u8; 32]>> for PublicKey {
    fn parse(&self, json: &str) -> Result<Option<[u8; 32]>, String> {
        const EXPECTED: &str = "an Ed25519 public key, 32 bytes in standard base64";
        let text = string(json, EXPECTED)?;
        if text.is_empty() {
            return Ok(None);
        }
        let bytes = STANDARD.decode(&text).map_err(|error| format!("expected {EXPECTED}: {error}"))?;
        let len = bytes.len();
        bytes.try_into().map(Some).map_err(|_| format!("expected {EXPECTED}, found {len} bytes"))
    }

    fn print(&self, value: &Option<[u8; 32]>) -> Option<String> {
        value.map(|key| quote(&STANDARD.encode(key)))
    }
}

/// Some raw Ed25519 public keys in standard base64.
pub(super) struct PublicKeys;

impl PublicKeys {
    /// A token without a good signature is tried with each.
    const MOST: usize = 8;
}

impl Kind<Vec<[u8; 32]>> for PublicKeys {
    fn parse(&self, json: &str) -> Result<Vec<[u8; 32]>, String> {
        let expected = format!("an array of at most {} Ed25519 public keys in standard base64", Self::MOST);
        let texts: Vec<String> = serde_json::from_str(json).map_err(|_| mismatch(&expected, json))?;
        if texts.len() > Self::MOST {
            return Err(format!("expected {expected}, found {}", texts.len()));
        }
        texts.iter().map(|text| PublicKey.parse(&quote(text))?.ok_or_else(|| mismatch(&expected, "\"\""))).collect()
    }

    fn print(&self, value: &Vec<[u8; 32]>) -> Option<String> {
        let keys: Vec<String> = value.iter().map(|key| quote(&STANDARD.encode(key))).collect();
        Some(format!("[{}]", keys.join(", ")))
    }
}

/// A way to the disk.
pub(super) struct Io;

impl Kind<IoKind> for Io {
    fn parse(&self, json: &str) -> Result<IoKind, String> {
        string(json, "a string")?.parse().map_err(|unknown| format!("{unknown}, found {}", found(json)))
    }

    fn print(&self, value: &IoKind) -> Option<String> {
        Some(quote(value.name()))
    }
}

/// `"sync"` or `{"interval": "200ms"}`.
pub(super) struct Acknowledge(pub(super) Period);

impl Kind<Durability> for Acknowledge {
    fn parse(&self, json: &str) -> Result<Durability, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Form {
            Sync,
            Interval(String),
        }
        match serde_json::from_str(json) {
            Ok(Form::Sync) => Ok(Durability::Sync),
            Ok(Form::Interval(text)) => self.0.parse(&quote(&text)).map(Durability::Interval),
            Err(_) => Err(mismatch(r#""sync" or {"interval": "200ms"}"#, json)),
        }
    }

    fn print(&self, value: &Durability) -> Option<String> {
        match value {
            Durability::Sync => Some(quote("sync")),
            Durability::Interval(period) => self.0.print(period).map(|text| format!(r#"{{"interval": {text}}}"#)),
        }
    }
}

/// Reads a string.
fn string(json: &str, expected: &str) -> Result<String, String> {
    serde_json::from_str(json).map_err(|_| mismatch(expected, json))
}

/// The text as a JSON string.
pub(super) fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The message for a value that is not what a key takes.
pub(super) fn mismatch(expected: &str, json: &str) -> String {
    format!("expected {expected}, found {}", found(json))
}

/// A value for a message: short, on one line, without control characters.
fn found(json: &str) -> String {
    match json.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => shorten(json),
    }
}

/// A text for a message: short, on one line, without control characters.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let clean = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    let mut short: String = text.chars().take(MOST).map(clean).collect();
    if text.chars().nth(MOST).is_some() {
        short.push('…');
    }
    short
}
