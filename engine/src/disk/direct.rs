//! A file that goes past the page cache where the file system takes that, and through it otherwise.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, OFlags, StatxFlags, fcntl_getfl, fcntl_setfl, statx};

use super::{AlignedBuf, BLOCK};

/// The offset a direct transfer goes on from where the kernel does not say its own: counts are of whole logical
/// sectors, which have this many bytes or a multiple.
const SECTOR: usize = 512;

/// An open file, direct where possible. Clones of the descriptor share the mode.
#[derive(Debug)]
pub(super) struct DirectFile {
    file: File,
    /// Transfers begin at multiples of this; 1 through the page cache.
    unit: usize,
}

impl DirectFile {
    /// Turns the file to direct transfers if the file system takes them on our block boundaries.
    pub(super) fn new(file: File) -> io::Result<Self> {
        let mut direct = Self { file, unit: 1 };
        if let Some(unit) = alignment(&direct.file) {
            let flags = fcntl_getfl(&direct.file)?;
            // Refused with EINVAL where there are no direct transfers, and that is all there is to say.
            if fcntl_setfl(&direct.file, flags | OFlags::DIRECT).is_ok() {
                direct.unit = unit;
            }
        }
        Ok(direct)
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn unit(&self) -> usize {
        self.unit
    }

    /// Goes over to the page cache for good; false where it is in use already.
    pub(super) fn leave_direct(&mut self) -> io::Result<bool> {
        if self.unit == 1 {
            return Ok(false);
        }
        fcntl_setfl(&self.file, fcntl_getfl(&self.file)? - OFlags::DIRECT)?;
        self.unit = 1;
        Ok(true)
    }

    /// The first `len` bytes of the file, in whole blocks. A file that ends before is an error.
    pub(super) fn read(&mut self, len: usize) -> io::Result<AlignedBuf> {
        let mut buf = AlignedBuf::try_zeroed(len)?;
        let mut done = 0;
        while done < len {
            // All the room there is, also behind `len`: a direct transfer wants whole sectors.
            match rustix::io::pread(&self.file, &mut buf.as_bytes_mut()[done..], done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) if done + count >= len => break,
                Ok(count) if (done + count) / self.unit == done / self.unit => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(count) => done = (done + count) / self.unit * self.unit,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::INVAL) if self.leave_direct()? => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(buf)
    }
}

impl AsFd for DirectFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The multiple of bytes at which direct transfers begin; none where there are none, or none that our blocks fit.
fn alignment(file: &File) -> Option<usize> {
    let Ok(known) = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN) else {
        return Some(SECTOR);
    };
    if known.stx_mask & StatxFlags::DIOALIGN.bits() == 0 {
        return Some(SECTOR);
    }
    let memory = usize::try_from(known.stx_dio_mem_align).ok()?;
    let offset = usize::try_from(known.stx_dio_offset_align).ok()?;
    let fits = |unit: usize| unit != 0 && BLOCK.is_multiple_of(unit);
    // A transfer that goes on in the middle of a buffer must suit both.
    (fits(memory) && fits(offset)).then_some(memory.max(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_of_any_length_reads_back_in_both_modes() {
        for len in [0, 1, 511, 512, 4095, 4096, 4097, 100_000] {
            let mut temporary = tempfile::NamedTempFile::new().unwrap();
            let bytes: Vec<u8> = (0..len).map(|i: u32| i.wrapping_mul(31).to_le_bytes()[0]).collect();
            temporary.write_all(&bytes).unwrap();
            let mut file = DirectFile::new(temporary.reopen().unwrap()).unwrap();
            assert_eq!(file.read(bytes.len()).unwrap().as_bytes()[..bytes.len()], bytes);
            file.leave_direct().unwrap();
            assert_eq!(file.unit(), 1);
            assert_eq!(file.read(bytes.len()).unwrap().as_bytes()[..bytes.len()], bytes);
        }
    }

    #[test]
    fn a_file_that_is_shorter_than_it_was_is_an_error() {
        let mut temporary = tempfile::NamedTempFile::new().unwrap();
        temporary.write_all(&[1; 5000]).unwrap();
        let mut file = DirectFile::new(temporary.reopen().unwrap()).unwrap();
        assert_eq!(file.read(9000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        file.leave_direct().unwrap();
        assert_eq!(file.read(9000).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
