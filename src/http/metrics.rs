//! The server's part of `/metrics`: Prometheus text, written by hand.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;

use super::engine::Written;
use super::limits::Limits;
use super::routes::Endpoint;

/// Upper bounds of the write latency histogram in seconds: from a fast disk's sync to the sender's patience.
const BOUNDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// Why a request, or a connection before its first one, is refused. All are shown from the start, so that an alert can
/// ask for any of them.
const REFUSED: [&str; 23] = [
    "no-token",
    "token-malformed",
    "token-algorithm",
    "token-signature",
    "token-expired",
    "token-not-yet-valid",
    "token-without-expiry",
    "scope",
    "cluster",
    "rate",
    "connections",
    "connections-per-peer",
    "body-too-long",
    "body-lines",
    "body-ratio",
    "body-broken",
    "body-cut",
    "slow-body",
    "overload",
    "not-durable",
    "query-time",
    "query-points",
    "request-points",
];

/// Why the server closes a connection.
const CLOSED: [&str; 6] = ["idle", "slow-head", "long-head", "malformed-head", "slow-reader", "tls"];

const CERTIFICATE_EXPIRY: &str = "kymo_http_certificate_expiry_timestamp_seconds";

/// Counters of the HTTP face since the start of the process.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    answers: Mutex<BTreeMap<(Endpoint, u16), u64>>,
    refusals: [AtomicU64; REFUSED.len()],
    closed: [AtomicU64; CLOSED.len()],
    /// Good and bad ones.
    reloads: [AtomicU64; 2],
    certificates: [AtomicU64; 2],
    refused: Mutex<BTreeMap<&'static str, u64>>,
    accepted: AtomicU64,
    writes: Histogram,
    queries: Histogram,
    connections: AtomicU64,
    connections_open: AtomicU64,
    accept_errors: AtomicU64,
}

