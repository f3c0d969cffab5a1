//! Gathering: the stored slots of one metric of a host, out of all layers.
//!
//! The head is captured before the layers below it: rows move that way, so whatever is missed in one place is found in
//! the next, and what is found twice is harmless.

use super::Store;
use super::layers::{Layers, selects_series};
use crate::canary::{self, Canary};
use crate::format::manifest::Free;
use crate::head::SlotRun;
use crate::model::Lsn;
use crate::names::MetricName;
use crate::query::{Piece, Series, Values};
use crate::slot::Run;
use crate::snapshot::{Column, Snapshot, SnapshotError, Stripe};
use hashbrown::HashMap;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// All times.
pub(super) const ALWAYS: Range<i64> = i64::MIN..i64::MAX;

/// The slots of one metric of a host that are in the head, and the layers below it.
pub(super) struct Captured {
    cluster: String,
    host: String,
    metric: Arc<str>,
    head: Vec<HeadSeries>,
    frees: Vec<Free>,
    layers: Arc<Layers>,
}

struct HeadSeries {
    component: Arc<str>,
    subcomponent: Arc<str>,
    /// Each run with the highest LSN that its slots may have.
    runs: Vec<(Lsn, SlotRun)>,
}

/// A series: its name and its pieces, oldest layer first.
pub(super) struct Gathered<'a> {
    pub(super) component: Cow<'a, str>,
    pub(super) subcomponent: Cow<'a, str>,
    /// Each with the highest LSN that its layer may have.
    pub(super) pieces: Vec<(Lsn, Piece<'a>)>,
}

/// What was found of a series on the way.
#[derive(Default)]
struct Found<'a> {
    /// The first slot that any snapshot has: it tells where the series begins.
    oldest: Option<Oldest>,
    pieces: Vec<(Lsn, Piece<'a>)>,
}

#[derive(Clone, Copy)]
struct Oldest {
    begin: i64,
    run: Run,
    slot: u32,
    value: f64,
    /// Whether it is in one of the pieces too.
    is_in_piece: bool,
}

impl Found<'_> {
    /// Whether a slot that begins at `first` would be older than what is known.
    fn begins_after(&self, first: i64) -> bool {
        self.oldest.is_none_or(|oldest| first < oldest.begin)
    }
}

/// Component and subcomponent.
type Name<'a> = (&'a str, &'a str);

/// The series that were found, in the order in which they were.
#[derive(Default)]
struct AllFound<'a> {
    series: Vec<(Name<'a>, Found<'a>)>,
    /// Where each name is, once one came that does not rise: those of a stripe do.
    places: Option<HashMap<Name<'a>, usize>>,
}

impl<'a> AllFound<'a> {
    /// The place of a name; `next` is the one behind that of the name before. Stripes of a metric mostly have the same
    /// columns, so it mostly is that of the name too.
    fn place(&self, name: &Name<'_>, next: &mut usize) -> Option<usize> {
        let is_next = self.series.get(*next).is_some_and(|(known, _)| known == name);
        let place = if is_next { Some(*next) } else { self.find(name) };
        *next = place.map_or(*next, |place| place + 1);
        place
    }

    fn find(&self, name: &Name<'_>) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(name).copied(),
            None if self.rises(name) => None,
            None => self.series.binary_search_by(|(known, _)| known.cmp(name)).ok(),
        }
    }

    /// Whether a name lies behind the last one.
    fn rises(&self, name: &Name<'_>) -> bool {
        self.series.last().is_none_or(|(last, _)| last < name)
    }

    fn get(&self, name: &Name<'_>, next: &mut usize) -> Option<&Found<'a>> {
        self.series.get(self.place(name, next)?).map(|(_, found)| found)
    }

    fn get_or_add(&mut self, name: Name<'a>, next: &mut usize) -> &mut Found<'a> {
        let place = self.place(&name, next).unwrap_or_else(|| {
            let place = self.series.len();
            if self.places.is_some() || !self.rises(&name) {
                let known = || self.series.iter().map(|(name, _)| *name).zip(0..).collect();
                self.places.get_or_insert_with(known).insert(name, place);
            }
            self.series.push((name, Found::default()));
            *next = place + 1;
            place
        });
        &mut self.series[place].1
    }

    /// By name.
    fn sorted(self) -> Vec<(Name<'a>, Found<'a>)> {
        let mut series = self.series;
        if self.places.is_some() {
            series.sort_unstable_by_key(|(name, _)| *name);
        }
        series
    }
}

/// A snapshot that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(super) struct Unreadable {
    pub(super) path: String,
    pub(super) source: SnapshotError,
}

