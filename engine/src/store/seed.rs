//! Seeding: a host that writes for the first time since the start goes on in the runs that are stored, so that a
//! restart does not shift the grid. The same brings back what was forgotten, when the clock goes back behind it.

use super::Store;
use super::cold::archived_parts;
use super::layers::{Layers, PARTITION};
use crate::canary::{self, Canary};
use crate::format::manifest::Archived;
use crate::head::{Host, HostState};
use crate::names::KeyName;
use crate::slot::{RUN_SLOTS, Run};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A run of a series, up to a slot, of which an archive has something.
pub(super) struct ArchivedRun {
    metric: String,
    component: String,
    subcomponent: String,
    run: Run,
    last_slot: u32,
}

impl Store {
    /// Takes the runs of what was written since `since` (unix seconds) from the head and the directories of the snapshots,
    /// and those before it that a run of late samples could reach back over. A damaged directory is passed over: the
    /// series then begins a new run.
    ///
    /// `layers` were taken before the lock of the host, and `archived` is what they have in an archive. Rows move from the head
    /// to the snapshots to the archive: where the layers are others by now, nothing is done, and it is to be tried again.
    pub(super) fn seed(
        &self,
        host: &Host,
        state: &mut HostState,
        since: i64,
        (layers, archived): (&Arc<Layers>, &[ArchivedRun]),
    ) {
        // If they are the same, what they lack stays in the head while its lock is held. Another writer may have been here.
        if !Arc::ptr_eq(layers, &self.layers()) || state.runs.knows_from(since) {
            return;
        }
        let reach = self.options().metrics.longest_interval() * i64::from(RUN_SLOTS);
        let oldest = since.saturating_sub(reach).div_euclid(PARTITION);
        // Nor is a run to reach back over what is archived and was not looked at.
        let unseen = layers
            .archived
            .iter()
            .filter(|part| part.rows > 0 && *part.names.cluster == *host.cluster && !self.is_seen(part, since));
        let unseen_end = unseen.map(|part| part.times.end).max().unwrap_or(i64::MIN);
        state.runs.set_known_from(oldest.saturating_mul(PARTITION).max(unseen_end));
        if canary::is(Canary::ForgetRuns) {
            return;
        }
        let known = state.runs.series_count();
        state.recall_runs();
        for loaded in layers.snapshots.iter().filter(|loaded| loaded.live.partition >= oldest) {
            let Some(found) = loaded.file.find(&host.cluster, &host.name) else { continue };
            let Ok(stripes) = loaded.file.stripes(found) else { continue };
            // The predecessor's files do not tell when within its interval a sample was taken: nobody goes on in there.
            let is_closed = layers.is_import(loaded);
            for stripe in stripes.iter() {
                let last_slot = stripe.first_slot().saturating_add(stripe.slots()).saturating_sub(1);
                self.know(state, stripe.metric(), stripe.columns(), (stripe.run(), last_slot), is_closed);
            }
        }
        for ArchivedRun { metric, component, subcomponent, run, last_slot } in archived {
            let name = std::iter::once((&**component, &**subcomponent));
            self.know(state, metric, name, (*run, *last_slot), false);
        }
        self.series.fetch_add(state.runs.series_count().saturating_sub(known), Ordering::Relaxed);
    }

    /// The runs of a host in days that are archived already, where the late window reaches back so far: mostly none. What
    /// cannot be read is passed over as a damaged directory is. Waits for the archive: no lock is held.
    pub(super) fn archived_runs(&self, layers: &Layers, host: &Host, since: i64) -> Vec<ArchivedRun> {
        let parts = archived_parts(self.cold.as_ref(), layers, |part| {
            *part.names.cluster == *host.cluster && self.is_seen(part, since)
        });
        let mut runs = Vec::new();
        for (reader, part) in parts.unwrap_or_default() {
            for metric in reader.metrics(&part.names, part.sidecar, &host.name).unwrap_or_default() {
                for series in reader.rows(&part.names, part.sidecar, &host.name, &metric).unwrap_or_default() {
                    runs.extend(series.stretches.iter().map(|stretch| {
                        let slots = u32::try_from(stretch.values.len()).unwrap_or(u32::MAX);
                        ArchivedRun {
                            metric: metric.clone(),
                            component: series.component.clone(),
                            subcomponent: series.subcomponent.clone(),
                            run: stretch.run,
                            last_slot: stretch.first_slot.saturating_add(slots).saturating_sub(1),
                        }
                    }));
                }
            }
        }
        runs
    }

    /// Whether an archived part is looked at for what is written since an instant. The slots of all others end so early
    /// that there is room for one behind them.
    fn is_seen(&self, part: &Archived, since: i64) -> bool {
        part.times.end > since.saturating_sub(self.options().metrics.longest_interval())
    }

    /// Notes that series of a metric have a run up to a slot.
    fn know<'a>(
        &self,
        state: &mut HostState,
        metric: &str,
        columns: impl Iterator<Item = (&'a str, &'a str)>,
        (run, last_slot): (Run, u32),
        is_closed: bool,
    ) {
        let metric = self.layouts.metric(metric);
        let names: Vec<KeyName<'_>> =
            columns.map(|(component, subcomponent)| KeyName { metric, component, subcomponent }).collect();
        if names.iter().any(|&name| state.layout.find(name).is_none()) {
            state.layout = self.layouts.extend(&state.layout, &names);
        }
        for name in names {
            match state.layout.find(name) {
                Some(ordinal) if is_closed => state.runs.record_closed(ordinal, run, last_slot),
                Some(ordinal) => state.runs.record(ordinal, run, last_slot),
                None => {}
            }
        }
    }
}
