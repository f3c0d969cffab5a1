//! Values out of the bytes of a page, one after the other: what is kept is a place, never a list of what a count says.

use super::thrift::{Thrift, zigzag};

/// `width` bits from a bit of the bytes on, the lowest first; bits behind the end are none.
fn bits(bytes: &[u8], bit: usize, width: u32) -> Option<u64> {
    let rest = bytes.get(bit / 8..)?;
    let len = rest.len().min(16);
    let mut word = [0; 16];
    word[..len].copy_from_slice(&rest[..len]);
    if bit % 8 + width as usize > 8 * len {
        return None;
    }
    let word = u128::from_le_bytes(word) >> (bit % 8);
    Some((word & ((1 << width) - 1)).to_le_bytes().first_chunk().map_or(0, |low| u64::from_le_bytes(*low)))
}

/// `DELTA_BINARY_PACKED`: differences above the least one of their block, in as many bits as each miniblock needs.
#[derive(Clone, Debug)]
pub(super) struct Delta {
    at: usize,
    miniblocks: usize,
    in_miniblock: usize,
    left: u64,
    is_first: bool,
    value: i64,
    least: i64,
    /// Where the widths of the block are, and the next of its miniblocks.
    widths: usize,
    miniblock: usize,
    /// Values left in the miniblock at hand, their next bit, and their width.
    in_hand: usize,
    bit: usize,
    width: u32,
}

impl Delta {
    pub(super) fn new(bytes: &[u8], at: usize) -> Option<Self> {
        let mut head = Thrift::new(bytes, at);
        let (block, miniblocks) = (usize::try_from(head.varint()?).ok()?, usize::try_from(head.varint()?).ok()?);
        let (left, value) = (head.varint()?, zigzag(head.varint()?));
        let in_miniblock = block.checked_div(miniblocks)?;
        if in_miniblock == 0 || in_miniblock % 8 != 0 || block > 1 << 16 {
            return None;
        }
        Some(Self {
            at: head.at,
            miniblocks,
            in_miniblock,
            left,
            is_first: true,
            value,
            least: 0,
            widths: 0,
            miniblock: miniblocks,
            in_hand: 0,
            bit: 0,
            width: 0,
        })
    }

    /// How many values are left.
    pub(super) fn count(&self) -> u64 {
        self.left
    }

    /// Goes on to the next miniblock.
    fn advance(&mut self, bytes: &[u8]) -> Option<()> {
        if self.miniblock == self.miniblocks {
            let mut head = Thrift::new(bytes, self.at);
            self.least = zigzag(head.varint()?);
            self.widths = head.at;
            self.at = head.at.checked_add(self.miniblocks)?;
            self.miniblock = 0;
        }
        self.width = u32::from(*bytes.get(self.widths + self.miniblock)?);
        if self.width > 64 {
            return None;
        }
        self.miniblock += 1;
        self.in_hand = self.in_miniblock;
        self.bit = self.at.checked_mul(8)?;
        self.at = self.at.checked_add(self.in_miniblock / 8 * self.width as usize)?;
        Some(())
    }

    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<i64> {
        self.left = self.left.checked_sub(1)?;
        if std::mem::take(&mut self.is_first) {
            return Some(self.value);
        }
        if self.in_hand == 0 {
            self.advance(bytes)?;
        }
        let above = bits(bytes, self.bit, self.width)?;
        self.bit += self.width as usize;
        self.in_hand -= 1;
        self.value = self.value.wrapping_add(self.least).wrapping_add(above.cast_signed());
        Some(self.value)
    }

    /// Where the bytes behind all values begin. Takes no longer than there are bytes.
    pub(super) fn end(mut self, bytes: &[u8]) -> Option<usize> {
        let mut left = self.left.saturating_sub(1);
        while left > 0 {
            self.advance(bytes)?;
            left = left.saturating_sub(self.in_miniblock as u64);
        }
        (self.at <= bytes.len()).then_some(self.at)
    }
}

/// Positions in a dictionary, or levels: runs of one of them, and groups of eight packed ones.
#[derive(Clone, Debug)]
pub(super) struct Hybrid {
    at: usize,
    width: u32,
    left: u64,
    /// The value of a run, or the next bit of packed ones.
    run: Result<u64, usize>,
}

impl Hybrid {
    /// Levels, of one bit each.
    pub(super) fn levels() -> Self {
        Self { at: 0, width: 1, left: 0, run: Ok(0) }
    }

    /// Behind the byte that tells the width.
    pub(super) fn new(bytes: &[u8], at: usize) -> Option<Self> {
        let width = u32::from(*bytes.get(at)?);
        (width <= 32).then_some(Self { at: at + 1, width, left: 0, run: Ok(0) })
    }

    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<usize> {
        while self.left == 0 {
            let mut head = Thrift::new(bytes, self.at);
            let header = head.varint()?;
            let begin = head.at.checked_mul(8)?;
            if header & 1 == 0 {
                self.left = header >> 1;
                self.run = Ok(bits(bytes, begin, self.width)?);
                self.at = head.at + self.width.div_ceil(8) as usize;
            } else {
                self.left = (header >> 1).checked_mul(8)?;
                self.run = Err(begin);
                let len = usize::try_from(header >> 1).ok()?.checked_mul(self.width as usize)?;
                self.at = head.at.checked_add(len)?;
            }
        }
        self.left -= 1;
        let position = match &mut self.run {
            Ok(position) => *position,
            Err(bit) => {
                let position = bits(bytes, *bit, self.width)?;
                *bit += self.width as usize;
                position
            }
        };
        usize::try_from(position).ok()
    }
}
