//! Counters since the start: what a commit costs, and what was refused and why.

use super::recent::{Recent, RecentRefusal};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of commit times, in microseconds.
const SECONDS: [u64; 10] = [100, 200, 400, 800, 1_600, 3_200, 12_800, 51_200, 204_800, 819_200];
/// Upper bounds of the buckets of commit sizes, in bytes.
const BYTES: [u64; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// Combinations of reason, metric and host that are counted apart; the rest is counted by reason.
const REFUSALS_MAX: usize = 512;
/// Bytes of a name that is kept to count by.
const NAME_MAX: usize = 64;

/// Counters since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) rows: AtomicU64,
    pub(super) samples: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) snapshots: JobCounters,
    pub(super) merges: JobCounters,
    pub(super) archives: JobCounters,
    pub(super) archive_reads: AtomicU64,
    pub(super) archive_read_failures: AtomicU64,
    pub(super) job_failures: AtomicU64,
    commit_micros: Histogram<{ SECONDS.len() }>,
    commit_bytes: Histogram<{ BYTES.len() }>,
    refusals: Mutex<HashMap<RefusalKey, u64, foldhash::fast::RandomState>>,
    recent: Recent,
    /// When the last body came, in unix seconds.
    now: AtomicI64,
}

/// What a kind of job has done.
#[derive(Debug, Default)]
pub(super) struct JobCounters {
    hosts: AtomicU64,
    files: AtomicU64,
    bytes: AtomicU64,
}

