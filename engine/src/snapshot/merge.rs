//! Merging: snapshots that follow each other in one partition become one, host by host.

use super::error::{SnapshotError, WriteError};
use super::read::{Snapshot, Stripe};
use super::write::{Finished, Piece, Writer};
use crate::canary::{self, Canary};
use crate::format::snapshot::stripe::{Column, MISSING_F64};
use crate::slot::Run;
use std::fmt;
use std::sync::Arc;

/// Says which values are left out: those of an input (its position), cluster, host, metric, component, subcomponent and
/// run.
pub type Hide = Box<dyn Fn(usize, &str, &str, &str, &str, &str, Run) -> bool + Send>;

/// A merge under way. In each slot the newest value that is not missing wins; the columns are those of all inputs. The
/// result is the file that writing those values at once would have given. Holds one stripe in memory at a time.
pub struct Merge {
    inputs: Vec<Input>,
    writer: Writer,
    hide: Hide,
    /// The values of the stripe at hand, column after column.
    values: Vec<f64>,
    is_failed: bool,
}

struct Input {
    snapshot: Arc<Snapshot>,
    /// The position of the next host.
    next: u32,
}

impl Input {
    /// The cluster and name of its next host.
    fn next(&self) -> Option<(&str, &str)> {
        self.snapshot.host_at(self.next).map(|(cluster, host, _)| (cluster, host))
    }
}

/// A stripe of one input.
struct Layer<'a> {
    input: usize,
    stripe: Stripe<'a>,
}

impl Merge {
    /// Begins a merge of neighbours in LSN order, oldest first. The writer is for their partition and store, from the
    /// lowest LSN of the first to the highest of the last: the first step refuses others.
    pub fn new(inputs: Vec<Arc<Snapshot>>, writer: Writer, hide: Hide) -> Self {
        let inputs = inputs.into_iter().map(|snapshot| Input { snapshot, next: 0 }).collect();
        Self { inputs, writer, hide, values: Vec::new(), is_failed: false }
    }

    /// Bytes of the result so far, for pacing.
    pub fn written(&self) -> u64 {
        self.writer.written()
    }

    /// Merges the next host; false when there is none. After an error the merge is of no use, and the result never
    /// appears.
    pub fn step(&mut self) -> Result<bool, WriteError> {
        if self.is_failed {
            return Err(WriteError::Broken);
        }
        let result = self.check_inputs().and_then(|()| self.merge_host());
        self.is_failed = result.is_err();
        result
    }

    /// Does what steps are left and finishes the result.
    pub fn finish(mut self) -> Result<Finished, WriteError> {
        while self.step()? {}
        self.writer.finish()
    }

    fn check_inputs(&self) -> Result<(), WriteError> {
        let identities = || self.inputs.iter().map(|input| input.snapshot.identity());
        let result = self.writer.identity();
        let is_part =
            |identity: super::Identity| (identity.store, identity.partition) == (result.store, result.partition);
        let are_neighbours = identities().all(is_part)
            && identities().is_sorted_by(|a, b| a.lsn_hi < b.lsn_lo)
            && identities().next().is_some_and(|first| first.lsn_lo == result.lsn_lo)
            && identities().next_back().is_some_and(|last| last.lsn_hi == result.lsn_hi);
        if are_neighbours { Ok(()) } else { Err(WriteError::NotNeighbours) }
    }

