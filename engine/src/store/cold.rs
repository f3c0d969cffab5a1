//! The archive under the hot tier: what a query finds in it.
//!
//! A host or level exists while it has data in the hot tier, or in any tier in the asked range. The archive is looked
//! into for the asked range, and up to [`NEAR`] beside it only for what tells where a series begins and ends: whether it has
//! a slot at or before `from`, and whether its newest run goes on behind `to`. What cannot be read of that is as if it were
//! not there: the values of the range are not in it.

use super::Store;
use super::gather::{Captured, Gathered};
use super::layers::{Layers, PARTITION};
use crate::archive::{ArchiveError, Reader, SeriesRows, Stretch};
use crate::format::manifest::Archived;
use crate::model::Lsn;
use crate::query::{Piece, Series, Values};
use crate::slot::Run;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Partitions beside a range that are looked into for where series begin and end: one that was silent for longer begins
/// anew. Else a query of a host that is new would read the manifests of years.
const NEAR: i64 = 32;

/// What is asked of the series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) from: i64,
    pub(super) to: i64,
    /// The configured interval of the metric.
    pub(super) frequency: u32,
}

impl Asked {
    fn overlaps(&self, part: &Archived) -> bool {
        let margin = i64::from(self.frequency);
        part.times.start < self.to.saturating_add(margin) && part.times.end > self.from.saturating_sub(margin)
    }

    fn is_near(&self, part: &Archived) -> bool {
        let [first, last] = [self.from, self.to].map(|time| time.div_euclid(PARTITION));
        (first.saturating_sub(NEAR)..=last.saturating_add(NEAR)).contains(&part.names.partition)
    }

    /// How many values of a stretch are in the range.
    fn count(&self, stretch: &Stretch) -> usize {
        let Stretch { run, first_slot, values } = stretch;
        let end = first_slot.saturating_add(u32::try_from(values.len()).unwrap_or(u32::MAX));
        let seconds = run.end_after(end).min(self.to).saturating_sub(run.end_after(*first_slot).max(self.from));
        usize::try_from(seconds.div_euclid(i64::from(run.frequency.max(1)))).unwrap_or(0)
    }
}

/// A series of any tier.
#[derive(Default)]
struct Tiers<'a> {
    is_hot: bool,
    /// Those of the archive, oldest part first.
    cold: Vec<Piece<'static>>,
    hot: Vec<(Lsn, Piece<'a>)>,
}

impl Tiers<'_> {
    fn pieces(&self) -> impl Iterator<Item = &Piece<'_>> {
        self.cold.iter().chain(self.hot.iter().map(|(_, piece)| piece))
    }

    /// The instant that the first of its slots stands for.
    fn begin(&self) -> Option<i64> {
        let first = |piece: &Piece<'_>| {
            let slot = piece.values.first_present()?;
            Some(run_of(piece).nominal(piece.first_slot.saturating_add(u32::try_from(slot).ok()?)))
        };
        self.pieces().filter_map(first).min()
    }

    /// Whether something of the newest run that begins before an instant lies at or behind it.
    fn goes_on_behind(&self, to: i64) -> bool {
        let before = || self.pieces().filter(|piece| piece.start < to);
        let Some(newest) = before().map(|piece| piece.start).max() else { return true };
        let end = |piece: &Piece<'_>| {
            let last = piece.values.last_present()?;
            Some(run_of(piece).end_after(piece.first_slot.saturating_add(u32::try_from(last).ok()?).saturating_add(1)))
        };
        before().filter(|piece| piece.start == newest).filter_map(end).any(|end| end >= to)
    }
}

/// By component and subcomponent.
type AllTiers<'a> = BTreeMap<(Cow<'a, str>, Cow<'a, str>), Tiers<'a>>;