impl Unreadable {
    pub(super) fn at(path: &Path) -> impl Fn(SnapshotError) -> Self {
        let path = path.display().to_string();
        move |source| Self { path: path.clone(), source }
    }
}

impl Store {
    /// Copies what the head has, then takes hold of the layers below.
    /// `times` is what [`Captured::gather`] will be asked for, with its margins.
    pub(super) fn capture(&self, cluster: &str, host: &str, metric: MetricName, times: &Range<i64>) -> Captured {
        let early = canary::is(Canary::CaptureSnapshotsFirst).then(|| {
            let early = self.layers();
            canary::amidst();
            early
        });
        let frees = self.layers().frees_of(cluster, host);
        let times = if frees.is_empty() { times } else { &ALWAYS };
        let mut head = Vec::new();
        if let Some(known) = self.hosts.find(cluster, host) {
            let state = known.state.lock();
            let layout = Arc::clone(&state.layout);
            let (ordinals, keys): (Vec<u32>, Vec<_>) = layout.of_metric(metric).unzip();
            // Rows on both sides of a free are kept apart: it takes only those before it.
            let mut bounds: Vec<Lsn> = frees.iter().map(|free| free.lsn).collect();
            bounds.push(Lsn(u64::MAX));
            let mut low = Lsn(0);
            let mut series: Vec<Vec<(Lsn, SlotRun)>> = vec![Vec::new(); ordinals.len()];
            for bound in bounds {
                for (all, runs) in series.iter_mut().zip(state.collect(&ordinals, low..bound, times)) {
                    all.extend(runs.into_iter().map(|run| (bound, run)));
                }
                low = bound;
            }
            drop(state);
            let with_runs = keys.into_iter().zip(series).filter(|(_, runs)| !runs.is_empty());
            head.extend(with_runs.map(|(key, runs)| HeadSeries {
                component: Arc::clone(&key.component),
                subcomponent: Arc::clone(&key.subcomponent),
                runs,
            }));
        }
        canary::amidst();
        Captured {
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            metric: self.layouts.metric_name(metric),
            head,
            frees,
            layers: early.unwrap_or_else(|| self.layers()),
        }
    }
}

impl Captured {
    /// One metric of a host in some layers, without the head.
    pub(super) fn of_layers((cluster, host): (&str, &str), metric: &str, layers: &Arc<Layers>) -> Self {
        Self {
            cluster: cluster.to_owned(),
            host: host.to_owned(),
            metric: metric.into(),
            head: Vec::new(),
            frees: layers.frees_of(cluster, host),
            layers: Arc::clone(layers),
        }
    }

    /// Cluster, host and metric.
    pub(super) fn names(&self) -> (&str, &str, &str) {
        (&self.cluster, &self.host, &self.metric)
    }

