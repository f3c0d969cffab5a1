//! Why a line is refused: reasons to count by, and texts for people.
//!
//! Texts are written when they are asked for and have a bounded length. Where the predecessor answers with an error, they
//! are its words.

use std::fmt;

/// Why a line is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// It is no line protocol.
    Syntax,
    /// The number is malformed or out of range.
    Value,
    /// The value is no number.
    ValueKind,
    /// There is a field that is not `value`.
    FieldKey,
    /// The metric is not configured.
    UnknownMetric,
    /// The number is hexadecimal or has `_` between its digits.
    NumberSpelling,
    /// The time is no integer of 64 bits.
    Timestamp,
    /// There is no cluster: no tag, no default.
    NoCluster,
    /// There is no host.
    NoHost,
    /// The name of the cluster is too long or could not be a file name.
    ClusterName,
    /// The name of the host is too long or could not be a file name.
    HostName,
    /// The name of the component or of the subcomponent is too long.
    ComponentName,
    /// The line is too long.
    LineTooLong,
}

impl Reason {
    /// The reason in kebab case, for headers and counters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Value => "value",
            Self::ValueKind => "value-kind",
            Self::FieldKey => "field-key",
            Self::UnknownMetric => "unknown-metric",
            Self::NumberSpelling => "number-spelling",
            Self::Timestamp => "timestamp",
            Self::NoCluster => "no-cluster",
            Self::NoHost => "no-host",
            Self::ClusterName => "cluster-name",
            Self::HostName => "host-name",
            Self::ComponentName => "component-name",
            Self::LineTooLong => "line-too-long",
        }
    }

    /// Whether such a line makes the answer to a write a 400, as it does with the predecessor.
    pub fn is_client_error(self) -> bool {
        matches!(self, Self::Syntax | Self::Value | Self::ValueKind | Self::FieldKey)
    }
}

/// A refused line. Its text ([`fmt::Display`]) is bounded.
#[derive(Clone, Copy, Debug)]
pub struct LineError<'a> {
    /// The line in the body, from 1.
    pub line: u32,
    /// The byte in the line, from 1.
    pub column: u32,
    /// Why.
    pub reason: Reason,
    /// The metric as far as it is known, else empty; at most 255 bytes of it.
    pub metric: &'a str,
    /// The host as far as it is known, else empty; at most 255 bytes of it.
    pub host: &'a str,
    fault: Fault<'a>,
}

impl fmt::Display for LineError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            Reason::FieldKey | Reason::ValueKind => write!(f, "host {}: {}", self.host, self.fault),
            _ => write!(f, "at line {}:{}: {}", self.line, self.column, self.fault),
        }
    }
}

/// A fault and where in the line it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    /// Offset from the start of the line.
    pub(super) pos: usize,
    /// What is wrong there.
    pub(super) fault: Fault<'a>,
}

impl<'a> At<'a> {
    pub(super) fn new(pos: usize, fault: Fault<'a>) -> Self {
        Self { pos, fault }
    }

    /// The refusal of a line of which this much is known.
    pub(super) fn refuse(self, metric: &'a str, host: &'a str) -> Refusal<'a> {
        Refusal { at: self, metric: clip(metric), host: clip(host) }
    }
}

/// A refused line before its place in the body is known.
#[derive(Debug)]
pub(super) struct Refusal<'a> {
    at: At<'a>,
    metric: &'a str,
    host: &'a str,
}

impl<'a> Refusal<'a> {
    /// The error of the line with this number.
    pub(super) fn locate(self, line: u32) -> LineError<'a> {
        LineError {
            line,
            column: u32::try_from(self.at.pos).unwrap_or(u32::MAX).saturating_add(1),
            reason: self.at.fault.reason(),
            metric: self.metric,
            host: self.host,
            fault: self.at.fault,
        }
    }
}

