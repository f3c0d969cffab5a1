//! What becomes of the lines of a body: placed, overwritten, refused by line and counted, and the same after restarts.

use crate::world::{FREQUENCY, START, World, content, line, metrics, put, put_all, read};
use kymo_engine::disk::BLOCK;
use kymo_engine::disk::sim::Crash;
use kymo_engine::format::StoreId;
use kymo_engine::format::frame::{Frame, Place, Record};
use kymo_engine::model::{Aggregation, Metric, Metrics};
use kymo_engine::store::{Progress, Store};

const N1: (&str, &str, &str) = ("n1", "load", "");

fn at(slot: i64) -> i64 {
    START + slot * FREQUENCY
}

/// The values of `load` at a host or component, as instants and numbers.
fn values(store: &Store, host: &str, component: &str) -> Vec<(i64, f64)> {
    let series = (host.to_owned(), "load".to_owned(), component.to_owned());
    let content = content(store);
    content.get(&series).into_iter().flatten().map(|(&time, &bits)| (time, f64::from_bits(bits))).collect()
}

/// Checks the values now, after a kill, and after a clean stop.
fn check_always(world: &World, store: Store, host: &str, component: &str, expected: &[(i64, f64)]) {
    assert_eq!(values(&store, host, component), expected);
    drop(store);
    world.disk.crash(Crash::Kill);
    let store = world.store();
    assert_eq!(values(&store, host, component), expected, "after a kill");
    store.close().unwrap();
    drop(store);
    assert_eq!(values(&world.store(), host, component), expected, "after a clean stop");
}

#[test]
fn lines_that_are_too_late_or_too_far_ahead_are_refused_and_counted_and_their_neighbours_stored() {
    let mut world = World::new(1);
    (world.options.late_window, world.options.skew) = (3600, 600);
    let store = world.store();
    let times = [START - 3601, START - 3600, START, START + 600, START + 601, i64::MAX, i64::MIN];
    let body: String = times.iter().map(|&time| line(N1, time, 1.0)).collect();
    let written = put(&store, &body).unwrap();
    assert_eq!((written.accepted, written.refused), (3, 4));
    assert_eq!(written.reasons, [("too-far-ahead", 2), ("too-late", 2)]);
    crate::world::commit(&store);
    let refusals: Vec<_> =
        store.stats().refusals.into_iter().map(|it| (it.reason, it.metric, it.host_prefix, it.count)).collect();
    let refused = |reason| (reason, "load".to_owned(), "n".to_owned(), 2);
    assert_eq!(refusals, [refused("too-far-ahead"), refused("too-late")]);
    check_always(&world, store, "n1", "", &[(START - 3600, 1.0), (START, 1.0), (START + 600, 1.0)]);
}

#[test]
fn a_late_sample_goes_into_the_run_that_covers_it_or_before_it_and_hides_nothing() {
    let world = World::new(1);
    let store = world.store();
    let times = [0, 5, 2, -1, -600, 1, -300];
    for (at_time, value) in times.iter().zip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) {
        put_all(&store, &line(N1, at(*at_time), value));
    }
    let mut expected: Vec<(i64, f64)> =
        times.iter().map(|&slot| at(slot)).zip([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]).collect();
    expected.sort_by_key(|&(time, _)| time);
    check_always(&world, store, "n1", "", &expected);
}

#[test]
fn a_clock_that_goes_back_lays_no_run_over_one_that_is_long_past() {
    const GAP: i64 = 40_000;
    for takes_snapshot in [false, true] {
        let mut world = World::new(1);
        world.options.late_window = 3600;
        let store = world.store();
        let mut expected = Vec::new();
        // Each is too far from the last one for its run, and in a phase of its own; so many that old runs are forgotten.
        for (number, value) in (0..80).zip((0..80).map(f64::from)) {
            put_all(&store, &line(N1, START + number * GAP, value));
            expected.push((START + number * GAP, value));
            while takes_snapshot && number == 60 && store.compact_step(true).unwrap() == Progress::Done {}
            world.clock.pass(GAP);
        }
        world.clock.pass(-40 * GAP);
        let again = START + 40 * GAP;
        put_all(&store, &[line(N1, again, 100.0), line(N1, again - 1200, 101.0)].concat());
        expected[40].1 = 100.0;
        expected.insert(40, (again - 1200, 101.0));
        check_always(&world, store, "n1", "", &expected);
    }
}

