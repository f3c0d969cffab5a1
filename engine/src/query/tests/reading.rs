//! The reading rule of one series: its examples, the predecessor's buffers as oracle, and the rule by brute force for
//! runs of several frequencies in several layers.

use proptest::prelude::*;

use super::naive::Chain;
use super::{MISSING, assert_same, minutes, options};
use crate::model::{Aggregation, ResampleAlgo};
use crate::query::series::Grid;
use crate::query::{Options, Piece, Series, Values, answer};

fn piece(start: i64, frequency: u32, first_slot: u32, values: &[f64]) -> Piece<'static> {
    Piece { start, frequency, first_slot, values: Values::F64(values.to_vec().into()) }
}

/// The values, the first instant, and the first instant after them.
fn read(series: &Series<'_>, from: i64, to: i64, frequency: u32) -> (Vec<f64>, i64, i64) {
    let grid = Grid::new(&series.window(from, to, frequency), frequency);
    let mut values = vec![MISSING; grid.len];
    series.read(&grid, &mut values);
    (values, grid.first.try_into().unwrap(), grid.instant(grid.len).try_into().unwrap())
}

#[track_caller]
fn assert_reads(series: &Series<'_>, range: (i64, i64), frequency: u32, values: &[f64], from_to: (i64, i64)) {
    let (found, from, to) = read(series, range.0, range.1, frequency);
    assert_same(&found, values);
    assert_eq!((from, to), from_to);
    assert_eq!(series.has_data(range.0, range.1, frequency), values.iter().any(|value| !value.is_nan()));
}

#[test]
fn a_read_begins_no_earlier_than_the_data_and_stops_where_they_stop() {
    let chain = minutes(1000, &[1.0, 2.0, 4.5]);
    let all = [1.0, 2.0, 4.5];
    for (range, values, from_to) in [
        ((1000, 1180), &all[..], (1000, 1180)),
        ((900, 1300), &all[..], (1000, 1180)),
        ((1015, 1300), &all[..], (1015, 1195)),
        ((5000, 6000), &[], (5000, 5000)),
        ((100, 200), &[], (1000, 1000)),
        ((1000, 1000), &[], (1000, 1000)),
        ((1029, 1030), &all[..1], (1029, 1089)),
        ((1030, 1031), &all[1..2], (1030, 1090)),
    ] {
        assert_reads(&chain.series(), range, 60, values, from_to);
    }
}

#[test]
fn runs_that_follow_each_other_are_one_curve() {
    let values: Vec<f64> = (0..514).map(f64::from).collect();
    let chain = minutes(1000, &values);
    assert_eq!(chain.buffers.len(), 2);
    assert_reads(&chain.series(), (0, 99_999), 60, &values, (1000, 1000 + 514 * 60));
}

#[test]
fn a_gap_at_the_end_is_not_returned_but_one_before_more_data_is() {
    let chain = Chain::of(60, &[(1000, 1.0), (1060, 2.0), (101_000, 3.0)]);
    assert_reads(&chain.series(), (1000, 1240), 60, &[1.0, 2.0], (1000, 1120));
    assert_eq!(chain.buffers[1].start, 100_970);
    assert_reads(&chain.series(), (1000, 100_970), 60, &[1.0, 2.0], (1000, 1120));
    assert_reads(&chain.series(), (2000, 3000), 60, &[], (2000, 2000));
    assert_reads(&chain.series(), (100_880, 101_900), 60, &[MISSING, MISSING, 3.0], (100_880, 101_060));
}

#[test]
fn a_run_is_cut_where_the_next_one_begins() {
    let series = Series::new(vec![piece(0, 10, 0, &[1.0, 2.0, 3.0, 4.0]), piece(25, 10, 0, &[5.0, 6.0])]);
    assert_reads(&series, (0, 100), 10, &[1.0, 2.0, 5.0, 6.0], (5, 45));
    assert_reads(&series, (0, 25), 10, &[1.0, 2.0], (5, 25));
}

#[test]
fn the_newest_layer_wins_a_slot_but_missing_never_overwrites() {
    let series = Series::new(vec![
        piece(0, 10, 1, &[1.0, 2.0, 3.0]),
        piece(0, 10, 3, &[30.0, 40.0, MISSING]),
        piece(0, 10, 2, &[MISSING, 31.0]),
    ]);
    assert_reads(&series, (0, 100), 10, &[1.0, 2.0, 31.0, 40.0], (15, 55));
}

#[test]
fn a_run_without_values_does_not_exist() {
    let series = Series::new(vec![piece(0, 10, 0, &[1.0, 2.0]), piece(5, 10, 0, &[MISSING]), piece(7, 0, 0, &[1.0])]);
    assert_reads(&series, (5, 100), 10, &[1.0, 2.0], (5, 25));
    assert_reads(&Series::default(), (5, 100), 10, &[], (5, 5));
}

