//! The parts of a segment: the header, the frames that verify wherever they stand, their records.

use super::{Out, Sample, Value, hex, text};
use crate::disk::BLOCK;
use crate::format::frame::{Frame, FrameHeader, MISPLACED, Place, Record, Row};
use crate::format::segment::{Segment, SegmentHeader};
use crate::format::{FormatError, StoreId};
use crate::model::Lsn;
use crate::slot::Run;
use crate::tools::records::Definitions;
use std::io;
use zerocopy::FromBytes;

/// Where frames are missing between others. Whether that is damage a frame further on may tell.
struct Hole {
    offset: u64,
    /// What must be durable for this to be damage.
    lsn: Lsn,
    what: FormatError,
}

pub(super) fn inspect(bytes: &[u8], out: &mut Out<'_>) -> io::Result<()> {
    let header = Segment::check(bytes, bytes.len() as u64);
    if let Ok((raw, _)) = SegmentHeader::read_from_prefix(bytes) {
        show_header(&raw, out)?;
    }
    // All zeros: prepared, and nothing was written yet.
    if bytes.iter().all(|&byte| byte == 0) {
        return out.item("unused", 0, Vec::new());
    }
    if let Err(error) = &header {
        out.damage(0, "header", error)?;
    }
    let known = header.ok();
    let mut frames = Frames {
        known,
        next_lsn: known.map(|segment| segment.first_lsn),
        holes: Vec::new(),
        is_in_hole: false,
        definitions: Definitions::default(),
    };
    let mut offset = BLOCK;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        offset += frames.take(rest, offset as u64, out)?;
    }
    frames.end(bytes, out)
}

fn show_header(raw: &SegmentHeader, out: &mut Out<'_>) -> io::Result<()> {
    let fields = vec![
        ("version", Value::Number(raw.version.get().into())),
        ("crc", hex(raw.crc.get())),
        ("store", text(StoreId(raw.store).to_string())),
        ("seq", Value::Number(raw.seq.get())),
        ("first_lsn", Value::Number(raw.first_lsn.get())),
        ("len", Value::Number(raw.len.get())),
        ("seal_seq", Value::Number(raw.seal_seq.get())),
        ("seal_end", Value::Number(raw.seal_end.get())),
        ("seal_lsn", Value::Number(raw.seal_lsn.get())),
    ];
    out.item("header", 0, fields)
}

struct Frames {
    /// None where the header is damaged: then frames are taken at their own word.
    known: Option<Segment>,
    next_lsn: Option<Lsn>,
    holes: Vec<Hole>,
    is_in_hole: bool,
    definitions: Definitions,
}

impl Frames {
    /// Looks at what begins `rest`; how many bytes to go on by.
    fn take(&mut self, rest: &[u8], offset: u64, out: &mut Out<'_>) -> io::Result<usize> {
        let place = match (&self.known, FrameHeader::read_from_prefix(rest)) {
            (Some(segment), _) => Place { store: segment.store, seq: segment.seq, offset },
            (None, Ok((own, _))) => Place { store: StoreId(own.store), seq: own.seq.get(), offset },
            (None, Err(_)) => return Ok(rest.len()),
        };
        let frame = match Frame::check(rest, place) {
            Ok(frame) => frame,
            Err(what) => {
                if what == MISPLACED {
                    out.damage(offset, "frame", &what)?;
                } else if !self.is_in_hole {
                    self.holes.push(Hole { offset, lsn: self.next_lsn.unwrap_or(Lsn(1)), what });
                }
                self.is_in_hole = true;
                return Ok(BLOCK.min(rest.len()));
            }
        };
        let fields = vec![
            ("len", Value::Number(frame.padded_len())),
            ("first_lsn", Value::Number(frame.first_lsn().0)),
            ("next_lsn", Value::Number(frame.next_lsn().0)),
            ("durable_lsn", Value::Number(frame.durable_lsn().0)),
        ];
        out.item("frame", offset, fields)?;
        // The mark of a frame vouches for what should stand in front of it.
        let durable = frame.durable_lsn();
        let holes = std::mem::take(&mut self.holes).into_iter();
        let (vouched, open): (Vec<_>, Vec<_>) = holes.partition(|hole| hole.lsn <= durable);
        self.holes = open;
        for Hole { offset, lsn, what } in vouched {
            out.damage(offset, &format!("frame with LSN {lsn}, which was durable,"), &what)?;
        }
        if !self.is_in_hole && self.next_lsn.is_some_and(|next| next != frame.first_lsn()) {
            out.damage(offset, "frame", &"does not continue the LSNs before it")?;
        }
        self.is_in_hole = false;
        self.next_lsn = Some(frame.next_lsn());
        self.records(&frame, offset, out)?;
        Ok(usize::try_from(frame.padded_len()).unwrap_or(usize::MAX))
    }

