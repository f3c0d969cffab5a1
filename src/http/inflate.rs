//! Bodies that were compressed by their sender.
//!
//! What a body is is told by its first bytes: no line begins with them, and the predecessor never looked at a header.
//! It is decoded piece by piece, so that what a small body makes of itself is bounded before it is there.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// Bytes that a body may make of one byte, once it has made [`FREE`].
const RATIO: usize = 100;
/// Bytes that are not looked at for their ratio.
const FREE: usize = 1 << 20;
/// The largest window that a zstd body may ask for: 8 MiB.
const WINDOW_LOG_MAX: u32 = 23;
/// Bytes that are decoded between two looks at the bounds.
const STEP: usize = 64 << 10;

/// Bytes that tell what a body is.
pub(super) const MAGIC: usize = 4;
const GZIP: [u8; 3] = [0x1f, 0x8b, 0x08];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Why a compressed body is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InflateError {
    #[error("the body is longer than {0} bytes once it is decompressed")]
    TooLong(usize),
    #[error("the body expands more than {RATIO}:1")]
    Ratio,
    #[error("the body begins as {0}, and cannot be decompressed")]
    Broken(&'static str),
}

/// A body that is being decoded.
pub(super) enum Inflate {
    Gzip(Box<MultiGzDecoder<Bounded>>),
    Zstd { decoder: Box<Decoder<'static>>, out: Bounded, in_frame: bool },
}

/// The decoded bytes that were not taken yet, and the bounds.
#[derive(Debug)]
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    received: usize,
    made: usize,
    over: Option<InflateError>,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.made += bytes.len();
        if self.made > self.limit {
            self.over = Some(InflateError::TooLong(self.limit));
        } else if self.made > FREE && self.made / RATIO > self.received {
            self.over = Some(InflateError::Ratio);
        }
        if self.over.is_some() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        // Whoever waits for this core is not kept until its slice of time ends: that is milliseconds.
        std::thread::yield_now();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether a body that begins like this is compressed.
pub(super) fn is_compressed(begin: &[u8]) -> bool {
    begin.starts_with(&GZIP) || begin.starts_with(&ZSTD)
}

impl Inflate {
    /// For a body that begins like this and may make `limit` bytes; `None` if it is not compressed.
    pub(super) fn of(begin: &[u8], limit: usize) -> Option<Self> {
        let out = Bounded { bytes: Vec::new(), limit, received: 0, made: 0, over: None };
        if begin.starts_with(&GZIP) {
            return Some(Self::Gzip(Box::new(MultiGzDecoder::new(out))));
        }
        if begin.starts_with(&ZSTD) {
            let mut decoder = Decoder::new().ok()?;
            decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).ok()?;
            return Some(Self::Zstd { decoder: Box::new(decoder), out, in_frame: false });
        }
        None
    }

    /// Decodes the next bytes of the body.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), InflateError> {
        self.out().received += bytes.len();
        let decoded = match self {
            Self::Gzip(decoder) => decoder.write_all(bytes),
            Self::Zstd { decoder, out, in_frame } => inflate(decoder, bytes, out, in_frame),
        };
        decoded.map_err(|_| self.error())
    }

    /// The body has ended: an error if what it holds has not.
    pub(super) fn finish(&mut self) -> Result<(), InflateError> {
        let ended = match self {
            Self::Gzip(decoder) => decoder.try_finish().is_ok(),
            Self::Zstd { in_frame, .. } => !*in_frame,
        };
        if ended { Ok(()) } else { Err(self.error()) }
    }

    /// Moves what is decoded behind `bytes`.
    pub(super) fn take(&mut self, bytes: &mut Vec<u8>) {
        bytes.append(&mut self.out().bytes);
    }

    fn out(&mut self) -> &mut Bounded {
        match self {
            Self::Gzip(decoder) => decoder.get_mut(),
            Self::Zstd { out, .. } => out,
        }
    }

    fn error(&mut self) -> InflateError {
        let name = match self {
            Self::Gzip(_) => "gzip",
            Self::Zstd { .. } => "zstd",
        };
        self.out().over.take().unwrap_or(InflateError::Broken(name))
    }
}

