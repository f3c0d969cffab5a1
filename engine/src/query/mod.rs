//! Evaluation of queries: from stored slots to the series of an answer.
//!
//! Owns the reading rule of one series ([`Series`]), the choice of the levels that are combined ([`select`]), and the
//! fixed order of the steps of an answer: read, aggregate, resample, statistics, scale, pad, drop the values.
//!
//! Promises: pure functions over slices. Any range, frequency or slot number yields an answer or a [`SeriesError`], and
//! memory is taken only for points that the limit of the request allows. Equal input gives equal bits: values are
//! combined in the order of the children.
//!
//! Never does I/O, takes no lock, knows no host and no file.

mod aggregate;
mod resample;
pub mod select;
mod series;
mod statistics;
#[cfg(test)]
mod tests;
mod values;

pub use select::{Level, Path, Selector, combined_paths, selectors};
pub use series::{Piece, Series};
pub use values::Values;

use crate::model::{Aggregation, Answer, ResampleAlgo, SeriesError};
use statistics::Statistics;
use std::borrow::Borrow;

/// What is asked of one series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// First instant asked for, in unix seconds.
    pub from: i64,
    /// End of the range in unix seconds, exclusive.
    pub to: i64,
    /// The configured interval of the metric in seconds, from 1; 0 is taken as 1.
    pub frequency: u32,
    /// How the values of several components become one.
    pub aggregation: Aggregation,
    /// Wanted interval in seconds; `frequency` or less means the metric's own.
    pub resolution: i64,
    /// How fewer points are made from many.
    pub algo: ResampleAlgo,
    /// Factor on all values and statistics; 0 and 1 leave them alone, NaN makes them all missing.
    pub scale_by: f64,
    /// Whether average, minimum and maximum are computed; they are 0 otherwise.
    pub with_stats: bool,
    /// Whether the values are part of the answer.
    pub with_data: bool,
    /// Whether missing values stand in front of data that begin after `from`.
    pub with_padding: bool,
    /// The most points that may be computed or returned.
    pub point_limit: usize,
}

/// Answers one query from the series of the components that [`combined_paths`] chose, in that order.
///
/// There is at least one child; without any the answer is the empty one of a series that has no values.
pub fn answer<'a>(children: &[impl Borrow<Series<'a>>], options: &Options) -> Result<Answer, SeriesError> {
    if options.from > options.to {
        return Err(SeriesError::InvalidRange);
    }
    let points = aggregate::combine(children, options)?;
    let (from, to) = (points.from, points.to);
    let (mut data, resolution) =
        resample::resample(points.values, options.frequency.max(1), options.resolution, options.algo)?;

    let mut statistics = if options.with_stats { Statistics::of(&data) } else { Statistics::default() };
    #[expect(clippy::float_cmp, reason = "exactly these two factors mean unscaled")]
    if options.scale_by != 0.0 && options.scale_by != 1.0 {
        for value in &mut data {
            *value *= options.scale_by;
        }
        statistics.scale(options.scale_by);
    }
    if !options.with_data {
        data = Vec::new();
    } else if options.with_padding {
        pad(&mut data, from, options)?;
    }
    Ok(Answer { data, from, to, resolution, avg: statistics.avg, min: statistics.min, max: statistics.max })
}

/// Puts missing values in front of data that begin after the asked start: as many as whole intervals, counted from the
/// epoch, lie between the two. The metric's own interval counts, also when the data were resampled.
fn pad(data: &mut Vec<f64>, from: i64, options: &Options) -> Result<(), SeriesError> {
    let interval = i64::from(options.frequency.max(1));
    let missing = i128::from(from / interval) - i128::from(options.from / interval);
    let missing = usize::try_from(missing).unwrap_or(0);
    if missing.saturating_add(data.len()) > options.point_limit {
        return Err(SeriesError::TooManyPoints { limit: options.point_limit });
    }
    data.splice(0..0, std::iter::repeat_n(f64::NAN, missing));
    Ok(())
}
