//! The write path: lines become rows of the log.

mod lines;
mod rows;

use super::{Options, Store};
use crate::canary::{self, Canary};
use crate::decode;
use crate::error::Unavailable;
use crate::format::frame;
use crate::head::{HostState, Placed};
use crate::model::{Lsn, MetricId};
use crate::names::{KeyName, MetricName};
use lines::{Group, Groups, Lines, PlacedLater};
use rows::Rows;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
    /// Takes note of a line that is not stored, and of what it was about.
    fn refuse(&mut self, reason: &'static str, about: impl Display) {
        self.refused += 1;
        match self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, counted)) => *counted += 1,
            None => self.reasons.push((reason, 1)),
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{about} ({reason})"));
        }
    }
}

/// The memory of one write, used again by the next.
#[derive(Debug, Default)]
pub(super) struct Batch {
    scratch: decode::Scratch,
    groups: Groups,
    rows: Rows,
}

impl Batch {
    fn clear(&mut self) {
        self.groups.clear();
        self.rows.clear();
    }
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
        if !canary::is(Canary::DropWhenFull) {
            self.ready()?;
        }
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
        let Batch { scratch, groups, rows } = batch;
        let options = &*self.options();
        let context = decode::Context { default_cluster, limits: &options.limits.decode, complete };
        let written = Written { lsn: self.log.durable(), ..Written::default() };
        let now = self.env.unix_now();
        self.counters.tick(now);
        let times = now.saturating_sub(options.late_window)..=now.saturating_add(options.skew);
        let mut lines = Lines { store: self, options, groups, context, clusters, written, now, times };
        let decoded = decode::decode_repeats(body, &options.metrics, &context, scratch, &mut lines);
        let mut written = lines.written;
        // A slot begins up to an interval before what it holds.
        let oldest = now.saturating_sub(options.late_window).saturating_sub(options.metrics.longest_interval());
        for group in groups.iter_mut() {
            self.append_group(options, group, rows, &mut written, oldest)?;
        }
        written.reasons.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        self.counters.samples.fetch_add(written.accepted, Ordering::Relaxed);
        self.counters.repeated.fetch_add(decoded.repeated, Ordering::Relaxed);
        Ok(written)
    }

    fn append_group(
        &self,
        options: &Options,
        group: &mut Group,
        rows: &mut Rows,
        written: &mut Written,
        oldest: i64,
    ) -> Result<(), Unavailable> {
        let Group { host: Some(host), layout: Some(seen), points, new_keys, template, learned, .. } = group else {
            return Ok(());
        };
        let mut guard = host.state.lock();
        while !guard.runs.knows_from(oldest) {
            drop(guard);
            let layers = self.layers();
            let archived = self.archived_runs(&layers, host, oldest);
            guard = host.state.lock();
            self.seed(host, &mut guard, oldest, (&layers, &archived));
        }
        let state = &mut *guard;
        // What is not in the head yet could not be found again.
        let may_forget = state.last_lsn <= self.log.durable();
        let known = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let new_ordinals = self.add_keys(options, state, new_keys);
        let ordinal_of = |seen: u32| match seen.checked_sub(known) {
            None => Some(seen),
            Some(new) => new_ordinals.get(new as usize).copied().flatten(),
        };
        rows.clear();
        let mut refuse = |reason, point: &PlacedLater| {
            let metric = match point.ordinal.checked_sub(known) {
                None => seen.keys().get(point.ordinal as usize).map(|key| key.name().metric),
                Some(new) => new_keys.get(new as usize).map(|(metric, ..)| *metric),
            };
            let metric = metric.map_or("", |metric| &options.metrics.get(MetricId(metric.0)).name);
            written.refuse(reason, format_args!("{metric} of host {} for {}", host.name, point.time));
            self.counters.refuse(reason, metric, &host.name);
        };
        let mut accepted = 0;
        // Where the last samples of other times went, with their rows.
        let mut lately: [Option<(Placed, usize)>; 2] = [None; 2];
        let mut room_for_series = options.limits.series_per_host.saturating_sub(state.runs.series_count());
        for point in &*points {
            let Some(ordinal) = ordinal_of(point.ordinal) else {
                refuse("limit-series", point);
                continue;
            };
            let goes_to = |lately: &Option<(Placed, usize)>| match lately {
                Some((placed, row)) if state.runs.goes_to(placed, ordinal, point.time, point.frequency) => Some(*row),
                _ => None,
            };
            if let Some(row) = goes_to(&lately[0]) {
                rows.push(row, ordinal, point.value);
                accepted += 1;
                continue;
            }
            if let Some(row) = goes_to(&lately[1]) {
                lately.swap(0, 1);
                rows.push(row, ordinal, point.value);
                accepted += 1;
                continue;
            }
            let Some((run, slot)) = state.runs.place(ordinal, point.time, point.frequency) else {
                refuse("no-room", point);
                continue;
            };
            if state.runs.is_new(ordinal) {
                if room_for_series == 0 || self.series.load(Ordering::Relaxed) >= options.limits.series {
                    refuse("limit-series", point);
                    continue;
                }
                room_for_series -= 1;
                self.series.fetch_add(1, Ordering::Relaxed);
            }
            state.runs.record(ordinal, run, slot);
            let row = rows.at(run, slot);
            rows.push(row, ordinal, point.value);
            accepted += 1;
            let placed = state.runs.placed(ordinal, point.time, point.frequency, run, slot);
            let before = lately[0].filter(|(placed, _)| state.runs.is_current(placed));
            lately = [placed.map(|placed| (placed, row)), before];
        }
        written.accepted += accepted;
        let layout = Arc::clone(&state.layout);
        rows.for_each(|row| {
            if canary::is(Canary::DropWhenFull) && self.ready().is_err() {
                return Ok(());
            }
            let lsn = self.log.append_row((host.id, &host.cluster, &host.name), &layout, row)?;
            state.last_lsn = lsn;
            written.lsn = written.lsn.max(lsn);
            Ok(())
        })?;
        if may_forget {
            // A clock that is set right by a little need not bring anything back.
            state.runs.compact(oldest.saturating_sub(options.skew));
        }
        if !learned.is_empty() {
            learned.translate(ordinal_of);
            let template = self.templates.learn(template.as_ref(), &layout, &host.cluster, learned);
            state.sender.learned(&template);
        }
        Ok(())
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
        let mut bytes_left = options.definition_max().saturating_sub(state.layout.encoded_len());
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
