//! The settings of the section `storage`, which the predecessor does not have.

use std::{path::PathBuf, time::Duration};

use kymo_engine::store;

use crate::http;

/// How and where data are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The directory of the store.
    pub directory: PathBuf,
    /// When a write is acknowledged.
    pub durability: Durability,
    /// Bytes that the log may have before its rows go into snapshots: what a restart replays at most. Rows take at
    /// most four times as many in memory, and 64 MiB. Raised by itself to four times the live definitions.
    pub log_bound: usize,
    /// How far behind the clock a sample may lie; never more than the retention.
    pub late_window: Duration,
    /// How far ahead of the clock a sample may lie.
    pub skew: Duration,
    /// The way to the disk.
    pub io: IoKind,
    /// The token that `main.backend-url` is asked with.
    pub backend_token: Option<String>,
    /// Authorities (PEM) that `main.backend-url` may have its certificate from, beside those of the system.
    pub backend_ca_file: Option<PathBuf>,
    /// Bounds of a request and of the store.
    pub limits: Limits,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            directory: "./var/kymo".into(),
            durability: Durability::default(),
            log_bound: 64 << 20,
            late_window: Duration::from_hours(24),
            skew: Duration::from_hours(1),
            io: IoKind::default(),
            backend_token: None,
            backend_ca_file: None,
            limits: Limits::default(),
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its samples are on the device.
    #[default]
    Sync,
    /// At once; samples are on the device at most this much later (1 ms to 60 s). A power cut loses that window.
    Interval(Duration),
}

/// The way to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoKind {
    /// `io_uring` where the kernel allows it, otherwise `posix`.
    #[default]
    Auto,
    /// `io_uring` or nothing.
    IoUring,
    /// `pwritev2` and `fdatasync`.
    Posix,
}

impl IoKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Auto, Self::IoUring, Self::Posix];

    /// The name in the file and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::IoUring => "io_uring",
            Self::Posix => "posix",
        }
    }
}

/// A name that no way to the disk has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of auto, io_uring, posix")]
pub struct UnknownIoKind;

impl std::str::FromStr for IoKind {
    type Err = UnknownIoKind;

    fn from_str(name: &str) -> Result<Self, UnknownIoKind> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(UnknownIoKind)
    }
}

/// Bounds of a request and of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body of a write in bytes.
    pub body: usize,
    /// The longest body of a write after it was decompressed, in bytes.
    pub decoded_body: usize,
    /// The longest line in bytes.
    pub line: usize,
    /// Lines of a write.
    pub lines: usize,
    /// Hosts in the store.
    pub hosts: usize,
    /// Series of one host.
    pub series_per_host: usize,
    /// Series in the store.
    pub series: usize,
    /// Open connections.
    pub connections: usize,
    /// Open connections of one address.
    pub connections_per_peer: usize,
    /// Requests of one address in a second; 0 is no limit.
    pub requests_per_second: u32,
    /// Points of one series of an answer.
    pub query_points: usize,
    /// Points of an answer in sum.
    pub request_points: u64,
    /// Queries that are evaluated at one time.
    pub queries: usize,
    /// How long the queries of one request may be evaluated. Looked at between two parts of a query.
    pub query_timeout: Duration,
    /// Bytes of bodies held at one time, those of writes until they are durable; at least `body` and `decoded_body`.
    pub in_flight: usize,
    /// The time in which the head of a request must have arrived.
    pub head_timeout: Duration,
    /// The time in which its body must have arrived.
    pub body_timeout: Duration,
    /// The time after which a silent connection is closed.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    /// What those who keep the limits take by themselves.
    fn default() -> Self {
        let (http, store) = (http::Limits::default(), store::Limits::default());
        Self {
            body: http.body,
            decoded_body: http.decoded_body,
            line: store.decode.line_bytes,
            lines: http.lines,
            hosts: store.hosts,
            series_per_host: store.series_per_host,
            series: store.series,
            connections: http.connections,
            connections_per_peer: http.connections_per_peer,
            requests_per_second: http.requests_per_second,
            query_points: store.query_points,
            request_points: http.request_points,
            queries: http.queries,
            query_timeout: http.query_time,
            in_flight: http.in_flight,
            head_timeout: http.head,
            body_timeout: http.body_time,
            idle_timeout: http.idle,
        }
    }
}
