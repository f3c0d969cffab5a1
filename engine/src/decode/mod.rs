//! Line protocol to points: the first stage of a write.
//!
//! [`decode`] is a pure function over the bytes of a body. It hands each good line to the [`Sink`] as a [`Point`] and
//! each bad one as a [`LineError`], in the order of the body; a bad line never harms its neighbours. It reads hostile
//! bytes: it never panics, its time is linear in the body, and in the steady state it does not allocate. It reads no
//! clock: a line without a time stays without.
//!
//! A line is `measurement[,tag=value]* value=number [time]`. A newline inside a quoted string belongs to the string, so
//! a line that holds one may span several; no such line is ever good, since a sample is a number, but what the string
//! contains must not be taken for lines.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod cursor;
mod error;
mod line;
mod names;
mod number;
mod repeat;
mod skip;
mod time;

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use memchr::{memchr, memchr_iter, memrchr};

use crate::model::{MetricId, Metrics};

pub use error::{LineError, Reason};
pub use names::Scratch;
pub use repeat::{Recall, Recaller, Repeated};

use repeat::{Forgetful, Repeats};

/// What a good line says. The names are borrowed from the body or from the scratch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<'a> {
    /// The line in the body, from 1.
    pub line: u32,
    /// The metric.
    pub metric: MetricId,
    /// The cluster, of the tag or else the default; never empty.
    pub cluster: &'a str,
    /// The host; never empty.
    pub host: &'a str,
    /// `type` and `type-id` in one name (`socket0`); empty for the host itself.
    pub component: &'a str,
    /// `stype` and `stype-id` in one name; empty where the component is.
    pub subcomponent: &'a str,
    /// Unix seconds, rounded down; `None` if the line has no time, which then is the time of its arrival.
    pub time: Option<i64>,
    /// The value; always finite.
    pub value: f64,
}

/// Takes what [`decode`] finds.
pub trait Sink {
    /// A good line.
    fn point(&mut self, point: Point<'_>);
    /// A line that is not stored, and why.
    fn refused(&mut self, error: LineError<'_>);
}

/// Lengths above which a line is refused, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A line without its line end.
    pub line_bytes: usize,
    /// The name of a cluster or of a host.
    pub name_bytes: usize,
    /// The name of a component or of a subcomponent.
    pub component_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line_bytes: 64 << 10, name_bytes: 255, component_bytes: 255 }
    }
}

/// What [`decode`] must know beside the body.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The cluster of lines without a `cluster` tag; empty if there is none.
    pub default_cluster: &'a str,
    /// How long lines and names may be.
    pub limits: &'a Limits,
    /// Whether the body is whole. If it was cut, the line it was cut in is neither stored nor counted: the bytes behind
    /// the last newline, or all from the start of the line whose string is still open there.
    pub complete: bool,
}

/// How many lines were what. Blank lines and comments do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Lines that gave a point.
    pub points: u64,
    /// Lines that were refused.
    pub refused: u64,
    /// The points of lines that were known; the others were read the long way.
    pub repeated: u64,
}

impl Decoded {
    /// All lines.
    pub fn lines(&self) -> u64 {
        self.points.saturating_add(self.refused)
    }
}

/// Decodes a body of lines and gives every line to `sink`. Each line is read the long way.
pub fn decode(
    body: &[u8],
    metrics: &Metrics,
    context: &Context<'_>,
    scratch: &mut Scratch,
    sink: &mut impl Sink,
) -> Decoded {
    decode_repeats(body, metrics, context, scratch, &mut Forgetful(sink))
}

/// The same for senders that repeat themselves: a line that `sink` recalls is not read again, but for its value and time.
/// Apart from that, every line gives the same.
///
/// What is recalled must come from points of bodies that were decoded with these metrics, or with some of them.
pub fn decode_repeats(
    body: &[u8],
    metrics: &Metrics,
    context: &Context<'_>,
    scratch: &mut Scratch,
    sink: &mut impl Recaller,
) -> Decoded {
    let mut decoded = Decoded::default();
    let mut number = 1_u32;
    let mut rest = if context.complete { body } else { whole_lines(body) };
    let mut repeats = Repeats::new(context.limits.line_bytes);
    while !rest.is_empty() {
        if let Some((point, length)) = repeats.read(rest, number) {
            decoded.repeated = decoded.repeated.saturating_add(1);
            sink.repeated(point);
            rest = rest.get(length..).unwrap_or_default();
            number = number.saturating_add(1);
            continue;
        }
        let mut end = line_end(rest);
        match line::parse(rest, end, metrics, context, scratch) {
            Ok(None) => {}
            Ok(Some((point, spelling))) => {
                decoded.points = decoded.points.saturating_add(1);
                repeats.recall(sink.point(Point { line: number, ..point }, spelling));
            }
            Err(refusal) => {
                let extent = skip::extent(rest, end);
                if extent.open && !context.complete {
                    break;
                }
                decoded.refused = decoded.refused.saturating_add(1);
                sink.refused(refusal.locate(number));
                if extent.end > end {
                    number = number.saturating_add(newlines(rest.get(end..extent.end).unwrap_or_default()));
                    end = extent.end;
                }
            }
        }
        rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
        number = number.saturating_add(1);
    }
    decoded.points = decoded.points.saturating_add(decoded.repeated);
    decoded
}

/// Where the first line of `bytes` ends: its newline, or the end.
fn line_end(bytes: &[u8]) -> usize {
    memchr(b'\n', bytes).unwrap_or(bytes.len())
}

/// `body` up to its last newline.
fn whole_lines(body: &[u8]) -> &[u8] {
    memrchr(b'\n', body).and_then(|last| body.get(..=last)).unwrap_or_default()
}

/// How many newlines there are.
fn newlines(bytes: &[u8]) -> u32 {
    u32::try_from(memchr_iter(b'\n', bytes).count()).unwrap_or(u32::MAX)
}