    /// The layers below the head.
    pub(super) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The series with what a reader of some times needs: the slots of the range, and those that tell where the
    /// series begins and where its runs end (see [`Series`]). Everything, where a free has to be judged.
    pub(super) fn gather(&self, times: &Range<i64>) -> Result<Vec<Gathered<'_>>, Unreadable> {
        Ok(self.gather_at_most(times, usize::MAX)?.unwrap_or_default())
    }

    /// The same; `None` if snapshots have more than `limit` values at these times, which all would be in memory at once.
    pub(super) fn gather_at_most(
        &self,
        times: &Range<i64>,
        limit: usize,
    ) -> Result<Option<Vec<Gathered<'_>>>, Unreadable> {
        let mut found = AllFound::default();
        if !self.gather_snapshots(times, limit, &mut found)? {
            return Ok(None);
        }
        let mut next = 0;
        for head in &self.head {
            let series = found.get_or_add((&head.component, &head.subcomponent), &mut next);
            series.pieces.extend(head.runs.iter().map(|(lsn, run)| (*lsn, piece_of(run))));
        }
        let gathered =
            found.sorted().into_iter().filter_map(|((component, subcomponent), Found { mut pieces, .. })| {
                apply_frees(&self.frees, component, subcomponent, &mut pieces);
                let (component, subcomponent) = (component.into(), subcomponent.into());
                (!pieces.is_empty()).then_some(Gathered { component, subcomponent, pieces })
            });
        Ok(Some(gathered.collect()))
    }

    /// Adds what the snapshots have; false if that is more than `limit` values at these times.
    fn gather_snapshots<'a>(
        &'a self,
        times: &Range<i64>,
        limit: usize,
        found: &mut AllFound<'a>,
    ) -> Result<bool, Unreadable> {
        let Range { start: from, end: to } = if self.frees.is_empty() { times.clone() } else { ALWAYS };
        let mut count = 0_usize;
        for loaded in &self.layers.snapshots {
            let Some(host) = loaded.file.find(&self.cluster, &self.host) else { continue };
            let fail = Unreadable::at(&loaded.path);
            for stripe in loaded.file.stripes_of(host, &self.metric).map_err(&fail)?.iter() {
                let (first, end) = bounds(&stripe);
                let is_wanted = first < to && end > from;
                let is_behind = first >= to && stripe.run().start < to;
                let mut next = 0;
                let mut begins =
                    |name: Name<'_>| found.get(&name, &mut next).is_none_or(|series| series.begins_after(first));
                if !is_wanted && !is_behind && !stripe.columns().any(&mut begins) {
                    continue;
                }
                let data = stripe.data().map_err(&fail)?;
                let mut next = 0;
                for (name, values) in stripe.columns().zip(data.iter()) {
                    let series = found.get_or_add(name, &mut next);
                    if series.begins_after(first)
                        && let Some((slot, value)) = present(&stripe, &values, 0..values.len())
                    {
                        let (begin, run) = (stripe.run().end_after(slot), stripe.run());
                        if series.begins_after(begin) {
                            series.oldest = Some(Oldest { begin, run, slot, value, is_in_piece: is_wanted });
                        }
                    }
                    let (first_slot, values) = if is_wanted {
                        (stripe.first_slot(), values_of(&values))
                    } else if is_behind
                        && let Some((number, value)) = present(&stripe, &values, (0..values.len()).rev())
                    {
                        (number, Values::Constant { value, slots: 1 })
                    } else {
                        continue;
                    };
                    // Where frees have to be judged, most of what is looked at was not asked for.
                    if self.frees.is_empty() || first < times.end && end > times.start {
                        count = count.saturating_add(values.len());
                        if count > limit {
                            return Ok(false);
                        }
                    }
                    let Run { start, frequency } = stripe.run();
                    series.pieces.push((loaded.live.lsn_hi, Piece { start, frequency, first_slot, values }));
                }
            }
        }
        for (_, series) in &mut found.series {
            let Some(oldest) = series.oldest.filter(|oldest| !oldest.is_in_piece) else { continue };
            let Oldest { run: Run { start, frequency }, slot, value, .. } = oldest;
            let piece = Piece { start, frequency, first_slot: slot, values: Values::Constant { value, slots: 1 } };
            // Below all layers: it tells the begin, any layer may overwrite it.
            series.pieces.insert(0, (Lsn(0), piece));
        }
        Ok(true)
    }

    /// Whether a page of a snapshot could not be read while its slots were used.
    pub(super) fn poisoned(&self) -> Option<&Path> {
        self.layers.snapshots.iter().find(|loaded| loaded.file.is_poisoned()).map(|loaded| &*loaded.path)
    }
}

/// The first of some slots of a column that is present: its number in the run, and its value.
fn present(stripe: &Stripe<'_>, values: &Column<'_>, mut slots: impl Iterator<Item = usize>) -> Option<(u32, f64)> {
    let slot = slots.find(|&slot| !values.get(slot).is_nan())?;
    Some((stripe.first_slot() + u32::try_from(slot).unwrap_or(u32::MAX), values.get(slot)))
}