#[test]
fn of_several_values_for_a_slot_the_last_one_counts() {
    let world = World::new(1);
    let store = world.store();
    // Within a slot a sender may be early or late by half an interval.
    put_all(
        &store,
        &[line(N1, at(0), 1.0), line(N1, at(1), 8.0), line(N1, at(0) + 29, 2.0), line(N1, at(0) - 30, 3.0)].concat(),
    );
    assert_eq!(values(&store, "n1", ""), [(at(0), 3.0), (at(1), 8.0)]);
    put_all(&store, &line(N1, at(0) + 1, 4.0));
    check_always(&world, store, "n1", "", &[(at(0), 4.0), (at(1), 8.0)]);
}

#[test]
fn values_come_back_bit_by_bit() {
    let world = World::new(1);
    let store = world.store();
    let numbers = [0.0, -0.0, 5e-324, f64::MAX, f64::MIN_POSITIVE, 0.1, -1e-300, 1.0 / 3.0, 9_007_199_254_740_993.0];
    for (slot, &value) in (0..).zip(&numbers) {
        put_all(&store, &line(N1, at(slot), value));
    }
    drop(store);
    let store = world.store();
    let read: Vec<u64> = read(&store, ("c", "n1", "load", ""), (at(0), at(20))).into_values().collect();
    assert_eq!(read, numbers.map(f64::to_bits));
}

#[test]
fn a_hole_in_a_row_never_overwrites_what_is_there() {
    let world = World::new(1);
    let store = world.store();
    let cores = ["core0", "core1", "core2"].map(|core| ("n1", "load", core));
    put_all(&store, &cores.map(|core| line(core, at(0), 1.0)).concat());
    // Two of three series: shorter as a range with a hole than as a list.
    put_all(&store, &[line(cores[0], at(0), 2.0), line(cores[2], at(0), 2.0)].concat());
    assert!(put(&store, "load,cluster=c,hostname=n1,type=core,type-id=1 value=NaN\n").unwrap().accepted == 0);
    check_always(&world, store, "n1", "core1", &[(at(0), 1.0)]);
}

#[test]
fn limits_refuse_the_lines_that_are_over_them_and_no_others() {
    let mut world = World::new(1);
    (world.options.limits.hosts, world.options.limits.series_per_host, world.options.limits.series) = (3, 4, 9);
    let store = world.store();
    let body = |host: &str, cores: std::ops::Range<u32>| -> String {
        cores.map(|core| line((host, "load", &format!("core{core}")), at(0), 1.0)).collect()
    };
    let write = |body: &str| {
        let written = put(&store, body).unwrap();
        crate::world::commit(&store);
        (written.accepted, written.reasons)
    };
    assert_eq!(write(&body("n1", 0..6)), (4, vec![("limit-series", 2)]));
    assert_eq!(write(&body("n1", 0..4)), (4, vec![]), "known series go on");
    // It shares the layout of the first one, and has room of its own nevertheless.
    assert_eq!(write(&body("n2", 0..1)), (1, vec![]));
    assert_eq!(write(&body("n2", 7..12)), (3, vec![("limit-series", 2)]));
    // Nine series are all.
    assert_eq!(write(&body("n3", 0..2)), (1, vec![("limit-series", 1)]));
    assert_eq!(write(&[body("n4", 0..1), body("n1", 0..1)].concat()), (1, vec![("limit-hosts", 1)]));
    let stats = store.stats();
    assert_eq!((stats.hosts, stats.series), (3, 9));
    assert_eq!(stats.refusals.iter().map(|refusal| refusal.count).sum::<u64>(), 6);
    drop(store);
    let store = world.store();
    let stats = store.stats();
    assert_eq!((stats.hosts, stats.series), (3, 9), "after a restart");
}

