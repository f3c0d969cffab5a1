//! The figures of a run, for people and as JSON.

use super::connections::Run;
use super::{BenchError, Load, process};
use crate::tools::out::{Object, stdout, unless_closed};
use std::io::Write as _;
use std::time::Duration;

/// What server and load tool had cost before a run.
#[derive(Debug)]
pub(super) struct Costs {
    server: Option<(u32, Duration)>,
    own: Duration,
}

impl Costs {
    pub(super) fn now(load: &Load) -> Result<Self, BenchError> {
        let server = load.pid.map(|pid| Ok::<_, BenchError>((pid, of(pid)?))).transpose()?;
        Ok(Self { server, own: of(std::process::id())? })
    }

    /// What both have cost since: the server, this process.
    fn since(&self) -> Result<(Option<Duration>, Duration), BenchError> {
        let server =
            self.server.map(|(pid, before)| Ok::<_, BenchError>(of(pid)?.saturating_sub(before))).transpose()?;
        Ok((server, of(std::process::id())?.saturating_sub(self.own)))
    }
}

fn of(pid: u32) -> Result<Duration, BenchError> {
    process::cpu_time(pid).map_err(|source| BenchError::Process { pid, source })
}

/// What is counted: `samples` of a write, `points` of a query.
pub(super) struct Report<'a> {
    pub(super) name: &'a str,
    pub(super) unit: &'a str,
}

impl Report<'_> {
    /// Prints the figures of a run.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(super) fn print(&self, load: &Load, run: Run, costs: &Costs) -> Result<(), BenchError> {
        let (server, own) = costs.since()?;
        let Run { samples, elapsed } = run;
        let count: u64 = samples.iter().map(|sample| sample.count).sum();
        let bytes: u64 = samples.iter().map(|sample| sample.bytes).sum();
        let mut latencies: Vec<Duration> = samples.iter().map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let seconds = elapsed.as_secs_f64();
        let millis = |part: f64| percentile(&latencies, part).as_secs_f64() * 1e3;
        let [p50, p90, p99, p999, most] = [0.5, 0.9, 0.99, 0.999, 1.0].map(millis);
        let per_million = |cost: Duration| cost.as_secs_f64() / (count as f64 / 1e6);
        let requests = latencies.len();
        let mut out = stdout();
        let written = if load.json {
            (|| {
                let mut object = Object::begin(&mut out)?;
                object.field("name", self.name)?;
                object.field("requests", requests)?;
                object.field(self.unit, count)?;
                object.field("body_bytes", bytes)?;
                object.field("seconds", seconds)?;
                object.field(&format!("{}_per_second", self.unit), count as f64 / seconds)?;
                object.field("latency_p50_ms", p50)?;
                object.field("latency_p90_ms", p90)?;
                object.field("latency_p99_ms", p99)?;
                object.field("latency_p999_ms", p999)?;
                object.field("latency_max_ms", most)?;
                object.field("server_cpu_seconds", server.map(|cost| cost.as_secs_f64()))?;
                object.field(&format!("server_cpu_seconds_per_million_{}", self.unit), server.map(per_million))?;
                object.field("client_cpu_seconds", own.as_secs_f64())?;
                object.end()?;
                writeln!(out)
            })()
        } else {
            let server = server.map_or_else(String::new, |cost| {
                format!(", server CPU {:.3} s = {:.3} s a million", cost.as_secs_f64(), per_million(cost))
            });
            writeln!(
                out,
                "{}: {requests} requests, {count} {} in {seconds:.2} s = {:.0}/s; latency ms p50 {p50:.2} p90 {p90:.2} \
                 p99 {p99:.2} p99.9 {p999:.2} max {most:.2}{server}, own CPU {:.3} s",
                self.name,
                self.unit,
                count as f64 / seconds,
                own.as_secs_f64(),
            )
        };
        Ok(unless_closed(written.and_then(|()| out.flush()))?)
    }
}

/// The latency that this part of all requests did not exceed (nearest rank).
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
pub(super) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_met() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        let millis = |part| percentile(&sorted, part).as_millis();
        assert_eq!([millis(0.5), millis(0.99), millis(0.999), millis(1.0)], [100, 198, 200, 200]);
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}