/// The times whose slots a reader of `[from, to)` needs: an interval more at both ends.
pub(super) fn with_margins(from: i64, to: i64, frequency: u32) -> Range<i64> {
    from.saturating_sub(i64::from(frequency))..to.saturating_add(i64::from(frequency))
}

/// First instant and end of the slots of a stripe.
fn bounds(stripe: &Stripe<'_>) -> (i64, i64) {
    let run = stripe.run();
    (run.end_after(stripe.first_slot()), run.end_after(stripe.first_slot().saturating_add(stripe.slots())))
}

/// The values of a column, where they are.
fn values_of<'a>(column: &Column<'a>) -> Values<'a> {
    match *column {
        Column::F64(values) => Values::F64(Cow::Borrowed(values)),
        Column::F32(values) => Values::F32(values),
        Column::Constant { value, slots } => Values::Constant { value, slots },
    }
}

fn piece_of(run: &SlotRun) -> Piece<'_> {
    Piece {
        start: run.run.start,
        frequency: run.run.frequency,
        first_slot: run.first_slot,
        values: Values::F64(Cow::Borrowed(&run.values)),
    }
}

/// Takes away the runs that each free found ended: judged by the slots that were older than it.
fn apply_frees(frees: &[Free], component: &str, subcomponent: &str, pieces: &mut Vec<(Lsn, Piece<'_>)>) {
    for free in frees.iter().filter(|free| selects_series(&free.selector, component, subcomponent)) {
        let mut ends: HashMap<Run, i64> = HashMap::new();
        for (_, piece) in pieces.iter().filter(|(lsn, _)| *lsn <= free.lsn) {
            let run = run_of(piece);
            if let Some(last) = piece.values.last_present().and_then(|at| u32::try_from(at).ok()) {
                let end = run.nominal(piece.first_slot.saturating_add(last).saturating_add(1));
                ends.entry(run).and_modify(|known| *known = (*known).max(end)).or_insert(end);
            }
        }
        pieces.retain(|(lsn, piece)| *lsn > free.lsn || ends.get(&run_of(piece)).is_none_or(|&end| end >= free.to));
    }
}

fn run_of(piece: &Piece<'_>) -> Run {
    Run { start: piece.start, frequency: piece.frequency }
}

impl Gathered<'_> {
    /// The series for the reading rule.
    pub(super) fn series(&self) -> Series<'_> {
        Series::new(self.pieces.iter().map(|(_, piece)| piece.borrow()).collect())
    }

    /// Its name, and its slots by run, from slot 0 on.
    pub(super) fn slots(&self) -> ((String, String), BTreeMap<Run, Vec<f64>>) {
        let mut runs: BTreeMap<Run, Vec<f64>> = BTreeMap::new();
        for (_, piece) in &self.pieces {
            let (first, run) = (piece.first_slot as usize, runs.entry(run_of(piece)).or_default());
            run.resize(run.len().max(first + piece.values.len()), f64::NAN);
            piece.values.overlay(&mut run[first..]);
        }
        runs.retain(|_, values| values.iter().any(|value| !value.is_nan()));
        ((self.component.to_string(), self.subcomponent.to_string()), runs)
    }

    /// Its runs with the first slot behind the last one that is present, by rising start.
    pub(super) fn runs(&self) -> BTreeMap<Run, u32> {
        let mut runs: BTreeMap<Run, u32> = BTreeMap::new();
        for (_, piece) in &self.pieces {
            let Some(last) = piece.values.last_present() else { continue };
            let end = piece.first_slot.saturating_add(u32::try_from(last).unwrap_or(u32::MAX)).saturating_add(1);
            let known = runs.entry(run_of(piece)).or_default();
            *known = (*known).max(end);
        }
        runs
    }
}

/// Which metric names a snapshot has for a host.
pub(super) fn metrics_of(file: &Snapshot, cluster: &str, host: &str) -> Result<Vec<String>, SnapshotError> {
    let Some(host) = file.find(cluster, host) else { return Ok(Vec::new()) };
    let mut names: Vec<String> = Vec::new();
    for stripe in file.stripes(host)?.iter() {
        if names.last().is_none_or(|last| last != stripe.metric()) {
            names.push(stripe.metric().to_owned());
        }
    }
    Ok(names)
}
