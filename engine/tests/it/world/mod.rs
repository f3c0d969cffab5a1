//! A store on a simulated disk, its steps called by hand.

mod life;
mod model;

pub(crate) use life::{Life, sample};
pub(crate) use model::{Content, Model, Sample};

use kymo_engine::disk::Disk;
use kymo_engine::disk::sim::SimDisk;
use kymo_engine::env::{Env, Parallel};
use kymo_engine::error::{OpenError, Unavailable};
use kymo_engine::model::{Aggregation, Lsn, Metric, Metrics, Query, Request};
use kymo_engine::paths::Paths;
use kymo_engine::store::{DebugTree, OpenReport, Options, Progress, SalvageReport, Store, Written};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// When a world begins, in unix seconds: a whole minute.
pub(crate) const START: i64 = 1_700_000_040;
/// The interval of all metrics of [`metrics`], in seconds.
pub(crate) const FREQUENCY: i64 = 60;
/// The data directory.
pub(crate) const DIRECTORY: &str = "/data";

/// Time that the test sets, and ids that count up.
#[derive(Debug)]
pub(crate) struct Clock {
    now: AtomicI64,
    /// Pieces of work that are done at a time.
    width: AtomicUsize,
    monotonic_millis: AtomicU64,
    ids: AtomicU8,
}

impl Env for Clock {
    fn unix_now(&self) -> i64 {
        self.now.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_millis.load(Ordering::Relaxed))
    }

    fn unique(&self) -> [u8; 16] {
        [self.ids.fetch_add(1, Ordering::Relaxed); 16]
    }

    fn parallel(&self) -> &dyn Parallel {
        self
    }
}

impl Parallel for Clock {
    fn width(&self) -> usize {
        self.width.load(Ordering::Relaxed)
    }

    fn run(&self, pieces: usize, piece: &(dyn Fn(usize) + Sync)) {
        assert!(pieces <= self.width());
        // The last one first: whoever relies on an order is found out.
        std::thread::scope(|scope| (0..pieces).rev().for_each(|at| drop(scope.spawn(move || piece(at)))));
    }
}

impl Clock {
    /// Lets pieces of work be done at the same time from now on.
    pub(crate) fn set_width(&self, width: usize) {
        self.width.store(width, Ordering::Relaxed);
    }

    /// Lets seconds pass, on both clocks.
    pub(crate) fn pass(&self, seconds: i64) {
        self.now.fetch_add(seconds, Ordering::Relaxed);
        self.monotonic_millis.fetch_add(u64::try_from(seconds).unwrap_or(0) * 1000, Ordering::Relaxed);
    }
}

/// One disk, one clock, and the options that stores are opened with.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<Clock>,
    pub(crate) options: Options,
}

/// Metrics of these names, one a minute, summed over components.
pub(crate) fn metrics(names: &[&str]) -> Metrics {
    let metric = |name: &&str| Metric {
        name: (*name).into(),
        frequency: u32::try_from(FREQUENCY).unwrap(),
        aggregation: Aggregation::Sum,
    };
    Metrics::new(names.iter().map(metric).collect()).unwrap()
}

impl World {
    /// An empty disk and the shortest segments.
    pub(crate) fn new(seed: u64) -> Self {
        let mut options = Options::new(DIRECTORY, metrics(&["load", "power"]));
        options.segment_len = kymo_engine::wal::SEGMENT_LEN_MIN;
        "the test".clone_into(&mut options.owner);
        let clock = Clock {
            now: AtomicI64::new(START),
            width: AtomicUsize::new(1),
            monotonic_millis: AtomicU64::new(0),
            ids: AtomicU8::new(1),
        };
        Self { disk: SimDisk::new(seed), clock: Arc::new(clock), options }
    }

    /// Opens the store.
    pub(crate) fn open(&self) -> Result<(Store, OpenReport), OpenError> {
        Store::open(self.disk(), self.env(), self.options.clone())
    }

    /// Opens a store that must open.
    pub(crate) fn store(&self) -> Store {
        self.open().unwrap().0
    }

    /// Salvages the store.
    pub(crate) fn salvage(&self, confirmed: bool) -> Result<SalvageReport, OpenError> {
        kymo_engine::store::salvage(&self.disk(), &self.env(), &self.options, confirmed)
    }

    /// The path of a segment.
    pub(crate) fn segment(seq: u64) -> PathBuf {
        Paths::new(DIRECTORY).segment(seq)
    }

    /// The path of the manifest.
    pub(crate) fn manifest() -> PathBuf {
        Paths::new(DIRECTORY).manifest()
    }

