//! Several components become one series.
//!
//! Components without data in the range do not count. The others are read on one grid, which begins where all of them
//! have begun and stops where the first of them ends; inside it a point is missing where any of them is missing,
//! because a sum of seven of eight threads is a wrong number.

use super::Options;
use super::series::{Grid, Series};
use crate::model::{Aggregation, SeriesError};
use std::borrow::Borrow;

/// The values of one series at the configured frequency.
#[derive(Debug)]
pub(super) struct Points {
    /// The instant of the first value.
    pub(super) from: i64,
    /// One interval after the last value, `from` if there is none.
    pub(super) to: i64,
    /// One value an interval; NaN is missing.
    pub(super) values: Vec<f64>,
}

/// Reads and combines the children in their order. If none has data in the range, the first one alone gives the answer.
pub(super) fn combine<'a>(children: &[impl Borrow<Series<'a>>], options: &Options) -> Result<Points, SeriesError> {
    let &Options { from, to, frequency, aggregation, point_limit: limit, .. } = options;
    let none = Series::default();
    let with_data: Vec<&Series<'_>> = match children {
        [] => vec![],
        [child] => vec![child.borrow()],
        _ => children.iter().map(Borrow::borrow).filter(|child| child.has_data(from, to, frequency)).collect(),
    };
    let (first, others) = with_data
        .split_first()
        .map_or((children.first().map_or(&none, Borrow::borrow), &[][..]), |(first, rest)| (*first, rest));
    if !others.is_empty() && aggregation == Aggregation::None {
        return Err(SeriesError::InvalidAggregation);
    }

    let window = others.iter().fold(first.window(from, to, frequency), |window, child| {
        let other = child.window(from, to, frequency);
        window.start.max(other.start)..window.end.min(other.end)
    });
    let grid = Grid::new(&window, frequency);
    if grid.len > limit {
        return Err(SeriesError::TooManyPoints { limit });
    }

    let mut combined = vec![f64::NAN; grid.len];
    first.read(&grid, &mut combined);
    let mut copy = Vec::new();
    for child in others {
        child.add_to(&grid, &mut combined, &mut copy);
    }
    if aggregation == Aggregation::Avg && !others.is_empty() {
        #[expect(clippy::cast_precision_loss, reason = "a host has fewer than 2^53 components")]
        let share = 1.0 / (others.len() + 1) as f64;
        for sum in &mut combined {
            *sum *= share;
        }
    }
    Ok(Points { from: saturating(grid.first), to: saturating(grid.instant(grid.len)), values: combined })
}

/// An instant as it is answered: one that no `i64` holds becomes the nearest that one does.
fn saturating(instant: i128) -> i64 {
    i64::try_from(instant).unwrap_or(if instant < 0 { i64::MIN } else { i64::MAX })
}
