//! The write path: lines become rows of the log.

use super::{Options, Store};
use crate::decode::{self, LineError, Point, Sink};
use crate::error::Unavailable;
use crate::format::frame::{self, write::RowValues};
use crate::head::{Host, HostState};
use crate::model::{Lsn, MetricId};
use crate::names::{KeyName, Layout, MetricName};
use crate::slot::Run;
use crate::wal::ROW_VALUES_MAX;
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type Hasher = foldhash::fast::RandomState;

/// What became of the lines of a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// The LSN that must be durable before the body may be acknowledged.
    pub lsn: Lsn,
    /// Lines that were stored.
    pub accepted: u64,
    /// Lines that were not.
    pub refused: u64,
    /// Why, and how many, most frequent first.
    pub reasons: Vec<(&'static str, u64)>,
    /// The text of the first line for which the predecessor answers with an error.
    pub first_client_error: Option<String>,
    /// Some refused lines with their reason and what they were about, for the log.
    pub examples: Vec<String>,
}

/// Bytes of a body above which the memory of its write is not kept for the next one.
const POOLED_BODY: usize = 1 << 20;
/// Refused lines that are kept as examples, per body.
const EXAMPLES: usize = 3;

impl Written {
    fn refuse(&mut self, reason: &'static str, count: u64) {
        if count == 0 {
            return;
        }
        self.refused += count;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, counted)) => *counted += count,
            None => self.reasons.push((reason, count)),
        }
    }
}

/// The memory of one write, used again by the next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    scratch: decode::Scratch,
    groups: Vec<Group>,
    used: usize,
    group_of: HashMap<u32, usize, Hasher>,
    rows: Rows,
}

/// The points of one host.
#[derive(Debug, Default)]
struct Group {
    host: Option<Arc<Host>>,
    layout: Option<Arc<Layout>>,
    points: Vec<PlacedLater>,
    new_keys: Vec<(MetricName, String, String)>,
    new_ordinals: HashMap<(MetricName, String, String), u32, Hasher>,
}

#[derive(Clone, Copy, Debug)]
struct PlacedLater {
    /// In the group's layout, or behind it for new keys.
    ordinal: u32,
    frequency: u32,
    time: i64,
    value: f64,
}

/// Rows of one host under construction.
#[derive(Debug, Default)]
struct Rows {
    builders: Vec<RowBuilder>,
    used: usize,
    index: HashMap<(Run, u32), usize, Hasher>,
    order: Vec<u32>,
    sorted: RowBuilder,
}

#[derive(Debug, Default)]
struct RowBuilder {
    place: Option<(Run, u32)>,
    ordinals: Vec<u32>,
    values: Vec<f64>,
}

struct Lines<'a> {
    store: &'a Store,
    /// As they were when the body came.
    options: &'a Options,
    groups: &'a mut Vec<Group>,
    used: &'a mut usize,
    group_of: &'a mut HashMap<u32, usize, Hasher>,
    current: usize,
    written: Written,
    now: i64,
    /// The clusters that the sender may write to, if not all.
    clusters: Option<&'a [String]>,
}

impl Store {
    /// Decodes a body and takes over its good lines. They are durable, and can be read, when
    /// [`Store::when_durable`] says so for the returned LSN. `complete` tells whether the body was received whole.
    ///
    /// An error means that some of the lines may have been taken, but that none may be acknowledged.
    pub fn write(&self, body: &[u8], default_cluster: &str, complete: bool) -> Result<Written, Unavailable> {
        self.write_for(body, default_cluster, complete, None)
    }

    /// The same for a sender that may write to some clusters only: lines of others are refused.
    pub fn write_for(
        &self,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        clusters: Option<&[String]>,
    ) -> Result<Written, Unavailable> {
        self.ready()?;
        let mut batch = self.pool.lock().pop().unwrap_or_default();
        let outcome = self.write_with(&mut batch, body, default_cluster, complete, clusters);
        // What a rare, large body took is given back.
        if body.len() <= POOLED_BODY {
            batch.clear();
            self.pool.lock().push(batch);
        }
        outcome
    }

