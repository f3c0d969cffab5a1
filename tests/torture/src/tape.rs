//! A disk in memory that records its writes and flushes, and shows what a power cut at any of them may have left.
//! Pure; `blockfs.rs` makes it a file that a loop device takes for a disk.

use crate::random::Random;
use rustix::io::Errno;
use std::collections::HashMap;

const SECTOR: usize = 512;
const PAGE: usize = 4096;

#[derive(Debug)]
enum Event {
    Write { at: usize, bytes: Vec<u8> },
    Flush,
}

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read,
    Write,
    Flush,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct Tape {
    live: Vec<u8>,
    /// What the disk was when the recording began; moves along with `settled`.
    base: Vec<u8>,
    events: Vec<Event>,
    is_recording: bool,
    /// Events that are in `base`.
    settled: usize,
    /// The pages of the image that differ from `base`.
    image: HashMap<usize, Box<[u8]>>,
    trouble: Option<(Asked, u64)>,
    /// How often trouble was made since it was ordered.
    pub(crate) troubled: u64,
}

impl Tape {
    /// A disk of that many bytes, all of them zero.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            live: vec![0; len],
            base: Vec::new(),
            events: Vec::new(),
            is_recording: false,
            settled: 0,
            image: HashMap::new(),
            trouble: None,
            troubled: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Begins to record: what is on the disk now is durable.
    pub(crate) fn record(&mut self) {
        self.base.clone_from(&self.live);
        self.events.clear();
        self.settled = 0;
        self.is_recording = true;
    }

    /// Ends the recording.
    pub(crate) fn stop(&mut self) {
        self.is_recording = false;
    }

    /// How many events were recorded.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    /// Fails what is asked, so many times.
    pub(crate) fn order(&mut self, trouble: Option<(Asked, u64)>) {
        self.trouble = trouble;
        self.troubled = 0;
    }

    fn check(&mut self, asked: Asked) -> Result<(), Errno> {
        match &mut self.trouble {
            Some((what, times)) if *what == asked && *times > 0 => {
                *times -= 1;
                self.troubled += 1;
                Err(Errno::IO)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn read(&mut self, at: usize, len: usize) -> Result<&[u8], Errno> {
        self.check(Asked::Read)?;
        let at = at.min(self.live.len());
        Ok(&self.live[at..(at + len).min(self.live.len())])
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), Errno> {
        self.check(Asked::Write)?;
        self.live.get_mut(at..at + bytes.len()).ok_or(Errno::NOSPC)?.copy_from_slice(bytes);
        if self.is_recording {
            self.events.push(Event::Write { at, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        self.check(Asked::Flush)?;
        if self.is_recording {
            self.events.push(Event::Flush);
        }
        Ok(())
    }

    /// Makes the image of a power cut behind the first `cut` events; cuts come in rising order. What was flushed is
    /// there; of the writes since, each is there, lost, or there in part, or all are, or none is.
    pub(crate) fn crash(&mut self, cut: usize, random: &mut Random) {
        self.image.clear();
        let flushed = self.events[..cut].iter().rposition(|event| matches!(event, Event::Flush)).unwrap_or(0);
        while self.settled < flushed {
            if let Event::Write { at, bytes } = &self.events[self.settled] {
                self.base[*at..at + bytes.len()].copy_from_slice(bytes);
            }
            self.settled += 1;
        }
        let profile = random.below(4);
        let from = self.settled.min(cut);
        let events = std::mem::take(&mut self.events);
        for event in &events[from..cut] {
            let Event::Write { at, bytes } = event else { continue };
            let is_whole = match profile {
                0 => continue,
                1 => true,
                _ => match random.below(3) {
                    0 => continue,
                    1 => true,
                    _ => false,
                },
            };
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                if is_whole || random.once_in(2) {
                    self.write_image(at + index * SECTOR, sector);
                }
            }
        }
        self.events = events;
    }

    /// Reads the image of the last crash.
    pub(crate) fn read_image(&self, at: usize, len: usize) -> Vec<u8> {
        let at = at.min(self.base.len());
        let end = (at + len).min(self.base.len());
        let mut bytes = self.base[at..end].to_vec();
        for page in at / PAGE..end.div_ceil(PAGE) {
            if let Some(written) = self.image.get(&page) {
                let (from, to) = ((page * PAGE).max(at), (page * PAGE + written.len()).min(end));
                bytes[from - at..to - at].copy_from_slice(&written[from - page * PAGE..to - page * PAGE]);
            }
        }
        bytes
    }

    /// Writes to the image of the last crash, and to nothing else.
    pub(crate) fn write_image(&mut self, at: usize, bytes: &[u8]) {
        let mut at = at;
        let mut bytes = bytes;
        while !bytes.is_empty() && at < self.base.len() {
            let page = at / PAGE;
            let base = &self.base[page * PAGE..((page + 1) * PAGE).min(self.base.len())];
            let written = self.image.entry(page).or_insert_with(|| base.into());
            let within = at % PAGE;
            let (now, rest) = bytes.split_at(bytes.len().min(written.len() - within));
            written[within..within + now.len()].copy_from_slice(now);
            at += now.len();
            bytes = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_in_every_image_and_what_came_later_in_some() {
        let mut tape = Tape::new(1 << 16);
        tape.write(0, b"base").unwrap();
        tape.record();
        tape.write(8192, &[1; 1024]).unwrap();
        tape.flush().unwrap();
        tape.write(8192, &[2; 1024]).unwrap();
        tape.write(100, &[3; 5000]).unwrap();
        let (mut old, mut new, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            tape.crash(4, &mut Random(seed));
            assert_eq!(tape.read_image(0, 4), b"base");
            let block = tape.read_image(8192, 1024);
            match (block[0], block[1023]) {
                (1, 1) => old += 1,
                (2, 2) => new += 1,
                _ => torn += 1,
            }
        }
        assert!(old > 0 && new > 0 && torn > 0, "{old} {new} {torn}");
        assert_eq!(tape.read(8192, 1).unwrap(), [2]);
    }

    #[test]
    fn an_image_is_written_without_a_trace_elsewhere() {
        let mut tape = Tape::new(1 << 16);
        tape.record();
        tape.crash(0, &mut Random(1));
        tape.write_image(4000, &[7; 5000]);
        assert_eq!(tape.read_image(3999, 5002), [&[0][..], &[7; 5000], &[0]].concat());
        assert_eq!(tape.read(4000, 1).unwrap(), [0]);
        tape.crash(0, &mut Random(1));
        assert_eq!(tape.read_image(4000, 1), [0]);
    }

    #[test]
    fn trouble_is_made_as_often_as_it_was_ordered() {
        let mut tape = Tape::new(4096);
        tape.order(Some((Asked::Flush, 1)));
        assert_eq!((tape.flush(), tape.flush(), tape.troubled), (Err(Errno::IO), Ok(()), 1));
    }
}
