//! Salvage: what a damaged log still holds is written to a new one, the damaged files are set aside, and the loss is
//! recorded in the manifest, so that it stays visible. Only on request.

use super::Options;
use super::open::{Base, Plan};
use super::replayer::Replayer;
use crate::canary::{self, Canary};
use crate::disk::Disk;
use crate::env::Env;
use crate::error::OpenError;
use crate::format::frame::write::RowValues;
use crate::format::manifest::{Free, Loss};
use crate::head::Hosts;
use crate::model::Lsn;
use crate::names::Layouts;
use crate::paths::Paths;
use crate::wal::{Committer, Durability, Log, LogOptions, Preparer, Problem, ROW_VALUES_MAX, Step};
use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a salvage found, and what it did if it was told to.
#[derive(Clone, Debug)]
pub struct SalvageReport {
    /// What is damaged or missing.
    pub problems: Vec<(PathBuf, Problem)>,
    /// Rows that can be read.
    pub rows: u64,
    /// Samples in them.
    pub samples: u64,
    /// Rows that verify but name a host or a layout whose definition is lost.
    pub orphans: u64,
    /// Where damaged files were put; empty if nothing was changed.
    pub set_aside: Vec<PathBuf>,
}

/// Reads all that verifies. With `confirmed`, makes a healthy log of it; without, changes nothing.
pub fn salvage(
    disk: &Arc<dyn Disk>,
    env: &Arc<dyn Env>,
    options: &Options,
    confirmed: bool,
) -> Result<SalvageReport, OpenError> {
    let mut base = Base::open(&**disk, &**env, options, false)?;
    let layouts = Arc::new(Layouts::new(&options.metrics).sharing_at_most(options.definition_max()));
    let hosts = Hosts::default();
    let mut replayer = Replayer::lenient(&layouts, &hosts, base.manifest.snapshot_lsn);
    let recovered = base.recover(&**disk, &**env, &mut replayer)?;
    let problems = recovered.chain.problems.clone();
    let mut report = SalvageReport {
        problems: problems.iter().map(|problem| (base.paths.segment(problem.seq), problem.clone())).collect(),
        rows: recovered.rows,
        samples: replayer.samples,
        orphans: replayer.orphans,
        set_aside: Vec::new(),
    };
    let frees = std::mem::take(&mut replayer.frees);
    drop(replayer);
    if !confirmed || problems.is_empty() {
        return Ok(report);
    }

    let paths = base.paths.clone();
    // No number is given twice, not even where no file is left that has it.
    let highest = recovered.chain.highest_seq.max(base.manifest.log_floor);
    let seq = Plan::new(&recovered, options.segment_len).seq.max(highest + 1);
    let first_lsn = recovered.next_lsn;
    // Until the manifest lets the log begin with them, the new segments do not count, and the damaged log is what it was.
    base.forget_salvage(&**disk, &recovered.chain.unfinished)?;
    let begun = disk.replace(&paths.salvage(), seq.to_string().as_bytes());
    begun.map_err(OpenError::io("write", paths.salvage()))?;
    let preparer = Preparer::new(Arc::clone(disk), paths.clone(), options.segment_len, seq - 1);
    let log = Arc::new(Log::new(
        Arc::clone(disk),
        paths.clone(),
        base.manifest.store,
        layouts,
        LogOptions { segment_len: options.segment_len, pending_max: usize::MAX },
        seq,
        first_lsn,
    ));
    // The new log seals the damaged one until the manifest says otherwise: a salvage that is cut off changes nothing.
    let mut committer = Committer::new(Arc::clone(&log), Arc::new(preparer), Durability::Sync, recovered.end);
    let into = |path: PathBuf| OpenError::io("write", path);
    committer.begin(seq, first_lsn).map_err(into(paths.segment(seq)))?;
    write_again(&hosts, &log, &frees, &mut committer).map_err(into(paths.wal()))?;
    committer.close().map_err(into(paths.wal()))?;

    let manifest = &mut base.manifest;
    manifest.generation += 1;
    manifest.log_floor = seq;
    let recorded = if canary::is(Canary::SalvageForgetsLoss) { &[] } else { &problems[..] };
    manifest.losses.extend(recorded.iter().map(|problem| Loss {
        seq: problem.seq,
        offset: problem.offset,
        bytes: problem.bytes,
        first_lsn: problem.first_lsn,
        last_lsn: problem.last_lsn,
        time: env.unix_now(),
    }));
    disk.replace(&paths.manifest(), &manifest.to_bytes()).map_err(into(paths.manifest()))?;
    let damaged: BTreeSet<u64> = problems.iter().map(|problem| problem.seq).collect();
    let foreign = &recovered.chain.foreign;
    report.set_aside = set_aside(&**disk, &paths, seq, &damaged, foreign)?;
    base.forget_salvage(&**disk, &[])?;
    drop(base.lock);
    Ok(report)
}

