//! One life of a store: its steps, and what the model is told of them.

use super::{FREQUENCY, Model, Sample, Told, World, body, commit, content};
use kymo_engine::model::Lsn;
use kymo_engine::store::{Progress, Store};

/// A store and the model of it.
#[derive(Debug)]
pub(crate) struct Life<'a> {
    pub(crate) world: &'a World,
    pub(crate) store: Store,
    pub(crate) model: &'a mut Model,
    told: Told,
}

impl<'a> Life<'a> {
    /// Opens the store; `None` where the machine stopped in the middle.
    pub(crate) fn open(world: &'a World, model: &'a mut Model) -> Option<Self> {
        match world.open() {
            Ok((store, _)) => Some(Self { world, store, model, told: Told::default() }),
            Err(error) => {
                assert!(world.disk.is_stopped(), "{error}");
                None
            }
        }
    }

    /// Writes samples; a store that takes some takes all.
    pub(crate) fn write(&mut self, samples: &[Sample]) {
        // What is refused as a whole may be there in part.
        let lsn = match self.store.write(body(samples).as_bytes(), "c", true) {
            Ok(written) => {
                assert_eq!(written.refused, 0, "{written:?}");
                self.told.wait(&self.store, written.lsn);
                written.lsn
            }
            Err(_) => Lsn(u64::MAX),
        };
        self.model.write(lsn, samples.to_vec());
    }

    /// Frees a selector.
    pub(crate) fn free(&mut self, selector: &[&str], to: i64) {
        let selector: Vec<String> = selector.iter().map(|&name| name.to_owned()).collect();
        let last = self.store.stats().pulse.last;
        if let Ok((_, lsn)) = self.store.free(std::slice::from_ref(&selector), to)
            && lsn > last
        {
            self.told.wait(&self.store, lsn);
            self.model.free(lsn, selector, to);
        }
    }

    /// Commits what there is, and tells the model what was acknowledged.
    pub(crate) fn commit(&mut self) -> Progress {
        let progress = commit(&self.store);
        self.model.acknowledge(self.told.acknowledged());
        progress
    }

    /// Prepares the next segment.
    pub(crate) fn prepare(&mut self) {
        let done = self.store.prepare_step();
        assert!(done.is_ok() || self.world.disk.is_stopped(), "{done:?}");
    }

    /// Does background work on files until there is none, or a piece of it.
    pub(crate) fn compact(&mut self, whole: bool) {
        loop {
            match self.store.compact_step(whole) {
                Ok(Progress::Done) if whole => {}
                Ok(_) => return,
                Err(error) => return assert!(self.world.disk.is_stopped(), "{error}"),
            }
        }
    }

    /// Closes the store.
    pub(crate) fn close(self) {
        let closed = self.store.close();
        assert!(closed.is_ok() || self.world.disk.is_stopped(), "{closed:?}");
        self.model.acknowledge(self.told.acknowledged());
    }

    /// What is read is what the model has.
    pub(crate) fn check(&mut self) {
        let read = content(&self.store);
        self.model.check(&read).unwrap();
    }
}

/// A sample of `load` of the host or one of its components.
pub(crate) fn sample(host: &str, component: &str, slot: i64, value: f64) -> Sample {
    let series = (host.to_owned(), "load".to_owned(), component.to_owned());
    Sample { series, time: super::START + slot * FREQUENCY, bits: value.to_bits() }
}