impl JobCounters {
    pub(super) fn host(&self) {
        self.hosts.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn file(&self, bytes: u64) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Work on files since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStats {
    /// Hosts whose rows went into snapshots: the progress of the job that runs.
    pub snapshot_hosts: u64,
    /// Snapshot files that were finished.
    pub snapshot_files: u64,
    /// Bytes of them.
    pub snapshot_bytes: u64,
    /// Hosts that were merged.
    pub merge_hosts: u64,
    /// Merged files that were finished.
    pub merge_files: u64,
    /// Bytes of them.
    pub merge_bytes: u64,
    /// Hosts that were archived.
    pub archive_hosts: u64,
    /// Archived files that were finished.
    pub archive_files: u64,
    /// Bytes of them.
    pub archive_bytes: u64,
    /// Parts of the archive that queries looked into.
    pub archive_reads: u64,
    /// Those that could not be read.
    pub archive_read_failures: u64,
    /// Jobs that failed; they are tried again.
    pub failures: u64,
}

#[derive(Debug)]
struct Histogram<const N: usize> {
    buckets: [AtomicU64; N],
    count: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self { buckets: std::array::from_fn(|_| AtomicU64::new(0)), count: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }
}

/// A histogram at one time: per bucket the upper bound and how many fell into it.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramValues {
    /// Upper bounds, rising, and counts; what is above the last is only in `count`.
    pub buckets: Vec<(f64, u64)>,
    /// All.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl<const N: usize> Histogram<N> {
    fn add(&self, bounds: &[u64; N], value: u64) {
        if let Some(bucket) = self.buckets.get(bounds.partition_point(|&bound| bound < value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of micros and bytes stay far below 2^53")]
    fn values(&self, bounds: &[u64; N], unit: f64) -> HistogramValues {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        HistogramValues {
            buckets: bounds
                .iter()
                .zip(&self.buckets)
                .map(|(&bound, count)| (bound as f64 / unit, load(count)))
                .collect(),
            count: load(&self.count),
            sum: load(&self.sum) as f64 / unit,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RefusalKey {
    reason: &'static str,
    metric: Box<str>,
    host_prefix: Box<str>,
}

/// Lines that were refused for one reason, of one metric and hosts whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: &'static str,
    /// The metric, or nothing.
    pub metric: String,
    /// The name of the host up to its first digit, or nothing.
    pub host_prefix: String,
    /// How many.
    pub count: u64,
}

impl Counters {
    pub(super) fn commit(&self, bytes: u64, took: Duration) {
        self.commit_micros.add(&SECONDS, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.commit_bytes.add(&BYTES, bytes);
    }

    /// A body comes: what is refused from now on is refused now.
    pub(super) fn tick(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// The last refusal of exactly this, if it is remembered.
    pub(super) fn recent(&self, metric: &str, host: &str) -> Option<RecentRefusal> {
        self.recent.find(metric, host)
    }

    pub(super) fn refuse(&self, reason: &'static str, metric: &str, host: &str) {
        self.recent.note(reason, metric, host, self.now.load(Ordering::Relaxed));
        let host_prefix = host.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
        let key = RefusalKey { reason, metric: short(metric).into(), host_prefix: short(host_prefix).into() };
        let mut refusals = self.refusals.lock();
        if refusals.len() < REFUSALS_MAX || refusals.contains_key(&key) {
            *refusals.entry(key).or_default() += 1;
        } else {
            *refusals.entry(RefusalKey { reason, metric: "".into(), host_prefix: "".into() }).or_default() += 1;
        }
    }

    pub(super) fn jobs(&self) -> JobStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        JobStats {
            snapshot_hosts: load(&self.snapshots.hosts),
            snapshot_files: load(&self.snapshots.files),
            snapshot_bytes: load(&self.snapshots.bytes),
            merge_hosts: load(&self.merges.hosts),
            merge_files: load(&self.merges.files),
            merge_bytes: load(&self.merges.bytes),
            archive_hosts: load(&self.archives.hosts),
            archive_files: load(&self.archives.files),
            archive_bytes: load(&self.archives.bytes),
            archive_reads: load(&self.archive_reads),
            archive_read_failures: load(&self.archive_read_failures),
            failures: load(&self.job_failures),
        }
    }

    pub(super) fn commit_seconds(&self) -> HistogramValues {
        self.commit_micros.values(&SECONDS, 1e6)
    }

    pub(super) fn commit_sizes(&self) -> HistogramValues {
        self.commit_bytes.values(&BYTES, 1.0)
    }

    pub(super) fn refusals(&self) -> Vec<Refusal> {
        let mut list: Vec<Refusal> = (self.refusals.lock().iter())
            .map(|(key, &count)| Refusal {
                reason: key.reason,
                metric: key.metric.to_string(),
                host_prefix: key.host_prefix.to_string(),
                count,
            })
            .collect();
        list.sort_by(|a, b| (a.reason, &a.metric, &a.host_prefix).cmp(&(b.reason, &b.metric, &b.host_prefix)));
        list
    }
}

/// The beginning of a name, at most [`NAME_MAX`] bytes.
fn short(name: &str) -> &str {
    &name[..name.floor_char_boundary(NAME_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_metric_and_host_prefix_and_stay_bounded() {
        let counters = Counters::default();
        counters.refuse("late", "cpu_load", "n001");
        counters.refuse("late", "cpu_load", "n002");
        for at in 0..10_000 {
            counters.refuse("unknown-metric", &format!("m{at}{}", "ä".repeat(100)), "x");
        }
        let refusals = counters.refusals();
        assert!(refusals.len() <= REFUSALS_MAX + 2);
        assert_eq!(refusals.iter().map(|refusal| refusal.count).sum::<u64>(), 10_002);
        assert_eq!((&*refusals[0].host_prefix, refusals[0].count), ("n", 2));
        assert!(refusals.iter().all(|refusal| refusal.metric.len() <= NAME_MAX));
    }

    #[test]
    fn a_histogram_puts_each_value_below_its_bound() {
        let counters = Counters::default();
        counters.commit(4096, Duration::from_micros(150));
        counters.commit(4097, Duration::from_secs(5));
        assert_eq!(counters.commit_sizes().buckets[..2], [(4096.0, 1), (16384.0, 1)]);
        let seconds = counters.commit_seconds();
        assert_eq!(seconds.buckets[1], (0.0002, 1));
        assert_eq!((seconds.count, seconds.buckets.iter().map(|bucket| bucket.1).sum::<u64>()), (2, 1));
    }
}