    /// A disk of its own with the same files, all of them durable.
    pub(crate) fn copy(&self, seed: u64) -> Self {
        let copy = Self { disk: SimDisk::new(seed), ..self.clone() };
        let paths = Paths::new(DIRECTORY);
        for directory in [paths.wal(), paths.snapshots()] {
            copy.disk.create_dir_all(&directory).unwrap();
        }
        for (path, bytes) in self.disk.files() {
            copy.disk.replace(&path, &bytes).unwrap();
        }
        copy
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(self.disk.clone())
    }

    fn env(&self) -> Arc<dyn Env> {
        Arc::clone(&self.clock) as Arc<dyn Env>
    }
}

/// The line of a sample.
pub(crate) fn line((host, metric, component): (&str, &str, &str), time: i64, value: f64) -> String {
    let digits = component.find(|c: char| c.is_ascii_digit()).unwrap_or(component.len());
    let (kind, id) = component.split_at(digits);
    let component = if kind.is_empty() { String::new() } else { format!(",type={kind},type-id={id}") };
    format!("{metric},cluster=c,hostname={host}{component} value={value} {time}\n")
}

/// The lines of samples.
pub(crate) fn body(samples: &[Sample]) -> String {
    samples
        .iter()
        .map(|sample| {
            let (host, metric, component) = &sample.series;
            line((host, metric, component), sample.time, f64::from_bits(sample.bits))
        })
        .collect()
}

/// Writes a body.
pub(crate) fn put(store: &Store, body: &str) -> Result<Written, Unavailable> {
    store.write(body.as_bytes(), "c", true)
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
pub(crate) fn put_all(store: &Store, body: &str) {
    let written = put(store, body).unwrap();
    assert_eq!(written.refused, 0, "{written:?}");
    assert_eq!(commit(store), Progress::Idle);
    assert!(store.stats().pulse.durable >= written.lsn);
}

/// What waiters were told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told(Arc<Mutex<Vec<Outcome>>>);

type Outcome = (Lsn, Result<(), Unavailable>);

impl Told {
    /// Waits for an LSN.
    pub(crate) fn wait(&self, store: &Store, lsn: Lsn) {
        let told = Arc::clone(&self.0);
        store.when_durable(lsn, Box::new(move |outcome| told.lock().push((lsn, outcome))));
    }

    /// All that was told, in the order of telling.
    pub(crate) fn all(&self) -> Vec<Outcome> {
        self.0.lock().clone()
    }

    /// The highest LSN that was acknowledged.
    pub(crate) fn acknowledged(&self) -> Lsn {
        let told = self.0.lock();
        told.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(lsn, _)| *lsn).max().unwrap_or_default()
    }
}

/// Everything that can be read: each run of each series at each of its instants. Exact for series whose samples all
/// lie on one grid of the configured interval.
pub(crate) fn content(store: &Store) -> Content {
    let mut content = Content::new();
    let Some(root) = store.debug(&[]) else { return content };
    for (cluster, hosts) in &root.children {
        for (host, level) in &hosts.children {
            read_level(store, (cluster, host, ""), level, &mut content);
            for (component, level) in &level.children {
                read_level(store, (cluster, host, component), level, &mut content);
            }
        }
    }
    content
}

fn read_level(store: &Store, (cluster, host, component): (&str, &str, &str), level: &DebugTree, content: &mut Content) {
    for (metric, runs) in &level.metrics {
        let slots = content.entry((host.to_owned(), metric.clone(), component.to_owned())).or_default();
        for (at, run) in runs.iter().enumerate() {
            let next = runs.get(at + 1).map_or(i64::MAX, |next| next.start);
            let range = (run.start + FREQUENCY / 2, run.end.min(next));
            slots.extend(read(store, (cluster, host, metric, component), range));
        }
    }
}

/// The values of one series at `from`, `from + FREQUENCY` and so on up to `to`.
pub(crate) fn read(
    store: &Store,
    (cluster, host, metric, component): (&str, &str, &str, &str),
    (from, to): (i64, i64),
) -> BTreeMap<i64, u64> {
    let digits = component.find(|c: char| c.is_ascii_digit()).unwrap_or(component.len());
    let (kind, id) = component.split_at(digits);
    let query = Query {
        metric: metric.to_owned(),
        host: host.to_owned(),
        component: (!kind.is_empty()).then(|| kind.to_owned()),
        component_ids: if kind.is_empty() { Vec::new() } else { vec![id.to_owned()] },
        ..Query::default()
    };
    let request = Request { cluster: cluster.to_owned(), from, to, with_padding: false, ..Request::default() };
    let mut values = BTreeMap::new();
    for answer in store.evaluate(&request, &query) {
        let answer = answer.unwrap_or_else(|error| panic!("{host} {metric} {component}: {error}"));
        let instants = (answer.from..).step_by(usize::try_from(answer.resolution).unwrap());
        values.extend(instants.zip(&answer.data).filter(|(_, value)| !value.is_nan()).map(|(at, v)| (at, v.to_bits())));
    }
    values
}
