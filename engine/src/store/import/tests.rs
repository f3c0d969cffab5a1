//! A value is never more than half an interval away from the instant that its file gives; what counts more stays; an
//! import happens as a whole or not at all, and senders never go on in what it brought.

use super::timeline::Timeline;
use super::{ImportArray, ImportHost, ImportSeries, Imported};
use crate::ccms::Values;
use crate::disk::Disk;
use crate::disk::sim::{Crash, SimDisk};
use crate::env::Env;
use crate::model::{Aggregation, Metric, Metrics, Query, Request};
use crate::slot::Run;
use crate::store::{Options, Progress, Store};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const DAY: i64 = 86_400;
const NOON: i64 = 20_000 * DAY + DAY / 2;

/// Pieces as (instant, value), in order.
fn placed(timeline: &Timeline<'_>) -> Vec<(i64, f64)> {
    let mut placed = Vec::new();
    timeline.pieces(
        |_| true,
        |day, run, first, values| {
            assert!(values.len() <= 512);
            for (slot, value) in (first..).zip(values) {
                assert_eq!(run.end_after(slot).div_euclid(DAY), day);
                if !value.is_nan() {
                    placed.push((run.nominal(slot), value));
                }
            }
        },
    );
    placed.sort_by_key(|&(time, _)| time);
    placed
}

fn array<'a>(start: i64, frequency: u32, values: &'a Values<'a>) -> ImportArray<'a> {
    ImportArray { start, frequency, values }
}

fn numbers(from: u32, count: u32) -> Values<'static> {
    Values::Parsed((from..from + count).map(f64::from).collect())
}

#[test]
fn values_stand_at_the_instants_of_their_file_and_no_piece_crosses_a_day() {
    let values = numbers(0, 3000);
    let mut timeline = Timeline::new(None, i64::MAX);
    timeline.add(&array(NOON + 17, 60, &values));
    let expected: Vec<(i64, f64)> = (0..3000).map(|at| (NOON + 17 + 60 * i64::from(at), f64::from(at))).collect();
    assert_eq!(placed(&timeline), expected);
}

#[test]
fn at_a_seam_the_later_file_is_the_better_one_and_the_earlier_one_fills_its_holes() {
    let (early, late) = (numbers(0, 12), Values::Parsed(vec![100.0, f64::NAN, 102.0]));
    let mut timeline = Timeline::new(None, i64::MAX);
    timeline.add(&array(NOON + 600 - 11, 60, &late));
    timeline.add(&array(NOON, 60, &early));
    let mut expected: Vec<(i64, f64)> = (0..10).map(|at| (NOON + 60 * i64::from(at), f64::from(at))).collect();
    expected.extend([(NOON + 589, 100.0), (NOON + 649, 11.0), (NOON + 709, 102.0)]);
    assert_eq!(placed(&timeline), expected);
    assert_eq!(timeline.known, 1);
}

#[test]
fn an_array_that_reaches_over_a_later_one_keeps_both_its_ends() {
    let (long, short) = (numbers(0, 100), numbers(1000, 10));
    let mut timeline = Timeline::new(None, i64::MAX);
    timeline.add(&array(NOON + 60 * 40 + 7, 60, &short));
    timeline.add(&array(NOON, 60, &long));
    let found = placed(&timeline);
    assert_eq!((found.first(), found.last()), (Some(&(NOON, 0.0)), Some(&(NOON + 60 * 99, 99.0))));
    assert_eq!(found.iter().filter(|(_, value)| *value >= 1000.0).count(), 10);
    assert_eq!(found.len() as u64 + timeline.known, 110);
}

#[test]
fn samples_keep_their_own_grid_and_arrays_fill_what_they_miss() {
    let values = numbers(0, 5);
    let mut timeline = Timeline::new(None, i64::MAX);
    timeline.add_samples(&[(NOON + 20, 100.0), (NOON + 140, 102.0), (NOON + 141, 103.0)], 60);
    timeline.add(&array(NOON, 60, &values));
    let expected = [(NOON + 20, 100.0), (NOON + 80, 1.0), (NOON + 140, 103.0), (NOON + 180, 3.0), (NOON + 240, 4.0)];
    assert_eq!(placed(&timeline), expected);
}

#[test]
fn what_is_later_than_the_present_is_counted_and_left_out() {
    let values = numbers(0, 5);
    let mut timeline = Timeline::new(None, NOON + 120);
    timeline.add_samples(&[(NOON + 121, 1.0)], 60);
    timeline.add(&array(NOON, 60, &values));
    assert_eq!((placed(&timeline).len(), timeline.future), (3, 3));
}