impl Store {
    /// Puts what the archive has of a metric of a host under what the hot tier has; `None` if both have more values in the
    /// range than `limit`, which all would be in memory at once.
    pub(super) fn put_under<'a>(
        &self,
        captured: &'a Captured,
        hot: Vec<Gathered<'a>>,
        asked: &Asked,
        limit: usize,
    ) -> Result<Option<Vec<Gathered<'a>>>, ArchiveError> {
        let (cluster, ..) = captured.names();
        let parts = |is_wanted: &dyn Fn(&Archived) -> bool| {
            archived_parts(self.cold.as_ref(), captured.layers(), |part| {
                part.names.cluster == cluster && is_wanted(part)
            })
        };
        let inside = parts(&|part| asked.overlaps(part))?;
        // Without a place they tell nothing.
        let beside = parts(&|part| asked.is_near(part) && !asked.overlaps(part)).unwrap_or_default();
        if inside.is_empty() && beside.is_empty() {
            return Ok(Some(hot));
        }
        let (mut all, mut count) = (AllTiers::new(), 0_usize);
        for series in hot {
            let Gathered { component, subcomponent, pieces } = series;
            count += pieces.iter().map(|(_, piece)| piece.values.len()).sum::<usize>();
            all.insert((component, subcomponent), Tiers { is_hot: true, cold: Vec::new(), hot: pieces });
        }
        let look = Look { store: self, captured };
        for part in inside {
            for series in look.at(part)? {
                count += series.stretches.iter().map(|stretch| asked.count(stretch)).sum::<usize>();
                if count > limit {
                    return Ok(None);
                }
                let tiers = all.entry((series.component.into(), series.subcomponent.into())).or_default();
                tiers.cold.extend(series.stretches.into_iter().map(piece_of));
            }
        }
        all.retain(|_, tiers| {
            let pieces = || tiers.pieces().map(Piece::borrow).collect();
            tiers.is_hot || Series::new(pieces()).has_data(asked.from, asked.to, asked.frequency)
        });
        look.back(&beside, &mut all, asked);
        look.ahead(&beside, &mut all, asked);
        let gathered = all.into_iter().map(|((component, subcomponent), tiers)| Gathered {
            component,
            subcomponent,
            pieces: tiers.cold.into_iter().map(|piece| (Lsn(0), piece)).chain(tiers.hot).collect(),
        });
        Ok(Some(gathered.collect()))
    }

    /// The names of the hosts of a cluster that have data in the archive in a range. Where that cannot be told, a host
    /// without a name stands for it: asking for its data says why.
    pub(super) fn archived_hosts(&self, cluster: &str, from: i64, to: i64) -> Vec<String> {
        let mut hosts = Vec::new();
        let layers = self.layers();
        let asked = Asked { from, to, frequency: 0 };
        let is_asked = |part: &&Archived| part.rows > 0 && part.names.cluster == cluster && asked.overlaps(part);
        for part in layers.archived.iter().filter(is_asked) {
            let of_part = self.cold.as_ref().and_then(|reader| reader.hosts(&part.names, part.sidecar).ok());
            hosts.extend(of_part.unwrap_or_else(|| vec![String::new()]));
        }
        hosts
    }
}

/// An archived part, and what reads it.
pub(super) type Place<'a> = (&'a Reader, &'a Archived);

/// The archived parts of a kind that have something, oldest first. An error where there are any and nothing says where.
pub(super) fn archived_parts<'a>(
    reader: Option<&'a Reader>,
    layers: &'a Layers,
    is_wanted: impl Fn(&Archived) -> bool,
) -> Result<Vec<Place<'a>>, ArchiveError> {
    let parts = layers.archived.iter().filter(|part| part.rows > 0 && is_wanted(part));
    let no_place = |part: &Archived| ArchiveError::NoPlace { cluster: part.names.cluster.clone() };
    parts.map(|part| Ok((reader.ok_or_else(|| no_place(part))?, part))).collect()
}