    fn write_with(
        &self,
        batch: &mut Batch,
        body: &[u8],
        default_cluster: &str,
        complete: bool,
        clusters: Option<&[String]>,
    ) -> Result<Written, Unavailable> {
        let Batch { scratch, groups, used, group_of, rows } = batch;
        let options = &*self.options();
        let context = decode::Context { default_cluster, limits: &options.limits.decode, complete };
        let written = Written { lsn: self.log.durable(), ..Written::default() };
        let now = self.env.unix_now();
        self.counters.tick(now);
        let mut lines =
            Lines { store: self, options, groups, used, group_of, current: usize::MAX, written, now, clusters };
        decode::decode(body, &options.metrics, &context, scratch, &mut lines);
        let mut written = lines.written;
        for group in &mut groups[..*used] {
            self.append_group(options, group, rows, &mut written, now)?;
        }
        written.reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        self.counters.samples.fetch_add(written.accepted, Ordering::Relaxed);
        Ok(written)
    }

    fn append_group(
        &self,
        options: &Options,
        group: &mut Group,
        rows: &mut Rows,
        written: &mut Written,
        now: i64,
    ) -> Result<(), Unavailable> {
        let (Some(host), Some(seen)) = (&group.host, &group.layout) else { return Ok(()) };
        let mut guard = host.state.lock();
        let state = &mut *guard;
        if !state.seeded {
            self.seed(host, state);
        }
        let known = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let new_ordinals = self.add_keys(options, state, &group.new_keys);
        rows.clear();
        let mut room_for_series = options.limits.series_per_host.saturating_sub(state.runs.series_count());
        for point in &group.points {
            let ordinal = match point.ordinal.checked_sub(known) {
                None => point.ordinal,
                Some(new) => {
                    let Some(ordinal) = new_ordinals.get(new as usize).copied().flatten() else {
                        self.refuse_point("limit-series", &host.name, written);
                        continue;
                    };
                    ordinal
                }
            };
            let Some((run, slot)) = state.runs.place(ordinal, point.time, point.frequency) else {
                self.refuse_point("no-room", &host.name, written);
                continue;
            };
            if state.runs.is_new(ordinal) {
                if room_for_series == 0 || self.series.load(Ordering::Relaxed) >= options.limits.series {
                    self.refuse_point("limit-series", &host.name, written);
                    continue;
                }
                room_for_series -= 1;
                self.series.fetch_add(1, Ordering::Relaxed);
            }
            state.runs.record(ordinal, run, slot);
            rows.push(run, slot, ordinal, point.value);
            written.accepted += 1;
        }
        let layout = Arc::clone(&state.layout);
        rows.for_each(|row| {
            let lsn = self.log.append_row((host.id, &host.cluster, &host.name), &layout, row)?;
            written.lsn = written.lsn.max(lsn);
            Ok(())
        })?;
        state.runs.compact(now.saturating_sub(options.late_window));
        Ok(())
    }

    fn refuse_point(&self, reason: &'static str, host: &str, written: &mut Written) {
        written.refuse(reason, 1);
        self.counters.refuse(reason, "", host);
    }

