//! Asking: the four shapes of queries that a front end sends.

use super::report::{Costs, Report};
use super::workload::{CLUSTER, INTERVAL, NODE_METRICS, SplitMix, THREAD_METRICS, host_name};
use super::{BenchError, Load, connections, write};
use crate::client::{Answer, Target};
use serde_json::{Value, json};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// One host, one metric, the latest hour.
    Q1,
    /// One host, its 72 hardware threads summed, all that is there.
    Q2,
    /// 64 hosts, 5 metrics of the node, half of what is there, with statistics.
    Q3,
    /// All hosts, one metric, the latest hour.
    Q4,
}

impl Shape {
    const ALL: [Self; 4] = [Self::Q1, Self::Q2, Self::Q3, Self::Q4];

    fn name(self) -> &'static str {
        match self {
            Self::Q1 => "Q1 one host, one metric, 1 h",
            Self::Q2 => "Q2 one host, 72 hardware threads summed",
            Self::Q3 => "Q3 64 hosts, 5 metrics, half of the time",
            Self::Q4 => "Q4 all hosts, one metric, 1 h",
        }
    }

    /// The request; another host and metric each time.
    fn request(self, load: &Load, random: &mut SplitMix) -> Value {
        let to = write::begin(load) + i64::from(load.minutes * INTERVAL);
        let minutes = match self {
            Self::Q1 | Self::Q4 => load.minutes.min(60),
            Self::Q2 => load.minutes,
            Self::Q3 => load.minutes.div_ceil(2),
        };
        let host = host_name(random.below(load.hosts));
        let mut request = json!({ "cluster": CLUSTER, "from": to - i64::from(minutes * INTERVAL), "to": to });
        let (key, value) = match self {
            Self::Q1 => ("queries", json!([{ "metric": NODE_METRICS[random.below(10) as usize], "host": host }])),
            Self::Q2 => ("queries", json!([{ "metric": THREAD_METRICS[random.below(5) as usize], "host": host }])),
            Self::Q3 => {
                let query = |host| {
                    NODE_METRICS[..5].iter().map(move |metric| json!({ "metric": metric, "host": host_name(host) }))
                };
                ("queries", (0..load.hosts.min(64)).flat_map(query).collect())
            }
            Self::Q4 => ("for-all-nodes", json!([NODE_METRICS[random.below(10) as usize]])),
        };
        request[key] = value;
        request
    }
}

/// Sends `requests` queries of each shape and prints what each shape took.
pub fn run(load: &Load, shapes: &[Shape], requests: u64) -> Result<(), BenchError> {
    let server = |source| BenchError::Server { url: load.url.clone(), source };
    let target = Target::parse(&load.url, "GET", load.token.as_deref()).map_err(server)?;
    for &shape in if shapes.is_empty() { &Shape::ALL } else { shapes } {
        let prepare = |number: u64, body: &mut Vec<u8>| {
            body.extend_from_slice(shape.request(load, &mut SplitMix(number)).to_string().as_bytes());
            0
        };
        let costs = Costs::now(load)?;
        let run = connections::run(load, &target, requests, prepare, |_, answer| points(answer))?;
        Report { name: shape.name(), unit: "points" }.print(load, run, &costs)?;
    }
    Ok(())
}

/// What stands in front of the values of a series.
const DATA: &[u8] = b"\"data\":[";

/// How many values an answer holds: they stand between commas in the innermost arrays. Counted, not parsed, so that the
/// load tool stays cheap.
fn points(answer: &Answer) -> u64 {
    let mut points = 0;
    let mut rest = answer.body.as_slice();
    while let Some(at) = memchr::memmem::find(rest, DATA) {
        rest = &rest[at + DATA.len()..];
        let end = memchr::memchr(b']', rest).unwrap_or(rest.len());
        points += 1 + memchr::memchr_iter(b',', &rest[..end]).count() as u64;
        rest = &rest[end..];
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_in_every_series() {
        let body = br#"{"results":[[{"data":[1,2.5,null],"avg":1}],[{"data":[7]},{"error":"no [data]"}]]}"#.to_vec();
        assert_eq!(points(&Answer { status: 200, body }), 4);
    }
}
