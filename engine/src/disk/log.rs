//! The log file of every implementation: the loops and fallbacks around single attempts of a [`Device`].
//!
//! It promises what [`LogFile`] promises, whatever part of a write an attempt moves. It never retries a failed sync:
//! a second one may report success for pages that are gone.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;

use rustix::io::Errno;

use super::{AlignedBuf, BLOCK, LogFile, invalid};

/// An open file that takes single attempts. An attempt may be short or interrupted.
pub(super) trait Device: Debug + Send {
    /// Writes some of these bytes, of which there is at least one, and says how many. With `durable` they are on the
    /// device when this returns.
    fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize>;

    /// Makes all earlier writes durable.
    fn sync(&mut self) -> io::Result<()>;

    /// Writes begin at a multiple of this many bytes, a divisor of [`BLOCK`].
    fn unit(&self) -> usize {
        1
    }

    /// Goes over to the page cache; false where it is in use already.
    fn leave_direct(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Begins an attempt to write all of these bytes durably that goes on beside the caller; gives the buffer back
    /// where that cannot be done.
    fn begin(&mut self, _offset: u64, blocks: AlignedBuf) -> Result<Box<dyn Attempt>, AlignedBuf> {
        Err(blocks)
    }
}

/// An attempt to write that is under way. Dropping it waits for its end.
pub(super) trait Attempt: Debug + Send {
    /// Waits for its end: the buffer, and how many of the bytes were written.
    fn finish(self: Box<Self>) -> (AlignedBuf, io::Result<usize>);
}

/// A durable write that was begun.
#[derive(Debug)]
struct Begun {
    offset: u64,
    how: How,
}

#[derive(Debug)]
enum How {
    UnderWay(Box<dyn Attempt>),
    /// Nothing was done yet.
    Later(AlignedBuf),
}

/// A log file over a device.
#[derive(Debug)]
pub(super) struct Log<D> {
    device: D,
    /// The prepared length in bytes.
    len: u64,
    /// Whether a durable write is one call; false once the file system has refused it.
    one_call: bool,
    /// Writes that were begun, oldest first.
    begun: VecDeque<Begun>,
}

impl<D: Device> Log<D> {
    pub(super) fn new(device: D, len: u64) -> Self {
        Self { device, len, one_call: true, begun: VecDeque::new() }
    }

