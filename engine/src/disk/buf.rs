//! Memory that a device can be written from and read into directly: whole blocks on block boundaries.

use std::io;
use std::ops::Deref;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// The unit of everything that is written in place, in bytes: the page and the physical sector of the devices we know.
pub const BLOCK: usize = 4096;

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK]);

/// A growable run of zero-initialised blocks, aligned to [`BLOCK`].
#[derive(Clone, Default)]
pub struct AlignedBuf {
    blocks: Vec<Block>,
}

impl AlignedBuf {
    /// A buffer of at least `len` bytes, rounded up to whole blocks, all zero.
    pub fn zeroed(len: usize) -> Self {
        let mut buf = Self::default();
        buf.resize(len);
        buf
    }

    /// As [`AlignedBuf::zeroed`], for a length that comes from outside: memory that is not to be had is an error.
    pub fn try_zeroed(len: usize) -> io::Result<Self> {
        // Zeros of the system, which costs less than writing them: what is read into takes every byte.
        let blocks = Block::new_vec_zeroed(len.div_ceil(BLOCK));
        Ok(Self { blocks: blocks.map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))? })
    }

    /// Grows (with zeros) or shrinks to `len` bytes rounded up to whole blocks.
    pub fn resize(&mut self, len: usize) {
        self.blocks.resize(len.div_ceil(BLOCK), Block::new_zeroed());
    }

    /// The length in bytes, a multiple of [`BLOCK`].
    pub fn len(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.as_slice().as_bytes()
    }

    /// The bytes, to be written.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        self.blocks.as_mut_slice().as_mut_bytes()
    }
}

impl std::fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlignedBuf").field("len", &self.len()).finish()
    }
}

/// The content of a whole file: as many bytes as the file has, at the start of whole blocks.
#[derive(Clone, Debug, Default)]
pub struct FileBytes {
    blocks: AlignedBuf,
    // INVARIANT: at most `blocks.len()`.
    len: usize,
}

impl FileBytes {
    /// The first `len` bytes of these blocks, or all of them where there are fewer.
    pub fn new(blocks: AlignedBuf, len: usize) -> Self {
        let len = len.min(blocks.len());
        Self { blocks, len }
    }

    /// A copy of these bytes.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut blocks = AlignedBuf::zeroed(bytes.len());
        blocks.as_bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Self { blocks, len: bytes.len() }
    }
}

#[cfg(any(test, feature = "sim"))]
impl FileBytes {
    /// `len` bytes, zero but for what `fill` puts there.
    pub(super) fn build(len: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        let mut blocks = AlignedBuf::zeroed(len);
        fill(&mut blocks.as_bytes_mut()[..len]);
        Self { blocks, len }
    }
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.blocks.as_bytes()[..self.len]
    }
}