#[test]
fn what_is_refused_is_counted_by_metric_and_host_and_told_by_an_example() {
    let mut world = World::new(1);
    (world.options.limits.hosts, world.options.limits.series_per_host) = (2, 2);
    let store = world.store();
    world.clock.pass(600 * FREQUENCY);
    // The second run has another phase: of what lies between, a late sample takes the one whole interval.
    put_all(&store, &[(0, 0), (512, 80), (512, -20)].map(|(slot, shift)| line(N1, at(slot) + shift, 1.0)).concat());
    // Another host has all the series that it may.
    let n2 = |core| line(("n2", "power", core), at(0), 1.0);
    put_all(&store, &[n2("core0"), n2("core1")].concat());
    let refused = [
        ("no-room", "load", "n1", line(N1, at(512) - 25, 1.0)),
        ("limit-series", "power", "n2", n2("core2")),
        ("limit-hosts", "load", "n3", line(("n3", "load", ""), at(0), 1.0)),
        ("cluster-denied", "power", "n4", "power,cluster=other,host=n4 value=1\n".to_owned()),
    ];
    for (reason, metric, host, body) in &refused {
        let written = store.write_for(body.as_bytes(), "c", true, Some(&["c".to_owned()])).unwrap();
        assert_eq!((written.accepted, written.reasons), (0, vec![(*reason, 1)]));
        let [example] = &written.examples[..] else { panic!("{reason}: {:?}", written.examples) };
        let is_about = |part: &str| example.contains(part);
        assert!(is_about(metric) && is_about(host) && is_about(&format!("({reason})")), "{example}");
        let told = store.diagnose(None, metric, host).refusals;
        assert_eq!(
            told.iter().map(|refusal| (refusal.reason, &*refusal.metric)).collect::<Vec<_>>(),
            [(*reason, *metric)]
        );
    }
    let mut counted: Vec<_> = store.stats().refusals.into_iter().map(|it| (it.reason, it.metric, it.count)).collect();
    counted.sort();
    let mut wanted: Vec<_> = refused.iter().map(|(reason, metric, ..)| (*reason, (*metric).to_owned(), 1)).collect();
    wanted.sort();
    assert_eq!(counted, wanted);
}

#[test]
fn all_new_series_of_a_big_host_are_taken_from_one_body() {
    let world = World::new(1);
    let store = world.store();
    let body: String =
        (0..2000).map(|core| line(("n1", "load", &format!("core{core}")), at(0), f64::from(core))).collect();
    put_all(&store, &body);
    put_all(&store, &body);
    drop(store);
    let store = world.store();
    assert_eq!(store.stats().series, 2000);
    let read = read(&store, ("c", "n1", "load", "core1999"), (at(0), at(1)));
    assert_eq!(read.into_values().collect::<Vec<_>>(), [1999_f64.to_bits()]);
}

/// Definitions of layouts in a segment.
fn layouts_in(world: &World, store: StoreId, seq: u64) -> usize {
    let bytes = world.disk.files()[&World::segment(seq)].clone();
    let mut layouts = 0;
    let mut offset = BLOCK;
    while let Ok(frame) = Frame::check(&bytes[offset..], Place { store, seq, offset: offset as u64 }) {
        layouts += frame.records().filter(|record| matches!(record, Ok((_, Record::Layout { .. })))).count();
        offset += usize::try_from(frame.padded_len()).unwrap();
    }
    layouts
}

#[test]
fn hosts_that_are_alike_share_a_layout_and_do_so_after_a_restart() {
    let world = World::new(1);
    let body: String = ["n1", "n2", "n3"]
        .iter()
        .flat_map(|&host| ["core0", "core1", ""].map(|core| line((host, "load", core), at(0), 1.0)))
        .collect();
    for seq in 1..4 {
        let (store, report) = world.open().unwrap();
        put_all(&store, &body);
        assert_eq!(layouts_in(&world, report.store, seq), 1, "segment {seq}");
    }
}

fn every(frequency: u32) -> Metrics {
    let metric = |name: &str| Metric { name: name.into(), frequency, aggregation: Aggregation::Sum };
    Metrics::new(vec![metric("load"), metric("power")]).unwrap()
}

#[test]
fn a_changed_frequency_keeps_what_is_stored_and_counts_from_then_on() {
    for close in [false, true] {
        let mut world = World::new(1);
        let store = world.store();
        for slot in 0..5 {
            put_all(&store, &line(N1, at(slot), f64::from(i32::try_from(slot).unwrap())));
        }
        if close {
            store.close().unwrap();
        }
        drop(store);
        world.options.metrics = every(10);
        let store = world.store();
        for step in 0..12 {
            put_all(&store, &line(N1, at(6) + step * 10, 100.0));
        }
        // In what was written, the stored slots decide.
        put_all(&store, &line(N1, at(2) + 10, 22.0));
        drop(store);
        let store = world.store();
        let fine = read(&store, ("c", "n1", "load", ""), (at(6), at(8)));
        assert_eq!(fine.len(), 12, "{fine:?}");
        assert!(fine.values().all(|&bits| bits == 100_f64.to_bits()));
        let coarse = read(&store, ("c", "n1", "load", ""), (at(0), at(5)));
        let coarse: Vec<f64> = coarse.into_values().map(f64::from_bits).collect();
        assert_eq!(coarse, [0.0, 1.0, 22.0, 3.0, 4.0]);
        drop(store);
        world.options.metrics = every(60);
        let store = world.store();
        put_all(&store, &line(N1, at(9), 9.0));
        drop(store);
        let read = read(&world.store(), ("c", "n1", "load", ""), (at(0), at(10)));
        assert_eq!((read[&at(2)], read[&at(9)]), (22_f64.to_bits(), 9_f64.to_bits()));
    }
}

