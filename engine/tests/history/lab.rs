//! A store on a simulated disk, its clock, and everything that can be read of it.

use crate::model::{Key, Question};
use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::SimDisk;
use kymo_engine::env::Env;
use kymo_engine::error::OpenError;
use kymo_engine::model::{Aggregation, Answer, Metric, Metrics, Query, Request, SeriesError};
use kymo_engine::store::{DebugTree, OpenReport, Options, Progress, Store};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

/// When a lab begins, in unix seconds: 22:00 of a UTC day, so that midnight is soon, and a multiple of all frequencies.
pub(crate) const START: i64 = 19_675 * 86_400 + 22 * 3600;
/// The metrics: name, interval in seconds, aggregation.
pub(crate) const METRICS: [(&str, u32, Aggregation); 3] =
    [("load", 60, Aggregation::Sum), ("flops", 30, Aggregation::Avg), ("temp", 600, Aggregation::None)];

/// Time that the test sets, and ids that count up.
#[derive(Debug)]
pub(crate) struct Clock {
    now: AtomicI64,
    ticks: AtomicU64,
    ids: AtomicU8,
}

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.ticks.fetch_add(1, Ordering::Relaxed))
    }

    fn unique(&self) -> [u8; 16] {
        [self.ids.fetch_add(1, Ordering::Relaxed); 16]
    }
}

/// A clock that stands at an instant, and hands out ids from `first_id` on.
pub(crate) fn clock(now: i64, first_id: u8) -> Arc<Clock> {
    Arc::new(Clock { now: AtomicI64::new(now), ticks: AtomicU64::new(0), ids: AtomicU8::new(first_id) })
}

impl Clock {
    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
    }
}

/// The seconds between two samples of a metric.
pub(crate) fn frequency(metric: &str) -> i64 {
    METRICS.iter().find(|(name, ..)| *name == metric).map_or(1, |(_, frequency, _)| i64::from(*frequency))
}

/// The options of all these stores: the shortest segments, snapshots as soon as there is anything to take.
pub(crate) fn options(directory: impl Into<PathBuf>) -> Options {
    let metric = |&(name, frequency, aggregation): &(&str, u32, Aggregation)| {
        let name = name.into();
        Metric { name, frequency, aggregation }
    };
    let mut options = Options::new(directory, Metrics::new(METRICS.iter().map(metric).collect()).unwrap());
    options.segment_len = kymo_engine::wal::SEGMENT_LEN_MIN;
    options.log_bound = 4096;
    "the test".clone_into(&mut options.owner);
    options
}

/// One disk, one clock, and the options that stores are opened with.
#[derive(Clone, Debug)]
pub(crate) struct Lab {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<Clock>,
    pub(crate) options: Options,
}

impl Lab {
    pub(crate) fn new(seed: u64) -> Self {
        Self { disk: SimDisk::new(seed), clock: clock(START, 1), options: options("/data") }
    }

    pub(crate) fn open(&self) -> Result<(Store, OpenReport), OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        Store::open(disk, Arc::clone(&self.clock) as Arc<dyn Env>, self.options.clone())
    }

    /// A disk of its own with these files, all of them durable.
    pub(crate) fn of_files(&self, files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let lab = Self { disk: SimDisk::new(1), clock: clock(self.clock.unix_now(), 99), ..self.clone() };
        for (path, bytes) in files {
            lab.disk.create_dir_all(path.parent().unwrap()).unwrap();
            lab.disk.replace(path, bytes).unwrap();
        }
        lab
    }
}

/// The line of a sample.
pub(crate) fn line((host, metric, component): (&str, &str, &str), time: i64, value: f64) -> String {
    let component = match split(component) {
        ("", _) => String::new(),
        (kind, id) => format!(",type={kind},type-id={id}"),
    };
    format!("{metric},cluster=c,hostname={host}{component} value={value} {time}\n")
}

fn split(component: &str) -> (&str, &str) {
    component.split_at(component.find(|c: char| c.is_ascii_digit()).unwrap_or(component.len()))
}

/// Commits until there is nothing to commit, or it cannot be done.
pub(crate) fn commit(store: &Store) -> Progress {
    loop {
        match store.commit_step() {
            Progress::Done => {}
            other => return other,
        }
    }
}

/// Writes and commits lines of which every one is good.
pub(crate) fn put(store: &Store, body: &str) {
    let written = store.write(body.as_bytes(), "c", true).unwrap();
    assert_eq!(written.refused, 0, "{written:?}");
    assert_eq!(commit(store), Progress::Idle);
}

/// Does all background work on files that there is.
pub(crate) fn compact_all(store: &Store, now_or_never: bool) {
    while store.compact_step(now_or_never).unwrap() == Progress::Done {}
}

/// What a question is answered.
pub(crate) fn ask(store: &Store, question: &Question, from: i64, to: i64) -> Result<Option<Answer>, SeriesError> {
    let Question { host, metric, components } = question;
    let mut query = Query { metric: metric.clone(), host: host.clone(), aggregate: true, ..Query::default() };
    if let [first, ..] = &components[..] {
        query.component = Some(split(first).0.to_owned());
        query.component_ids = components.iter().map(|name| split(name).1.to_owned()).collect();
    }
    let request = Request { cluster: "c".to_owned(), from, to, with_padding: false, ..Request::default() };
    store.evaluate(&request, &query).into_iter().next().transpose()
}

/// The values of an answer that are not missing, by instant.
pub(crate) fn present(answer: Option<&Answer>) -> BTreeMap<i64, u64> {
    let Some(answer) = answer else { return BTreeMap::new() };
    let instants = (answer.from..).step_by(usize::try_from(answer.resolution).unwrap());
    instants.zip(&answer.data).filter(|(_, value)| !value.is_nan()).map(|(at, value)| (at, value.to_bits())).collect()
}

/// An answer as bits: also the missing values at its ends, and the statistics.
pub(crate) fn bits(answer: Option<&Answer>) -> Vec<u64> {
    let Some(answer) = answer else { return Vec::new() };
    let Answer { data, from, to, resolution, avg, min, max } = answer;
    let head = [*from, *to, *resolution].map(i64::cast_unsigned);
    head.into_iter().chain([avg, min, max].into_iter().chain(data).map(|value| value.to_bits())).collect()
}

/// All series that exist, with their runs.
pub(crate) fn runs(tree: &DebugTree) -> Vec<(Key, &[kymo_engine::store::DebugRun])> {
    let mut runs = Vec::new();
    for (host, level) in tree.children.values().flat_map(|cluster| &cluster.children) {
        let levels = std::iter::once(("", level)).chain(level.children.iter().map(|(name, level)| (&**name, level)));
        for (component, level) in levels {
            for (metric, list) in &level.metrics {
                runs.push(((host.clone(), metric.clone(), component.to_owned()), &list[..]));
            }
        }
    }
    runs
}
