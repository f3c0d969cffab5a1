//! What a cluster sends: 378 series a host (10 of the node, 4 of each of 2 sockets, 5 of each of 72 hardware threads),
//! every 60 seconds, in lines of about 87 bytes, 2 % of which are missing.
//!
//! A body is a function of host and minute: the same in every run, on every machine.

use kymo_engine::model::{Aggregation, Metric, Metrics};
use std::io::Write as _;

/// Series of one host.
pub(crate) const SERIES: u32 = 378;
/// Seconds between two samples of a series.
pub(crate) const INTERVAL: u32 = 60;
/// The cluster of every host.
pub(crate) const CLUSTER: &str = "fritz";

pub(crate) const NODE_METRICS: [&str; 10] = [
    "cpu_load",
    "cpu_user",
    "cpu_system",
    "mem_used",
    "mem_cached",
    "net_bytes_in",
    "net_bytes_out",
    "ib_recv",
    "ib_xmit",
    "lustre_read_bw",
];
const SOCKET_METRICS: [&str; 4] = ["mem_bw", "cpu_power", "mem_power", "temperature"];
pub(crate) const THREAD_METRICS: [&str; 5] = ["flops_any", "flops_dp", "ipc", "clock", "vector_ratio"];
const SOCKETS: u32 = 2;
const THREADS: u32 = 72;
/// One line of this many is missing.
const MISSING_EVERY: u64 = 50;
/// The first minute, in unix seconds.
const BEGIN: i64 = 1_700_000_040;

/// The senders of a cluster.
#[derive(Debug)]
pub(crate) struct Senders {
    /// Per series what stands in front of the host's name and what follows up to the value.
    lines: Vec<(String, String)>,
}

impl Default for Senders {
    fn default() -> Self {
        let node = NODE_METRICS.iter().map(|metric| (metric, "node".to_owned()));
        let socket =
            (0..SOCKETS).flat_map(|id| SOCKET_METRICS.iter().map(move |metric| (metric, component("socket", id))));
        let thread =
            (0..THREADS).flat_map(|id| THREAD_METRICS.iter().map(move |metric| (metric, component("hwthread", id))));
        let line = |(metric, component): (&&str, String)| {
            (format!("{metric},cluster={CLUSTER},hostname="), format!(",type={component} value="))
        };
        Self { lines: node.chain(socket).chain(thread).map(line).collect() }
    }
}

fn component(kind: &str, id: u32) -> String {
    format!("{kind},type-id={id}")
}

impl Senders {
    /// Appends what a host sends in a minute; returns how many lines that is.
    pub(crate) fn body(&self, host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
        append(&self.lines, host, minute, out)
    }

    /// Appends only the lines of the node itself: a small body.
    pub(crate) fn node_body(&self, host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
        append(&self.lines[..NODE_METRICS.len()], host, minute, out)
    }
}

fn append(lines: &[(String, String)], host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
    let mut random = SplitMix((u64::from(host) << 32) | u64::from(minute));
    let name = host_name(host);
    // Hosts do not send at the same second, but each keeps its own.
    let end = format!(" {}\n", time(minute) + i64::from(host % INTERVAL));
    let mut count = 0;
    for (front, back) in lines {
        let draw = random.next();
        if draw.is_multiple_of(MISSING_EVERY) {
            continue;
        }
        count += 1;
        let hundredths = (draw >> 32) % 1_000_000;
        for part in [front.as_str(), &name, back] {
            out.extend_from_slice(part.as_bytes());
        }
        write!(out, "{}.{:02}", hundredths / 100, hundredths % 100).expect("memory takes every byte");
        out.extend_from_slice(end.as_bytes());
    }
    count
}

/// The name of a host.
pub(crate) fn host_name(host: u32) -> String {
    format!("f{host:04}")
}

/// When a minute begins, in unix seconds.
pub(crate) fn time(minute: u32) -> i64 {
    BEGIN + i64::from(minute * INTERVAL)
}

/// The metrics that the senders send.
pub(crate) fn metrics() -> Metrics {
    let metric = |name: &&str, aggregation| Metric { name: (*name).into(), frequency: INTERVAL, aggregation };
    let node = NODE_METRICS.iter().map(|name| metric(name, Aggregation::None));
    let socket = SOCKET_METRICS.iter().map(|name| metric(name, Aggregation::Sum));
    let thread = THREAD_METRICS.iter().map(|name| metric(name, Aggregation::Sum));
    Metrics::new(node.chain(socket).chain(thread).collect()).expect("the names differ and the interval is a minute")
}

/// The generator of Steele, Lea and Flood: one addition and one mix a number, good for any seed.
#[derive(Debug)]
pub(crate) struct SplitMix(pub(crate) u64);

impl SplitMix {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.next() % u64::from(bound)).expect("it is below a u32")
    }
}