    /// Gives the host a layout that has the new keys; their ordinals, `None` for those that are over the limit.
    fn add_keys(
        &self,
        options: &Options,
        state: &mut HostState,
        new_keys: &[(MetricName, String, String)],
    ) -> Vec<Option<u32>> {
        if new_keys.is_empty() {
            return Vec::new();
        }
        let names: Vec<KeyName<'_>> = new_keys
            .iter()
            .map(|(metric, component, subcomponent)| KeyName { metric: *metric, component, subcomponent })
            .collect();
        let limits = &options.limits;
        // A definition must fit into a segment, with room for the rows that need it.
        let mut bytes_left =
            usize::try_from(options.segment_len / 8).unwrap_or(usize::MAX).saturating_sub(state.layout.encoded_len());
        // What the host has counts, not the layout, which it may share with a host that has more.
        let series = self.series.load(Ordering::Relaxed);
        let of_host = limits.series_per_host.saturating_sub(state.runs.series_count());
        let mut keys_left = of_host.min(limits.series.saturating_sub(series));
        let mut wanted = Vec::with_capacity(names.len());
        for &name in &names {
            if state.layout.find(name).is_some() {
                continue;
            }
            let metric = &options.metrics.get(MetricId(name.metric.0)).name;
            let key = frame::Key { metric, component: name.component, subcomponent: name.subcomponent };
            let bytes = frame::write::key_len(&key);
            if keys_left == 0 || bytes > bytes_left {
                break;
            }
            keys_left -= 1;
            bytes_left -= bytes;
            wanted.push(name);
        }
        if !wanted.is_empty() {
            state.layout = self.layouts.extend(&state.layout, &wanted);
        }
        names.iter().map(|&name| state.layout.find(name)).collect()
    }
}

impl Sink for Lines<'_> {
    fn point(&mut self, point: Point<'_>) {
        let options = self.options;
        if self.clusters.is_some_and(|own| !own.iter().any(|name| name == point.cluster)) {
            self.store.counters.refuse("cluster-denied", "", point.host);
            return self.written.refuse("cluster-denied", 1);
        }
        let time = point.time.unwrap_or(self.now);
        if time < self.now.saturating_sub(options.late_window) {
            return self.refuse_time("too-late", &point, time);
        }
        if time > self.now.saturating_add(options.skew) {
            return self.refuse_time("too-far-ahead", &point, time);
        }
        let Some(group) = self.group(point.cluster, point.host) else {
            self.store.counters.refuse("limit-hosts", "", point.host);
            return self.written.refuse("limit-hosts", 1);
        };
        let name = KeyName {
            metric: MetricName(point.metric.0),
            component: point.component,
            subcomponent: point.subcomponent,
        };
        let ordinal = group.ordinal(name);
        let frequency = options.metrics.get(point.metric).frequency;
        group.points.push(PlacedLater { ordinal, frequency, time, value: point.value });
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.written.refuse(error.reason.as_str(), 1);
        self.store.counters.refuse(error.reason.as_str(), error.metric, error.host);
        if error.reason.is_client_error() {
            self.written.first_client_error.get_or_insert_with(|| error.to_string());
        }
        if self.written.examples.len() < EXAMPLES {
            self.written.examples.push(format!("{error} ({})", error.reason.as_str()));
        }
    }
}

impl Lines<'_> {
    fn refuse_time(&mut self, reason: &'static str, point: &Point<'_>, time: i64) {
        self.written.refuse(reason, 1);
        self.store.counters.refuse(reason, &self.options.metrics.get(point.metric).name, point.host);
        if self.written.examples.len() < EXAMPLES {
            let metric = &self.options.metrics.get(point.metric).name;
            let (line, host, now) = (point.line, point.host, self.now);
            let text = format!("line {line}: {metric} of host {host} is for {time}, it is {now} now ({reason})");
            self.written.examples.push(text);
        }
    }

    fn group(&mut self, cluster: &str, host: &str) -> Option<&mut Group> {
        let is_it =
            |group: &Group| group.host.as_ref().is_some_and(|known| *known.name == *host && *known.cluster == *cluster);
        if !self.groups.get(self.current).is_some_and(is_it) {
            let limit = self.options.limits.hosts;
            let host = self.store.hosts.find_or_create(cluster, host, &self.store.layouts, limit)?;
            self.current = *self.group_of.entry(host.id).or_insert_with(|| {
                let at = *self.used;
                *self.used += 1;
                if at == self.groups.len() {
                    self.groups.push(Group::default());
                }
                let layout = Arc::clone(&host.state.lock().layout);
                self.groups[at].layout = Some(layout);
                self.groups[at].host = Some(host);
                at
            });
        }
        self.groups.get_mut(self.current)
    }
}