#[test]
fn of_a_finer_run_the_last_present_slot_of_each_interval_is_read() {
    let series = Series::new(vec![piece(0, 10, 0, &[0.0, 1.0, 2.0, 3.0, MISSING, 5.0, 6.0])]);
    assert_reads(&series, (20, 1000), 30, &[2.0, 5.0, 6.0], (20, 110));
    assert_reads(&series, (0, 1000), 30, &[0.0, 3.0, 6.0], (5, 95));
}

#[test]
fn a_later_slot_of_a_finer_run_wins_over_a_newer_layer() {
    let series = Series::new(vec![piece(0, 10, 0, &[0.0, 1.0, 2.0]), piece(0, 10, 0, &[10.0, 11.0])]);
    assert_reads(&series, (25, 1000), 30, &[2.0], (25, 55));
    assert_reads(&series, (15, 20), 30, &[11.0], (15, 45));
}

#[test]
fn a_value_of_a_coarser_run_is_read_once() {
    let series = Series::new(vec![piece(0, 60, 0, &[1.0, 2.0])]);
    assert_reads(&series, (0, 1000), 20, &[1.0, MISSING, MISSING, 2.0, MISSING], (30, 130));
    assert_reads(&series, (41, 1000), 20, &[MISSING, MISSING, 2.0, MISSING], (41, 121));
}

/// Samples in order: steps in intervals, mostly 1, with a lead or lag below half an interval.
fn samples(frequency: u32) -> impl Strategy<Value = Vec<(i64, f64)>> {
    let step = prop_oneof![8 => Just(1_i64), 1 => 2_i64..10, 1 => 10_i64..2000];
    let jitter = prop_oneof![Just(0), 0..i64::from(frequency.div_ceil(2))];
    let steps = proptest::collection::vec((step, jitter), 1..100);
    steps.prop_map(move |steps| {
        let mut slot = 0;
        let sample = |(value, (step, jitter)): (u32, (i64, i64))| {
            slot += step;
            (1_700_000_000 + slot * i64::from(frequency) + jitter, value.into())
        };
        (0..).zip(steps).map(sample).collect()
    })
}

/// Few slots, a frequency, and samples for it.
fn chain() -> impl Strategy<Value = Chain> {
    let capacity = prop_oneof![3_usize..20, Just(512)];
    (capacity, 1_u32..70).prop_flat_map(|(capacity, frequency)| {
        samples(frequency).prop_map(move |samples| {
            let mut chain = Chain { capacity, ..Chain::new(frequency) };
            for (time, value) in samples {
                chain.write(time, value);
            }
            chain
        })
    })
}

/// An instant near one of the buffers.
fn near(chain: &Chain, buffer: prop::sample::Index, offset: i64) -> i64 {
    chain.buffers[buffer.index(chain.buffers.len())].start + offset
}

/// Pieces of few runs with small numbers, so that they meet in all ways.
fn small_pieces() -> impl Strategy<Value = Vec<Piece<'static>>> {
    let value = prop_oneof![1 => Just(MISSING), 2 => (0..100).prop_map(f64::from)];
    let values = proptest::collection::vec(value, 0..12);
    let run = (-3_i64..3, 1_u32..9).prop_map(|(at, frequency)| (at * 17, frequency));
    let piece_of_run = (run, 0_u32..8, values);
    proptest::collection::vec(
        piece_of_run.prop_map(|((start, frequency), first, v)| piece(start, frequency, first, &v)),
        1..8,
    )
}

