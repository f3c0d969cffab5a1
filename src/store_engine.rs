//! The store behind the HTTP face.

use crate::config::nearest;
use crate::http::{
    DebugRun, DebugTree, Diagnosis, EachAnswer, Engine, Freed, NodeHealth, Refused, Seen, Unavailable, Written,
};
use crate::nats;
use crate::process;
use kymo_engine::env::Env;
use kymo_engine::model::{Lsn, Query, Request};
use kymo_engine::store::{self, Durability, Store};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tracing::warn;

/// Seconds between two log lines about refused lines.
const REFUSALS_EVERY: u64 = 10;

/// A store as the HTTP face wants it.
#[derive(Debug)]
pub(crate) struct StoreEngine {
    store: Arc<Store>,
    env: Arc<dyn Env>,
    /// When refused lines were last logged, in seconds of the monotonic clock from 1; 0 is never.
    told_refusals: AtomicU64,
    /// How often nobody told which hosts are in use.
    provider_failures: Arc<AtomicU64>,
    /// Where messages come from, once they do.
    messaging: OnceLock<Arc<nats::Status>>,
}

impl StoreEngine {
    pub(crate) fn new(store: Arc<Store>, env: Arc<dyn Env>, provider_failures: Arc<AtomicU64>) -> Self {
        Self { store, env, told_refusals: AtomicU64::new(0), provider_failures, messaging: OnceLock::new() }
    }

    /// Shows how messaging goes beside the store; the first call counts.
    pub(crate) fn show(&self, messaging: Arc<nats::Status>) {
        drop(self.messaging.set(messaging));
    }

    fn tell_refusals(&self, written: &store::Written) {
        let now = self.env.monotonic().as_secs() + 1;
        let told = self.told_refusals.load(Ordering::Relaxed);
        let is_due = told == 0 || now >= told + REFUSALS_EVERY;
        let takes_turn =
            || self.told_refusals.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if is_due && takes_turn() {
            warn!(refused = written.refused, reasons = ?written.reasons, examples = ?written.examples, "lines refused");
        }
    }
}

impl From<store::Unavailable> for Unavailable {
    fn from(why: store::Unavailable) -> Self {
        Self { reason: why.to_string() }
    }
}

impl From<store::Written> for Written {
    fn from(written: store::Written) -> Self {
        let store::Written { lsn, accepted, refused, reasons, first_client_error, .. } = written;
        Self { lsn, accepted, refused, reasons, first_client_error }
    }
}

impl Engine for StoreEngine {
    fn write(
        &self,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        clusters: Option<&[String]>,
    ) -> Result<Written, Unavailable> {
        let written = self.store.write_for(body, default_cluster, complete, clusters)?;
        if written.refused > 0 {
            self.tell_refusals(&written);
        }
        Ok(written.into())
    }

    fn when_durable(&self, lsn: Lsn, done: Box<dyn FnOnce(Result<(), Unavailable>) + Send>) {
        self.store.when_durable(lsn, Box::new(move |outcome| done(outcome.map_err(Into::into))));
    }

    fn hosts(&self, cluster: &str, from: i64, to: i64) -> Result<Vec<String>, Unavailable> {
        // A query for all nodes is one a host.
        let for_all_nodes = vec![String::new()];
        let request = Request { cluster: cluster.to_owned(), from, to, for_all_nodes, ..Request::default() };
        Ok(self.store.plan(&request).into_iter().map(|query| query.host).collect())
    }

    fn evaluate(&self, request: &Request, query: &Query, each: &mut EachAnswer<'_>) {
        self.store.evaluate_each(request, query, each);
    }

