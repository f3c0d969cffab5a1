//! The footer: which columns there are, and where their chunks are.

use super::super::Reason;
use super::COLUMNS;
use super::thrift::{Fields, Thrift};
use std::ops::Range;

const MAGIC: [u8; 4] = *b"PAR1";
/// Physical types.
const INT64: i64 = 2;
const FLOAT: i64 = 4;
const BYTE_ARRAY: i64 = 6;
/// The type of each of [`COLUMNS`].
const TYPES: [i64; COLUMNS.len()] = [BYTE_ARRAY, BYTE_ARRAY, BYTE_ARRAY, BYTE_ARRAY, BYTE_ARRAY, INT64, INT64, FLOAT];
/// Bytes of a value of each; none for texts.
pub(super) const WIDTHS: [Option<usize>; COLUMNS.len()] = [None, None, None, None, None, Some(8), Some(8), Some(4)];
const REQUIRED: i64 = 0;
const OPTIONAL: i64 = 1;

#[derive(Debug)]
pub(super) struct Footer {
    pub(super) groups: Vec<RowGroup>,
    /// Whether row groups are missing of which the footer speaks.
    pub(super) is_cut: bool,
}

#[derive(Debug)]
pub(super) struct RowGroup {
    pub(super) rows: u64,
    /// In the order of [`COLUMNS`].
    pub(super) chunks: [Chunk; COLUMNS.len()],
}

/// The values of a column in a row group.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// Where its pages are.
    pub(super) bytes: Range<usize>,
    pub(super) codec: i64,
    /// Whether its pages tell which values are null.
    pub(super) is_optional: bool,
}

/// A column among all of a file.
#[derive(Clone, Copy, Debug, Default)]
struct Leaf {
    number: usize,
    is_optional: bool,
}

impl Footer {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Reason> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or(Reason::Header)?;
        let (rest, len) = rest.strip_suffix(&MAGIC).and_then(|rest| rest.split_last_chunk::<4>()).ok_or(Reason::Cut)?;
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        let end = MAGIC.len() + rest.len();
        let begin = rest.len().checked_sub(len).ok_or(Reason::Fields)? + MAGIC.len();
        let fields = Thrift::new(&bytes[..end], begin).fields().ok_or(Reason::Fields)?;
        let leaves = leaves(&fields).ok_or(Reason::Columns)?;
        let groups = fields.structs(4).map(|group| RowGroup::read(&group, &leaves, begin));
        let mut footer = Self { groups: Vec::new(), is_cut: false };
        for group in groups {
            match group {
                Some(group) => footer.groups.push(group),
                None => footer.is_cut = true,
            }
        }
        Ok(footer)
    }
}

/// Each of [`COLUMNS`] among all columns, if all are there and of the right type.
fn leaves(footer: &Fields<'_>) -> Option<[Leaf; COLUMNS.len()]> {
    let mut elements = footer.structs(2);
    // Of the root the number of its children.
    elements.next()?.size(5)?;
    let mut found = [None; COLUMNS.len()];
    for (number, element) in elements.enumerate() {
        if element.size(5).is_some_and(|children| children > 0) {
            return None;
        }
        let Some(at) = COLUMNS.iter().position(|column| element.bytes(4) == Some(column.as_bytes())) else { continue };
        let is_optional = match element.int(3) {
            Some(REQUIRED) => false,
            Some(OPTIONAL) => true,
            _ => return None,
        };
        if element.int(1) != Some(TYPES[at]) {
            return None;
        }
        found[at] = Some(Leaf { number, is_optional });
    }
    let mut leaves = [Leaf::default(); COLUMNS.len()];
    for (leaf, found) in leaves.iter_mut().zip(found) {
        *leaf = found?;
    }
    Some(leaves)
}

impl RowGroup {
    /// `end` is where data end and the footer begins.
    fn read(group: &Fields<'_>, leaves: &[Leaf; COLUMNS.len()], end: usize) -> Option<Self> {
        let rows = u64::try_from(group.int(3)?).ok()?;
        let mut chunks = <[Chunk; COLUMNS.len()]>::default();
        let mut found = 0;
        for (number, column) in group.structs(1).enumerate() {
            let of_leaf = chunks.iter_mut().zip(leaves).zip(TYPES).find(|((_, leaf), _)| leaf.number == number);
            let Some(((chunk, leaf), kind)) = of_leaf else { continue };
            let fields = column.fields(3)?;
            let data = fields.size(9)?;
            let begin = fields.size(11).filter(|&dictionary| (1..data).contains(&dictionary)).unwrap_or(data);
            let bytes = begin..begin.checked_add(fields.size(7)?)?;
            if bytes.end > end || fields.int(1) != Some(kind) || fields.int(5) != i64::try_from(rows).ok() {
                return None;
            }
            *chunk = Chunk { bytes, codec: fields.int(4)?, is_optional: leaf.is_optional };
            found += 1;
        }
        // Each column is another leaf.
        (found == COLUMNS.len()).then_some(Self { rows, chunks })
    }

    /// Where its first chunk begins.
    pub(super) fn begin(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes.start).min().unwrap_or(0)
    }

    /// Bytes of its chunks.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().fold(0, |bytes, chunk| bytes.saturating_add(chunk.bytes.len()))
    }
}