impl Group {
    fn ordinal(&mut self, name: KeyName<'_>) -> u32 {
        let Some(layout) = &self.layout else { return 0 };
        // Senders repeat themselves: mostly the series that follows the last one in the layout comes next.
        let next = self.points.last().map_or(0, |point| point.ordinal.saturating_add(1));
        if layout.keys().get(next as usize).is_some_and(|key| key.name() == name) {
            return next;
        }
        if let Some(ordinal) = layout.find(name) {
            return ordinal;
        }
        let first_new = u32::try_from(layout.len()).unwrap_or(u32::MAX);
        let key = (name.metric, name.component.to_owned(), name.subcomponent.to_owned());
        let Self { new_keys, new_ordinals, .. } = self;
        *new_ordinals.entry(key).or_insert_with_key(|key| {
            new_keys.push(key.clone());
            // As many lines as that do not fit into a body.
            first_new.saturating_add(u32::try_from(new_keys.len() - 1).unwrap_or(u32::MAX))
        })
    }

    fn clear(&mut self) {
        self.host = None;
        self.layout = None;
        self.points.clear();
        self.new_keys.clear();
        self.new_ordinals.clear();
    }
}

impl Batch {
    fn clear(&mut self) {
        for group in &mut self.groups[..self.used] {
            group.clear();
        }
        self.used = 0;
        self.group_of.clear();
        self.rows.clear();
    }
}

impl Rows {
    fn clear(&mut self) {
        for row in &mut self.builders[..self.used] {
            row.ordinals.clear();
            row.values.clear();
        }
        self.used = 0;
        self.index.clear();
    }

    fn push(&mut self, run: Run, slot: u32, ordinal: u32, value: f64) {
        let place = (run, slot);
        let last = self.used.wrapping_sub(1);
        let at = match self.builders.get(last) {
            Some(row) if row.place == Some(place) => last,
            _ => *self.index.entry(place).or_insert_with(|| {
                let at = self.used;
                self.used += 1;
                if at == self.builders.len() {
                    self.builders.push(RowBuilder::default());
                }
                self.builders[at].place = Some(place);
                at
            }),
        };
        self.builders[at].ordinals.push(ordinal);
        self.builders[at].values.push(value);
    }

    fn for_each(
        &mut self,
        mut append: impl FnMut(&RowValues<'_>) -> Result<(), Unavailable>,
    ) -> Result<(), Unavailable> {
        let Self { builders, used, order, sorted, .. } = self;
        for row in &builders[..*used] {
            let Some((run, slot)) = row.place else { continue };
            let row = if row.ordinals.is_sorted_by(|a, b| a < b) {
                row
            } else {
                row.sort_into(order, sorted);
                &*sorted
            };
            for (ordinals, values) in row.ordinals.chunks(ROW_VALUES_MAX).zip(row.values.chunks(ROW_VALUES_MAX)) {
                append(&RowValues { start: run.start, frequency: run.frequency, slot, ordinals, values })?;
            }
        }
        Ok(())
    }
}

impl RowBuilder {
    /// The same values by rising ordinal; of several for one ordinal the last one counts.
    fn sort_into(&self, order: &mut Vec<u32>, sorted: &mut Self) {
        order.clear();
        order.extend(0..u32::try_from(self.ordinals.len()).unwrap_or(u32::MAX));
        order.sort_by_key(|&at| self.ordinals[at as usize]);
        sorted.ordinals.clear();
        sorted.values.clear();
        for &at in &*order {
            let (ordinal, value) = (self.ordinals[at as usize], self.values[at as usize]);
            match (sorted.ordinals.last(), sorted.values.last_mut()) {
                (Some(&last), Some(kept)) if last == ordinal => *kept = value,
                _ => {
                    sorted.ordinals.push(ordinal);
                    sorted.values.push(value);
                }
            }
        }
    }
}
