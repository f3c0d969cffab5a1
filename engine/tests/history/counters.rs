//! What a day of a host costs on the disk, and what a series costs in memory: counts, not times.

use crate::lab::{Lab, START, commit, compact_all};
use crate::metamorphic::Chance;
use kymo_engine::model::{Aggregation, Metric, Metrics};
use kymo_engine::store::Progress;
use std::fmt::Write;

const DAY: i64 = 86_400;
/// Minutes in one commit: the frames of a store with many hosts are full.
const MINUTES: i64 = 16;

/// 378 series: 14 metrics, each of the host, of 2 sockets and of 24 cores.
fn series() -> Vec<(String, String)> {
    let metrics = (0..14).map(|metric| format!("metric{metric}"));
    let places = std::iter::once(String::new())
        .chain((0..2).map(|id| format!(",type=socket,type-id={id}")))
        .chain((0..24).map(|id| format!(",type=core,type-id={id}")));
    let places: Vec<String> = places.collect();
    metrics.flat_map(|metric| places.iter().map(move |place| (metric.clone(), place.clone()))).collect()
}

fn lab() -> Lab {
    let metric = |at| Metric { name: format!("metric{at}").into(), frequency: 60, aggregation: Aggregation::Sum };
    let mut lab = Lab::new(1);
    lab.options.metrics = Metrics::new((0..14).map(metric).collect()).unwrap();
    lab
}

/// A day's bytes of a host, written in full frames, snapshots as often as a thousand such hosts would have them.
#[test]
fn a_day_of_a_host_is_written_to_the_disk_at_most_four_times() {
    let mut lab = lab();
    lab.options.segment_len = 4 << 20;
    lab.options.log_bound = 96 << 10;
    lab.options.late_window = 3600;
    let midnight = START.div_euclid(DAY) * DAY + DAY;
    lab.clock.pass(midnight - START);
    let (store, series) = (lab.open().unwrap().0, series());
    let mut chance = Chance::new(1);
    let mut body = String::new();
    // What lies on both sides of midnight is in two files a snapshot, so that the day is a day of slots.
    for minute in 1..=24 * 60 {
        for (metric, place) in &series {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let value = chance.below(1 << 40) as f64 / 3.0;
            let time = midnight + minute * 60 - 30;
            writeln!(body, "{metric},cluster=c,hostname=n1{place} value={value} {time}").unwrap();
        }
        lab.clock.pass(60);
        if minute % MINUTES == 0 {
            assert_eq!(store.write(body.as_bytes(), "c", true).unwrap().refused, 0);
            body.clear();
            assert_eq!(commit(&store), Progress::Idle);
            store.prepare_step().unwrap();
            compact_all(&store, false);
        }
    }
    let day = store.stats();
    // The day is over: what the log has is taken, and the day is sealed and becomes one file.
    lab.clock.pass(4 * 3600);
    let (metric, place) = &series[0];
    let body = format!("{metric},cluster=c,hostname=n1{place} value=1 {}\n", midnight + DAY + 4 * 3600);
    store.write(body.as_bytes(), "c", true).unwrap();
    commit(&store);
    compact_all(&store, true);
    compact_all(&store, false);
    let stats = store.stats();
    assert_eq!(stats.snapshots, 2, "the day and the next one");
    let values = 8.0 * 378.0 * 1440.0;
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let [snapshots, merges] = [stats.jobs.snapshot_bytes as f64, stats.jobs.merge_bytes as f64];
    let log = day.commit_bytes.sum;
    println!(
        "a byte of values: {:.2} of log, {:.2} of {} snapshots, {:.2} of {} merges",
        log / values,
        snapshots / values,
        stats.jobs.snapshot_files,
        merges / values,
        stats.jobs.merge_files
    );
    assert!(stats.jobs.snapshot_files > 30 && stats.jobs.merge_files > 2, "{stats:?}");
    assert!(log + snapshots + merges <= 4.0 * values, "{} bytes a value", 8.0 * (log + snapshots + merges) / values);
}

/// Bytes of heap a series for 500 hosts that are alike, but for some lines that are missing from each first request.
fn heap_per_series(missing_of_100: i64) -> f64 {
    let mut lab = lab();
    lab.options.segment_len = 16 << 20;
    lab.options.log_bound = 1 << 30;
    let (store, series) = (lab.open().unwrap().0, series());
    let mut chance = Chance::new(2);
    for request in 0..3 {
        for host in 0..500 {
            let mut body = String::new();
            for (metric, place) in &series {
                if chance.below(100) >= missing_of_100 {
                    writeln!(body, "{metric},cluster=c,hostname=n{host}{place} value=1 {}", START + request * 60)
                        .unwrap();
                }
            }
            assert_eq!(store.write(body.as_bytes(), "c", true).unwrap().refused, 0);
        }
        assert_eq!(commit(&store), Progress::Idle);
        store.prepare_step().unwrap();
    }
    store.measure_step();
    let stats = store.stats();
    #[expect(clippy::cast_precision_loss, reason = "a few megabytes")]
    let (bytes, series) = (stats.names_bytes as f64, stats.series as f64);
    eprintln!("{missing_of_100} of 100 lines missing: {:.1} bytes a series", bytes / series);
    bytes / series
}

#[test]
fn a_series_of_alike_hosts_costs_at_most_a_hundred_bytes_of_heap() {
    assert!(heap_per_series(0) <= 100.0);
}

#[test]
fn a_series_of_hosts_that_miss_some_lines_costs_at_most_a_hundred_bytes_of_heap() {
    assert!(heap_per_series(2) <= 100.0);
}