/// Of a number that is hopeless where each stretch is sought among all others, or moves them.
const MANY: i64 = 100_000;

#[test]
fn samples_that_stand_alone_are_many_in_either_order() {
    let rising: Vec<(i64, f64)> = (0..MANY).map(|at| (NOON + 36_000 * at, 1.0)).collect();
    let falling: Vec<(i64, f64)> = rising.iter().rev().copied().collect();
    for samples in [rising, falling] {
        let mut timeline = Timeline::new(None, i64::MAX);
        timeline.add_samples(&samples, 60);
        assert_eq!((placed(&timeline).len(), timeline.known), (samples.len(), 0));
    }
}

#[test]
fn arrays_of_one_value_are_many_in_either_order() {
    let one = numbers(7, 1);
    let rising: Vec<i64> = (0..MANY).map(|at| NOON + 3600 * at).collect();
    let falling: Vec<i64> = rising.iter().rev().copied().collect();
    for starts in [rising, falling] {
        let mut timeline = Timeline::new(None, i64::MAX);
        for &start in &starts {
            timeline.add(&array(start, 60, &one));
        }
        let found = placed(&timeline);
        assert_eq!((found.len(), timeline.known), (starts.len(), 0));
        assert_eq!(found.first(), Some(&(NOON, 7.0)));
    }
}

type Piece = (i64, u32, Vec<Option<u8>>);

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let values = prop::collection::vec(prop::option::of(0_u8..9), 1..40);
    prop::collection::vec((0_i64..9000, prop::sample::select(vec![1_u32, 7, 10, 60]), values), 1..6)
}

proptest! {
    /// Each value is placed, or its slot is known to have one; none moves by more than its interval or that of the
    /// slot's; no two share an instant.
    #[test]
    fn every_value_finds_a_slot_near_its_instant_or_finds_it_taken(
        arrays in pieces(),
        samples in prop::collection::vec(0_i64..9000, 0..30),
        stored in prop::collection::vec((0_i64..100, 1_usize..30), 0..3),
    ) {
        let samples: Vec<(i64, f64)> = samples.into_iter().map(|time| (NOON + time, 50.0)).collect();
        let mut runs = BTreeMap::new();
        let mut free = NOON;
        for (gap, slots) in stored {
            let run = Run { start: free + gap, frequency: 60 };
            free = run.end_after(u32::try_from(slots).unwrap());
            runs.insert(run, vec![70.0; slots]);
        }
        let arrays: Vec<(i64, u32, Values<'_>)> = arrays
            .into_iter()
            .map(|(start, frequency, values)| {
                let values = values.into_iter().map(|value| value.map_or(f64::NAN, f64::from)).collect();
                (NOON + start, frequency, Values::Parsed(values))
            })
            .collect();
        let mut timeline = Timeline::new(Some(&runs), i64::MAX);
        timeline.add_samples(&samples, 60);
        for (start, frequency, values) in arrays.iter().rev() {
            timeline.add(&array(*start, *frequency, values));
        }
        let found = placed(&timeline);
        let times: BTreeSet<i64> = found.iter().map(|&(time, _)| time).collect();
        prop_assert_eq!(times.len(), found.len());
        let mut sources = samples.clone();
        for (start, frequency, values) in &arrays {
            let present = (0_i64..).zip(0..values.len()).filter(|&(_, at)| !values.get(at).is_nan());
            sources.extend(present.map(|(number, at)| (start + number * i64::from(*frequency), values.get(at))));
        }
        for (time, value) in &found {
            let is_near = |(source, of): &(i64, f64)| of.to_bits() == value.to_bits() && (source - time).abs() <= 60;
            prop_assert!(sources.iter().any(is_near), "{} at {}", value, time - NOON);
        }
        let of_arrays = sources.len() - samples.len();
        prop_assert!(found.len() as u64 + timeline.known >= of_arrays as u64);
        prop_assert!(found.len() <= sources.len());
    }
}

#[derive(Debug)]
struct Clock;

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        NOON + DAY
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn unique(&self) -> [u8; 16] {
        [7; 16]
    }
}

fn open(disk: &SimDisk) -> Store {
    try_open(disk).unwrap()
}

fn try_open(disk: &SimDisk) -> Result<Store, crate::error::OpenError> {
    open_with(disk, 10 * DAY)
}

fn open_with(disk: &SimDisk, late_window: i64) -> Result<Store, crate::error::OpenError> {
    let metric = Metric { name: "load".into(), frequency: 60, aggregation: Aggregation::None };
    let mut options = Options::new("/data", Metrics::new(vec![metric]).unwrap());
    options.late_window = late_window;
    options.segment_len = crate::wal::SEGMENT_LEN_MIN;
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Ok(Store::open(disk, Arc::new(Clock), options)?.0)
}