/// Writes the rows again, each free between the rows that were older and those that were younger.
fn write_again(hosts: &Hosts, log: &Log, frees: &[Free], committer: &mut Committer) -> io::Result<()> {
    let mut low = Lsn(0);
    for free in frees {
        write_rows(hosts, log, low..free.lsn, committer)?;
        log.append_free(&free.selector, free.to).map_err(io::Error::other)?;
        low = free.lsn;
    }
    write_rows(hosts, log, low..Lsn(u64::MAX), committer)
}

fn write_rows(hosts: &Hosts, log: &Log, lsns: Range<Lsn>, committer: &mut Committer) -> io::Result<()> {
    for host in hosts.all() {
        let state = host.state.lock();
        for head_row in state.rows_up_to(lsns.end).iter().filter(|row| lsns.contains(&row.lsn)) {
            let Some(row) = head_row.frame.row(head_row.offset) else { continue };
            let (ordinals, values): (Vec<u32>, Vec<f64>) = row.present().unzip();
            for (ordinals, values) in ordinals.chunks(ROW_VALUES_MAX).zip(values.chunks(ROW_VALUES_MAX)) {
                let (start, frequency, slot) = (row.start(), row.frequency(), row.slot());
                let row = RowValues { start, frequency, slot, ordinals, values };
                let appended = log.append_row((host.id, &host.cluster, &host.name), &state.layout, &row);
                appended.map_err(io::Error::other)?;
            }
        }
        drop(state);
        loop {
            match committer.step(&|| Duration::ZERO) {
                Step::Idle => break,
                Step::Committed { frame, .. } => committer.acknowledge(frame),
                Step::Full | Step::Failed => {
                    let why = log.admit().err().map_or_else(String::new, |why| why.to_string());
                    return Err(io::Error::other(why));
                }
            }
        }
    }
    Ok(())
}

/// Renames the damaged segments below `floor` and removes the others, but nothing that is not this store's.
fn set_aside(
    disk: &dyn Disk,
    paths: &Paths,
    floor: u64,
    damaged: &BTreeSet<u64>,
    foreign: &[String],
) -> Result<Vec<PathBuf>, OpenError> {
    let mut aside = Vec::new();
    let mut entries = disk.list(&paths.wal()).map_err(OpenError::io("list", paths.wal()))?;
    entries.retain(|entry| !foreign.contains(&entry.name));
    for entry in entries {
        let Some(seq) = crate::paths::segment_seq(&entry.name).filter(|&seq| seq < floor) else { continue };
        let path = paths.segment(seq);
        if damaged.contains(&seq) {
            let to = paths.set_aside(seq);
            disk.rename(&path, &to).map_err(OpenError::io("rename", &path))?;
            aside.push(to);
        } else {
            disk.unlink(&path).map_err(OpenError::io("remove", &path))?;
        }
    }
    disk.sync_dir(&paths.wal()).map_err(OpenError::io("sync", paths.wal()))?;
    Ok(aside)
}
