//! From frames back to hosts, layouts and rows. Replay stores what the rows say; it never decides anything.

use super::{SegmentInfo, selects_host, selects_key};
use crate::format::FormatError;
use crate::format::frame::write::{self, RowValues};
use crate::format::frame::{FRAME_HEADER_LEN, Frame, Key, Record, Row};
use crate::format::segment::Segment;
use crate::head::{HeadRow, Host, Hosts, RowsFrame};
use crate::model::Lsn;
use crate::names::{KeyName, Layout, Layouts};
use crate::slot::Run;
use crate::wal::Replay;
use std::sync::Arc;

/// Builds the head from the log.
pub(super) struct Replayer<'a> {
    layouts: &'a Layouts,
    hosts: &'a Hosts,
    local_hosts: Vec<Arc<Host>>,
    local_layouts: Vec<Arc<Layout>>,
    /// What each segment held, oldest first.
    pub(super) segments: Vec<SegmentInfo>,
    /// End of the newest slot, in unix seconds.
    pub(super) newest: i64,
    /// Samples that were replayed.
    pub(super) samples: u64,
    /// Bytes of frames that were kept.
    pub(super) head_bytes: u64,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(layouts: &'a Layouts, hosts: &'a Hosts) -> Self {
        Self {
            layouts,
            hosts,
            local_hosts: Vec::new(),
            local_layouts: Vec::new(),
            segments: Vec::new(),
            newest: i64::MIN,
            samples: 0,
            head_bytes: 0,
        }
    }

    fn define_layout(&mut self, id: u32, parent: u32, keys: &[Key<'_>]) -> Result<(), FormatError> {
        if id as usize != self.local_layouts.len() + 1 {
            return Err(FormatError::Field("layout has another id than the next one"));
        }
        let parent = match parent.checked_sub(1) {
            None => self.layouts.empty(),
            Some(at) => Arc::clone(
                self.local_layouts.get(at as usize).ok_or(FormatError::Field("layout has an unknown parent"))?,
            ),
        };
        let own = keys.iter().map(|key| KeyName {
            metric: self.layouts.metric(key.metric),
            component: key.component,
            subcomponent: key.subcomponent,
        });
        let names: Vec<KeyName<'_>> = parent.keys().iter().map(crate::names::Key::name).chain(own).collect();
        let layout = self.layouts.exact(&names);
        if layout.len() != names.len() {
            return Err(FormatError::Field("layout has a key twice"));
        }
        self.local_layouts.push(layout);
        Ok(())
    }

    fn row(&mut self, lsn: Lsn, frame: &Arc<RowsFrame>, offset: usize, row: &Row<'_>) -> Result<(), FormatError> {
        let local = |id: u32| (id as usize).wrapping_sub(1);
        let host = self.local_hosts.get(local(row.host())).ok_or(FormatError::Field("row of an unknown host"))?;
        let layout =
            self.local_layouts.get(local(row.layout())).ok_or(FormatError::Field("row with an unknown layout"))?;
        if row.last_ordinal() as usize >= layout.len() {
            return Err(FormatError::Field("row has an ordinal that its layout has not"));
        }
        let run = Run { start: row.start(), frequency: row.frequency() };
        self.newest = self.newest.max(run.end_after(row.slot().saturating_add(1)));
        let mut state = host.state.lock();
        let same_ordinals = if state.layout.is_empty() || layout.extends(&state.layout) {
            state.layout = Arc::clone(layout);
            true
        } else {
            state.layout.extends(layout)
        };
        // Frames are far shorter than 4 GiB.
        let mut linked = HeadRow { lsn, frame: Arc::clone(frame), offset: u32::try_from(offset).unwrap_or(u32::MAX) };
        if !same_ordinals {
            let names: Vec<KeyName<'_>> = layout.keys().iter().map(crate::names::Key::name).collect();
            state.layout = self.layouts.extend(&state.layout, &names);
            linked = HeadRow { frame: Arc::new(translated(row, layout, &state.layout)), offset: 0, ..linked };
        }
        if let Some(row) = linked.frame.row(linked.offset) {
            for (ordinal, _) in row.present() {
                state.runs.record(ordinal, run, row.slot());
                self.samples += 1;
            }
        }
        state.link(linked);
        Ok(())
    }

    fn free(&self, lsn: Lsn, to: i64, selector: &[&str]) {
        let selector: Vec<String> = selector.iter().map(|&part| part.to_owned()).collect();
        apply_free(self.hosts, &selector, to, lsn);
    }
}

/// The row with the ordinals of another layout, which has all keys of its own.
fn translated(row: &Row<'_>, from: &Layout, to: &Layout) -> RowsFrame {
    let mut pairs: Vec<(u32, f64)> = row
        .present()
        .filter_map(|(ordinal, value)| Some((to.find(from.keys().get(ordinal as usize)?.name())?, value)))
        .collect();
    pairs.sort_unstable_by_key(|&(ordinal, _)| ordinal);
    let (ordinals, values): (Vec<u32>, Vec<f64>) = pairs.into_iter().unzip();
    let mut bytes = Vec::new();
    let values = RowValues {
        start: row.start(),
        frequency: row.frequency(),
        slot: row.slot(),
        ordinals: &ordinals,
        values: &values,
    };
    write::row(&mut bytes, row.host(), row.layout(), &values);
    RowsFrame::of_records(&bytes)
}

/// Takes away what a free names.
pub(super) fn apply_free(hosts: &Hosts, selector: &[String], to: i64, lsn: Lsn) {
    for host in hosts.all() {
        if selects_host(selector, &host.cluster, &host.name) {
            host.state.lock().free(|key| selects_key(selector, key), to, lsn);
        }
    }
}

impl Replay for Replayer<'_> {
    fn segment(&mut self, segment: &Segment) {
        self.local_hosts.clear();
        self.local_layouts.clear();
        let last_lsn = Lsn(segment.first_lsn.0.saturating_sub(1));
        self.segments.push(SegmentInfo { seq: segment.seq, last_lsn, newest: i64::MIN });
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FormatError> {
        let records = frame.record_bytes();
        let rows = Arc::new(RowsFrame::of_records(records));
        self.head_bytes += rows.heap_bytes() as u64;
        let mut lsn = frame.first_lsn();
        for record in frame.records() {
            let (offset, record) = record?;
            let has_lsn = record.has_lsn();
            if has_lsn && lsn >= frame.next_lsn() {
                return Err(FormatError::Field("frame has more rows than it says"));
            }
            match record {
                Record::Layout { id, parent, keys } => self.define_layout(id, parent, &keys)?,
                Record::Host { id, cluster, host } => {
                    if id as usize != self.local_hosts.len() + 1 {
                        return Err(FormatError::Field("host has another id than the next one"));
                    }
                    let host = self.hosts.find_or_create(cluster, host, self.layouts, usize::MAX);
                    self.local_hosts.push(host.ok_or(FormatError::Field("more hosts than there are numbers"))?);
                }
                Record::Row(row) => self.row(lsn, &rows, offset - FRAME_HEADER_LEN, &row)?,
                Record::Free { to, selector } => self.free(lsn, to, &selector),
            }
            lsn.0 += u64::from(has_lsn);
        }
        if lsn != frame.next_lsn() {
            return Err(FormatError::Field("frame has fewer rows than it says"));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.last_lsn = Lsn(lsn.0 - 1);
            segment.newest = segment.newest.max(self.newest);
        }
        Ok(())
    }
}