/// Imports 1,000 values from noon on, off the minute, into two hosts and many days, and closes the store.
fn import(disk: &SimDisk) -> Option<Imported> {
    let values = numbers(0, 1000);
    let days: Vec<i64> = (0..40).map(|day| NOON - day * DAY).collect();
    let arrays = [array(NOON + 13, 60, &values)];

    let one = numbers(7, 1);
    let far: Vec<ImportArray<'_>> = days.iter().map(|&start| array(start, 60, &one)).collect();
    let mut load = ImportHost::new();
    load.entry("load").or_default().insert(("", ""), ImportSeries { arrays: arrays.to_vec(), samples: Vec::new() });
    load.entry("other").or_default().insert(("socket0", ""), ImportSeries { arrays: far, samples: Vec::new() });
    let store = try_open(disk).ok()?;
    let mut import = store.begin_import().ok()?;
    let mut passes = 0;
    loop {
        for host in ["n1", "n2"] {
            import.host("c", host, &load).ok()?;
        }
        passes += 1;
        if !import.next_pass().ok()? {
            break;
        }
    }
    assert!(passes <= 2, "a window of days a pass");
    let imported = import.finish().ok()?;
    store.close().ok()?;
    Some(imported)
}

#[test]
fn a_host_without_a_day_that_waits_is_not_wanted_again() {
    let one = numbers(7, 1);
    let of_days = |days: i64| {
        let arrays = (0..days).map(|day| array(NOON - day * DAY, 60, &one)).collect();
        let series = ImportSeries { arrays, samples: Vec::new() };
        ImportHost::from([("load", BTreeMap::from([(("", ""), series)]))])
    };
    let disk = SimDisk::new(5);
    let store = open(&disk);
    let mut import = store.begin_import().unwrap();
    let mut taken = Vec::new();
    loop {
        for (host, days) in [("few", 2), ("many", 300), ("none", 0)] {
            let names = ("c".to_owned(), host.to_owned());
            if import.wants_host(&names) {
                import.host("c", host, &of_days(days)).unwrap();
                taken.push(host);
            }
        }
        if !import.next_pass().unwrap() {
            break;
        }
    }
    let count = |host| taken.iter().filter(|taken| **taken == host).count();
    assert_eq!([count("few"), count("none")], [1, 1]);
    assert!(count("many") <= 5, "{} passes", count("many"));
    assert_eq!(import.finish().unwrap().samples, 302);
}

fn values(store: &Store, host: &str) -> Vec<f64> {
    let query = Query { metric: "load".to_owned(), host: host.to_owned(), ..Query::default() };
    let request = Request { cluster: "c".to_owned(), from: 0, to: i64::MAX, with_padding: false, ..Request::default() };
    let answers = store.evaluate(&request, &query);
    answers.into_iter().flat_map(|answer| answer.unwrap().data).filter(|value| !value.is_nan()).collect()
}

fn write(store: &Store, lines: &str) {
    assert_eq!(store.write(lines.as_bytes(), "", true).unwrap().refused, 0);
    while store.commit_step() == Progress::Done {}
}

fn expected() -> Vec<f64> {
    (0..1000).map(f64::from).collect()
}

#[test]
fn an_import_is_there_at_the_next_open_and_once_more_changes_nothing() {
    let disk = SimDisk::new(1);
    let imported = import(&disk).unwrap();
    assert_eq!((imported.samples, imported.known), (2080, 0));
    assert_eq!(imported.files, 41);
    let before = {
        let store = open(&disk);
        assert_eq!(values(&store, "n1"), expected());
        format!("{:?}", store.debug(&[]))
    };
    let again = import(&disk).unwrap();
    assert_eq!((again.samples, again.known), (0, 2080));
    let store = open(&disk);
    assert_eq!(format!("{:?}", store.debug(&[])), before);
}

