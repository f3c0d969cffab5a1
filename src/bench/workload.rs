//! What a cluster sends: 378 series a host (10 of the node, 4 of each of 2 sockets, 5 of each of 72 hardware threads),
//! every 60 seconds, in lines of about 87 bytes, 2 % of which are missing.
//!
//! A body is a function of host and minute: the same in every run, on every machine.

use kymo_engine::model::{Aggregation, Metric, Metrics};

/// Series of one host.
pub const SERIES: u32 = 378;
/// Seconds between two samples of a series.
pub const INTERVAL: u32 = 60;
/// The cluster of every host.
pub const CLUSTER: &str = "fritz";

/// The metrics of a node.
pub const NODE_METRICS: [&str; 10] = [
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
/// The metrics of a hardware thread.
pub const THREAD_METRICS: [&str; 5] = ["flops_any", "flops_dp", "ipc", "clock", "vector_ratio"];
const SOCKETS: u32 = 2;
const THREADS: u32 = 72;
/// One line of this many is missing.
pub(super) const MISSING_EVERY: u64 = 50;
/// The first minute, in unix seconds.
const BEGIN: i64 = 1_700_000_040;

/// The senders of a cluster.
#[derive(Debug)]
pub struct Senders {
    /// The first minute, in unix seconds.
    begin: i64,
    /// Per series what stands in front of the host's name and what follows up to the value.
    lines: Vec<(String, String)>,
    /// Whether every line is there, so that all hosts have the same series from the first minute on.
    is_complete: bool,
}

impl Default for Senders {
    fn default() -> Self {
        Self::since(BEGIN)
    }
}

impl Senders {
    /// Senders whose minute 0 is this time, in unix seconds.
    pub fn since(begin: i64) -> Self {
        let node = NODE_METRICS.iter().map(|metric| (metric, "node".to_owned()));
        let socket =
            (0..SOCKETS).flat_map(|id| SOCKET_METRICS.iter().map(move |metric| (metric, component("socket", id))));
        let thread =
            (0..THREADS).flat_map(|id| THREAD_METRICS.iter().map(move |metric| (metric, component("hwthread", id))));
        let line = |(metric, component): (&&str, String)| {
            (format!("{metric},cluster={CLUSTER},hostname="), format!(",type={component} value="))
        };
        Self { begin, lines: node.chain(socket).chain(thread).map(line).collect(), is_complete: false }
    }

    /// The same, or senders that leave no line out.
    #[must_use]
    pub fn complete(self, is_complete: bool) -> Self {
        Self { is_complete, ..self }
    }
}

fn component(kind: &str, id: u32) -> String {
    format!("{kind},type-id={id}")
}

impl Senders {
    /// Appends what a host sends in a minute; returns how many lines that is.
    pub fn body(&self, host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
        self.append(&self.lines, host, minute, out)
    }

    /// Appends only the lines of the node itself: a small body.
    pub fn node_body(&self, host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
        self.append(&self.lines[..NODE_METRICS.len()], host, minute, out)
    }

    fn append(&self, lines: &[(String, String)], host: u32, minute: u32, out: &mut Vec<u8>) -> u64 {
        let mut random = SplitMix((u64::from(host) << 32) | u64::from(minute));
        let name = host_name(host);
        // Hosts do not send at the same second, but each keeps its own.
        let time = self.begin + i64::from(minute * INTERVAL) + i64::from(host % INTERVAL);
        let end = format!(" {time}\n");
        let mut count = 0;
        for (front, back) in lines {
            let draw = random.draw();
            if !self.is_complete && draw.is_multiple_of(MISSING_EVERY) {
                continue;
            }
            count += 1;
            for part in [front.as_str(), &name, back] {
                out.extend_from_slice(part.as_bytes());
            }
            push_hundredths((draw >> 32) % 1_000_000, out);
            out.extend_from_slice(end.as_bytes());
        }
        count
    }
}

/// Appends a number below 10,000 that is given in hundredths, with two decimals. The machinery of `format!` would cost the
/// load tool more than the server takes to read it.
fn push_hundredths(hundredths: u64, out: &mut Vec<u8>) {
    let mut digits = *b"0000.00";
    let mut rest = hundredths;
    for at in [6, 5, 3, 2, 1, 0] {
        digits[at] += u8::try_from(rest % 10).expect("it is a digit");
        rest /= 10;
    }
    let begin = digits[..3].iter().position(|&digit| digit != b'0').unwrap_or(3);
    out.extend_from_slice(&digits[begin..]);
}

/// The name of a host.
pub fn host_name(host: u32) -> String {
    format!("f{host:04}")
}

/// When a minute begins, in unix seconds.
pub fn time(minute: u32) -> i64 {
    BEGIN + i64::from(minute * INTERVAL)
}

/// Metric and component of the series of a host.
pub(super) fn component_names() -> impl Iterator<Item = (&'static str, String)> {
    let node = NODE_METRICS.iter().map(|&metric| (metric, String::new()));
    let of = |count, metrics: &'static [&'static str], kind: &'static str| {
        (0..count).flat_map(move |id| metrics.iter().map(move |&metric| (metric, format!("{kind}{id}"))))
    };
    node.chain(of(SOCKETS, &SOCKET_METRICS, "socket")).chain(of(THREADS, &THREAD_METRICS, "hwthread"))
}

/// The metrics that the senders send.
///
/// # Panics
///
/// Never: the names differ.
pub fn metrics() -> Metrics {
    let metric = |name: &&str, aggregation| Metric { name: (*name).into(), frequency: INTERVAL, aggregation };
    let node = NODE_METRICS.iter().map(|name| metric(name, Aggregation::None));
    let socket = SOCKET_METRICS.iter().map(|name| metric(name, Aggregation::Sum));
    let thread = THREAD_METRICS.iter().map(|name| metric(name, Aggregation::Sum));
    Metrics::new(node.chain(socket).chain(thread).collect()).expect("the names differ and the interval is a minute")
}

/// The generator of Steele, Lea and Flood: one addition and one mix a number, good for any seed.
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    ///
    /// # Panics
    ///
    /// With a bound of 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.draw() % u64::from(bound)).expect("it is below a u32")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_two_decimals_and_no_zeros_in_front() {
        for (hundredths, text) in [(0, "0.00"), (7, "0.07"), (100, "1.00"), (12_345, "123.45"), (999_999, "9999.99")] {
            let mut out = Vec::new();
            push_hundredths(hundredths, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_body_is_the_same_each_time_and_another_one_for_another_host_or_minute() {
        let body = |host, minute| {
            let mut out = Vec::new();
            let lines = Senders::default().body(host, minute, &mut out);
            assert_eq!(memchr::memchr_iter(b'\n', &out).count() as u64, lines);
            assert!((300..=u64::from(SERIES)).contains(&lines));
            out
        };
        assert_eq!(body(3, 7), body(3, 7));
        assert_ne!(body(3, 7), body(4, 7));
        assert_ne!(body(3, 7), body(3, 8));
    }

    #[test]
    fn complete_senders_leave_no_line_out() {
        let lines = |host| Senders::default().complete(true).body(host, 0, &mut Vec::new());
        assert!((0..50).all(|host| lines(host) == u64::from(SERIES)));
    }
}
