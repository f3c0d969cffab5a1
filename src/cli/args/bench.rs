//! The arguments of `kymo bench`.

use super::Command;
use crate::bench::{Load, Restart, Shape, WriteShape};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What `kymo bench` does.
#[derive(Clone, Debug, PartialEq)]
pub enum Bench {
    /// Print a configuration with the metrics of the workload.
    Config {
        /// The data directory that it names.
        directory: String,
    },
    /// Write checkpoints of the predecessor with the workload.
    Checkpoints {
        /// Where to.
        directory: PathBuf,
        /// Hosts.
        hosts: u32,
        /// Minutes of each.
        minutes: u32,
    },
    /// Send the workload.
    Write {
        /// Where to, and how much.
        load: Load,
        /// How it is cut into requests.
        shape: WriteShape,
    },
    /// Ask for what was sent.
    Query {
        /// Whom, and what was sent.
        load: Load,
        /// What is asked; nothing means all.
        shapes: Vec<Shape>,
        /// Requests of each shape.
        requests: u64,
    },
    /// Start a server again and again.
    Restart(Restart),
}

#[derive(Debug, Subcommand)]
pub(super) enum BenchSub {
    /// Print a configuration of kymo with the metrics of the workload
    Config {
        /// The data directory that it names
        #[arg(long, value_name = "DIR", default_value = "./var/bench")]
        directory: String,
    },
    /// Write checkpoints of cc-metric-store with 378 series a host and minute, for `kymo import`
    Checkpoints {
        /// Where to
        directory: PathBuf,
        /// Hosts of the cluster
        #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        hosts: u32,
        /// Minutes of data
        #[arg(long, value_name = "N", default_value_t = 1440, value_parser = clap::value_parser!(u32).range(1..=527_040))]
        minutes: u32,
    },
    /// Send what the hosts of a cluster measure: 378 series a host and minute, in line protocol
    Write {
        #[command(flatten)]
        load: LoadArgs,
        /// Hosts in one request
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        hosts_per_body: u32,

        /// Leave no line out: all hosts have the same series, instead of missing 2 % of them each minute
        #[arg(long)]
        alike: bool,
    },
    /// Ask for it in the four shapes of a front end; hosts and minutes are those that were written
    Query {
        #[command(flatten)]
        load: LoadArgs,
        /// The shapes, q1 to q4; may be repeated [default: all]
        #[arg(long = "shape", value_name = "SHAPE", value_enum)]
        shapes: Vec<Shape>,
        /// Requests of each shape
        #[arg(long, value_name = "N", default_value_t = 1000)]
        requests: u64,
    },
    /// Start kymo, wait until it is ready, kill it (SIGKILL), and again: how long a restart takes, and what it then holds
    Restart {
        /// The configuration of the server, which must not run
        config: PathBuf,
        /// Where it will say that it is ready
        #[arg(long, default_value = "http://127.0.0.1:8082/ready")]
        url: String,
        /// Take the files of this directory out of the page cache before each start
        #[arg(long, value_name = "DIR")]
        cold: Option<PathBuf>,
        /// Starts
        #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
pub(super) struct LoadArgs {
    /// The endpoint, as `http://127.0.0.1:8082/api/write` or `http://127.0.0.1:8086/write?db=kymo`
    url: String,
    /// Sent as a bearer token
    #[arg(long)]
    token: Option<String>,
    /// Hosts of the cluster
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    hosts: u32,
    /// Minutes of data, one sample a series and minute; the last one is just over
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=527_040))]
    minutes: u32,
    /// The first minute in unix seconds, instead of one that lets the last one end now
    #[arg(long, value_name = "TIME")]
    begin: Option<i64>,
    /// Connections, a thread each
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Requests a second in all, whether or not answers keep up [default: each connection waits for its answer]
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    rate: Option<f64>,
    /// The process of the server, to tell what it costs
    #[arg(long)]
    pid: Option<u32>,
    /// Print one JSON document a line
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "it is no number above 0".to_owned())
}

impl From<LoadArgs> for Load {
    fn from(args: LoadArgs) -> Self {
        let LoadArgs { url, token, hosts, minutes, begin, connections, rate, pid, json } = args;
        Self { url, token, hosts, minutes, begin, connections: connections.into(), rate, pid, json }
    }
}

impl From<BenchSub> for Command {
    fn from(sub: BenchSub) -> Self {
        Self::Bench(match sub {
            BenchSub::Config { directory } => Bench::Config { directory },
            BenchSub::Checkpoints { directory, hosts, minutes } => Bench::Checkpoints { directory, hosts, minutes },
            BenchSub::Write { load, hosts_per_body, alike } => {
                Bench::Write { load: load.into(), shape: WriteShape { hosts_per_body, alike } }
            }
            BenchSub::Restart { config, url, cold, rounds, json } => {
                Bench::Restart(Restart { config, url, cold, rounds, json })
            }
            BenchSub::Query { load, shapes, requests } => Bench::Query { load: load.into(), shapes, requests },
        })
    }
}