#[test]
fn a_sender_behind_an_import_has_its_own_phase_also_after_a_restart() {
    let disk = SimDisk::new(2);
    import(&disk).unwrap();
    let end = NOON + 13 + 60 * 1000;
    let of_sender = |store: &Store| {
        let tree = store.debug(&["c".to_owned(), "n1".to_owned()]).unwrap();
        tree.metrics["load"].last().copied().unwrap()
    };
    let store = open(&disk);
    // On the grid of the import this is the edge of a slot: jitter of a second would put two samples into one.
    let edge = end + 300 + 30;
    for minute in 0..20 {
        write(&store, &format!("load,cluster=c,hostname=n1 value={minute} {}\n", edge + 60 * minute + minute % 2 - 1));
    }
    let run = of_sender(&store);
    assert_eq!((run.start, run.len), (edge - 1 - 30, 20));
    store.close().unwrap();
    drop(store);

    let store = open(&disk);
    for minute in 20..40 {
        write(&store, &format!("load,cluster=c,hostname=n1 value={minute} {}\n", edge + 60 * minute + minute % 2 - 1));
    }
    while store.compact_step(false).unwrap() == Progress::Done {}
    let run = of_sender(&store);
    assert_eq!((run.start, run.len), (edge - 1 - 30, 40));
    // What comes late for a time that was imported goes to the slot that is there.
    write(&store, &format!("load,cluster=c,hostname=n1 value=-5 {}\n", NOON + 13 + 60 * 7 + 20));
    let all = values(&store, "n1");
    assert_eq!((all.len(), all[7]), (1040, -5.0));
}

#[test]
fn a_sender_behind_an_import_has_its_own_phase_also_after_merges() {
    let disk = SimDisk::new(6);
    let store = open(&disk);
    write(&store, &format!("load,cluster=c,hostname=n1 value=-1 {}\n", NOON - 3600));
    write(&store, &format!("load,cluster=c,hostname=n2 value=-1 {}\n", NOON + 16 * 3600));
    store.close().unwrap();
    drop(store);
    let values = numbers(0, 10);
    let series = ImportSeries { arrays: vec![array(NOON + 13, 60, &values)], samples: Vec::new() };
    let host = ImportHost::from([("load", BTreeMap::from([(("", ""), series)]))]);
    let store = open(&disk);
    let mut import = store.begin_import().unwrap();
    import.host("c", "n1", &host).unwrap();
    assert!(!import.next_pass().unwrap());
    assert_eq!(import.finish().unwrap().samples, 10);
    store.close().unwrap();
    drop(store);

    // The day is over.
    let store = open_with(&disk, 3600).unwrap();
    while store.compact_step(false).unwrap() == Progress::Done {}
    store.close().unwrap();
    drop(store);

    let store = open(&disk);
    let edge = NOON + 13 + 600 + 300 + 30;
    for minute in 0..20 {
        write(&store, &format!("load,cluster=c,hostname=n1 value={minute} {}\n", edge + 60 * minute + minute % 2 - 1));
    }
    let tree = store.debug(&["c".to_owned(), "n1".to_owned()]).unwrap();
    let run = tree.metrics["load"].last().copied().unwrap();
    assert_eq!((run.start, run.len), (edge - 1 - 30, 20));
}

#[test]
fn an_import_leaves_what_is_there_and_a_free_takes_it() {
    let disk = SimDisk::new(3);
    let store = open(&disk);
    write(&store, &format!("load,cluster=c,hostname=n1 value=-1 {}\n", NOON + 13 + 60 * 5 + 25));
    write(&store, &format!("load,cluster=c,hostname=n1 value=-2 {}\n", NOON + 13 + 60 * 7 + 25));
    store.free(&[vec!["c".to_owned(), "n2".to_owned()]], NOON).unwrap();
    drop(store);
    import(&disk).unwrap();
    let store = open(&disk);
    let all = values(&store, "n1");
    assert_eq!(all.len(), 1000);
    assert!(all.contains(&-1.0) && all.contains(&-2.0) && !all.contains(&5.0), "{:?}", &all[..10]);
    let (runs, _) = store.free(&[vec!["c".to_owned(), "n2".to_owned()]], NOON + DAY).unwrap();
    assert!(runs > 0);
    while store.commit_step() == Progress::Done {}
    assert!(values(&store, "n2").is_empty());
    assert_eq!(values(&store, "n1").len(), 1000);
}

#[test]
fn a_crash_at_any_operation_of_an_import_leaves_nothing_or_all_and_the_next_try_gives_the_same() {
    let whole = SimDisk::new(4);
    import(&whole).unwrap();
    let ops = whole.ops();
    let wanted = format!("{:?}", open(&whole).debug(&[]));
    for at in (1..ops).step_by(41).chain(ops.saturating_sub(24)..ops) {
        for kind in [Crash::Kill, Crash::Power] {
            let disk = SimDisk::new(4);
            disk.set_crash_at(Some(at));
            import(&disk);
            disk.crash(kind);
            let found = format!("{:?}", open(&disk).debug(&[]));
            let nothing = format!("{:?}", Some(crate::store::DebugTree::default()));
            assert!(found == nothing || found == wanted, "operation {at}: {found}");
            import(&disk).unwrap();
            assert_eq!(format!("{:?}", open(&disk).debug(&[])), wanted, "operation {at}");
        }
    }
}