/// Feeds `bytes` to a zstd decoder, through as many frames as they have.
fn inflate(decoder: &mut Decoder<'_>, bytes: &[u8], out: &mut Bounded, in_frame: &mut bool) -> io::Result<()> {
    let mut input = InBuffer::around(bytes);
    let mut step = vec![0; STEP];
    loop {
        let begin = input.pos();
        let mut output = OutBuffer::around(step.as_mut_slice());
        let hint = decoder.run(&mut input, &mut output)?;
        let made = output.pos();
        out.write_all(&step[..made])?;
        // Asked for nothing between two frames, it already hopes for the next one.
        if made > 0 || input.pos() > begin {
            *in_frame = hint > 0;
        }
        // A full step may have more behind it.
        if input.pos() == bytes.len() && made < STEP {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64 << 20;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::bulk::compress(bytes, 3).unwrap()
    }

    /// Decodes in pieces; the most that was decoded at one time comes second.
    fn decode(body: &[u8], piece: usize, limit: usize) -> (Result<Vec<u8>, InflateError>, usize) {
        let mut inflate = Inflate::of(body, limit).expect("it is compressed");
        let (mut bytes, mut most) = (Vec::new(), 0);
        for piece in body.chunks(piece) {
            if let Err(error) = inflate.push(piece) {
                return (Err(error), most);
            }
            let before = bytes.len();
            inflate.take(&mut bytes);
            most = most.max(bytes.len() - before);
        }
        let end = inflate.finish();
        inflate.take(&mut bytes);
        (end.map(|()| bytes), most)
    }

    #[test]
    fn lines_are_no_compressed_body() {
        for plain in [&b""[..], b"cpu_load value=1", b"\x1f\x8b", b"\x28\xb5\x2f"] {
            assert!(Inflate::of(plain, LIMIT).is_none());
        }
    }

    #[test]
    fn a_bomb_is_cut_before_it_is_there() {
        for compress in [gzip, zstd] {
            let bomb = compress(&vec![b'a'; 8 << 20]);
            assert!(bomb.len() < 1 << 20);
            let (result, most) = decode(&bomb, 4096, LIMIT);
            assert_eq!(result, Err(InflateError::Ratio));
            assert!(most <= FREE + RATIO * 4096, "{most}");
        }
    }

    #[test]
    fn what_is_too_long_is_cut_at_the_limit() {
        let lines: Vec<u8> = (0..40_000_u32)
            .flat_map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761)).into_bytes())
            .collect();
        for compress in [gzip, zstd] {
            let body = compress(&lines);
            assert_eq!(decode(&body, 1000, lines.len()).0.as_ref(), Ok(&lines));
            assert_eq!(decode(&body, 1000, lines.len() - 1).0, Err(InflateError::TooLong(lines.len() - 1)));
        }
    }

    #[test]
    fn a_window_that_takes_too_much_memory_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
        encoder.window_log(27).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(&vec![b'a'; 1000]).unwrap();
        let body = encoder.finish().unwrap();
        assert_eq!(decode(&body, 1000, LIMIT).0, Err(InflateError::Broken("zstd")));
    }

    proptest! {
        #[test]
        fn pieces_come_back_as_what_went_in(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..2000), 1..3),
            piece in 1_usize..300,
            is_gzip: bool,
        ) {
            let compress = if is_gzip { gzip } else { zstd };
            // Several members or frames one behind the other are one body.
            let body: Vec<u8> = parts.iter().flat_map(|part| compress(part)).collect();
            prop_assert_eq!(decode(&body, piece, LIMIT).0, Ok(parts.concat()));
        }

        #[test]
        fn damage_is_an_error_and_never_other_bytes(cut in 0.0_f64..1.0, bit in 0_u32..8, is_gzip: bool) {
            let lines = b"cpu_load,cluster=alpha,hostname=h1,type=node value=1 1700000000\n".repeat(50);
            let body = if is_gzip { gzip(&lines) } else { zstd(&lines) };
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place in a short body")]
            let at = 4 + ((body.len() - 5) as f64 * cut) as usize;
            prop_assert!(decode(&body[..at], 64, LIMIT).0.is_err());
            if is_gzip && at >= 10 {
                let mut flipped = body;
                flipped[at] ^= 1 << bit;
                let (result, _) = decode(&flipped, 64, LIMIT);
                prop_assert!(result.is_err() || result == Ok(lines));
            }
        }
    }
}
