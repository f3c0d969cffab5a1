//! Reading back: what was written aside, against what it was written from.

use super::ArchiveError;
use super::batch::{Batch, Batches, Place, Row, Same};
use super::place::ArchiveStore;
use super::read::OpenFile;
use super::schema::{self, COLUMNS};
use super::write::{FILE_GROUPS, Part, Written};
use crate::canary::{self, Canary};
use parquet::data_type::{ByteArrayType, DoubleType, Int64Type};
use std::sync::Arc;

/// Rows that are decoded at a time.
const PIECE: usize = 8192;

/// Compares a part that was written aside with its source: takes the same series in the same order as the
/// [`Writer`](super::Writer) did, decodes the files with the `parquet` crate, and compares every value of every column.
/// Holds one row group in memory.
#[derive(Debug)]
pub struct Checker {
    place: Arc<dyn ArchiveStore>,
    part: Part,
    written: Written,
    batch: Batch,
    /// The file at hand, its position, and the row group that comes next.
    file: Option<OpenFile>,
    position: usize,
    group: usize,
    rows: u64,
}

impl Checker {
    /// Begins to compare.
    pub fn new(place: Arc<dyn ArchiveStore>, part: Part, written: Written) -> Self {
        Self { place, part, written, batch: Batch::default(), file: None, position: 0, group: 0, rows: 0 }
    }

    /// Takes the rows of a series.
    pub fn series(
        &mut self,
        (host, metric): (&str, &str),
        (component, subcomponent): (&str, &str),
        rows: &[Row],
    ) -> Result<(), ArchiveError> {
        self.take(Place { host, metric, component, subcomponent }, rows)
    }

    /// Compares what is left; gives back what was written.
    pub fn finish(mut self) -> Result<Written, ArchiveError> {
        self.take_rest()?;
        if self.rows != self.written.sidecar.rows {
            let what = format!("{} rows were to be written, there are {}", self.rows, self.written.sidecar.rows);
            return Err(ArchiveError::Differs { key: self.part.names.folder(), what });
        }
        Ok(self.written)
    }
}

impl Batches for Checker {
    fn batch(&mut self) -> &mut Batch {
        &mut self.batch
    }

    fn end_batch(&mut self) -> Result<(), ArchiveError> {
        if canary::is(Canary::ArchiveUnchecked) {
            self.rows += self.batch.rows() as u64;
            self.batch.clear();
            return Ok(());
        }
        if self.group == FILE_GROUPS {
            self.file = None;
            self.position += 1;
            self.group = 0;
        }
        let differs = |what: String| ArchiveError::Differs { key: self.part.names.folder(), what };
        let entry =
            self.written.sidecar.files.get(self.position).ok_or_else(|| differs("a file is missing".to_owned()))?;
        let key = self.part.names.aside(&self.written.sidecar.store, &entry.name);
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(OpenFile::open(&self.place, &key, entry)?),
        };
        let rows = self.batch.rows();
        if self.group >= file.groups() || file.rows_of_group(self.group) != rows {
            return Err(ArchiveError::Differs { key, what: format!("row group {} has other rows", self.group) });
        }
        for (at, name) in COLUMNS.iter().enumerate() {
            if !is_equal(file, self.group, at, &self.batch, &self.part.names.cluster)? {
                let what = format!("column {name} of row group {}", self.group);
                return Err(ArchiveError::Differs { key, what });
            }
        }
        self.rows += rows as u64;
        self.batch.clear();
        self.group += 1;
        Ok(())
    }
}

/// Whether a column of a row group has the values of a batch.
fn is_equal(file: &OpenFile, group: usize, column: usize, batch: &Batch, cluster: &str) -> Result<bool, ArchiveError> {
    let rows = 0..batch.rows();
    let mut is_equal = true;
    let mut at = 0;
    match column {
        schema::VALUE => file.column::<DoubleType>(group, column, rows, PIECE, |values| {
            let expected = &batch.values[at..at + values.len()];
            is_equal &= values.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
            at += values.len();
        })?,
        schema::TIMESTAMP => file.column::<Int64Type>(group, column, rows, PIECE, |values| {
            is_equal &= *values == batch.times[at..at + values.len()];
            at += values.len();
        })?,
        schema::FREQUENCY | schema::START => {
            let number =
                |same: &Same| if column == schema::START { same.run.start } else { i64::from(same.run.frequency) };
            let mut expected = each_row(batch).map(number);
            file.column::<Int64Type>(group, column, rows, PIECE, |values| {
                is_equal &= values.iter().all(|&value| expected.next() == Some(value));
            })?;
        }
        _ => {
            let text = |same: &Same| match column {
                schema::CLUSTER => cluster,
                schema::HOSTNAME => &*batch.hosts.list[same.host as usize],
                schema::METRIC => &*batch.metrics.list[same.metric as usize],
                schema::SCOPE => &*batch.scopes[same.path as usize].0,
                schema::SCOPE_ID => &*batch.scopes[same.path as usize].1,
                _ => &*batch.paths.list[same.path as usize],
            };
            let mut expected = each_row(batch).map(text);
            file.column::<ByteArrayType>(group, column, rows, PIECE, |values| {
                is_equal &= values.iter().all(|value| expected.next().map(str::as_bytes) == Some(value.data()));
            })?;
        }
    }
    Ok(is_equal)
}

fn each_row(batch: &Batch) -> impl Iterator<Item = &Same> {
    batch.same.iter().flat_map(|same| std::iter::repeat_n(same, same.rows as usize))
}
