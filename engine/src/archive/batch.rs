//! Rows on their way into a row group: what repeats is kept once a stretch.

use super::ArchiveError;
use super::schema::{join_path, scope_of};
use crate::slot::Run;
use hashbrown::HashMap;
use std::mem::size_of;

/// Bytes of rows that are held at most before they are written as a row group. With one column of them encoded, this
/// is what a writer holds in memory, however large a partition is; see `docs/archive.md`.
pub const BATCH_BYTES: usize = 20 << 20;
/// Rows of a row group at most.
pub(super) const BATCH_ROWS: usize = 1 << 20;

/// One sample of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// First instant of its slot, in unix seconds.
    pub timestamp: i64,
    /// The run that the slot is of.
    pub run: Run,
    /// Never missing.
    pub value: f64,
}

/// Consecutive rows that differ in time and value alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Same {
    pub(super) rows: u32,
    pub(super) host: u32,
    pub(super) metric: u32,
    pub(super) path: u32,
    pub(super) run: Run,
}

/// Strings, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) list: Vec<String>,
    ids: HashMap<String, u32>,
    bytes: usize,
}

impl Names {
    fn id(&mut self, name: &str) -> u32 {
        if let Some(&id) = self.ids.get(name) {
            return id;
        }
        let id = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(name.to_owned());
        self.ids.insert(name.to_owned(), id);
        // Twice the text, and what holds it.
        self.bytes += 2 * name.len() + 64;
        id
    }
}

/// The rows of one row group of one cluster.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) hosts: Names,
    pub(super) metrics: Names,
    pub(super) paths: Names,
    /// (scope, scope id) of each path.
    pub(super) scopes: Vec<(String, String)>,
    pub(super) same: Vec<Same>,
    pub(super) times: Vec<i64>,
    pub(super) values: Vec<f64>,
}

/// A series of one cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) host: &'a str,
    pub(super) metric: &'a str,
    pub(super) component: &'a str,
    pub(super) subcomponent: &'a str,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn rows(&self) -> usize {
        self.times.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows() >= BATCH_ROWS || self.bytes() >= BATCH_BYTES
    }

    /// Bytes that its rows take, names included.
    pub(super) fn bytes(&self) -> usize {
        let names = self.hosts.bytes + self.metrics.bytes + 2 * self.paths.bytes;
        names + self.same.len() * size_of::<Same>() + self.times.len() * 16
    }

    /// Takes rows of a series, in order of time, until it is full; how many it took.
    fn take(&mut self, place: Place<'_>, rows: &[Row]) -> usize {
        let (host, metric) = (self.hosts.id(place.host), self.metrics.id(place.metric));
        let path = self.paths.id(&join_path(place.component, place.subcomponent));
        if path as usize == self.scopes.len() {
            let (scope, id) = scope_of(place.component, place.subcomponent);
            self.scopes.push((scope.to_owned(), id.to_owned()));
        }
        let mut taken = 0;
        for row in rows {
            let next = Same { rows: 1, host, metric, path, run: row.run };
            match self.same.last_mut().filter(|last| Same { rows: 1, ..**last } == next) {
                Some(last) => last.rows += 1,
                None => self.same.push(next),
            }
            self.times.push(row.timestamp);
            self.values.push(row.value);
            taken += 1;
            if self.is_full() {
                break;
            }
        }
        taken
    }

    /// Forgets its rows and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.hosts = Names::default();
        self.metrics = Names::default();
        self.paths = Names::default();
        self.scopes.clear();
        self.same.clear();
        self.times.clear();
        self.values.clear();
    }
}

/// What fills one batch after the other and does something with each that is full.
pub(super) trait Batches {
    /// The batch at hand.
    fn batch(&mut self) -> &mut Batch;

    /// Does it, and empties the batch.
    fn end_batch(&mut self) -> Result<(), ArchiveError>;

    /// Takes the rows of a series, in order of time.
    fn take(&mut self, place: Place<'_>, mut rows: &[Row]) -> Result<(), ArchiveError> {
        while !rows.is_empty() {
            let batch = self.batch();
            let taken = batch.take(place, rows);
            rows = &rows[taken..];
            if batch.is_full() {
                self.end_batch()?;
            }
        }
        Ok(())
    }

    /// Ends the last batch, if there is something in it.
    fn take_rest(&mut self) -> Result<(), ArchiveError> {
        if self.batch().is_empty() { Ok(()) } else { self.end_batch() }
    }
}
