//! What is asked, and whether the answers are what was acknowledged.

use super::work::{Bodies, CLUSTER, HOSTS, INTERVAL, Ledger, METRICS, host_name, sum, value};
use crate::client::Client;
use crate::random::Random;
use serde_json::{Value, json};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The shapes of queries that a front end sends.
pub(super) const SHAPES: [&str; 4] = [
    "Q1 one host, one metric, 1 h",
    "Q2 one host, 72 hardware threads summed, 6 h",
    "Q3 all hosts, 5 metrics, 2 h",
    "Q4 all hosts, one metric, 1 h",
];

/// A series of an answer, and what it speaks of.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    metric: usize,
    host: u32,
    /// One component alone; otherwise the sum of all.
    component: Option<u32>,
}

impl Wanted {
    fn query(self) -> Value {
        let (name, components) = METRICS[self.metric];
        let mut query = json!({"metric": name, "host": host_name(self.host)});
        if let (Some(id), Some((kind, _))) = (self.component, components) {
            query["type"] = kind.into();
            query["type-ids"] = json!([id.to_string()]);
        }
        query
    }

    fn value(self, minute: u64) -> f64 {
        match self.component {
            Some(component) => value(self.metric, component, self.host, minute).into(),
            None => sum(self.metric, self.host, minute),
        }
    }
}

/// Why there is no good answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// None came.
    Silence(String),
    /// It is not what was acknowledged.
    Wrong(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Silence(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

/// Times that the audit asks again where no answer comes: whoever stops all programs for a while must not spoil it.
const PATIENCE: u32 = 5;

/// Asks one server.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) client: Client,
    pub(super) bodies: &'a Bodies,
    pub(super) ledger: &'a Ledger,
}

impl Asker<'_> {
    /// One query of a shape about minutes that are complete, half of them about the last ones. How long its answer took;
    /// `None` if it was refused for overload, which is told by its status.
    pub(super) fn ask(&self, shape: usize, random: &mut Random) -> Result<Option<Duration>, Trouble> {
        let complete = self.ledger.complete_minutes();
        let length = [60, 360, 120, 60][shape].min(complete);
        let first = if random.once_in(2) { complete - length } else { random.below(complete - length + 1) };
        let host = u32::try_from(random.below(HOSTS.into())).unwrap_or_default();
        let one = |metric, host| Wanted { metric, host, component: None };
        let wanted: Vec<Wanted> = match shape {
            0 => vec![one(random.index(10), host)],
            1 => vec![one(14 + random.index(5), host)],
            2 => (0..HOSTS).flat_map(|host| (0..5).map(move |metric| one(metric, host))).collect(),
            _ => {
                let metric = random.index(10);
                (0..HOSTS).map(|host| one(metric, host)).collect()
            }
        };
        self.check(&wanted, first..first + length, shape == 3)
    }

    /// Reads a range of a host: every metric, in sums over its components, and one component of each.
    pub(super) fn audit(&self, host: u32, minutes: Range<u64>, random: &mut Random) -> Result<(), Trouble> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (metric, (_, components)) in METRICS.iter().enumerate() {
            wanted.push(Wanted { metric, host, component: None });
            let one = components.and_then(|(_, count)| u32::try_from(random.below(count.into())).ok());
            wanted.extend(one.map(|id| Wanted { metric, host, component: Some(id) }));
        }
        let mut silent = 0;
        loop {
            match self.check(&wanted, minutes.clone(), false) {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {}
                Err(Trouble::Silence(_)) if silent < PATIENCE => silent += 1,
                Err(trouble) => return Err(trouble),
            }
        }
    }

    /// Asks and compares. With `for_all` the request names the metric of the first alone, and the server the hosts.
    fn check(&self, wanted: &[Wanted], minutes: Range<u64>, for_all: bool) -> Result<Option<Duration>, Trouble> {
        let [from, to] = [minutes.start, minutes.end].map(|minute| self.bodies.time(minute));
        let mut request = json!({"cluster": CLUSTER, "from": from, "to": to, "with-padding": false});
        if for_all {
            request["for-all-nodes"] = json!([METRICS[wanted[0].metric].0]);
        } else {
            request["queries"] = wanted.iter().map(|wanted| wanted.query()).collect();
        }
        let begun = Instant::now();
        let answer = self.client.post("/api/query", &request.to_string()).map_err(Trouble::Silence)?;
        let took = begun.elapsed();
        if answer.status == 503 {
            return Ok(None);
        }
        let parsed: Value =
            serde_json::from_str(&answer.text).map_err(|error| Trouble::Wrong(format!("no JSON: {error}")))?;
        let results = parsed["results"].as_array().filter(|results| results.len() == wanted.len());
        let Some(results) = results.filter(|_| answer.status == 200) else {
            let front: String = answer.text.chars().take(500).collect();
            let what = format!("{} queries were answered with {}: {front}", wanted.len(), answer.status);
            return Err(Trouble::Wrong(what));
        };
        for (index, result) in results.iter().enumerate() {
            // The server lists the hosts of `for-all-nodes` in an order of its own.
            let named = parsed["queries"][index]["host"].as_str();
            let wanted = match named.and_then(|name| name.strip_prefix('n')?.parse().ok()) {
                Some(host) => Wanted { host, ..wanted[index] },
                None => wanted[index],
            };
            self.compare(wanted, minutes.clone(), result).map_err(Trouble::Wrong)?;
        }
        Ok(Some(took))
    }

    fn compare(&self, wanted: Wanted, minutes: Range<u64>, result: &Value) -> Result<(), String> {
        let series = &result[0];
        let data = series["data"].as_array().map_or(&[][..], Vec::as_slice);
        let first = series["from"].as_i64().unwrap_or_default();
        for minute in minutes {
            if !self.ledger.is_acknowledged(wanted.host, minute) {
                continue;
            }
            let index = usize::try_from((self.bodies.time(minute) - first).div_euclid(INTERVAL)).ok();
            let read = index.and_then(|index| data.get(index)).and_then(Value::as_f64);
            if read != Some(wanted.value(minute)) {
                let Wanted { metric, host, component } = wanted;
                let (metric, host, time) = (METRICS[metric].0, host_name(host), self.bodies.time(minute));
                return Err(format!(
                    "LOST: {metric} of {host} (component {component:?}) at {time}, minute {minute}, reads as {read:?} and not {}; \
                     the series has {} values from {first} on, error {}",
                    wanted.value(minute),
                    data.len(),
                    series["error"],
                ));
            }
        }
        Ok(())
    }
}