    fn merge_host(&mut self) -> Result<bool, WriteError> {
        let Self { inputs, writer, hide, values, .. } = self;
        let next = inputs.iter().filter_map(Input::next).min();
        let Some((cluster, host)) = next.map(|(cluster, host)| (cluster.to_owned(), host.to_owned())) else {
            // What was read through a lost page must not be finished.
            return Self::check_poison(inputs).map(|()| false);
        };
        let mut stripes = Vec::new();
        for (at, input) in inputs.iter_mut().enumerate() {
            let Input { snapshot, next } = input;
            let found = snapshot.host_at(*next).filter(|&(c, h, _)| (c, h) == (&cluster, &host));
            let Some((_, _, found)) = found else { continue };
            let of_host = snapshot.stripes(found).map_err(failed(at))?;
            of_host.will_need();
            stripes.push((at, of_host.iter().peekable()));
            *next += 1;
        }
        writer.begin_host(&cluster, &host)?;
        while let Some((metric, run)) =
            stripes.iter_mut().filter_map(|(_, stripes)| stripes.peek().map(Stripe::key)).min()
        {
            let mut layers = Vec::new();
            for (input, stripes) in &mut stripes {
                let stripe = stripes.next_if(|stripe| stripe.key() == (metric, run));
                layers.extend(stripe.map(|stripe| Layer { input: *input, stripe }));
            }
            let is_hidden = |input, (component, subcomponent): (&str, &str)| {
                hide(input, &cluster, &host, metric, component, subcomponent, run)
            };
            let piece = join(metric, run, &layers, is_hidden, values)?;
            writer.stripe(piece)?;
        }
        writer.end_host()?;
        Ok(true)
    }

    fn check_poison(inputs: &[Input]) -> Result<(), WriteError> {
        inputs.iter().enumerate().try_for_each(|(at, input)| input.snapshot.check_poison().map_err(failed(at)))
    }
}

/// The stripes of one metric and run of one host, oldest first, as one, with its columns in order.
fn join<'a>(
    metric: &'a str,
    run: Run,
    layers: &[Layer<'a>],
    is_hidden: impl Fn(usize, (&str, &str)) -> bool,
    values: &'a mut Vec<f64>,
) -> Result<Piece<'a>, WriteError> {
    let first_slot = layers.iter().map(|layer| layer.stripe.first_slot()).min().unwrap_or(0);
    let end_slot =
        layers.iter().map(|layer| layer.stripe.first_slot().saturating_add(layer.stripe.slots())).max().unwrap_or(0);
    // All of them begin within one day, so there are at most 86,400.
    let slots = end_slot - first_slot;
    let mut columns = Vec::new();
    for layer in layers {
        let data = layer.stripe.data().map_err(failed(layer.input))?;
        let skipped = (layer.stripe.first_slot() - first_slot) as usize;
        columns.push((layer.input, skipped, layer.stripe.columns().zip(data.iter()).peekable()));
    }
    let mut names = Vec::new();
    values.clear();
    while let Some(name) = columns.iter_mut().filter_map(|(.., columns)| columns.peek().map(|&(name, _)| name)).min() {
        names.push(name);
        let at = values.len();
        values.resize(at + slots as usize, MISSING_F64);
        for (input, skipped, columns) in &mut columns {
            if let Some((_, column)) = columns.next_if(|&(next, _)| next == name)
                && !is_hidden(*input, name)
            {
                overlay(&mut values[at + *skipped..], &column);
            }
        }
    }
    let values: &'a [f64] = values;
    let columns = names.into_iter().zip(values.chunks_exact(slots.max(1) as usize)).collect();
    Ok(Piece { metric, run, first_slot, slots, columns })
}

/// Puts the values of a column that are not missing over what is there.
fn overlay(to: &mut [f64], column: &Column<'_>) {
    fn put(to: &mut [f64], values: impl Iterator<Item = f64>) {
        let is_broken = canary::is(Canary::MissingOverwrites);
        for (to, value) in to.iter_mut().zip(values).filter(|(_, value)| !value.is_nan() || is_broken) {
            *to = value;
        }
    }
    match *column {
        Column::F64(values) => put(to, values.iter().copied()),
        Column::F32(values) => put(to, values.iter().copied().map(f64::from)),
        Column::Constant { value, slots } => put(to, std::iter::repeat_n(value, slots)),
    }
}

fn failed(input: usize) -> impl Fn(SnapshotError) -> WriteError {
    move |source| WriteError::Input { input, source: Box::new(source) }
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("inputs", &self.inputs.len())
            .field("writer", &self.writer)
            .finish_non_exhaustive()
    }
}