/// Everything that can be wrong with a line.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub(super) enum Fault<'a> {
    #[error("invalid character {found} found at start of measurement name")]
    MeasurementStart { found: Byte },
    #[error("expected tag key or field but found {found} instead")]
    NeitherTagNorField { found: Byte },
    #[error("expected tag key after comma; got white space instead")]
    SpaceAfterComma,
    #[error("empty tag key")]
    EmptyTagKey,
    #[error("expected '=' after tag key {key}, but got {found} instead")]
    TagWithoutEquals { key: Quoted<'a>, found: Byte },
    #[error("expected tag value after tag key {key}, but none found")]
    EmptyTagValue { key: Quoted<'a> },
    #[error("invalid utf-8 sequence in token {token}")]
    NotUtf8 { token: Quoted<'a> },
    #[error("invalid character {found} found at start of field key")]
    FieldStart { found: Byte },
    #[error("want '=' after field key {key}, found {found}")]
    FieldWithoutEquals { key: Quoted<'a>, found: Byte },
    #[error("missing field value for field {key}")]
    MissingValue { key: Quoted<'a> },
    #[error("value for field {key} ({value}) has unrecognized type")]
    ValueStart { key: Quoted<'a>, value: Quoted<'a> },
    #[error("expected closing quote for string field {key}, found end of input")]
    OpenString { key: Quoted<'a> },
    #[error("unexpected character {found} after field {key}")]
    AfterString { key: Quoted<'a>, found: Byte },
    #[error("cannot parse value for field key {key}: {problem}")]
    Value { key: Quoted<'a>, problem: &'static str },
    #[error("unsupported value type in message: {kind}")]
    ValueKind { kind: &'static str },
    #[error("unknown field: '{}'", key.bare())]
    FieldKey { key: Quoted<'a> },
    #[error("unknown metric {name}")]
    UnknownMetric { name: Quoted<'a> },
    #[error("value for field {key} ({value}) is spelled in a way that is not taken: expected a decimal number")]
    NumberSpelling { key: Quoted<'a>, value: Quoted<'a> },
    #[error("invalid timestamp ({text}): expected an integer of seconds, milli-, micro- or nanoseconds")]
    Timestamp { text: Quoted<'a> },
    #[error("no cluster: expected a tag 'cluster', or a default for the request")]
    NoCluster,
    #[error("no host: expected a tag 'hostname' or 'host'")]
    NoHost,
    #[error("invalid cluster name {name}: {problem}")]
    ClusterName { name: Quoted<'a>, problem: &'static str },
    #[error("invalid host name {name}: {problem}")]
    HostName { name: Quoted<'a>, problem: &'static str },
    #[error("component name {name} is too long")]
    ComponentName { name: Quoted<'a> },
    #[error("the line has {length} bytes, more than {limit}")]
    LineTooLong { length: usize, limit: usize },
}

impl Fault<'_> {
    /// What the fault counts as.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::MeasurementStart { .. }
            | Self::NeitherTagNorField { .. }
            | Self::SpaceAfterComma
            | Self::EmptyTagKey
            | Self::TagWithoutEquals { .. }
            | Self::EmptyTagValue { .. }
            | Self::NotUtf8 { .. }
            | Self::FieldStart { .. }
            | Self::FieldWithoutEquals { .. }
            | Self::MissingValue { .. }
            | Self::OpenString { .. }
            | Self::AfterString { .. } => Reason::Syntax,
            Self::ValueStart { .. } | Self::Value { .. } => Reason::Value,
            Self::ValueKind { .. } => Reason::ValueKind,
            Self::FieldKey { .. } => Reason::FieldKey,
            Self::UnknownMetric { .. } => Reason::UnknownMetric,
            Self::NumberSpelling { .. } => Reason::NumberSpelling,
            Self::Timestamp { .. } => Reason::Timestamp,
            Self::NoCluster => Reason::NoCluster,
            Self::NoHost => Reason::NoHost,
            Self::ClusterName { .. } => Reason::ClusterName,
            Self::HostName { .. } => Reason::HostName,
            Self::ComponentName { .. } => Reason::ComponentName,
            Self::LineTooLong { .. } => Reason::LineTooLong,
        }
    }
}

/// A byte of the body in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Byte(pub(super) u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.escape_ascii())
    }
}

/// A piece of the body in a text: escaped and at most [`Quoted::MAX_BYTES`] of it, in quotes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quoted<'a>(pub(super) &'a [u8]);

impl Quoted<'_> {
    /// Enough to recognise a name.
    const MAX_BYTES: usize = 64;

    /// The same without the quotes.
    fn bare(&self) -> impl fmt::Display {
        fmt::from_fn(|f| {
            let shown = self.0.get(..Self::MAX_BYTES).unwrap_or(self.0);
            for chunk in shown.utf8_chunks() {
                write!(f, "{}{}", chunk.valid().escape_debug(), chunk.invalid().escape_ascii())?;
            }
            if shown.len() < self.0.len() { f.write_str("...") } else { Ok(()) }
        })
    }
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bare())
    }
}

/// As much of a name as an error carries.
fn clip(name: &str) -> &str {
    name.get(..name.floor_char_boundary(255)).unwrap_or(name)
}
