//! Fewer points from many.

use crate::model::{ResampleAlgo, SeriesError};

/// Series with fewer points than this are never resampled.
const MIN_POINTS: usize = 1000;

/// Reduces `data`, which has one value every `frequency` seconds (at least 1), to one every `resolution` seconds.
/// Returns the values and the seconds between them; data are unchanged if no coarser resolution is asked for or if they
/// are too few.
pub(super) fn resample(
    data: Vec<f64>,
    frequency: u32,
    resolution: i64,
    algo: ResampleAlgo,
) -> Result<(Vec<f64>, i64), SeriesError> {
    let frequency = i64::from(frequency);
    if resolution <= frequency {
        return Ok((data, frequency));
    }
    if resolution % frequency != 0 {
        return Err(SeriesError::Resolution { wanted: resolution, frequency });
    }
    let step = usize::try_from(resolution / frequency).unwrap_or(usize::MAX);
    let count = data.len() / step;
    if count == 0 || data.len() < MIN_POINTS {
        return Ok((data, frequency));
    }
    let groups = data.chunks_exact(step);
    let resampled = match algo {
        ResampleAlgo::Lttb => largest_triangles(&data, count),
        ResampleAlgo::Average => groups.map(mean_of_present).collect(),
        ResampleAlgo::Simple => groups.map(|group| group[0]).collect(),
    };
    Ok((resampled, resolution))
}

/// The mean of the values that are not missing, NaN if there is none.
fn mean_of_present(group: &[f64]) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    for value in group.iter().filter(|value| !value.is_nan()) {
        count += 1.0;
        sum += value;
    }
    sum / count
}

/// Largest triangle three buckets: the first point, one of each of `count - 2` buckets, the last point. Of a bucket
/// that point is taken which spans the largest triangle with the point taken before and the mean of the next bucket.
///
/// Buckets, ties and missing values are those of the predecessor, so that curves look the same: the mean of the next
/// bucket includes the first point behind it, the last bucket ends one point early, of equal triangles the first wins,
/// and a triangle with a missing corner beats every other one, the last such triangle all before it.
/// `data` has more points than `count`, and at least two.
#[expect(clippy::cast_precision_loss, reason = "indices stay far below 2^53")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, at most the number of points")]
fn largest_triangles(data: &[f64], count: usize) -> Vec<f64> {
    let buckets = count.saturating_sub(2);
    if buckets == 0 {
        return vec![data[0], data[data.len() - 1]];
    }
    let bucket_len = (data.len() - 2) as f64 / buckets as f64;
    let bucket_end = |bucket: usize| (bucket as f64 * bucket_len).floor() as usize + 1;

    let mut taken = Vec::with_capacity(buckets + 2);
    taken.push(data[0]);
    let (mut before, mut begin, mut end) = (0, 1, bucket_end(1));
    for bucket in 0..buckets {
        let next_end = bucket_end(bucket + 2).min(data.len() - 2);
        let (x, y) = (before as f64, data[before]);
        let (mean_x, mean_y) = mean_point(data, end, next_end);
        let mut largest = -1.0;
        for (at, value) in (begin..end).zip(&data[begin..end]) {
            let area = (((x - at as f64) * (mean_y - y) - (x - mean_x) * (value - y)) * 0.5).abs();
            if area > largest || area.is_nan() {
                (largest, before) = (area, at);
            }
        }
        taken.push(data[before]);
        (begin, end) = (end, next_end);
    }
    taken.push(data[data.len() - 1]);
    taken
}

