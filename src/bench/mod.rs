//! `kymo bench`: the load of a cluster against a running server, this one or another that takes line protocol.
//!
//! The workload is a function of host and minute ([`workload`]), so two servers can be given the same. A connection is a
//! thread that sends a request and waits for its answer; the process costs less than the server that it loads, and says
//! what it cost. It judges an answer by its status only.

mod checkpoints;
mod config;
mod connections;
mod process;
mod query;
mod report;
mod restart;
pub mod workload;
mod write;

pub use checkpoints::run as checkpoints;
pub use config::print as print_config;
pub use query::{Shape, run as query};
pub use restart::{Restart, run as restart};
pub use write::run as write;

use std::io;
use std::time::Duration;

/// Where the load goes, and how much of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The address of the endpoint: `http://host:port/path`.
    pub url: String,
    /// Sent as a bearer token.
    pub token: Option<String>,
    /// Hosts of the cluster.
    pub hosts: u32,
    /// Minutes of data, one sample a series and minute; the last is the minute before now.
    pub minutes: u32,
    /// The first minute in unix seconds, instead of the one that makes the last minute end now.
    pub begin: Option<i64>,
    /// Connections, a thread each.
    pub connections: usize,
    /// Requests a second over all connections, whether or not answers keep up; without it each connection sends when it
    /// has its answer.
    pub rate: Option<f64>,
    /// The process of the server, to tell what it costs.
    pub pid: Option<u32>,
    /// Whether to print JSON.
    pub json: bool,
}

/// What only writing needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteShape {
    /// Hosts in one request.
    pub hosts_per_body: u32,
    /// Whether all hosts send all their series every minute, instead of missing 2 % of them.
    pub alike: bool,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The server cannot be reached, or answers with what is no HTTP.
    #[error("{url}: {source}")]
    Server {
        /// Where.
        url: String,
        /// Why.
        source: io::Error,
    },
    /// The server refused a request.
    #[error("{url} answered {status}: {text}")]
    Refused {
        /// Where.
        url: String,
        /// The status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// The process of the server cannot be looked at.
    #[error("process {pid}: {source}")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        source: io::Error,
    },
    /// Stdout cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What one request was.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// From when it was due to the last byte of its answer.
    latency: Duration,
    /// Samples written, or points read.
    count: u64,
    /// Bytes of the bodies, both ways.
    bytes: u64,
}
