//! Whole answers: the examples of the wire contract, aggregation, and what hostile requests may cost.

mod naive;
mod reading;
mod recordings;

use naive::Chain;

use super::{Options, Series, answer};
use crate::model::{Aggregation, Answer, ResampleAlgo, SeriesError};

const MISSING: f64 = f64::NAN;

fn options(from: i64, to: i64) -> Options {
    Options {
        from,
        to,
        frequency: 60,
        aggregation: Aggregation::None,
        resolution: 0,
        algo: ResampleAlgo::Lttb,
        scale_by: 0.0,
        with_stats: true,
        with_data: true,
        with_padding: true,
        point_limit: 100_000,
    }
}

fn unpadded(from: i64, to: i64, aggregation: Aggregation) -> Options {
    Options { with_padding: false, aggregation, ..options(from, to) }
}

/// Samples every minute from `from` on; a missing value is not written.
fn minutes(from: i64, values: &[f64]) -> Chain {
    let mut chain = Chain::new(60);
    let samples = (0..).map(|i| from + 60 * i).zip(values);
    samples.filter(|(_, value)| !value.is_nan()).for_each(|(time, &value)| chain.write(time, value));
    chain
}

fn answer_of(chains: &[&Chain], options: &Options) -> Result<Answer, SeriesError> {
    let children: Vec<Series<'_>> = chains.iter().map(|chain| chain.series()).collect();
    answer(&children, options)
}

/// Equal bits or both missing.
#[track_caller]
fn assert_same(found: &[f64], expected: &[f64]) {
    let same = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(same),
        "found {found:?}, expected {expected:?}"
    );
}

#[track_caller]
fn assert_answer(found: &Answer, data: &[f64], range: (i64, i64), [avg, min, max]: [f64; 3]) {
    assert_same(&found.data, data);
    assert_eq!((found.from, found.to, found.resolution), (range.0, range.1, 60));
    assert_same(&[found.avg, found.min, found.max], &[avg, min, max]);
}

fn cpu_load() -> Chain {
    minutes(1000, &[1.0, 2.0, 4.5])
}

fn clock() -> [Chain; 2] {
    [minutes(1000, &[2000.0, 2200.0, 2100.0]), minutes(1000, &[2100.0, MISSING, 2300.0])]
}

fn flops_any() -> [Chain; 2] {
    [minutes(1000, &[10.0, 20.0]), minutes(1000, &[1.0, 2.0])]
}

#[test]
fn example_a_data_that_begin_late_are_padded_and_from_stays() {
    let found = answer_of(&[&cpu_load()], &options(900, 1300)).unwrap();
    assert_answer(&found, &[MISSING, 1.0, 2.0, 4.5], (1000, 1180), [2.5, 1.0, 4.5]);
}

#[test]
fn example_b_a_sum_is_scaled_with_its_statistics() {
    let [socket0, socket1] = flops_any();
    let options = Options { scale_by: 0.5, ..unpadded(1000, 1120, Aggregation::Sum) };
    let found = answer_of(&[&socket0, &socket1], &options).unwrap();
    assert_answer(&found, &[5.5, 11.0], (1000, 1120), [8.25, 5.5, 11.0]);
}

#[test]
fn example_c_a_mean_is_missing_where_one_component_is() {
    let [thread0, thread1] = clock();
    let found = answer_of(&[&thread0, &thread1], &unpadded(1000, 1180, Aggregation::Avg)).unwrap();
    assert_answer(&found, &[2050.0, MISSING, 2200.0], (1000, 1180), [2125.0, 2050.0, 2200.0]);
}

#[test]
fn example_d_statistics_come_without_values() {
    let options = Options { with_data: false, ..options(1000, 1120) };
    let found = answer_of(&[&flops_any()[0]], &options).unwrap();
    assert_answer(&found, &[], (1000, 1120), [15.0, 10.0, 20.0]);
}

#[test]
fn example_e_a_resolution_that_does_not_fit_is_an_error() {
    let found = answer_of(&[&cpu_load()], &Options { resolution: 90, ..options(1000, 1180) });
    assert_eq!(found, Err(SeriesError::Resolution { wanted: 90, frequency: 60 }));
}

#[test]
fn example_f_an_aligned_range_needs_no_padding() {
    let options = Options { with_data: false, ..options(1000, 1180) };
    let found = answer_of(&[&cpu_load()], &options).unwrap();
    assert_answer(&found, &[], (1000, 1180), [2.5, 1.0, 4.5]);
}

#[test]
fn example_g_a_range_after_the_data_is_empty_at_its_start() {
    let found = answer_of(&[&cpu_load()], &options(5000, 6000)).unwrap();
    assert_answer(&found, &[], (5000, 5000), [MISSING; 3]);
}

#[test]
fn example_h_a_range_before_the_data_is_padded_beyond_its_end() {
    let found = answer_of(&[&cpu_load()], &options(100, 200)).unwrap();
    assert_answer(&found, &[MISSING; 15], (1000, 1000), [MISSING; 3]);
}

#[test]
fn statistics_that_were_not_asked_for_are_zero() {
    let options = Options { with_stats: false, ..options(1000, 1180) };
    assert_answer(&answer_of(&[&cpu_load()], &options).unwrap(), &[1.0, 2.0, 4.5], (1000, 1180), [0.0; 3]);
}

#[test]
fn a_factor_that_is_missing_makes_all_values_missing() {
    let options = Options { scale_by: MISSING, ..options(1000, 1180) };
    let found = answer_of(&[&cpu_load()], &options).unwrap();
    assert_answer(&found, &[MISSING; 3], (1000, 1180), [MISSING; 3]);
}

