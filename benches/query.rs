//! The four shapes of queries that a front end sends, on six hours of 84 hosts, against the same points in plain
//! columns that are added up and looked through: all of it in the head, all of it in mapped snapshots, and a day of it in
//! merged ones.

use crate::compare::{Figure, compare};
use crate::env::{scale, time};
use crate::history::History;
use crate::ingest::Ingest;
use crate::workload::{self, CLUSTER, NODE_METRICS, SplitMix, THREAD_METRICS, host_name};
use criterion::{Criterion, SamplingMode};
use kymo_engine::model::{Query, Request};
use kymo_engine::store::Store;
use std::cell::OnceCell;
use std::hint::black_box;
use std::time::Duration;
use tempfile::TempDir;

/// What is asked, and how much of the plain columns answers it.
struct Shape {
    id: &'static str,
    /// The request of a number below `requests`.
    request: fn(u32, Size) -> Request,
    /// Requests that differ. There are as many sets of plain columns, so that what is in memory and not in the cache is
    /// so on both sides.
    requests: u32,
    answers: u32,
    /// Series that are added up for one answer.
    children: u32,
    minutes: u32,
}

/// The size of what is stored.
#[derive(Clone, Copy)]
struct Size {
    hosts: u32,
    minutes: u32,
}

impl Size {
    /// A request for the last minutes.
    fn latest(self, minutes: u32) -> Request {
        let (from, to) = (workload::time(self.minutes.saturating_sub(minutes)), workload::time(self.minutes));
        Request { cluster: CLUSTER.to_owned(), from, to, ..Request::default() }
    }
}

fn query(metric: &str, host: u32) -> Query {
    Query { metric: metric.to_owned(), host: host_name(host), ..Query::default() }
}

fn one_metric(number: u32, size: Size) -> Request {
    let metric = NODE_METRICS[number as usize % 10];
    Request { queries: vec![query(metric, number / 10)], ..size.latest(60) }
}

fn threads_summed(number: u32, size: Size) -> Request {
    let metric = THREAD_METRICS[number as usize % 5];
    Request { queries: vec![query(metric, number / 5)], ..size.latest(size.minutes) }
}

fn statistics(_: u32, size: Size) -> Request {
    let hosts = 0..size.hosts.min(64);
    let queries = hosts.flat_map(|host| NODE_METRICS[..5].iter().map(move |metric| query(metric, host)));
    Request { queries: queries.collect(), ..size.latest(size.minutes) }
}

fn all_hosts(number: u32, size: Size) -> Request {
    Request { for_all_nodes: vec![NODE_METRICS[number as usize].to_owned()], ..size.latest(60) }
}

/// Answers a request as the server does; returns how many points that is.
fn answer(store: &Store, request: &Request, answers: u32) -> usize {
    let (mut count, mut points) = (0, 0);
    for query in &store.plan(request) {
        for series in store.evaluate(request, query) {
            points += black_box(series.expect("the series is there")).data.len();
            count += 1;
        }
    }
    assert_eq!(count, answers);
    points
}

/// The least that an answer costs: the columns of its children are added up, and the sum is looked through.
fn plain(columns: &[f64], shape: &Shape) {
    let minutes = shape.minutes as usize;
    for answer in columns.chunks(minutes * shape.children as usize).take(shape.answers as usize) {
        let mut sums = vec![0.0; minutes];
        for column in answer.chunks(minutes) {
            for (sum, value) in sums.iter_mut().zip(column) {
                *sum += value;
            }
        }
        let (mut total, mut min, mut max) = (0.0, f64::INFINITY, f64::NEG_INFINITY);
        for &sum in &sums {
            total += sum;
            min = sum.min(min);
            max = sum.max(max);
        }
        black_box((sums, total, min, max));
    }
}

fn shapes(size: Size) -> [Shape; 4] {
    let (hour, all) = (size.minutes.min(60), size.minutes);
    let Size { hosts, .. } = size;
    let shape =
        |id, request, requests, answers, children, minutes| Shape { id, request, requests, answers, children, minutes };
    [
        shape("Q1 host, metric, 1 h", one_metric, 10 * hosts, 1, 1, hour),
        shape("Q2 host, 72 threads", threads_summed, 5 * hosts, 1, 72, all),
        shape("Q3 64 hosts, 5 metrics", statistics, 1, 5 * hosts.min(64), 1, all),
        shape("Q4 all hosts, metric, 1 h", all_hosts, 10, hosts, 1, hour),
    ]
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let size = Size { hosts: scale(84, 3), minutes: scale(360, 4) };
    let day = Size { minutes: scale(1440, 4), ..size };
    let (in_head, in_snapshots, of_a_day) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
    let head = || -> &Store { &in_head.get_or_init(|| fill(size)).store };
    let snapshots = || -> &Store { in_snapshots.get_or_init(|| Snapshots::write(size, false)).store() };
    let merged = || -> &Store { of_a_day.get_or_init(|| Snapshots::write(day, true)).store() };
    compare_shapes(criterion, "query, 6 h", size, &head);
    compare_shapes(criterion, "query of snapshots, 6 h", size, &snapshots);
    compare_shapes(criterion, "query of snapshots, 24 h", day, &merged);
}

fn compare_shapes<'a>(criterion: &mut Criterion, name: &str, size: Size, store: &dyn Fn() -> &'a Store) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat).sample_size(20);
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(3));
    for shape in &shapes(size) {
        let setup = || {
            let len = shape.answers * shape.children * shape.minutes;
            let columns: Vec<f64> = (0..len * shape.requests).map(f64::from).collect();
            // Each once: what was written past the page cache is in it then.
            for number in 0..shape.requests {
                answer(store(), &(shape.request)(number, size), shape.answers);
            }
            (store(), columns, len as usize, SplitMix(0))
        };
        compare(&mut group, shape.id, Figure::Latency, &["plain columns"], setup, |state, iterations, times| {
            let (store, columns, len, random) = state;
            let mut total = Duration::ZERO;
            for _ in 0..iterations {
                let number = random.below(shape.requests);
                let request = (shape.request)(number, size);
                let answering = time(|| {
                    black_box(answer(store, &request, shape.answers));
                });
                times.add(0, answering);
                let columns = &columns[number as usize * *len..][..*len];
                times.add(1, time(|| plain(black_box(columns), shape)));
                total += answering;
            }
            total
        });
    }
    group.finish();
}

fn fill(size: Size) -> Ingest {
    let mut ingest = Ingest::without_disk(size.hosts);
    for _ in 0..size.minutes {
        ingest.prepare();
        ingest.write();
    }
    ingest
}

/// A store that was closed and opened again: nothing is in the head.
struct Snapshots {
    store: Store,
    _directory: TempDir,
}

impl Snapshots {
    fn write(size: Size, is_merged: bool) -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
        let history = History::of(size.hosts, size.minutes);
        let history = if is_merged { history.sealed() } else { history }.at(directory.path());
        history.write();
        Self { store: history.open().0, _directory: directory }
    }

    fn store(&self) -> &Store {
        &self.store
    }
}
