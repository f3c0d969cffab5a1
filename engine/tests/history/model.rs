//! The naive model: a value for each series and instant, and what a question about it is answered.
//!
//! All samples are on the grids of their metrics, so that an instant is a slot, whatever the runs are.

use crate::lab::{METRICS, frequency, runs};
use kymo_engine::model::Aggregation;
use kymo_engine::store::DebugTree;
use std::collections::BTreeMap;

/// Host, metric, component.
pub(crate) type Key = (String, String, String);

/// A sample.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) key: Key,
    pub(crate) time: i64,
    pub(crate) value: f64,
}

/// A metric of a host, or of these components of it together.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) host: String,
    pub(crate) metric: String,
    pub(crate) components: Vec<String>,
}

/// What a store must hold: bits of the values by series and instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) values: BTreeMap<Key, BTreeMap<i64, u64>>,
}

/// The UTC day that the slot of an instant begins in.
pub(crate) fn day(metric: &str, time: i64) -> i64 {
    (time - frequency(metric) / 2).div_euclid(86_400)
}

impl Model {
    pub(crate) fn write(&mut self, samples: &[Sample]) {
        for Sample { key, time, value } in samples {
            self.values.entry(key.clone()).or_default().insert(*time, value.to_bits());
        }
    }

    /// Takes away the runs, as the store has shown them, that a selector names and that ended before `to`.
    pub(crate) fn free(&mut self, shown: &DebugTree, selector: &[String], to: i64) {
        for (key, runs) in runs(shown) {
            let (host, metric, component) = &key;
            let names = ["c", host, component];
            if selector.len() > names.len() || selector.iter().zip(names).any(|(wanted, name)| wanted != name) {
                continue;
            }
            let half = frequency(metric) / 2;
            let Some(slots) = self.values.get_mut(&key) else { continue };
            for run in runs.iter().filter(|run| run.end + half < to) {
                slots.retain(|&time, _| time - half < run.start || time - half >= run.end);
            }
        }
    }

    /// Takes away what began in a day, but for an exempt host.
    pub(crate) fn drop_day(&mut self, gone: i64, exempt: &str) {
        for ((host, metric, _), slots) in &mut self.values {
            slots.retain(|&time, _| host == exempt || day(metric, time) != gone);
        }
    }

    /// The days that anything but the exempt host has data of.
    pub(crate) fn days(&self, exempt: &str) -> std::collections::BTreeSet<i64> {
        let others = self.values.iter().filter(|((host, ..), _)| host != exempt);
        others.flat_map(|((_, metric, _), slots)| slots.keys().map(|&time| day(metric, time))).collect()
    }

    /// What a question is answered: the values that are not missing. `from` and `to` are on the metric's grid.
    pub(crate) fn answer(&self, question: &Question, from: i64, to: i64) -> BTreeMap<i64, u64> {
        let Question { host, metric, components } = question;
        let is_of = |key: &Key| key.0 == *host && key.1 == *metric;
        let within = |slots: &BTreeMap<i64, u64>| -> BTreeMap<i64, u64> {
            slots.range(from..to.max(from)).map(|(&time, &bits)| (time, bits)).collect()
        };
        let series = |wanted: &dyn Fn(&str) -> bool| -> Vec<BTreeMap<i64, u64>> {
            let named = self.values.iter().filter(|(key, _)| is_of(key) && wanted(&key.2));
            named.map(|(_, slots)| within(slots)).filter(|slots| !slots.is_empty()).collect()
        };
        let mut children = if components.is_empty() {
            series(&|component| component.is_empty())
        } else {
            components.iter().flat_map(|name| series(&|component| component == name)).collect()
        };
        if children.is_empty() && components.is_empty() {
            children = series(&|component| !component.is_empty());
        }
        let Some((first, others)) = children.split_first() else { return BTreeMap::new() };
        if others.is_empty() {
            return first.clone();
        }
        let (_, _, aggregation) = METRICS.iter().find(|(name, ..)| name == metric).unwrap();
        let share = 1.0 / f64::from(u32::try_from(children.len()).unwrap());
        let mut combined = BTreeMap::new();
        for (time, bits) in first {
            let mut sum = f64::from_bits(*bits);
            let mut is_whole = true;
            for other in others {
                match other.get(time) {
                    Some(&bits) => sum += f64::from_bits(bits),
                    None => is_whole = false,
                }
            }
            if *aggregation == Aggregation::Avg {
                sum *= share;
            }
            if is_whole {
                combined.insert(*time, sum.to_bits());
            }
        }
        combined
    }

    /// Everything, as one would read it: series without values left out.
    pub(crate) fn content(&self) -> BTreeMap<Key, BTreeMap<i64, u64>> {
        self.values
            .iter()
            .filter(|(_, slots)| !slots.is_empty())
            .map(|(key, slots)| (key.clone(), slots.clone()))
            .collect()
    }
}