/// Puts all that parts have of a metric of a host under what the hot tier has; series are in order then.
pub(super) fn put_all_under(
    gathered: &mut Vec<Gathered<'_>>,
    parts: &[Place<'_>],
    host: &str,
    metric: &str,
) -> Result<(), ArchiveError> {
    // The younger part is right: each comes under those before it.
    for (reader, part) in parts.iter().rev() {
        for series in reader.rows(&part.names, part.sidecar, host, metric)? {
            let pieces = series.stretches.into_iter().map(|stretch| (Lsn(0), piece_of(stretch)));
            let name = (&*series.component, &*series.subcomponent);
            match gathered.iter_mut().find(|known| (&*known.component, &*known.subcomponent) == name) {
                Some(known) => drop(known.pieces.splice(0..0, pieces)),
                None => gathered.push(Gathered {
                    component: series.component.into(),
                    subcomponent: series.subcomponent.into(),
                    pieces: pieces.collect(),
                }),
            }
        }
    }
    if !parts.is_empty() {
        gathered.sort_by(|a, b| (&a.component, &a.subcomponent).cmp(&(&b.component, &b.subcomponent)));
    }
    Ok(())
}

/// Looks for one metric of a host in the parts of its cluster.
struct Look<'s> {
    store: &'s Store,
    captured: &'s Captured,
}

impl Look<'_> {
    fn at(&self, (reader, part): Place<'_>) -> Result<Vec<SeriesRows>, ArchiveError> {
        let (_, host, metric) = self.captured.names();
        self.store.counters.archive_reads.fetch_add(1, Ordering::Relaxed);
        reader.rows(&part.names, part.sidecar, host, metric).inspect_err(|_| {
            self.store.counters.archive_read_failures.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Looks where series begin that are not known to have a slot at or before `from`: in the parts before the range,
    /// the youngest first, and where there is none, in those behind it.
    fn back(&self, beside: &[Place<'_>], all: &mut AllTiers<'_>, asked: &Asked) {
        let misses = |tiers: &Tiers<'_>| tiers.begin().is_none_or(|begin| begin > asked.from);
        for place in beside.iter().rev().filter(|(_, part)| part.times.start <= asked.from) {
            if !all.values().any(misses) || self.add(*place, all, misses, true).is_err() {
                return;
            }
        }
        // What begins behind the range begins with the first of all its slots.
        for place in beside.iter().filter(|(_, part)| part.times.start > asked.from) {
            let least = place.1.times.start.max(asked.to);
            let misses = |tiers: &Tiers<'_>| tiers.begin().is_none_or(|begin| begin > least);
            if !all.values().any(misses) || self.add(*place, all, misses, false).is_err() {
                return;
            }
        }
    }

    /// Looks whether runs go on behind the range, where their last known slot lies inside of it.
    fn ahead(&self, beside: &[Place<'_>], all: &mut AllTiers<'_>, asked: &Asked) {
        let mut open: Vec<(Cow<'_, str>, Cow<'_, str>)> =
            all.iter().filter(|(_, tiers)| !tiers.goes_on_behind(asked.to)).map(|(name, _)| name.clone()).collect();
        for place in beside.iter().filter(|(_, part)| part.times.start >= asked.to) {
            if open.is_empty() {
                return;
            }
            let Ok(rows) = self.at(*place) else { return };
            let mut found = Vec::new();
            for series in rows {
                let name = (series.component.into(), series.subcomponent.into());
                if let Some(tiers) = all.get_mut(&name).filter(|_| open.contains(&name)) {
                    let goes_on = series.stretches.into_iter().filter(|stretch| stretch.run.start < asked.to);
                    tiers.cold.extend(goes_on.map(piece_of));
                    found.push(name);
                }
            }
            open.retain(|name| !found.contains(name));
        }
    }

    /// Adds what a part has of the series that miss something.
    fn add(
        &self,
        place: Place<'_>,
        all: &mut AllTiers<'_>,
        misses: impl Fn(&Tiers<'_>) -> bool,
        is_older: bool,
    ) -> Result<(), ArchiveError> {
        for series in self.at(place)? {
            let name = (series.component.into(), series.subcomponent.into());
            if let Some(tiers) = all.get_mut(&name).filter(|tiers| misses(tiers)) {
                let at = if is_older { 0 } else { tiers.cold.len() };
                tiers.cold.splice(at..at, series.stretches.into_iter().map(piece_of));
            }
        }
        Ok(())
    }
}

fn piece_of(stretch: Stretch) -> Piece<'static> {
    let Stretch { run: Run { start, frequency }, first_slot, values } = stretch;
    Piece { start, frequency, first_slot, values: Values::F64(values.into()) }
}

fn run_of(piece: &Piece<'_>) -> Run {
    Run { start: piece.start, frequency: piece.frequency }
}
