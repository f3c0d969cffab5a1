//! The naive model: a value for each series and instant, and the operations that are not yet known to be durable.

use super::FREQUENCY;
use kymo_engine::model::Lsn;
use std::collections::{BTreeMap, BTreeSet};

/// Host, metric, component.
pub(crate) type Series = (String, String, String);
/// Bits of the values by series and instant.
pub(crate) type Content = BTreeMap<Series, BTreeMap<i64, u64>>;

/// A sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) series: Series,
    pub(crate) time: i64,
    pub(crate) bits: u64,
}

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<Sample>),
    Free { selector: Vec<String>, to: i64 },
}

#[derive(Clone, Debug)]
struct Pending {
    lsn: Lsn,
    op: Op,
    /// Whether it must be there after the coming crash.
    must_stay: bool,
}

/// What a store must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    settled: Content,
    /// What frees may have taken away; reading tells.
    loose: BTreeSet<(Series, i64)>,
    pending: Vec<Pending>,
}

impl Model {
    /// A write that the store took.
    pub(crate) fn write(&mut self, lsn: Lsn, samples: Vec<Sample>) {
        self.pending.push(Pending { lsn, op: Op::Write(samples), must_stay: false });
    }

    /// A free that the store took.
    pub(crate) fn free(&mut self, lsn: Lsn, selector: Vec<String>, to: i64) {
        self.pending.push(Pending { lsn, op: Op::Free { selector, to }, must_stay: false });
    }

    /// All up to an LSN will survive the coming crash.
    pub(crate) fn acknowledge(&mut self, lsn: Lsn) {
        for pending in self.pending.iter_mut().filter(|pending| pending.lsn <= lsn) {
            pending.must_stay = true;
        }
    }

    /// What was acknowledged may be lost after all: the power was cut before the interval's sync.
    pub(crate) fn forgive(&mut self) {
        for pending in &mut self.pending {
            pending.must_stay = false;
        }
    }

    /// All up to an LSN is on the device.
    pub(crate) fn settle(&mut self, lsn: Lsn) {
        while self.pending.first().is_some_and(|pending| pending.lsn <= lsn) {
            let Pending { op, .. } = self.pending.remove(0);
            self.apply(&op);
        }
    }

    /// What the model would say that a store has read, which is taken over: later reads must say the same.
    /// The store has all operations up to some point, the one at that point perhaps in part, and none behind it.
    pub(crate) fn check(&mut self, read: &Content) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        let must_stay = pending.iter().rposition(|pending| pending.must_stay).map_or(0, |at| at + 1);
        let mut why = String::new();
        for count in 0..=pending.len() {
            if count > 0 {
                self.apply(&pending[count - 1].op);
            }
            if count < must_stay {
                continue;
            }
            match self.compare(read, pending.get(count).map(|pending| &pending.op)) {
                Ok(()) => {
                    self.settled = read.clone();
                    self.settled.retain(|_, slots| !slots.is_empty());
                    self.loose.clear();
                    return Ok(());
                }
                Err(error) => why = format!("{why}\n  with {count} of {} operations: {error}", pending.len()),
            }
        }
        Err(why)
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Write(samples) => {
                for Sample { series, time, bits } in samples {
                    self.settled.entry(series.clone()).or_default().insert(*time, *bits);
                    self.loose.remove(&(series.clone(), *time));
                }
            }
            Op::Free { selector, to } => {
                for (series, slots) in &self.settled {
                    let gone = slots.keys().filter(|&&time| frees(selector, *to, series, time));
                    self.loose.extend(gone.map(|&time| (series.clone(), time)));
                }
            }
        }
    }

    fn compare(&self, read: &Content, partly: Option<&Op>) -> Result<(), String> {
        let none = BTreeMap::new();
        let series: BTreeSet<&Series> = self.settled.keys().chain(read.keys()).collect();
        for series in series {
            let (expected, found) = (self.settled.get(series).unwrap_or(&none), read.get(series).unwrap_or(&none));
            let times: BTreeSet<i64> = expected.keys().chain(found.keys()).copied().collect();
            for time in times {
                let (expected, found) = (expected.get(&time).copied(), found.get(&time).copied());
                if found == expected {
                    continue;
                }
                let is_allowed = match (found, partly) {
                    (Some(bits), Some(Op::Write(samples))) => {
                        samples.iter().any(|sample| (&sample.series, sample.time, sample.bits) == (series, time, bits))
                    }
                    (Some(_), _) => false,
                    (None, partly) => {
                        self.loose.contains(&(series.clone(), time))
                            || matches!(partly, Some(Op::Free { selector, to }) if frees(selector, *to, series, time))
                    }
                };
                if !is_allowed {
                    let show = |bits: Option<u64>| bits.map(f64::from_bits);
                    return Err(format!("{series:?} at {time}: {:?}, expected {:?}", show(found), show(expected)));
                }
            }
        }
        Ok(())
    }
}

/// Whether a free may take a slot: it takes runs of which all slots ended.
fn frees(selector: &[String], to: i64, (host, _, component): &Series, time: i64) -> bool {
    let names = ["c", host, component];
    selector.len() <= names.len()
        && selector.iter().zip(names).all(|(wanted, name)| wanted == name)
        && time + FREQUENCY < to
}