    fn check(&self, offset: u64, blocks: &AlignedBuf) -> io::Result<()> {
        if !offset.is_multiple_of(BLOCK as u64) {
            return Err(invalid("a log write begins on a block boundary"));
        }
        if offset.checked_add(blocks.len() as u64).is_none_or(|end| end > self.len) {
            return Err(invalid("a log write ends within the prepared length"));
        }
        Ok(())
    }
}

impl<D: Device> LogFile for Log<D> {
    fn write(&mut self, offset: u64, blocks: &AlignedBuf, durable: bool) -> io::Result<()> {
        self.check(offset, blocks)?;
        loop {
            let in_write = durable && self.one_call;
            let unit = self.device.unit();
            let written =
                write_all(offset, blocks.as_bytes(), unit, |at, rest| self.device.write_some(at, rest, in_write));
            match written {
                Ok(()) if durable && !in_write => return self.sync(),
                Ok(()) => return Ok(()),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::NOSYS | Errno::OPNOTSUPP) if in_write => self.one_call = false,
                    Some(Errno::INVAL) if self.device.leave_direct()? => {}
                    _ => return Err(error),
                },
            }
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        loop {
            match self.device.sync() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn begin(&mut self, offset: u64, blocks: AlignedBuf) -> io::Result<()> {
        self.check(offset, &blocks)?;
        let attempt = if self.one_call { self.device.begin(offset, blocks) } else { Err(blocks) };
        let how = attempt.map_or_else(How::Later, How::UnderWay);
        self.begun.push_back(Begun { offset, how });
        Ok(())
    }

    fn finish(&mut self) -> io::Result<AlignedBuf> {
        let Begun { offset, how } = self.begun.pop_front().ok_or_else(|| invalid("no write was begun"))?;
        let blocks = match how {
            How::Later(blocks) => blocks,
            How::UnderWay(attempt) => {
                let (blocks, written) = attempt.finish();
                match written {
                    Ok(count) if count == blocks.len() => return Ok(blocks),
                    // A part of it: all of it is written again, for nobody was told of any.
                    Ok(_) => {}
                    Err(error) => match Errno::from_io_error(&error) {
                        // A write like any other knows what to do instead. What was cancelled, since the thread that
                        // began it has ended, has not failed.
                        Some(Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL | Errno::INTR | Errno::CANCELED) => {}
                        _ => return Err(error),
                    },
                }
                blocks
            }
        };
        self.write(offset, &blocks, true)?;
        Ok(blocks)
    }
}

/// Writes all bytes by as many attempts as it takes. What is left after a short one begins at a multiple of `unit`
/// behind `offset`; an attempt that moves nothing is an error.
pub(super) fn write_all(
    offset: u64,
    bytes: &[u8],
    unit: usize,
    mut write_some: impl FnMut(u64, &[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match write_some(offset + done as u64, &bytes[done..]) {
            Ok(count) => {
                let reached = done.saturating_add(count).min(bytes.len());
                let next = if reached < bytes.len() { reached - reached % unit } else { reached };
                if next <= done {
                    return Err(io::Error::new(io::ErrorKind::WriteZero, "the device took none of the bytes"));
                }
                done = next;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a device is asked, and the answers it gives in order; it takes everything when they have run out.
    #[derive(Debug, Default)]
    struct Script {
        answers: Vec<Result<usize, i32>>,
        bytes: Vec<u8>,
        calls: Vec<(u64, usize, bool)>,
        syncs: Vec<Result<(), i32>>,
        synced: usize,
        direct: bool,
    }

    impl Device for &mut Script {
        fn write_some(&mut self, offset: u64, bytes: &[u8], durable: bool) -> io::Result<usize> {
            self.calls.push((offset, bytes.len(), durable));
            let answer = if self.answers.is_empty() { Ok(bytes.len()) } else { self.answers.remove(0) };
            let count = answer.map_err(io::Error::from_raw_os_error)?.min(bytes.len());
            let at = usize::try_from(offset).unwrap();
            let end = self.bytes.len().max(at + count);
            self.bytes.resize(end, 0);
            self.bytes[at..at + count].copy_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn sync(&mut self) -> io::Result<()> {
            self.synced += 1;
            if self.syncs.is_empty() { Ok(()) } else { self.syncs.remove(0).map_err(io::Error::from_raw_os_error) }
        }

        fn unit(&self) -> usize {
            if self.direct { 512 } else { 1 }
        }

        fn leave_direct(&mut self) -> io::Result<bool> {
            Ok(std::mem::take(&mut self.direct))
        }
    }

    fn block(fill: u8) -> AlignedBuf {
        let mut buf = AlignedBuf::zeroed(BLOCK);
        buf.as_bytes_mut().fill(fill);
        buf
    }

    fn write(script: &mut Script, durable: bool) -> io::Result<()> {
        Log::new(script, 2 * BLOCK as u64).write(0, &block(7), durable)
    }

    #[test]
    fn the_rest_of_a_short_write_is_resubmitted() {
        let mut script = Script { answers: vec![Ok(1000), Err(libc::EINTR), Ok(96)], ..Script::default() };
        write(&mut script, true).unwrap();
        assert_eq!(script.calls, [(0, 4096, true), (1000, 3096, true), (1000, 3096, true), (1096, 3000, true)]);
        assert_eq!(script.bytes, [7; BLOCK]);
        assert_eq!(script.synced, 0);
    }

    #[test]
    fn a_direct_write_is_resubmitted_from_a_whole_unit() {
        let mut script = Script { answers: vec![Ok(1000)], direct: true, ..Script::default() };
        write(&mut script, false).unwrap();
        assert_eq!(script.calls, [(0, 4096, false), (512, 3584, false)]);
    }

    #[test]
    fn a_write_of_no_bytes_is_an_error() {
        let mut script = Script { answers: vec![Ok(512), Ok(0)], ..Script::default() };
        assert_eq!(write(&mut script, true).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn an_error_after_a_short_write_is_the_error_of_the_whole() {
        for code in [libc::EIO, libc::ENOSPC, libc::EAGAIN, libc::ECANCELED] {
            let mut script = Script { answers: vec![Ok(512), Err(code)], ..Script::default() };
            assert_eq!(write(&mut script, true).unwrap_err().raw_os_error(), Some(code));
        }
    }

    #[test]
    fn a_refused_durable_write_becomes_a_write_and_a_sync() {
        for code in [libc::ENOSYS, libc::EOPNOTSUPP] {
            let mut script = Script { answers: vec![Err(code)], ..Script::default() };
            let mut log = Log::new(&mut script, 2 * BLOCK as u64);
            log.write(0, &block(7), true).unwrap();
            log.write(4096, &block(8), true).unwrap();
            assert_eq!(script.calls, [(0, 4096, true), (0, 4096, false), (4096, 4096, false)]);
            assert_eq!(script.synced, 2);
        }
    }

    #[test]
    fn a_refused_direct_write_goes_through_the_page_cache_once() {
        let mut script =
            Script { answers: vec![Err(libc::EINVAL), Err(libc::EINVAL)], direct: true, ..Script::default() };
        assert_eq!(write(&mut script, true).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        assert_eq!(script.calls.len(), 2);
    }

    #[test]
    fn an_interrupted_sync_is_repeated_and_a_failed_one_never() {
        let syncs = vec![Err(libc::EINTR), Err(libc::EIO)];
        let mut script = Script { syncs, ..Script::default() };
        assert_eq!(Log::new(&mut script, 0).sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert_eq!(script.synced, 2);
    }

    #[test]
    fn a_write_off_the_grid_or_past_the_end_reaches_no_device() {
        for offset in [1, 512, 8192, u64::MAX - 4095] {
            let mut script = Script::default();
            let error = Log::new(&mut script, 8192).write(offset, &block(1), true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(script.calls.is_empty());
        }
    }

    proptest! {
        #[test]
        fn any_way_of_moving_the_bytes_moves_them_all(steps in prop::collection::vec(1usize..5000, 1..40)) {
            let bytes: Vec<u8> = (0..8192u32).map(|i| i.to_le_bytes()[0]).collect();
            let mut got = vec![0; bytes.len()];
            let mut steps = steps.into_iter().cycle();
            write_all(0, &bytes, 1, |at, rest| {
                let count = steps.next().unwrap().min(rest.len());
                let at = usize::try_from(at).unwrap();
                got[at..at + count].copy_from_slice(&rest[..count]);
                Ok(count)
            }).unwrap();
            prop_assert_eq!(got, bytes);
        }
    }
}
