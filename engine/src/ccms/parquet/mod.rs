//! `<cluster>/<time>.parquet`, the predecessor's archive: a row a value.
//!
//! Read by own code, for the bytes are anybody's: the `parquet` crate panics, and allocates what a damaged length asks
//! for. Here a page is at most [`PAGE_MAX`] bytes, and values are decoded one after the other out of it, so that a
//! count in a file costs no memory. Checksums of pages are compared where there are any. A row group that cannot be
//! read on is left, and the next one is read. What a file claims to be sorted by is not relied upon.

mod column;
mod encoding;
mod footer;
#[cfg(test)]
pub(crate) mod tests;
mod thrift;

use super::{Reason, Skips, interval, name};
use column::Column;
use footer::{Footer, RowGroup};
use std::borrow::Cow;

/// Bytes of a page at most, before and after decompression.
const PAGE_MAX: usize = 16 << 20;
/// Rows of a file at most for each of its bytes. Writers end a page at a MiB or before, which are 2^17 times; with a page
/// of each column, and its header, that are some hundred rows a byte even where all values are constant and compress to
/// nothing. But a run of positions in a dictionary may say to be of any length.
const ROWS_PER_BYTE: u64 = 1 << 10;
/// So many a file may have in any case.
const ROWS_MIN: u64 = 1 << 20;
/// Bytes of a name at most: what the other formats of the predecessor can hold.
const NAME_MAX: usize = u16::MAX as usize;

/// The columns that are read, whatever others there are.
const COLUMNS: [&str; 8] = ["cluster", "hostname", "metric", "scope", "scope_id", "timestamp", "frequency", "value"];

/// A row: one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// The cluster, not empty.
    pub cluster: &'a str,
    /// The host, not empty.
    pub host: &'a str,
    /// The name of the metric, not empty.
    pub metric: &'a str,
    /// The kind of the component, or all of its name; not empty.
    pub scope: &'a str,
    /// What follows the kind in its name.
    pub scope_id: &'a str,
    /// The instant of the value in unix seconds: what its slot contains.
    pub time: i64,
    /// Seconds between two values, at least 1.
    pub frequency: u32,
    /// The value.
    pub value: f32,
}

impl Row<'_> {
    /// The name of the component, empty for the host itself. Of the part of a component the archive has only the name:
    /// that stands here then.
    pub fn component(&self) -> Cow<'_, str> {
        match (self.scope, self.scope_id) {
            ("node", "") => Cow::Borrowed(""),
            (scope, "") => Cow::Borrowed(scope),
            (scope, id) => Cow::Owned(format!("{scope}{id}")),
        }
    }
}

/// Reads a file; `each` gets the rows in their order, and may end it with an error.
pub fn read<E>(bytes: &[u8], mut each: impl FnMut(&Row<'_>) -> Result<(), E>) -> Result<Skips, E> {
    let mut skips = Skips::default();
    let footer = match Footer::read(bytes) {
        Ok(footer) => footer,
        Err(why) => {
            skips.add(0, bytes.len(), why);
            return Ok(skips);
        }
    };
    // Row groups that share pages would be read as often as the footer names them: together they are no more than the
    // file.
    let mut bytes_left = bytes.len();
    let mut rows_left = ROWS_MIN.max((bytes.len() as u64).saturating_mul(ROWS_PER_BYTE));
    for group in &footer.groups {
        let Some(left) = bytes_left.checked_sub(group.bytes()) else {
            skips.add(group.begin(), 0, Reason::Rows);
            continue;
        };
        bytes_left = left;
        let Some(left) = rows_left.checked_sub(group.rows) else {
            skips.add(group.begin(), group.bytes(), Reason::Rows);
            continue;
        };
        rows_left = left;
        match read_group(bytes, group, &mut skips, &mut each) {
            Ok(()) => {}
            Err(Stop::Asked(error)) => return Err(error),
            Err(Stop::Damage { at, left, why }) => skips.add(at, left, why),
        }
    }
    if footer.is_cut {
        skips.add(bytes.len(), 0, Reason::Fields);
    }
    Ok(skips)
}

enum Stop<E> {
    Asked(E),
    /// Where, bytes that were not read, and why.
    Damage {
        at: usize,
        left: usize,
        why: Reason,
    },
}

fn read_group<E>(
    bytes: &[u8],
    group: &RowGroup,
    skips: &mut Skips,
    each: &mut impl FnMut(&Row<'_>) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let begin = group.begin();
    let mut widths = footer::WIDTHS.into_iter();
    let mut columns = group.chunks.clone().map(|chunk| Column::new(bytes, chunk, widths.next().flatten()));
    for _ in 0..group.rows {
        match row(&mut columns) {
            Ok(Ok(row)) => each(&row).map_err(Stop::Asked)?,
            // The columns go on behind it.
            Ok(Err(why)) => skips.add(begin, 0, why),
            Err((column, why)) => {
                let at = columns.get(column).map_or(begin, Column::position);
                return Err(Stop::Damage { at, left: columns.iter().map(Column::left).sum(), why });
            }
        }
    }
    match columns.iter().find(|column| !column.is_at_end()) {
        Some(column) => Err(Stop::Damage { at: column.position(), left: column.left(), why: Reason::Fields }),
        None => Ok(()),
    }
}

/// The next row; or what no row can be, or in which column reading cannot go on.
fn row<'r>(columns: &'r mut [Column<'_>; COLUMNS.len()]) -> Result<Result<Row<'r>, Reason>, (usize, Reason)> {
    let at = |at: usize| move |why| (at, why);
    let [cluster, host, metric, scope, scope_id, time, frequency, value] = columns;
    let cluster = cluster.text().map_err(at(0))?;
    let host = host.text().map_err(at(1))?;
    let metric = metric.text().map_err(at(2))?;
    let scope = scope.text().map_err(at(3))?;
    let scope_id = scope_id.text().map_err(at(4))?;
    let time = i64::from_le_bytes(time.fixed().map_err(at(5))?);
    let frequency = i64::from_le_bytes(frequency.fixed().map_err(at(6))?);
    let value = f32::from_le_bytes(value.fixed().map_err(at(7))?);
    let is_short = cluster.len().max(host.len()).max(metric.len()).max(scope.len() + scope_id.len()) <= NAME_MAX;
    let names = (name(cluster), name(host), name(metric), name(scope), std::str::from_utf8(scope_id));
    Ok(match (names, interval(time, frequency, 1)) {
        ((Some(cluster), Some(host), Some(metric), Some(scope), Ok(scope_id)), Some(frequency)) if is_short => {
            Ok(Row { cluster, host, metric, scope, scope_id, time, frequency, value })
        }
        (_, None) => Err(Reason::Grid),
        _ => Err(Reason::Name),
    })
}