/// Requests by how long they took.
#[derive(Debug, Default)]
struct Histogram {
    /// The last one counts those above all bounds.
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < took.as_secs_f64());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A connection that is counted as open while this lives.
#[derive(Debug)]
pub(super) struct Open<'a>(&'a AtomicU64);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Counts an answer.
    pub(super) fn answered(&self, endpoint: Endpoint, status: StatusCode) {
        *lock(&self.answers).entry((endpoint, status.as_u16())).or_default() += 1;
    }

    /// Counts the lines of a write.
    pub(super) fn lines(&self, written: &Written) {
        self.accepted.fetch_add(written.accepted, Ordering::Relaxed);
        if written.refused > 0 {
            let mut refused = lock(&self.refused);
            for (reason, count) in &written.reasons {
                *refused.entry(reason).or_default() += count;
            }
        }
    }

    /// Counts a durable write that took this long.
    pub(super) fn write_took(&self, took: Duration) {
        self.writes.add(took);
    }

    /// Counts a query whose answer began after this long.
    pub(super) fn query_took(&self, took: Duration) {
        self.queries.add(took);
    }

    /// Counts a request that was refused for a reason of [`REFUSED`].
    pub(super) fn refused(&self, reason: &str) {
        count(&REFUSED, &self.refusals, reason);
    }

    /// Counts a connection that the server closed for a reason of [`CLOSED`].
    pub(super) fn closed(&self, reason: &str) {
        count(&CLOSED, &self.closed, reason);
    }

    /// Counts a reload of the settings.
    pub(super) fn reloaded(&self, is_good: bool) {
        self.reloads[usize::from(!is_good)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a certificate that was exchanged.
    pub(super) fn certificate(&self, is_good: bool) {
        self.certificates[usize::from(!is_good)].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection, as open until the result is dropped.
    pub(super) fn connection(&self) -> Open<'_> {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.connections_open.fetch_add(1, Ordering::Relaxed);
        Open(&self.connections_open)
    }

    /// Connections open now.
    pub(super) fn connections_open(&self) -> u64 {
        self.connections_open.load(Ordering::Relaxed)
    }

    /// Counts an accept that failed for a reason of the process.
    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// All of it as Prometheus text, with the bytes of bodies held now, and when the certificate expires if there is one.
    pub(super) fn text(&self, bytes_held: usize, limits: &Limits, expires: Option<i64>) -> String {
        let mut text = Text(String::new());
        text.family("kymo_http_requests_total", "counter", "Answered requests.");
        for ((endpoint, status), count) in lock(&self.answers).iter() {
            let labels = format!("{{endpoint=\"{}\",code=\"{status}\"}}", endpoint.name());
            text.sample("kymo_http_requests_total", &labels, count);
        }
        text.family("kymo_http_requests_refused_total", "counter", "Requests and connections that were refused.");
        text.each("kymo_http_requests_refused_total", "reason", &REFUSED, &self.refusals);
        text.family("kymo_http_connections_closed_total", "counter", "Connections that the server closed.");
        text.each("kymo_http_connections_closed_total", "reason", &CLOSED, &self.closed);
        text.family("kymo_config_reloads_total", "counter", "Times that the settings were loaded again.");
        text.each("kymo_config_reloads_total", "outcome", &["good", "bad"], &self.reloads);
        text.family("kymo_http_certificate_reloads_total", "counter", "Certificates that were exchanged.");
        text.each("kymo_http_certificate_reloads_total", "outcome", &["good", "bad"], &self.certificates);
        let (name, help) = (CERTIFICATE_EXPIRY, "When the certificate expires, in unix seconds.");
        text.family(name, "gauge", help);
        if let Some(expires) = expires {
            text.sample(name, "", expires);
        }
        text.histogram("kymo_http_write_seconds", "Time from a write's head to its durable answer.", &self.writes);
        text.histogram("kymo_http_query_seconds", "Time from a query to the begin of its answer.", &self.queries);
        text.family("kymo_http_lines_accepted_total", "counter", "Lines taken over from writes.");
        text.sample("kymo_http_lines_accepted_total", "", self.accepted.load(Ordering::Relaxed));
        text.family("kymo_http_lines_refused_total", "counter", "Lines of writes that were refused.");
        for (reason, count) in lock(&self.refused).iter() {
            text.sample("kymo_http_lines_refused_total", &format!("{{reason=\"{reason}\"}}"), count);
        }
        text.family("kymo_http_connections_total", "counter", "Connections accepted.");
        text.sample("kymo_http_connections_total", "", self.connections.load(Ordering::Relaxed));
        text.family("kymo_http_connections_open", "gauge", "Connections open now.");
        text.sample("kymo_http_connections_open", "", self.connections_open());
        text.family("kymo_http_accept_errors_total", "counter", "Accepts that failed for lack of resources.");
        text.sample("kymo_http_accept_errors_total", "", self.accept_errors.load(Ordering::Relaxed));
        text.family("kymo_http_body_bytes_held", "gauge", "Bytes of request bodies held now.");
        text.sample("kymo_http_body_bytes_held", "", bytes_held);
        text.family("kymo_http_body_bytes_limit", "gauge", "Bytes of request bodies that may be held.");
        text.sample("kymo_http_body_bytes_limit", "", limits.in_flight);
        text.family("kymo_http_connections_limit", "gauge", "Connections that may be open.");
        text.sample("kymo_http_connections_limit", "", limits.connections);
        text.0
    }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail, here and below.
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").unwrap_or_default();
    }

    /// One sample a value of a label.
    fn each(&mut self, name: &str, label: &str, values: &[&str], counts: &[AtomicU64]) {
        for (value, count) in values.iter().zip(counts) {
            self.sample(name, &format!("{{{label}=\"{value}\"}}"), count.load(Ordering::Relaxed));
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let mut count = 0;
        for (bound, bucket) in BOUNDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]).zip(&histogram.buckets) {
            count += bucket.load(Ordering::Relaxed);
            self.sample(&format!("{name}_bucket"), &format!("{{le=\"{bound}\"}}"), count);
        }
        let seconds = Duration::from_nanos(histogram.nanos.load(Ordering::Relaxed)).as_secs_f64();
        self.sample(&format!("{name}_sum"), "", seconds);
        self.sample(&format!("{name}_count"), "", count);
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl Display) {
        writeln!(self.0, "{name}{labels} {value}").unwrap_or_default();
    }
}

/// Adds one to the counter of a name.
fn count(names: &[&str], counts: &[AtomicU64], name: &str) {
    let at = names.iter().position(|known| *known == name);
    debug_assert!(at.is_some(), "{name} is not counted");
    if let Some(count) = at.and_then(|at| counts.get(at)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counters stay good when a thread panicked while it counted.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_buckets_are_cumulative_and_include_their_bound() {
        let metrics = Metrics::default();
        for millis in [1, 2, 3, 9000] {
            metrics.write_took(Duration::from_millis(millis));
        }
        let text = metrics.text(0, &Limits::default(), None);
        for line in ["{le=\"0.001\"} 1\n", "{le=\"0.002\"} 2\n", "{le=\"5\"} 3\n", "{le=\"+Inf\"} 4\n"] {
            assert!(text.contains(&format!("kymo_http_write_seconds_bucket{line}")), "{text}");
        }
        assert!(text.contains("kymo_http_write_seconds_count 4\n"));
    }

    #[test]
    fn every_reason_is_described() {
        let description = include_str!("../../docs/metrics.md");
        for reason in REFUSED.iter().chain(&CLOSED) {
            assert!(description.contains(&format!("`{reason}`")), "docs/metrics.md does not know {reason}");
        }
    }

    #[test]
    fn connections_are_open_while_they_live() {
        let metrics = Metrics::default();
        let open = metrics.connection();
        assert!(metrics.text(0, &Limits::default(), None).contains("kymo_http_connections_open 1\n"));
        drop(open);
        let text = metrics.text(7, &Limits::default(), None);
        assert!(text.contains("kymo_http_connections_open 0\n") && text.contains("kymo_http_connections_total 1\n"));
        assert!(text.contains("kymo_http_body_bytes_held 7\n"));
    }
}
