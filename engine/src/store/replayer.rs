//! From frames back to hosts, layouts and rows. Replay stores what the rows say; it never decides anything.

use super::SegmentInfo;
use crate::canary::{self, Canary};
use crate::disk::{BLOCK, FileBytes};
use crate::format::FormatError;
use crate::format::frame::write::{self, RowValues};
use crate::format::frame::{FRAME_HEADER_LEN, Frame, Key, Record, Row};
use crate::format::manifest::Free;
use crate::format::segment::Segment;
use crate::head::{HeadRow, Host, Hosts, RowsFrame};
use crate::model::Lsn;
use crate::names::{KeyName, Layout, Layouts};
use crate::slot::Run;
use crate::wal::Replay;
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Builds the head from the log.
pub(super) struct Replayer<'a> {
    layouts: &'a Layouts,
    hosts: &'a Hosts,
    /// Whether rows whose definitions are lost are passed over, as a salvage must.
    is_lenient: bool,
    local_hosts: HashMap<u32, Arc<Host>>,
    local_layouts: HashMap<u32, Arc<Layout>>,
    /// Where the frames are, if they may be kept there.
    file: Option<Arc<FileBytes>>,
    /// Rows up to this LSN are kept elsewhere and passed over.
    skip_to: Lsn,
    /// Frees behind it.
    pub(super) frees: Vec<Free>,
    /// What each segment held, oldest first.
    pub(super) segments: Vec<SegmentInfo>,
    /// End of the newest slot, in unix seconds.
    pub(super) newest: i64,
    /// Samples that were replayed.
    pub(super) samples: u64,
    /// Rows that were passed over because their definitions are lost.
    pub(super) orphans: u64,
    /// Bytes of the frames that live.
    pub(super) head_bytes: Arc<AtomicU64>,
}

impl<'a> Replayer<'a> {
    pub(super) fn new(layouts: &'a Layouts, hosts: &'a Hosts, skip_to: Lsn) -> Self {
        Self {
            layouts,
            hosts,
            is_lenient: false,
            local_hosts: HashMap::new(),
            local_layouts: HashMap::new(),
            file: None,
            orphans: 0,
            skip_to,
            frees: Vec::new(),
            segments: Vec::new(),
            newest: i64::MIN,
            samples: 0,
            head_bytes: Arc::default(),
        }
    }

    /// One that gets out of a damaged log what can be had.
    pub(super) fn lenient(layouts: &'a Layouts, hosts: &'a Hosts, skip_to: Lsn) -> Self {
        Self { is_lenient: true, ..Self::new(layouts, hosts, skip_to) }
    }

