//! Seeding: a host that writes for the first time since the start goes on in the runs that are stored, so that a
//! restart does not shift the grid. The same brings back what was forgotten, when the clock goes back behind it.

use super::Store;
use super::layers::{Layers, PARTITION};
use crate::canary::{self, Canary};
use crate::format::manifest::Archived;
use crate::head::{Host, HostState};
use crate::names::KeyName;
use crate::slot::{RUN_SLOTS, Run};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the archived parts of a cluster have of a host.
pub(super) struct ArchivedRuns {
    runs: Vec<ArchivedRun>,
    /// The end of all slots of the parts that were not looked at.
    unseen_end: i64,
}

/// A run of a series, up to a slot, of which an archive has something.
struct ArchivedRun {
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
    /// Nothing is placed before the end of what was not looked at in the archive. Nor does a run go on that no series of
    /// the host has a slot of behind that: it may lie before one of there.
    ///
    /// `layers` were taken before the lock of the host, and `archived` is what was looked at in their archive. Rows move from
    /// the head to the snapshots to the archive: where the layers are others by now, nothing is done, and it is to be tried
    /// again.
    pub(super) fn seed(
        &self,
        host: &Host,
        state: &mut HostState,
        since: i64,
        (layers, archived): (&Arc<Layers>, &ArchivedRuns),
    ) {
        // If they are the same, what they lack stays in the head while its lock is held. Another writer may have been here.
        if !Arc::ptr_eq(layers, &self.layers()) || state.runs.knows_from(since) {
            return;
        }
        let ArchivedRuns { runs, unseen_end } = archived;
        let reach = self.options().metrics.longest_interval() * i64::from(RUN_SLOTS);
        let oldest = since.saturating_sub(reach).div_euclid(PARTITION);
        state.runs.set_known_from(oldest.saturating_mul(PARTITION).max(*unseen_end));
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
        for ArchivedRun { metric, component, subcomponent, run, last_slot } in runs {
            let name = std::iter::once((&**component, &**subcomponent));
            self.know(state, metric, name, (*run, *last_slot), false);
        }
        state.runs.close_before(*unseen_end);
        self.series.fetch_add(state.runs.series_count().saturating_sub(known), Ordering::Relaxed);
    }

    /// The runs of a host in days that are archived already, where the late window reaches back so far: mostly none. Waits
    /// for the archive: no lock is held.
    pub(super) fn archived_runs(&self, layers: &Layers, host: &Host, since: i64) -> ArchivedRuns {
        // Behind all slots of the other parts there is room for one of any configured interval.
        let seen_from = since.saturating_sub(self.options().metrics.longest_interval());
        let mut found = ArchivedRuns { runs: Vec::new(), unseen_end: i64::MIN };
        let of_cluster = |part: &&Archived| part.rows > 0 && *part.names.cluster == *host.cluster;
        for part in layers.archived.iter().filter(of_cluster) {
            let runs = if part.times.end > seen_from { self.runs_of_part(part, host) } else { None };
            match runs {
                Some(runs) => found.runs.extend(runs),
                // Of one that cannot be read as much is respected as leaves room for what is written.
                None => found.unseen_end = found.unseen_end.max(part.times.end.min(since)),
            }
        }
        found
    }

    /// The runs of a host in an archived part; `None` where it cannot be read.
    fn runs_of_part(&self, part: &Archived, host: &Host) -> Option<Vec<ArchivedRun>> {
        let reader = self.cold.as_ref()?;
        let mut runs = Vec::new();
        for metric in reader.metrics(&part.names, part.sidecar, &host.name).ok()? {
            for series in reader.rows(&part.names, part.sidecar, &host.name, &metric).ok()? {
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
        Some(runs)
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