#[test]
fn a_negative_factor_does_not_swap_minimum_and_maximum() {
    let options = Options { scale_by: -2.0, ..options(1000, 1180) };
    let found = answer_of(&[&cpu_load()], &options).unwrap();
    assert_answer(&found, &[-2.0, -4.0, -9.0], (1000, 1180), [-5.0, -2.0, -9.0]);
}

#[test]
fn a_range_that_ends_before_it_begins_is_an_error() {
    assert_eq!(answer_of(&[&cpu_load()], &options(1001, 1000)), Err(SeriesError::InvalidRange));
}

#[test]
fn an_aggregate_covers_what_all_components_cover_in_any_order() {
    let (early, late) = (minutes(1000, &[1.0; 8]), minutes(1180, &[2.0; 8]));
    for children in [[&early, &late], [&late, &early]] {
        let found = answer_of(&children, &unpadded(1000, 2000, Aggregation::Sum)).unwrap();
        assert_answer(&found, &[3.0; 5], (1180, 1480), [3.0; 3]);
    }
}

#[test]
fn components_with_different_phases_are_read_on_the_grid_of_the_last_to_begin() {
    let (a, b) = (minutes(1000, &[1.0, 2.0, 3.0]), minutes(1020, &[10.0, 20.0, 30.0]));
    let found = answer_of(&[&a, &b], &unpadded(0, 2000, Aggregation::Sum)).unwrap();
    assert_answer(&found, &[11.0, 22.0, 33.0], (1020, 1200), [22.0, 11.0, 33.0]);
}

#[test]
fn components_without_data_in_the_range_do_not_count() {
    let (old, new) = (minutes(1000, &[1.0; 3]), minutes(9000, &[4.0; 3]));
    for (from, to, value) in [(1000, 1180, 1.0), (9000, 9180, 4.0)] {
        for aggregation in [Aggregation::None, Aggregation::Avg] {
            let found = answer_of(&[&old, &new], &unpadded(from, to, aggregation)).unwrap();
            assert_answer(&found, &[value; 3], (from, to), [value; 3]);
        }
    }
}

#[test]
fn without_any_data_the_first_component_gives_the_empty_answer() {
    let (a, b) = (minutes(1000, &[1.0; 3]), minutes(2000, &[4.0; 3]));
    let found = answer_of(&[&b, &a], &unpadded(100, 200, Aggregation::None)).unwrap();
    assert_answer(&found, &[], (2000, 2000), [MISSING; 3]);
    let found = answer_of(&[&a, &b], &unpadded(5000, 6000, Aggregation::Sum)).unwrap();
    assert_answer(&found, &[], (5000, 5000), [MISSING; 3]);
    assert_answer(&answer_of(&[], &options(5000, 6000)).unwrap(), &[], (5000, 5000), [MISSING; 3]);
}

#[test]
fn components_with_data_need_an_aggregation() {
    let [a, b] = flops_any();
    let found = answer_of(&[&a, &b], &unpadded(1000, 1120, Aggregation::None));
    assert_eq!(found, Err(SeriesError::InvalidAggregation));
}

#[test]
fn components_that_share_no_time_have_an_empty_aggregate() {
    let (early, late) = (minutes(1000, &[1.0; 3]), minutes(1600, &[2.0; 3]));
    let found = answer_of(&[&early, &late], &unpadded(1000, 2000, Aggregation::Sum)).unwrap();
    assert_answer(&found, &[], (1600, 1600), [MISSING; 3]);
}

#[test]
fn infinite_values_are_no_missing_values() {
    let (a, b) = (minutes(1000, &[f64::MAX, f64::INFINITY]), minutes(1000, &[f64::MAX, 1.0]));
    let found = answer_of(&[&a, &b], &unpadded(1000, 1120, Aggregation::Sum)).unwrap();
    assert_answer(&found, &[f64::INFINITY; 2], (1000, 1120), [f64::INFINITY; 3]);
}

#[test]
fn more_points_than_the_limit_are_an_error_whether_stored_or_padded() {
    let limit = 10;
    let error = Err(SeriesError::TooManyPoints { limit });
    let limited = |from, to| Options { point_limit: limit, ..options(from, to) };
    let chain = minutes(6000, &[1.0; 11]);
    assert_eq!(answer_of(&[&chain], &limited(6000, 6600)).unwrap().data.len(), 10);
    assert_eq!(answer_of(&[&chain], &limited(6000, 6601)), error);
    assert_eq!(answer_of(&[&chain], &limited(5400, 6000)).unwrap().data.len(), 10);
    assert_eq!(answer_of(&[&chain], &limited(5399, 6000)), error);
    assert_eq!(answer_of(&[&chain], &limited(i64::MIN, i64::MIN)), error);
    let unseen = Options { with_data: false, ..limited(5399, 6000) };
    assert_eq!(answer_of(&[&chain], &unseen).unwrap().from, 6000);
}

#[test]
fn resampled_data_are_padded_by_the_native_interval() {
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let options = Options { resolution: 300, ..options(600, 100_000) };
    let found = answer_of(&[&minutes(1200, &values)], &options).unwrap();
    assert_eq!((found.data.len(), found.resolution), (10 + 200, 300));
    assert_eq!((found.from, found.to), (1200, 61_200));
    assert_same(&found.data[9..11], &[MISSING, 0.0]);
}
