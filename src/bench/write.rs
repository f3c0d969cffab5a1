//! Writing: what the hosts send, minute after minute.

use super::report::{Costs, Report};
use super::workload::{INTERVAL, Senders};
use super::{BenchError, Load, WriteShape, connections};
use crate::client::Target;
use kymo_engine::env::{Env as _, System};

/// Sends all minutes of all hosts and prints what it took.
pub fn run(load: &Load, shape: WriteShape) -> Result<(), BenchError> {
    let server = |source| BenchError::Server { url: load.url.clone(), source };
    let target = Target::parse(&load.url, "POST", load.token.as_deref()).map_err(server)?;
    let senders = Senders::since(begin(load)).complete(shape.alike);
    let per_body = shape.hosts_per_body.clamp(1, load.hosts);
    let bodies = load.hosts.div_ceil(per_body);
    let prepare = |number: u64, body: &mut Vec<u8>| {
        // Both fit: there are `bodies` times `load.minutes` requests.
        let [minute, first] = [number / u64::from(bodies), number % u64::from(bodies)]
            .map(|part| u32::try_from(part).unwrap_or(u32::MAX));
        let first = first * per_body;
        (first..load.hosts.min(first + per_body)).map(|host| senders.body(host, minute, body)).sum()
    };
    let requests = u64::from(bodies) * u64::from(load.minutes);
    let costs = Costs::now(load)?;
    let run = connections::run(load, &target, requests, prepare, |lines, _| lines)?;
    Report { name: "write", unit: "samples" }.print(load, run, &costs)
}

/// The first minute: the last one is the minute before now, where nothing else is said.
pub(super) fn begin(load: &Load) -> i64 {
    let interval = i64::from(INTERVAL);
    load.begin.unwrap_or_else(|| {
        let now = System::default().unix_now();
        now - now.rem_euclid(interval) - i64::from(load.minutes) * interval
    })
}