    fn define_layout(&mut self, id: u32, parent: u32, keys: &[Key<'_>]) -> Result<(), FormatError> {
        let parent = match (parent, self.local_layouts.get(&parent)) {
            (0, _) => self.layouts.empty(),
            (_, Some(parent)) => Arc::clone(parent),
            (_, None) if self.is_lenient => return Ok(()),
            (_, None) => return Err(FormatError::Field("layout has an unknown parent")),
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
        match self.local_layouts.insert(id, layout) {
            None => Ok(()),
            Some(_) => Err(FormatError::Field("layout has the id of another one")),
        }
    }

    fn row(&mut self, lsn: Lsn, frame: &Arc<RowsFrame>, offset: usize, row: &Row<'_>) -> Result<(), FormatError> {
        let (host, layout) = match (self.local_hosts.get(&row.host()), self.local_layouts.get(&row.layout())) {
            (Some(host), Some(layout)) => (host, layout),
            _ if self.is_lenient => {
                self.orphans += 1;
                return Ok(());
            }
            (None, _) => return Err(FormatError::Field("row of an unknown host")),
            (_, None) => return Err(FormatError::Field("row with an unknown layout")),
        };
        if row.last_ordinal() as usize >= layout.len() {
            return Err(FormatError::Field("row has an ordinal that its layout has not"));
        }
        let run = Run { start: row.start(), frequency: row.frequency() };
        self.newest = self.newest.max(run.end_after(row.slot().saturating_add(1)));
        let mut state = host.state.lock();
        let mut placed = (run, row.slot());
        if canary::is(Canary::ReplayDecides)
            && let Some((ordinal, _)) = row.present().next()
        {
            let time = run.nominal(row.slot());
            placed = state.runs.place(ordinal, time, run.frequency).unwrap_or(placed);
        }
        let (run, slot) = placed;
        let same_ordinals = if state.layout.is_empty() || layout.extends(&state.layout) {
            state.layout = Arc::clone(layout);
            true
        } else {
            state.layout.extends(layout)
        };
        // Frames are far shorter than 4 GiB.
        let mut linked =
            HeadRow { lsn, frame: Arc::clone(frame), offset: u32::try_from(offset).unwrap_or(u32::MAX), run, slot };
        if !same_ordinals {
            let names: Vec<KeyName<'_>> = layout.keys().iter().map(crate::names::Key::name).collect();
            state.layout = self.layouts.extend(&state.layout, &names);
            linked = HeadRow {
                frame: Arc::new(translated(row, layout, &state.layout, &self.head_bytes)),
                offset: 0,
                ..linked
            };
        }
        if let Some(row) = linked.frame.row(linked.offset) {
            let mut samples = 0;
            let ordinals = row.present().inspect(|_| samples += 1).map(|(ordinal, _)| ordinal);
            state.runs.record_all(ordinals, run, slot);
            self.samples += samples;
        }
        state.link(linked);
        Ok(())
    }
}

/// The row with the ordinals of another layout, which has all keys of its own.
fn translated(row: &Row<'_>, from: &Layout, to: &Layout, gauge: &Arc<AtomicU64>) -> RowsFrame {
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
    RowsFrame::of_records(&bytes, gauge)
}

impl Replayer<'_> {
    /// The records of a frame, to be kept: where they were read, unless that is mostly padding.
    fn keep(&self, frame: &Frame<'_>) -> RowsFrame {
        let records = frame.record_bytes();
        let begin = usize::try_from(frame.offset()).unwrap_or(usize::MAX).saturating_add(FRAME_HEADER_LEN);
        match &self.file {
            Some(file) if records.len() as u64 >= frame.padded_len() / 2 => {
                RowsFrame::in_file(file, begin..begin.saturating_add(records.len()), &self.head_bytes)
            }
            _ => RowsFrame::of_records(records, &self.head_bytes),
        }
    }
}

impl Replay for Replayer<'_> {
    fn file(&mut self, bytes: Option<&Arc<FileBytes>>) {
        self.file = bytes.map(Arc::clone);
    }

    fn segment(&mut self, segment: &Segment) {
        self.local_hosts.clear();
        self.local_layouts.clear();
        let last_lsn = Lsn(segment.first_lsn.0.saturating_sub(1));
        self.segments.push(SegmentInfo { seq: segment.seq, last_lsn, end: BLOCK as u64 });
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), FormatError> {
        let rows = Arc::new(self.keep(frame));
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
                    let host = self.hosts.find_or_create(cluster, host, self.layouts, usize::MAX);
                    let host = host.ok_or(FormatError::Field("more hosts than there are numbers"))?;
                    if self.local_hosts.insert(id, host).is_some() {
                        return Err(FormatError::Field("host has the id of another one"));
                    }
                }
                Record::Row(_) | Record::Free { .. } if lsn <= self.skip_to => {}
                Record::Row(row) => self.row(lsn, &rows, offset - FRAME_HEADER_LEN, &row)?,
                Record::Free { to, selector } => {
                    let selector = selector.into_iter().map(str::to_owned).collect();
                    self.frees.push(Free { lsn, to, selector });
                }
            }
            lsn.0 += u64::from(has_lsn);
        }
        if lsn != frame.next_lsn() {
            return Err(FormatError::Field("frame has fewer rows than it says"));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.last_lsn = Lsn(lsn.0.saturating_sub(1));
            segment.end += frame.padded_len();
        }
        Ok(())
    }
}