    fn free(
        &self,
        selectors: &[Vec<String>],
        to: i64,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<Freed>, Unavailable> {
        let freed = self.store.free_in_time(selectors, to, is_late)?;
        Ok(freed.map(|(runs, lsn)| Freed { runs, lsn }))
    }

    fn debug(&self, selector: &[String]) -> Result<Option<DebugTree>, Unavailable> {
        Ok(self.store.debug(selector).map(debug_tree))
    }

    fn health(&self, cluster: &str, node: &str, metrics: &[String]) -> Result<Option<NodeHealth>, Unavailable> {
        let health = self.store.health(cluster, node, metrics);
        Ok(health.map(|store::NodeHealth { degraded, missing, healthy }| NodeHealth { degraded, missing, healthy }))
    }

    fn diagnose(&self, cluster: Option<&str>, metric: &str, host: &str) -> Diagnosis {
        let store::Diagnosis { frequency, places, refusals } = self.store.diagnose(cluster, metric, host);
        let metrics = &self.store.options().metrics;
        let names = || metrics.iter().map(|(_, metric)| &*metric.name);
        let seen = places.into_iter().map(|store::Place { cluster, series, newest }| Seen { cluster, series, newest });
        let refused = |refusal: store::RecentRefusal| {
            let store::RecentRefusal { metric, host, reason, at, count } = refusal;
            Refused { metric, host, reason: reason.to_owned(), at, count }
        };
        Diagnosis {
            metric: metric.to_owned(),
            host: host.to_owned(),
            frequency,
            nearest: frequency.is_none().then(|| nearest(metric, names()).map(str::to_owned)).flatten(),
            seen: seen.collect(),
            refusals: refusals.into_iter().map(refused).collect(),
            now: self.env.unix_now(),
            verdict: String::new(),
        }
    }

    fn ready(&self) -> Result<(), String> {
        self.store.ready().map_err(|why| why.to_string())
    }

    fn notes(&self) -> Vec<String> {
        self.messaging.get().map(|messaging| messaging.notes()).unwrap_or_default()
    }

    fn metrics_text(&self) -> String {
        let mut text = String::new();
        write_metrics(&mut text, &self.store, self.provider_failures.load(Ordering::Relaxed))
            .expect("a String takes all that is written to it");
        text.extend(self.messaging.get().map(|messaging| messaging.metrics_text()));
        process::write_metrics(&mut text);
        text
    }
}

fn debug_tree(tree: store::DebugTree) -> DebugTree {
    let run = |run: store::DebugRun| DebugRun { start: run.start, len: run.len, end: run.end };
    DebugTree {
        metrics: tree.metrics.into_iter().map(|(name, runs)| (name, runs.into_iter().map(run).collect())).collect(),
        children: tree.children.into_iter().map(|(name, child)| (name, debug_tree(child))).collect(),
    }
}

fn write_metrics(text: &mut String, store: &Store, provider_failures: u64) -> std::fmt::Result {
    let stats = store.stats();
    let mut metric = |name: &str, kind: &str, help: &str, value: f64| {
        writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")
    };
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats; counts stay below 2^53")]
    let number = |count: u64| count as f64;
    let waiting = number(stats.pulse.last.0.saturating_sub(stats.pulse.durable.0));
    metric("kymo_durable_lag_rows", "gauge", "Rows that wait for the device.", waiting)?;
    metric(
        "kymo_durable_lag_bytes",
        "gauge",
        "Bytes that wait for the device.",
        number(stats.pulse.pending_bytes as u64),
    )?;
    metric("kymo_log_bytes", "gauge", "Bytes of the log that a restart would replay.", number(stats.log_bytes))?;
    metric("kymo_log_file_bytes", "gauge", "Bytes of the prepared files of the log.", number(stats.log_file_bytes))?;
    metric("kymo_names_bytes", "gauge", "Bytes of names and run tables in memory.", number(stats.names_bytes))?;
    metric("kymo_snapshots", "gauge", "Snapshot files that live.", number(stats.snapshots as u64))?;
    metric(
        "kymo_snapshot_file_bytes",
        "gauge",
        "Bytes of the snapshot files that live.",
        number(stats.snapshot_bytes),
    )?;
    let jobs = stats.jobs;
    metric(
        "kymo_snapshot_hosts_total",
        "counter",
        "Hosts whose rows went into snapshots.",
        number(jobs.snapshot_hosts),
    )?;
    metric("kymo_snapshot_files_total", "counter", "Snapshot files that were written.", number(jobs.snapshot_files))?;
    metric(
        "kymo_snapshot_bytes_total",
        "counter",
        "Bytes of snapshot files that were written.",
        number(jobs.snapshot_bytes),
    )?;
    metric("kymo_merge_hosts_total", "counter", "Hosts that were merged.", number(jobs.merge_hosts))?;
    metric("kymo_merge_files_total", "counter", "Merged files that were written.", number(jobs.merge_files))?;
    metric("kymo_merge_bytes_total", "counter", "Bytes of merged files that were written.", number(jobs.merge_bytes))?;
    let help = "Questions to main.backend-url that had no answer; nothing is deleted then.";
    metric("kymo_node_provider_failures_total", "counter", help, number(provider_failures))?;
    metric(
        "kymo_job_failures_total",
        "counter",
        "Snapshots, merges and archived days that failed and are tried again.",
        number(jobs.failures),
    )?;
    write_archive_metrics(&mut metric, &stats)?;
    metric("kymo_head_bytes", "gauge", "Bytes of the rows in memory.", number(stats.head_bytes))?;
    metric("kymo_hosts", "gauge", "Hosts that are known.", number(stats.hosts as u64))?;
    metric("kymo_series", "gauge", "Series that are known.", number(stats.series as u64))?;
    metric("kymo_hosts_limit", "gauge", "Hosts that may be known.", number(stats.limits.hosts as u64))?;
    metric("kymo_series_limit", "gauge", "Series that may be known.", number(stats.limits.series as u64))?;
    let cap = number(stats.memory_cap.unwrap_or(0));
    metric("kymo_memory_cap_bytes", "gauge", "Bytes that rows and names may have in memory; 0 is no cap.", cap)?;
    #[expect(clippy::cast_precision_loss, reason = "unix seconds are exact in a float for millions of years")]
    let newest = stats.newest.unwrap_or(0) as f64;
    let help = "End of the interval of the newest sample in unix seconds; 0 before the first one.";
    metric("kymo_newest_sample_timestamp_seconds", "gauge", help, newest)?;
    metric("kymo_rows_total", "counter", "Rows that were made durable.", number(stats.rows))?;
    metric("kymo_samples_total", "counter", "Samples that were accepted.", number(stats.samples))?;
    let help = "Good lines that were known but for value and time.";
    metric("kymo_lines_repeated_total", "counter", help, number(stats.repeated))?;
    metric(
        "kymo_recorded_losses",
        "gauge",
        "Damaged parts of the log that were set aside.",
        number(stats.losses.len() as u64),
    )?;
    let window = match stats.durability {
        Durability::Sync => 0.0,
        Durability::Interval(interval) => interval.as_secs_f64(),
    };
    metric("kymo_durability_window_seconds", "gauge", "What a power cut may take of what was acknowledged.", window)?;
    let failed = matches!(stats.pulse.refuses, Some(store::Unavailable::Failed(_)));
    metric(
        "kymo_log_failed",
        "gauge",
        "1 after a failed write or sync, until a restart.",
        f64::from(u8::from(failed)),
    )?;
    let full = matches!(stats.pulse.refuses, Some(store::Unavailable::Full(_)));
    metric("kymo_disk_full", "gauge", "1 while there is no space for the log.", f64::from(u8::from(full)))?;
    histogram(text, "kymo_commit_seconds", "Time of a commit in the device.", &stats.commit_seconds)?;
    histogram(text, "kymo_commit_bytes", "Bytes of a commit.", &stats.commit_bytes)?;
    let name = "kymo_refused_lines_total";
    writeln!(
        text,
        "# HELP {name} Lines that were not stored, by metric and beginning of the host name.\n# TYPE {name} counter"
    )?;
    for refusal in &stats.refusals {
        let (reason, metric, host) = (refusal.reason, label(&refusal.metric), label(&refusal.host_prefix));
        writeln!(text, "{name}{{reason=\"{reason}\",metric=\"{metric}\",host_prefix=\"{host}\"}} {}", refusal.count)?;
    }
    write_infos(text, &stats)
}

fn write_infos(text: &mut String, stats: &store::Stats) -> std::fmt::Result {
    let name = "kymo_build_info";
    writeln!(text, "# HELP {name} The version that runs.\n# TYPE {name} gauge")?;
    writeln!(text, "{name}{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))?;
    let name = "kymo_disk_info";
    writeln!(text, "# HELP {name} The way to the disk.\n# TYPE {name} gauge")?;
    writeln!(text, "{name}{{implementation=\"{}\"}} 1", stats.disk)
}

fn write_archive_metrics(
    metric: &mut impl FnMut(&str, &str, &str, f64) -> std::fmt::Result,
    stats: &store::Stats,
) -> std::fmt::Result {
    #[expect(clippy::cast_precision_loss, reason = "metrics are floats; counts stay below 2^53")]
    let number = |count: u64| count as f64;
    let jobs = stats.jobs;
    metric(
        "kymo_archived_parts",
        "gauge",
        "Parts that are archived: a day of a cluster each.",
        number(stats.archived_parts as u64),
    )?;
    metric("kymo_archived_rows", "gauge", "Rows of the archived parts.", number(stats.archived_rows))?;
    metric(
        "kymo_archive_hosts_total",
        "counter",
        "Hosts that were written into the archive.",
        number(jobs.archive_hosts),
    )?;
    metric("kymo_archive_files_total", "counter", "Files that were added to the archive.", number(jobs.archive_files))?;
    metric("kymo_archive_bytes_total", "counter", "Bytes of those files.", number(jobs.archive_bytes))?;
    metric(
        "kymo_archive_reads_total",
        "counter",
        "Archived parts that queries looked into.",
        number(jobs.archive_reads),
    )?;
    metric(
        "kymo_archive_read_failures_total",
        "counter",
        "Archived parts that could not be read.",
        number(jobs.archive_read_failures),
    )
}

fn histogram(text: &mut String, name: &str, help: &str, histogram: &store::HistogramValues) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram")?;
    let mut below = 0;
    for (bound, count) in &histogram.buckets {
        below += count;
        writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {below}")?;
    }
    writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", histogram.count)?;
    writeln!(text, "{name}_sum {}\n{name}_count {}", histogram.sum, histogram.count)
}

/// A label's value: quotes, backslashes and line ends escaped.
fn label(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
