//! Threads that take the next request, send it and note how long its answer took.

use super::{BenchError, Load, Sample};
use crate::client::{Answer, Client, Target};
use kymo_engine::env::{Env as _, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A run: what its requests were and how long all of them took.
#[derive(Debug, Default)]
pub(super) struct Run {
    pub(super) samples: Vec<Sample>,
    pub(super) elapsed: Duration,
}

/// Sends `requests` requests over the connections of the load. `prepare` makes the body of a request by its number and
/// says what it counts for; `count` may look at the answer instead. The first refusal ends the run.
pub(super) fn run(
    load: &Load,
    target: &Target,
    requests: u64,
    prepare: impl Fn(u64, &mut Vec<u8>) -> u64 + Sync,
    count: impl Fn(u64, &Answer) -> u64 + Sync,
) -> Result<Run, BenchError> {
    let clock = System::default();
    let next = AtomicU64::new(0);
    let begun = clock.monotonic();
    let connection = || -> Result<Vec<Sample>, BenchError> {
        let server = |source| BenchError::Server { url: load.url.clone(), source };
        let mut client = Client::connect(target.addr()).map_err(server)?;
        let (mut body, mut samples) = (Vec::new(), Vec::new());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                return Ok(samples);
            }
            body.clear();
            let prepared = prepare(number, &mut body);
            let due = load.rate.map_or_else(|| clock.monotonic(), |rate| begun + due(number, rate));
            // An open loop: a request that is late because others were slow is late from when it was due.
            thread::sleep(due.saturating_sub(clock.monotonic()));
            let answer = client.request(target, &body).map_err(server)?;
            let latency = clock.monotonic().saturating_sub(due);
            if !(200..300).contains(&answer.status) {
                // The others end at their next request.
                next.store(requests, Ordering::Relaxed);
                let (status, text) = (answer.status, answer.text());
                return Err(BenchError::Refused { url: load.url.clone(), status, text });
            }
            let bytes = (body.len() + answer.body.len()) as u64;
            samples.push(Sample { latency, count: count(prepared, &answer), bytes });
        }
    };
    let samples = thread::scope(|scope| {
        let threads: Vec<_> = (0..load.connections.max(1)).map(|_| scope.spawn(connection)).collect();
        let ended =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        ended.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(Run { samples: samples.concat(), elapsed: clock.monotonic().saturating_sub(begun) })
}

/// When a request is due, from the begin of the run.
#[expect(clippy::cast_precision_loss, reason = "requests of a run are far below 2^53")]
fn due(number: u64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(number as f64 / rate).unwrap_or(Duration::MAX)
}
