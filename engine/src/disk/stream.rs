//! New files that are written front to back, in few large pieces past the page cache, so that no burst of dirty pages
//! stands in the way of a log sync.
//!
//! It promises what [`NewFile`] promises: the file appears whole or not at all, and an error gives it up for good. It
//! never syncs before the end.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::durable::{Draft, Steps};
use super::log::{Device, write_all};
use super::{AlignedBuf, BLOCK, NewFile, invalid};

/// A file in the making, over the steps of a disk and a device that writes its temporary file.
#[derive(Debug)]
pub(super) struct Stream<D: Steps, V> {
    /// None after an error.
    draft: Option<Draft<D>>,
    device: V,
    /// The bytes that are not written yet, `filled` of them.
    piece: AlignedBuf,
    filled: usize,
    /// Where the piece belongs, on a block boundary.
    offset: u64,
}

impl<D: Steps, V: Device> Stream<D, V> {
    /// Creates the temporary file of this name, which `open` opens for writing in place. `piece_len` is in whole blocks.
    pub(super) fn create(
        disk: &D,
        path: &Path,
        piece_len: usize,
        open: impl FnOnce(&Path) -> io::Result<V>,
    ) -> io::Result<Self> {
        let draft = Draft::create(disk, path)?;
        let device = open(draft.temporary())?;
        Ok(Self { draft: Some(draft), device, piece: AlignedBuf::zeroed(piece_len), filled: 0, offset: 0 })
    }

    /// The draft, to be put back by who succeeds: one that is not is removed.
    fn take(&mut self) -> io::Result<Draft<D>> {
        self.draft.take().ok_or_else(|| io::Error::other("the file was given up after an error"))
    }

    fn gather(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = &mut self.piece.as_bytes_mut()[self.filled..];
            let (taken, rest) = bytes.split_at(bytes.len().min(room.len()));
            room[..taken.len()].copy_from_slice(taken);
            self.filled += taken.len();
            bytes = rest;
            if self.filled == self.piece.len() {
                self.write_piece()?;
            }
        }
        Ok(())
    }

    /// Writes what is gathered. A part of a block can only be the end of the file, and goes through the page cache.
    fn write_piece(&mut self) -> io::Result<()> {
        let (blocks, part) = self.piece.as_bytes()[..self.filled].split_at(self.filled - self.filled % BLOCK);
        write(&mut self.device, self.offset, blocks)?;
        if !part.is_empty() {
            self.device.leave_direct()?;
            write(&mut self.device, self.offset + blocks.len() as u64, part)?;
        }
        self.offset += self.filled as u64;
        self.filled = 0;
        Ok(())
    }
}

impl<D: Steps, V: Device> NewFile for Stream<D, V> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let draft = self.take()?;
        self.gather(bytes)?;
        self.draft = Some(draft);
        Ok(())
    }

    fn finish(mut self: Box<Self>, head: &[u8]) -> io::Result<()> {
        let draft = self.take()?;
        self.write_piece()?;
        if head.len() as u64 > self.offset {
            return Err(invalid("a head is written over bytes that were appended"));
        }
        // Any length and a page or two: through the page cache, which the sync empties.
        self.device.leave_direct()?;
        write(&mut self.device, 0, head)?;
        draft.publish()
    }
}

/// Writes all bytes, through the page cache from the first refusal of a direct write on.
fn write(device: &mut impl Device, offset: u64, bytes: &[u8]) -> io::Result<()> {
    loop {
        match write_all(offset, bytes, device.unit(), |at, rest| device.write_some(at, rest, false)) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) && device.leave_direct()? => {}
            result => return result,
        }
    }
}
