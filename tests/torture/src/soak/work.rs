//! What is written, and what of it is acknowledged.
//!
//! Every value is a function of its place and minute, so nothing has to be remembered but how far the writers are. Values
//! are whole numbers: sums over the components of a host are exact, and one sum speaks for all of them. Not the workload
//! of `kymo bench`, whose lines are missing now and then, and whose values a sum would round.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Hosts of the cluster. Each sends a body a minute.
pub(super) const HOSTS: u32 = 64;
pub(super) const CLUSTER: &str = "soak";
pub(super) const INTERVAL: i64 = 60;
pub(super) const MINUTES_A_DAY: u64 = 1440;
/// Metrics with the kind and the number of their components; those of the node have none.
pub(super) const METRICS: [(&str, Option<(&str, u32)>); 19] = [
    ("cpu_load", None),
    ("cpu_user", None),
    ("cpu_system", None),
    ("mem_used", None),
    ("mem_cached", None),
    ("net_bytes_in", None),
    ("net_bytes_out", None),
    ("ib_recv", None),
    ("ib_xmit", None),
    ("lustre_read_bw", None),
    ("mem_bw", Some(("socket", 2))),
    ("cpu_power", Some(("socket", 2))),
    ("mem_power", Some(("socket", 2))),
    ("temperature", Some(("socket", 2))),
    ("flops_any", Some(("hwthread", 72))),
    ("flops_dp", Some(("hwthread", 72))),
    ("ipc", Some(("hwthread", 72))),
    ("clock", Some(("hwthread", 72))),
    ("vector_ratio", Some(("hwthread", 72))),
];

pub(super) fn host_name(host: u32) -> String {
    format!("n{host:03}")
}

/// The value of a component of a metric (an index of [`METRICS`]) at a host in a minute.
pub(super) fn value(metric: usize, component: u32, host: u32, minute: u64) -> u16 {
    let place = (metric as u64) << 56 | u64::from(component) << 44 | u64::from(host) << 32 | minute;
    let mixed = (place ^ (place >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 48) as u16
}

/// What all components of a metric are in sum.
pub(super) fn sum(metric: usize, host: u32, minute: u64) -> f64 {
    let components = METRICS[metric].1.map_or(1, |(_, count)| count);
    f64::from((0..components).map(|component| u32::from(value(metric, component, host, minute))).sum::<u32>())
}

/// Writes bodies.
#[derive(Debug)]
pub(super) struct Bodies {
    /// The first minute, in unix seconds.
    begin: i64,
    /// Metric, component, what stands in front of the host's name, and what follows it up to the value.
    lines: Vec<(usize, u32, String, String)>,
}

impl Bodies {
    pub(super) fn new(begin: i64) -> Self {
        let mut lines = Vec::new();
        for (index, (metric, components)) in METRICS.iter().enumerate() {
            let (kind, count) = components.unwrap_or(("node", 1));
            for id in 0..count {
                let id_tag = if components.is_some() { format!(",type-id={id}") } else { String::new() };
                let front = format!("{metric},cluster={CLUSTER},hostname=");
                lines.push((index, id, front, format!(",type={kind}{id_tag} value=")));
            }
        }
        Self { begin, lines }
    }

    /// Samples of one body.
    pub(super) fn samples(&self) -> u64 {
        self.lines.len() as u64
    }

    pub(super) fn time(&self, minute: u64) -> i64 {
        self.begin + minute.cast_signed() * INTERVAL
    }

    /// What body `number` says.
    pub(super) fn write(&self, number: u64, body: &mut String) {
        let (host, minute) = place(number);
        let (name, time) = (host_name(host), self.time(minute));
        body.clear();
        for (metric, component, front, back) in &self.lines {
            let value = value(*metric, *component, host, minute);
            // Writing to a string does not fail.
            writeln!(body, "{front}{name}{back}{value} {time}").ok();
        }
    }
}

/// Host and minute of a body.
fn place(number: u64) -> (u32, u64) {
    // The remainder fits: there are few hosts.
    (u32::try_from(number % u64::from(HOSTS)).unwrap_or_default(), number / u64::from(HOSTS))
}

/// Which bodies are acknowledged: those that were taken and are not open.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// On their way.
    open: BTreeSet<u64>,
    /// Whose answer did not come: they are sent again.
    again: BTreeSet<u64>,
}

impl State {
    /// Below this all bodies are acknowledged.
    fn complete(&self) -> u64 {
        [self.open.first(), self.again.first()].into_iter().flatten().copied().min().unwrap_or(self.next)
    }
}

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next body to send.
    pub(super) fn take(&self) -> u64 {
        let mut state = self.lock();
        let number = state.again.pop_first().unwrap_or_else(|| {
            state.next += 1;
            state.next - 1
        });
        state.open.insert(number);
        number
    }

    pub(super) fn acknowledge(&self, number: u64) {
        self.lock().open.remove(&number);
    }

    /// Nobody knows whether it was stored.
    pub(super) fn give_up(&self, number: u64) {
        let mut state = self.lock();
        state.open.remove(&number);
        state.again.insert(number);
    }

    /// Below this minute everything of all hosts is acknowledged.
    pub(super) fn complete_minutes(&self) -> u64 {
        self.lock().complete() / u64::from(HOSTS)
    }

    /// Whether the body of this host and minute is acknowledged.
    pub(super) fn is_acknowledged(&self, host: u32, minute: u64) -> bool {
        let (number, state) = (minute * u64::from(HOSTS) + u64::from(host), self.lock());
        number < state.next && !state.open.contains(&number) && !state.again.contains(&number)
    }

    /// The minute of the next new body.
    pub(super) fn minute(&self) -> u64 {
        self.lock().next / u64::from(HOSTS)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        let state = self.lock();
        state.next - (state.open.len() + state.again.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_or_failed_is_not_acknowledged_and_is_sent_again_first() {
        let ledger = Ledger::default();
        let numbers: Vec<u64> = (0..u64::from(HOSTS) + 2).map(|_| ledger.take()).collect();
        for &number in numbers.iter().filter(|number| **number != 3) {
            ledger.acknowledge(number);
        }
        assert_eq!((ledger.complete_minutes(), ledger.acknowledged()), (0, numbers.len() as u64 - 1));
        assert!(!ledger.is_acknowledged(3, 0) && ledger.is_acknowledged(4, 0) && !ledger.is_acknowledged(2, 1));
        ledger.give_up(3);
        assert_eq!((ledger.complete_minutes(), ledger.take()), (0, 3));
        ledger.acknowledge(3);
        assert_eq!((ledger.complete_minutes(), ledger.minute()), (1, 1));
    }

    #[test]
    fn a_body_has_a_line_a_series_and_the_values_of_its_place() {
        let bodies = Bodies::new(1_700_000_040);
        let mut body = String::new();
        bodies.write(u64::from(HOSTS) * 5 + 7, &mut body);
        assert_eq!((bodies.samples(), body.lines().count()), (378, 378));
        let line = format!(
            "temperature,cluster=soak,hostname=n007,type=socket,type-id=1 value={} 1700000340",
            value(13, 1, 7, 5)
        );
        assert!(body.lines().any(|found| found == line), "{line}\n{body}");
        let sum: u32 = (0..2).map(|id| u32::from(value(13, id, 7, 5))).sum();
        assert_eq!(super::sum(13, 7, 5).to_bits(), f64::from(sum).to_bits());
    }
}
