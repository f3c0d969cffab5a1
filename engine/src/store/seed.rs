//! Seeding: a host that writes for the first time since the start goes on in the runs that snapshots hold, so that a
//! restart does not shift the grid.

use super::Store;
use super::layers::PARTITION;
use crate::canary::{self, Canary};
use crate::head::{Host, HostState};
use crate::names::KeyName;
use crate::slot::RUN_SLOTS;
use std::sync::atomic::Ordering;

impl Store {
    /// Takes the runs of the late window from the directories of the snapshots, and those before it that a run of late
    /// samples could reach back over. A damaged directory is passed over: the series then begins a new run.
    pub(super) fn seed(&self, host: &Host, state: &mut HostState) {
        state.seeded = true;
        if canary::is(Canary::ForgetRuns) {
            return;
        }
        let known = state.runs.series_count();
        let options = self.options();
        let frequency = options.metrics.iter().map(|(_, metric)| metric.frequency).max().unwrap_or(0);
        let reach = options.late_window.saturating_add(i64::from(frequency) * i64::from(RUN_SLOTS));
        let oldest = self.env.unix_now().saturating_sub(reach).div_euclid(PARTITION);
        let layers = self.layers();
        for loaded in layers.snapshots.iter().filter(|loaded| loaded.live.partition >= oldest) {
            let Some(found) = loaded.file.find(&host.cluster, &host.name) else { continue };
            let Ok(stripes) = loaded.file.stripes(found) else { continue };
            // The predecessor's files do not tell when within its interval a sample was taken: nobody goes on in there.
            let is_closed = layers.is_import(loaded);
            for stripe in stripes.iter() {
                let metric = self.layouts.metric(stripe.metric());
                let names: Vec<KeyName<'_>> = stripe
                    .columns()
                    .map(|(component, subcomponent)| KeyName { metric, component, subcomponent })
                    .collect();
                if names.iter().any(|&name| state.layout.find(name).is_none()) {
                    state.layout = self.layouts.extend(&state.layout, &names);
                }
                let last_slot = stripe.first_slot().saturating_add(stripe.slots()).saturating_sub(1);
                for name in names {
                    match state.layout.find(name) {
                        Some(ordinal) if is_closed => state.runs.record_closed(ordinal, stripe.run(), last_slot),
                        Some(ordinal) => state.runs.record(ordinal, stripe.run(), last_slot),
                        None => {}
                    }
                }
            }
        }
        self.series.fetch_add(state.runs.series_count().saturating_sub(known), Ordering::Relaxed);
    }
}