/// What the documentation of the series says, word by word.
fn read_by_brute_force(pieces: &[Piece<'_>], from: i64, to: i64, frequency: i64) -> (Vec<f64>, i64, i64) {
    let mut slots = std::collections::BTreeMap::new();
    for piece in pieces {
        for (slot, value) in (i64::from(piece.first_slot)..).zip(piece.values.iter()) {
            if !value.is_nan() {
                slots.insert((piece.start, i64::from(piece.frequency), slot), value);
            }
        }
    }
    let Some((&(start, f, slot), _)) = slots.first_key_value() else { return (vec![], from, from) };
    let from = from.max(start + f / 2 + slot * f);
    let newest = slots.range(..(to, 0, 0)).next_back();
    let end = newest.map_or(from, |(&(start, f, slot), _)| start + slot * f + f.max(frequency));
    let (mut time, mut values) = (from, vec![]);
    while time < to && time < end {
        let (&(start, f, _), _) = slots.range(..=(time, i64::MAX, i64::MAX)).next_back().unwrap();
        let mut run = slots.range((start, f, 0)..=(start, f, i64::MAX));
        let seen = |slot: i64| {
            let begin = start + slot * f;
            let nominal = begin + f / 2;
            if f <= frequency {
                time - frequency < begin && begin <= time
            } else {
                (time - frequency / 2..time - frequency / 2 + frequency).contains(&nominal)
            }
        };
        values.push(run.rfind(|((_, _, slot), _)| seen(*slot)).map_or(MISSING, |(_, &value)| value));
        time += frequency;
    }
    (values, from, time)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn samples_in_order_read_as_from_the_buffers_of_the_predecessor(
        chain in chain(), buffer: prop::sample::Index, offset in -5000_i64..20_000, len in 0_i64..50_000,
    ) {
        let from = near(&chain, buffer, offset);
        let (mut expected, expected_from, _) = chain.read(from, from + len);
        let (mut values, found_from, to) = read(&chain.series(), from, from + len, chain.frequency.try_into().unwrap());
        prop_assert_eq!(found_from, expected_from);

        // In a gap behind the last slot that a buffer could have had, the predecessor goes on to the end of the range.
        let rest = expected.split_off(values.len().min(expected.len()));
        let newest = chain.buffers.iter().rfind(|buffer| buffer.start < from + len);
        prop_assert!(rest.iter().all(|value| value.is_nan()));
        prop_assert!(rest.is_empty() || newest.is_some_and(|newest| to >= newest.start + chain.span()));

        // Where buffers with different phases overlap, the predecessor reads the older one.
        prop_assert_eq!(values.len(), expected.len());
        let times = (found_from..to).step_by(chain.frequency.try_into().unwrap());
        for (time, (a, b)) in times.zip(values.iter_mut().zip(&mut expected)) {
            if chain.overlaps(time) {
                (*a, *b) = (0.0, 0.0);
            }
        }
        assert_same(&values, &expected);
    }

    #[test]
    fn any_runs_in_any_layers_read_as_the_rule_says(
        pieces in small_pieces(), from in -100_i64..150, len in 0_i64..250, frequency in 1_u32..9,
    ) {
        let (expected, expected_from, expected_to) = read_by_brute_force(&pieces, from, from + len, frequency.into());
        let series = Series::new(pieces);
        let (values, found_from, found_to) = read(&series, from, from + len, frequency);
        prop_assert_eq!((found_from, found_to), (expected_from, expected_to));
        assert_same(&values, &expected);
        prop_assert_eq!(series.has_data(from, from + len, frequency), values.iter().any(|value| !value.is_nan()));
    }

    #[test]
    fn adding_a_series_to_sums_is_reading_it_and_adding(
        pieces in small_pieces(), from in -100_i64..150, len in 0_i64..250, frequency in 1_u32..9,
    ) {
        let series = Series::new(pieces);
        let grid = Grid::new(&(from.into()..(from + len).into()), frequency);
        let (mut values, mut sums) = (vec![MISSING; grid.len], vec![7.0; grid.len]);
        series.read(&grid, &mut values);
        series.add_to(&grid, &mut sums, &mut vec![1.0; 3]);
        let expected: Vec<f64> = values.iter().map(|value| value + 7.0).collect();
        assert_same(&sums, &expected);
    }

    #[test]
    fn every_value_in_the_range_of_one_coarser_run_is_read_exactly_once(
        values in proptest::collection::vec((0..100).prop_map(f64::from), 1..20),
        frequency in 1_u32..20,
        coarser_by in 1_u32..20,
    ) {
        let series = Series::new(vec![piece(-50, frequency + coarser_by, 3, &values)]);
        let (mut found, _, _) = read(&series, -1000, 1000, frequency);
        found.retain(|value| !value.is_nan());
        prop_assert_eq!(found, values);
    }

    #[test]
    fn no_request_and_no_store_is_too_extreme(
        pieces in proptest::collection::vec((instant(), any::<u32>(), any::<u32>(), 0_usize..5), 0..5),
        (a, b) in (instant(), instant()), (frequency, resolution) in (any::<u32>(), any::<i64>()),
        point_limit in 0_usize..5000,
    ) {
        let values = [1.0; 5];
        let pieces = pieces.into_iter().map(|(start, frequency, slot, len)| {
            piece(start, frequency, slot, &values[..len])
        });
        let children = [Series::new(pieces.clone().take(2).collect()), Series::new(pieces.skip(2).collect())];
        for aggregation in [Aggregation::None, Aggregation::Avg] {
            for algo in [ResampleAlgo::Lttb, ResampleAlgo::Average, ResampleAlgo::Simple] {
                let options = options(a.min(b), a.max(b));
                let options = Options { frequency, aggregation, resolution, algo, point_limit, ..options };
                if let Ok(answer) = answer(&children, &options) {
                    prop_assert!(answer.data.len() <= point_limit);
                    prop_assert!(answer.from >= options.from && answer.to >= answer.from);
                }
            }
        }
    }
}

/// Any instant, with a liking for the ends of the type and for neighbours.
fn instant() -> impl Strategy<Value = i64> {
    let near = |at: i64| (-3_i64..3).prop_map(move |offset| at.saturating_add(offset));
    prop_oneof![any::<i64>(), near(i64::MIN), near(i64::MAX), near(0), (-100_000_i64..100_000)]
}
