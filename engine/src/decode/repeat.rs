//! Lines that were seen before: known by their first bytes, so that only the value and the time are read.
//!
//! After a line that was read the long way, the owner of the names says what its sender is likely to go on with: a
//! [`Recall`]. A line that begins with an entry of its template means what the entry says: one of the next ones, mostly,
//! or one that an index of them finds. Whatever does not fit to the byte is read the long way; so a line gives the same
//! point either way.

#[cfg(test)]
mod tests;

use super::number;
use super::{Context, LineError, Point, Sink, line};
use crate::model::MetricId;
use crate::names::{Entry, Spelling, Template, is_plain};
use memchr::memchr;
use std::sync::Arc;

/// What a line that was known says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repeated {
    /// The line in the body, from 1.
    pub line: u32,
    /// The metric.
    pub metric: MetricId,
    /// The ordinal in the layout of the template.
    pub ordinal: u32,
    /// Unix seconds, rounded down; `None` if the line has no time.
    pub time: Option<i64>,
    /// The value; always finite.
    pub value: f64,
}

/// Takes what [`decode_repeats`](super::decode_repeats) finds.
pub trait Recaller {
    /// A good line that was read the long way, how it is spelled if such lines can be known, and what its sender is
    /// likely to go on with.
    fn point(&mut self, point: Point<'_>, spelling: Option<Spelling<'_>>) -> Option<Recall>;
    /// A good line that was known; it is of the host of the last point.
    fn repeated(&mut self, point: Repeated);
    /// A line that is not stored, and why.
    fn refused(&mut self, error: LineError<'_>);
}

/// Knows no line.
pub(super) struct Forgetful<'a, S>(pub(super) &'a mut S);

impl<S: Sink> Recaller for Forgetful<'_, S> {
    fn point(&mut self, point: Point<'_>, _: Option<Spelling<'_>>) -> Option<Recall> {
        self.0.point(point);
        None
    }

    fn repeated(&mut self, _: Repeated) {}

    fn refused(&mut self, error: LineError<'_>) {
        self.0.refused(error);
    }
}

/// What a sender is likely to go on with: a host, and a place in a template.
#[derive(Clone, Debug)]
pub struct Recall {
    template: Arc<Template>,
    host: Arc<str>,
    /// The entry that is expected.
    next: u32,
    /// An entry that was passed over.
    skipped: u32,
    /// Whether lines without a cluster are of the template's.
    by_default: bool,
}

/// How many entries behind the expected one are looked at: a sender leaves some lines out.
const AHEAD: u32 = 3;

impl Recall {
    /// Lines of a host like those of a template from the entry `next` on. `None` if the name of the host does not stand
    /// in a line as it is, or if a name in the template is longer than the limits are now.
    pub fn new(template: Arc<Template>, host: Arc<str>, next: u32, context: &Context<'_>) -> Option<Self> {
        let Context { default_cluster, limits, .. } = *context;
        let is_short = template.cluster().len().max(host.len()) <= limits.name_bytes
            && template.component_len_max() <= limits.component_bytes;
        if !is_short || !is_plain(&host) {
            return None;
        }
        let by_default = template.cluster() == default_cluster;
        Some(Self { template, host, next, skipped: next, by_default })
    }

    /// The entry that begins `line`, and the offset of the value.
    #[inline]
    fn find(&mut self, line: &[u8]) -> Option<(&Entry, usize)> {
        let Self { template, host, next, skipped, by_default } = self;
        let look =
            |at: u32| template.matches(at, host.as_bytes(), line).filter(|(entry, _)| *by_default || !entry.by_default);
        let at = *next;
        if let Some(found) = look(at) {
            *next = at.wrapping_add(1);
            return Some(found);
        }
        // Back to where another line stood for a while, or behind the line in whose place it stood; or some are left out.
        let back = [*skipped, skipped.wrapping_add(1)];
        let mut near = back.into_iter().chain((1..=AHEAD).map(|ahead| at.wrapping_add(ahead)));
        let found_at = |at: u32| Some((at, look(at)?));
        let anywhere = || template.candidates(host.as_bytes(), line).find_map(found_at);
        let (found_at, found) = near.find_map(found_at).or_else(anywhere)?;
        *next = found_at.wrapping_add(1);
        *skipped = at;
        Some(found)
    }
}

/// What follows the value up to and with the newline, and what time it says.
type Tail<'a> = (&'a [u8], Option<i64>);

/// Reads repeated lines of one body.
#[derive(Debug)]
pub(super) struct Repeats<'a> {
    recall: Option<Recall>,
    /// Lines that may be longer are left to the parser.
    line_bytes: usize,
    last: Tail<'a>,
    other: Tail<'a>,
}

impl<'a> Repeats<'a> {
    pub(super) fn new(line_bytes: usize) -> Self {
        // No time is the only tail that is known.
        Self { recall: None, line_bytes, last: (b"\n", None), other: (b"\n", None) }
    }

    /// Goes on with what the sender of a line that was read the long way repeats.
    pub(super) fn recall(&mut self, recall: Option<Recall>) {
        let skipped = match (&self.recall, &recall) {
            (Some(old), Some(new)) if Arc::ptr_eq(&old.template, &new.template) => Some(old.next),
            _ => None,
        };
        self.recall = recall.map(|new| Recall { skipped: skipped.unwrap_or(new.skipped), ..new });
    }

    /// The line that starts `rest`, if it is known, and its length with its end.
    #[inline]
    pub(super) fn read(&mut self, rest: &'a [u8], line: u32) -> Option<(Repeated, usize)> {
        let (entry, value_at) = self.recall.as_mut()?.find(rest)?;
        let Entry { metric, ordinal, .. } = *entry;
        let behind = rest.get(value_at..)?;
        let (value, length) = number::leading(behind)?;
        let (tail_len, time) = self.tail(behind.get(length..)?)?;
        let length = value_at.saturating_add(length).saturating_add(tail_len);
        (length <= self.line_bytes).then_some((Repeated { line, metric, ordinal, time, value }, length))
    }

    #[inline]
    fn tail(&mut self, rest: &'a [u8]) -> Option<(usize, Option<i64>)> {
        let (known, time) = self.last;
        if rest.starts_with(known) {
            return Some((known.len(), time));
        }
        let (known, time) = self.other;
        if rest.starts_with(known) {
            std::mem::swap(&mut self.last, &mut self.other);
            return Some((known.len(), time));
        }
        self.new_tail(rest)
    }

    #[cold]
    fn new_tail(&mut self, rest: &'a [u8]) -> Option<(usize, Option<i64>)> {
        let newline = memchr(b'\n', rest);
        let text = rest.get(..newline.unwrap_or(rest.len()))?;
        let mut text = text.strip_suffix(b"\r").unwrap_or(text);
        if !matches!(text.first(), None | Some(b' ')) {
            return None;
        }
        while let Some(shorter) = text.strip_prefix(b" ") {
            text = shorter;
        }
        let time = line::timestamp(text).ok()?;
        let Some(newline) = newline else { return Some((rest.len(), time)) };
        let tail = rest.get(..=newline)?;
        self.other = std::mem::replace(&mut self.last, (tail, time));
        Some((tail.len(), time))
    }
}
