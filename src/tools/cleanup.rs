//! `kymo archive` and `kymo cleanup`: what the server does by the clock, at once, on a store that no server has.

use super::ToolError;
use super::out::{Object, size, stdout, unless_closed};
use crate::nodes::{NodeProvider, UsedNodes};
use kymo_engine::store::{JobError, JobStats, Progress, Stats, Store};
use std::io::Write;

/// What is taken out of the hot tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Days that end at or before this instant, in unix seconds; they are archived.
    Before(i64),
    /// What the retention of the configuration says.
    Retention,
}

/// Archives what is due, if the store has an archive to feed, and drops from the hot tier what is kept elsewhere or is
/// to be deleted. The hosts of running jobs are spared, as the server spares them.
pub(crate) fn cleanup(
    store: &Store,
    provider: Option<&NodeProvider>,
    due: Due,
    as_json: bool,
) -> Result<(), ToolError> {
    let limit = match due {
        Due::Before(limit) => Some(limit),
        Due::Retention => store.retention_limit(),
    };
    let before = store.stats();
    if let Some(limit) = limit {
        let used = used_nodes(provider, limit)?;
        let is_exempt = |cluster: &str, host: &str| used.get(cluster).is_some_and(|hosts| hosts.contains(host));
        drain(|| store.compact_step(true))?;
        drain(|| store.archive_step_before(limit))?;
        // A partition that keeps some of its hosts is written again without the others, as a merge.
        drain(|| match store.drop_step(limit, &is_exempt)? {
            Progress::Idle => Ok(Progress::Idle),
            _ => drain(|| store.compact_step(false)).map(|()| Progress::Done),
        })?;
    }
    let after = store.stats();
    unless_closed(tell(&before, &after, as_json)).map_err(Into::into)
}

fn drain(mut step: impl FnMut() -> Result<Progress, JobError>) -> Result<(), JobError> {
    while step()? == Progress::Done {}
    Ok(())
}

fn used_nodes(provider: Option<&NodeProvider>, limit: i64) -> Result<UsedNodes, ToolError> {
    let unknown = |why: crate::nodes::NodesError| ToolError::Nodes(why.to_string());
    let Some(provider) = provider else { return Ok(UsedNodes::new()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(provider.used_since(limit)).map_err(unknown)
}

fn tell(before: &Stats, after: &Stats, as_json: bool) -> std::io::Result<()> {
    let JobStats { archive_files: files, archive_bytes: bytes, .. } = after.jobs;
    let rows = after.archived_rows - before.archived_rows;
    let parts = after.archived_parts - before.archived_parts;
    let (was, is) = (before.snapshot_bytes, after.snapshot_bytes);
    let mut out = stdout();
    if as_json {
        let mut object = Object::begin(&mut out)?;
        object.field("archived_parts", parts)?;
        object.field("archived_files", files)?;
        object.field("archived_rows", rows)?;
        object.field("archived_bytes", bytes)?;
        object.field("hot_bytes_before", was)?;
        object.field("hot_bytes_after", is)?;
        object.end()?;
        writeln!(out)?;
    } else {
        writeln!(out, "archived {rows} samples in {files} files of {}", size(bytes))?;
        if rows == 0 && was == is && was > 0 {
            writeln!(out, "nothing was due: how old a day is counts from the newest sample that the store has")?;
        }
        writeln!(out, "hot tier: {} before, {} now", size(was), size(is))?;
    }
    out.flush()
}