    fn records(&mut self, frame: &Frame<'_>, offset: u64, out: &mut Out<'_>) -> io::Result<()> {
        let mut lsn = frame.first_lsn();
        // One complaint a frame: behind a lost definition all rows that need it are orphans.
        let mut wrong = None;
        for record in frame.records() {
            let (at, record) = match record {
                Ok(record) => record,
                Err(error) => {
                    wrong.get_or_insert((offset, error));
                    break;
                }
            };
            let at = offset + at as u64;
            let taken = self.definitions.take(&record);
            self.show(&record, at, lsn, taken.is_ok(), out)?;
            if let Err(error) = taken {
                wrong.get_or_insert((at, error));
            }
            lsn.0 = lsn.0.saturating_add(u64::from(record.has_lsn()));
        }
        if wrong.is_none() && lsn != frame.next_lsn() {
            wrong = Some((offset, FormatError::Field("has another number of rows than it says")));
        }
        wrong.map_or(Ok(()), |(at, error)| out.damage(at, "records of a frame", &error))
    }

    fn show(&self, record: &Record<'_>, at: u64, lsn: Lsn, is_known: bool, out: &mut Out<'_>) -> io::Result<()> {
        match record {
            Record::Layout { id, parent, keys } => {
                let names = keys.iter().map(|key| format!("{}/{}/{}", key.metric, key.component, key.subcomponent));
                let fields = vec![
                    ("id", Value::Number((*id).into())),
                    ("parent", Value::Number((*parent).into())),
                    ("keys", Value::Texts(names.collect())),
                ];
                out.item("layout", at, fields)
            }
            Record::Host { id, cluster, host } => {
                let fields =
                    vec![("id", Value::Number((*id).into())), ("cluster", text(*cluster)), ("host", text(*host))];
                out.item("host", at, fields)
            }
            Record::Row(row) if out.wants_samples() => {
                if is_known {
                    self.samples(row, out)?;
                }
                Ok(())
            }
            Record::Row(row) => {
                let run = Run { start: row.start(), frequency: row.frequency() };
                let (cluster, host) = self.definitions.host(row.host()).unwrap_or_default();
                let fields = vec![
                    ("lsn", Value::Number(lsn.0)),
                    ("cluster", text(cluster)),
                    ("host", text(host)),
                    ("layout", Value::Number(row.layout().into())),
                    ("start", Value::Signed(run.start)),
                    ("frequency", Value::Number(run.frequency.into())),
                    ("slot", Value::Number(row.slot().into())),
                    ("time", Value::Signed(run.nominal(row.slot()))),
                    ("values", Value::Number(row.present().count() as u64)),
                ];
                out.item("row", at, fields)
            }
            Record::Free { to, selector } => {
                let selector = selector.iter().map(|&name| name.to_owned()).collect();
                let fields = vec![
                    ("lsn", Value::Number(lsn.0)),
                    ("to", Value::Signed(*to)),
                    ("selector", Value::Texts(selector)),
                ];
                out.item("free", at, fields)
            }
        }
    }

    fn samples(&self, row: &Row<'_>, out: &mut Out<'_>) -> io::Result<()> {
        let Some((cluster, host)) = self.definitions.host(row.host()) else { return Ok(()) };
        let time = Run { start: row.start(), frequency: row.frequency() }.nominal(row.slot());
        for (ordinal, value) in row.present() {
            let Some([metric, component, subcomponent]) = self.definitions.key(row.layout(), ordinal) else { continue };
            out.sink.sample(&Sample { cluster, host, metric, component, subcomponent, time, value })?;
        }
        Ok(())
    }

    /// Holes that nothing vouches for are what a power cut, or a writer at work, leaves; the last one is the free space.
    fn end(self, bytes: &[u8], out: &mut Out<'_>) -> io::Result<()> {
        for Hole { offset, lsn, what } in self.holes {
            let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
            if rest.iter().all(|&byte| byte == 0) {
                out.item("end", offset, vec![("next_lsn", Value::Number(lsn.0))])?;
            } else {
                let what = format!("a write that was interrupted, or is under way: {what}");
                out.item("torn", offset, vec![("next_lsn", Value::Number(lsn.0)), ("what", text(what))])?;
            }
        }
        Ok(())
    }
}