#[test]
fn a_metric_that_leaves_the_config_is_kept_and_comes_back_with_it() {
    for close in [false, true] {
        let mut world = World::new(1);
        let store = world.store();
        put_all(&store, &[line(N1, at(0), 1.0), line(("n1", "power", ""), at(0), 2.0)].concat());
        if close {
            store.close().unwrap();
        }
        drop(store);
        world.options.metrics = metrics(&["other", "power"]);
        let store = world.store();
        let written = put(&store, &[line(N1, at(1), 3.0), line(("n1", "power", ""), at(1), 4.0)].concat()).unwrap();
        assert_eq!((written.accepted, written.refused), (1, 1));
        crate::world::commit(&store);
        if close {
            store.close().unwrap();
        }
        drop(store);
        world.options.metrics = metrics(&["power", "load"]);
        let store = world.store();
        assert_eq!(values(&store, "n1", ""), [(at(0), 1.0)]);
        put_all(&store, &line(N1, at(2), 5.0));
        assert_eq!(values(&store, "n1", ""), [(at(0), 1.0), (at(2), 5.0)]);
        let power = read(&store, ("c", "n1", "power", ""), (at(0), at(3)));
        assert_eq!(power.into_values().map(f64::from_bits).collect::<Vec<_>>(), [2.0, 4.0]);
    }
}

#[test]
fn what_is_freed_stays_away_and_what_comes_later_stays() {
    let world = World::new(1);
    let store = world.store();
    put_all(
        &store,
        &[line(N1, at(-600), 1.0), line(N1, at(0), 2.0), line(("n2", "load", "core0"), at(-600), 3.0)].concat(),
    );
    // A run is freed when the slot after its last one has passed: not yet, now, and only for what is named.
    let free = |selector: &[&str], to: i64| {
        let selector: Vec<String> = selector.iter().map(|&name| name.to_owned()).collect();
        let freed = store.free(&[selector], to).unwrap().0;
        crate::world::commit(&store);
        freed
    };
    assert_eq!(free(&["c", "n1"], at(-599)), 0);
    assert_eq!(free(&["c", "n9"], at(99)), 0);
    assert_eq!(free(&["c", "n1"], at(-599) + 1), 1);
    assert_eq!(values(&store, "n1", ""), [(at(0), 2.0)]);
    // The freed time can be written again.
    put_all(&store, &line(N1, at(-600), 4.0));
    assert_eq!(values(&store, "n2", "core0"), [(at(-600), 3.0)]);
    check_always(&world, store, "n1", "", &[(at(-600), 4.0), (at(0), 2.0)]);
}

#[test]
fn segments_that_are_read_at_the_same_time_give_what_they_give_one_after_the_other() {
    let world = World::new(1);
    let store = world.store();
    // Large frames and small ones, over some segments.
    let cores = |count: usize| -> Vec<String> { (0..count).map(|core| format!("core{core}")).collect() };
    for turn in 0..120 {
        let cores = cores(if turn % 3 == 0 { 2 } else { 1500 });
        let lines: String = cores.iter().map(|core| line(("n1", "load", core), at(turn % 50), 0.5)).collect();
        put_all(&store, &lines);
        store.prepare_step().unwrap();
    }
    drop(store);
    let copies = [1, 2, 3, 9].map(|width| {
        let copy = world.copy(7);
        world.clock.set_width(width);
        let (store, report) = copy.open().unwrap();
        assert!(report.segments > 1, "{report:?}");
        let told = (report.segments, report.rows, report.samples, report.bytes, report.next_lsn);
        let series =
            ["core0", "core1", "core1499"].map(|core| read(&store, ("c", "n1", "load", core), (at(0), at(60))));
        (told, series)
    });
    assert!(copies.iter().all(|copy| *copy == copies[0]));
    assert_eq!(copies[0].0.2, 80 * 1500 + 40 * 2);
}