/// The mean of the points from `first` to `last`, both included; NaN if there are none or if one is missing.
#[expect(clippy::cast_precision_loss, reason = "indices stay far below 2^53")]
fn mean_point(data: &[f64], first: usize, last: usize) -> (f64, f64) {
    let Some(points) = data.get(first..=last) else { return (f64::NAN, f64::NAN) };
    let len = points.len() as f64;
    ((first + last) as f64 / 2.0, points.iter().sum::<f64>() / len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(len: u32) -> Vec<f64> {
        (0..len).map(|i| f64::from(37 * i % 101)).collect()
    }

    fn lttb(data: Vec<f64>, resolution: i64) -> (Vec<f64>, i64) {
        resample(data, 60, resolution, ResampleAlgo::Lttb).unwrap()
    }

    #[test]
    fn lttb_takes_the_points_of_the_predecessor() {
        let (data, resolution) = lttb(golden(1000), 300);
        assert_eq!((data.len(), resolution), (200, 300));
        assert_eq!(data[..16], [0, 74, 20, 77, 23, 6, 90, 9, 93, 2, 86, 5, 89, 8, 92, 1].map(f64::from));
        assert_eq!(data[194..], [82, 1, 85, 4, 78, 98].map(f64::from));
        assert_eq!(data.iter().sum::<f64>().to_bits(), 9210_f64.to_bits());

        let (data, _) = lttb(golden(1000), 240);
        assert_eq!(data.len(), 250);
        assert_eq!(data[..10], [0, 74, 20, 67, 13, 97, 6, 90, 36, 83].map(f64::from));
        assert_eq!(data.iter().sum::<f64>().to_bits(), 11715_f64.to_bits());
    }

    #[test]
    fn one_or_two_points_are_the_first_and_the_last() {
        for resolution in [24_000, 30_000, 60_000] {
            assert_eq!(lttb(golden(1000), resolution), (vec![0.0, 98.0], resolution));
        }
    }

    #[test]
    fn three_points_have_no_bucket_behind_the_middle_so_its_last_point_is_taken() {
        let data = golden(1000);
        assert_eq!(lttb(data.clone(), 19_980).0, [data[0], data[998], data[999]]);
    }

    #[test]
    fn a_missing_value_is_taken_once() {
        let mut data = golden(1000);
        data[500] = f64::NAN;
        let (data, _) = lttb(data, 300);
        let missing: Vec<usize> = (0..data.len()).filter(|&i| data[i].is_nan()).collect();
        assert_eq!(missing, [100]);
    }

    #[test]
    fn few_points_and_fine_resolutions_are_left_alone() {
        assert_eq!(lttb(golden(999), 300), (golden(999), 60));
        for resolution in [i64::MIN, -1, 0, 1, 60] {
            assert_eq!(lttb(golden(1000), resolution), (golden(1000), 60));
        }
        let longest_multiple = i64::MAX / 60 * 60;
        assert_eq!(lttb(golden(1000), longest_multiple), (golden(1000), 60));
    }

    #[test]
    fn a_resolution_between_the_intervals_is_an_error_even_for_few_points() {
        let error = resample(vec![], 60, 90, ResampleAlgo::Lttb).unwrap_err();
        assert_eq!(error, SeriesError::Resolution { wanted: 90, frequency: 60 });
        assert_eq!(error.to_string(), "new sampling frequency (90) must be a multiple of old frequency (60)");
    }

    #[test]
    fn simple_takes_the_first_of_each_group_and_drops_the_tail() {
        let (data, resolution) = resample(golden(1001), 60, 180, ResampleAlgo::Simple).unwrap();
        assert_eq!(resolution, 180);
        assert_eq!(data, golden(1001).chunks_exact(3).map(|group| group[0]).collect::<Vec<_>>());
    }

    #[test]
    fn average_skips_missing_values() {
        let mut data = golden(1000);
        data[..4].copy_from_slice(&[f64::NAN, 3.0, f64::NAN, f64::NAN]);
        let (data, _) = resample(data, 60, 120, ResampleAlgo::Average).unwrap();
        assert_eq!(data.len(), 500);
        assert_eq!(data[..1], [3.0]);
        assert!(data[1].is_nan());
        assert_eq!(data[2..3], [f64::midpoint(f64::from(37 * 4 % 101), f64::from(37 * 5 % 101))]);
    }
}
