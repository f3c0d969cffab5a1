//! From values to the bytes of a stripe: which encoding a column takes, and its array.

use crate::format::pad8;
use crate::format::snapshot::stripe::{MISSING_F32, MISSING_F64, TAG_CONSTANT, TAG_F32, TAG_F64};
use std::ops::Range;

/// The slots from the first to the last that have a value in some column; `None` where there is no value.
pub(super) fn present_range<'a>(columns: impl Iterator<Item = &'a [f64]>) -> Option<Range<usize>> {
    columns.filter_map(present).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
}

fn present(values: &[f64]) -> Option<Range<usize>> {
    let first = values.iter().position(|value| !value.is_nan())?;
    let last = values.iter().rposition(|value| !value.is_nan())?;
    Some(first..last + 1)
}

/// Puts the data of a stripe in place of what `to` has: a tag a column, then the arrays.
pub(super) fn encode<'a>(to: &mut Vec<u8>, columns: impl Iterator<Item = &'a [f64]> + Clone) {
    to.clear();
    to.extend(columns.clone().map(tag_of));
    let tags = to.len();
    to.resize(pad8(tags), 0);
    for (at, values) in columns.enumerate() {
        let begin = to.len();
        match (to[at], values) {
            (TAG_CONSTANT, [value, ..]) => to.extend(value.to_le_bytes()),
            (TAG_F32, _) => {
                to.resize(begin + pad8(values.len() * 4), 0);
                for (to, &value) in to[begin..].chunks_exact_mut(4).zip(values) {
                    to.copy_from_slice(&narrow(value).unwrap_or(MISSING_F32).to_le_bytes());
                }
            }
            _ => {
                to.resize(begin + values.len() * 8, 0);
                for (to, &value) in to[begin..].chunks_exact_mut(8).zip(values) {
                    to.copy_from_slice(&(if value.is_nan() { MISSING_F64 } else { value }).to_le_bytes());
                }
            }
        }
    }
}

/// The shortest encoding that gives every bit back.
fn tag_of(values: &[f64]) -> u8 {
    if let [first, rest @ ..] = values
        && !first.is_nan()
        && rest.iter().all(|value| value.to_bits() == first.to_bits())
    {
        TAG_CONSTANT
    } else if values.iter().all(|&value| narrow(value).is_some()) {
        TAG_F32
    } else {
        TAG_F64
    }
}

/// The `f32` that is this value, or missing as it is; `None` if none is.
fn narrow(value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "what it loses is what the comparison looks for")]
    let narrow = value as f32;
    if value.is_nan() { Some(MISSING_F32) } else { (f64::from(narrow).to_bits() == value.to_bits()).then_some(narrow) }
}
