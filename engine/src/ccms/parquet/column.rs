//! The values of a column chunk, page after page.

use super::super::Reason;
use super::encoding::{Delta, Hybrid};
use super::footer::Chunk;
use super::thrift::{Fields, Thrift};
use super::{NAME_MAX, PAGE_MAX};
use std::io::Read as _;
use std::ops::Range;

/// Codecs.
const UNCOMPRESSED: i64 = 0;
const SNAPPY: i64 = 1;
const GZIP: i64 = 2;
const ZSTD: i64 = 6;
/// Kinds of pages.
const DATA: i64 = 0;
const DICTIONARY: i64 = 2;
const DATA_V2: i64 = 3;
/// Encodings.
const PLAIN: i64 = 0;
const PLAIN_DICTIONARY: i64 = 2;
const DELTA_BINARY_PACKED: i64 = 5;
const DELTA_LENGTH_BYTE_ARRAY: i64 = 6;
const DELTA_BYTE_ARRAY: i64 = 7;
const RLE_DICTIONARY: i64 = 8;
const BYTE_STREAM_SPLIT: i64 = 9;

/// Values of one column, of which a page is in memory.
#[derive(Debug)]
pub(super) struct Column<'a> {
    file: &'a [u8],
    chunk: Chunk,
    /// Bytes of a value; none where values are texts.
    width: Option<usize>,
    /// Where the page at hand begins, and the next one.
    position: usize,
    at: usize,
    left_in_page: usize,
    /// Which values of the page are null, where some may be.
    levels: Vec<u8>,
    present: Option<Hybrid>,
    page: Vec<u8>,
    values: Values,
    dictionary: Vec<u8>,
    /// Where the texts of the dictionary are, if it is one of texts.
    texts: Vec<Range<u32>>,
}

/// How values stand in the page, and where the next one is.
#[derive(Debug)]
enum Values {
    Plain(usize),
    /// The first bytes of all values, then the second ones; the next value, and how many there are.
    Split(usize, usize),
    Delta(Delta),
    /// The lengths of texts, and where the next text is.
    Lengths(Delta, usize),
    /// The lengths of what texts share with the text before, those of the rest, where the next rest is, and the text before.
    Shared(Delta, Delta, usize, Vec<u8>),
    Positions(Hybrid),
}

impl<'a> Column<'a> {
    pub(super) fn new(file: &'a [u8], chunk: Chunk, width: Option<usize>) -> Self {
        Self {
            file,
            width,
            position: chunk.bytes.start,
            at: chunk.bytes.start,
            chunk,
            left_in_page: 0,
            levels: Vec::new(),
            present: None,
            page: Vec::new(),
            values: Values::Plain(0),
            dictionary: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// Where the page at hand begins.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes from the page at hand on.
    pub(super) fn left(&self) -> usize {
        self.chunk.bytes.end - self.position
    }

    /// Whether its values end here.
    pub(super) fn is_at_end(&self) -> bool {
        self.left_in_page == 0 && self.at == self.chunk.bytes.end && self.is_used_up()
    }

    /// Whether no text is left of the page at hand: headers have no checksums, and one that speaks of too few values would
    /// put those that follow into other rows.
    fn is_used_up(&self) -> bool {
        match self.values {
            Values::Plain(at) | Values::Lengths(_, at) | Values::Shared(.., at, _) => {
                self.width.is_some() || at == self.page.len()
            }
            _ => true,
        }
    }

    /// The next text.
    pub(super) fn text(&mut self) -> Result<&[u8], Reason> {
        self.turn()?;
        let page = &self.page;
        let found = match &mut self.values {
            Values::Plain(at) => plain_text(page, *at).map(|text| {
                *at = text.end;
                &page[text]
            }),
            Values::Lengths(lengths, at) => lengths.next(page).and_then(|len| {
                let begin = *at;
                *at = begin.checked_add(usize::try_from(len).ok()?)?;
                page.get(begin..*at)
            }),
            Values::Shared(shared, rests, at, text) => {
                shared.next(page).zip(rests.next(page)).and_then(|(shared, len)| {
                    let begin = *at;
                    *at = begin.checked_add(usize::try_from(len).ok()?)?;
                    let (shared, rest) = (usize::try_from(shared).ok()?, page.get(begin..*at)?);
                    // Texts may grow with each that shares all of the one before.
                    if shared > text.len() || shared + rest.len() > NAME_MAX {
                        return None;
                    }
                    text.truncate(shared);
                    text.extend_from_slice(rest);
                    Some(&**text)
                })
            }
            Values::Positions(positions) => positions.next(page).and_then(|position| {
                let text = self.texts.get(position)?;
                self.dictionary.get(text.start as usize..text.end as usize)
            }),
            Values::Split(..) | Values::Delta(_) => return Err(Reason::Encoding),
        };
        found.ok_or(Reason::Page)
    }

    /// The next number, as it stands in memory.
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        self.turn()?;
        let page = &self.page;
        let at = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk::<N>().copied();
        let found = match &mut self.values {
            Values::Plain(next) => {
                *next += N;
                at(page, *next - N)
            }
            Values::Split(next, count) => {
                let mut number = [0; N];
                for (plane, byte) in number.iter_mut().enumerate() {
                    *byte = page.get(plane * *count + *next).copied().ok_or(Reason::Page)?;
                }
                *next += 1;
                Some(number)
            }
            Values::Delta(delta) if N == 8 => {
                delta.next(page).and_then(|number| number.to_le_bytes().first_chunk().copied())
            }
            Values::Positions(positions) => {
                let position = positions.next(page).and_then(|position| position.checked_mul(N));
                position.and_then(|position| at(&self.dictionary, position))
            }
            Values::Lengths(..) | Values::Shared(..) | Values::Delta(_) => return Err(Reason::Encoding),
        };
        found.ok_or(Reason::Page)
    }

    /// Turns to the next page with a value, where the one at hand has none left.
    fn turn(&mut self) -> Result<(), Reason> {
        while self.left_in_page == 0 {
            self.next_page()?;
        }
        self.left_in_page -= 1;
        match self.present.as_mut().map(|present| present.next(&self.levels)) {
            None | Some(Some(1)) => Ok(()),
            Some(_) => Err(Reason::Null),
        }
    }

    fn next_page(&mut self) -> Result<(), Reason> {
        if !self.is_used_up() {
            return Err(Reason::Page);
        }
        self.position = self.at;
        let chunk = &self.file[..self.chunk.bytes.end];
        if self.at >= chunk.len() {
            return Err(Reason::Cut);
        }
        let mut header = Thrift::new(chunk, self.at);
        let fields = header.fields().ok_or(Reason::Page)?;
        let (Some(len), Some(plain_len)) = (fields.size(3), fields.size(2)) else { return Err(Reason::Page) };
        let body = header.at.checked_add(len).and_then(|end| chunk.get(header.at..end)).ok_or(Reason::Cut)?;
        if len > PAGE_MAX || plain_len > PAGE_MAX {
            return Err(Reason::Page);
        }
        let crc = fields.int(4).and_then(|crc| i32::try_from(crc).ok());
        if crc.is_some_and(|crc| crc.cast_unsigned() != crc32fast::hash(body)) {
            return Err(Reason::Checksum);
        }
        self.at = header.at + len;
        match fields.int(1) {
            Some(DICTIONARY) => {
                decompress(self.chunk.codec, body, plain_len, &mut self.dictionary)?;
                self.texts.clear();
                let mut at = 0;
                while let Some(text) = plain_text(&self.dictionary, at) {
                    at = text.end;
                    let place = |at| u32::try_from(at).unwrap_or(u32::MAX);
                    self.texts.push(place(text.start)..place(text.end));
                }
                Ok(())
            }
            Some(DATA) => {
                decompress(self.chunk.codec, body, plain_len, &mut self.page)?;
                let of_kind = fields.fields(5).ok_or(Reason::Page)?;
                self.levels.clear();
                if self.chunk.is_optional {
                    // They stand as a text does.
                    let levels = plain_text(&self.page, 0).ok_or(Reason::Page)?;
                    self.levels.extend(self.page.drain(..levels.end).skip(levels.start));
                }
                self.begin(&of_kind, 2)
            }
            Some(DATA_V2) => {
                let of_kind = fields.fields(8).ok_or(Reason::Page)?;
                if of_kind.size(3) != of_kind.size(1) {
                    return Err(Reason::Page);
                }
                // Levels are not compressed. Those of repetition, which are first, say nothing.
                let repetition = of_kind.size(6).unwrap_or(0);
                let levels = of_kind.size(5).unwrap_or(0).saturating_add(repetition);
                self.levels.clear();
                self.levels.extend_from_slice(body.get(repetition..levels).ok_or(Reason::Page)?);
                let body = body.get(levels..).ok_or(Reason::Page)?;
                let codec = if of_kind.bool(7) == Some(false) { UNCOMPRESSED } else { self.chunk.codec };
                decompress(codec, body, plain_len.saturating_sub(levels), &mut self.page)?;
                self.begin(&of_kind, 4)
            }
            // Others carry no values.
            _ => Ok(()),
        }
    }

    /// Begins with the values of a page; `encoding` is the number of the field that tells how they stand in it.
    fn begin(&mut self, fields: &Fields<'_>, encoding: i64) -> Result<(), Reason> {
        let page = &self.page;
        let count = fields.size(1).ok_or(Reason::Page)?;
        let is_filled = self.width.is_none_or(|width| count.checked_mul(width) == Some(page.len()));
        let delta = || Delta::new(page, 0).filter(|delta| delta.count() == count as u64);
        let values = match fields.int(encoding) {
            Some(PLAIN) => is_filled.then_some(Values::Plain(0)),
            Some(BYTE_STREAM_SPLIT) => is_filled.then_some(Values::Split(0, count)),
            Some(DELTA_BINARY_PACKED) => delta().map(Values::Delta),
            Some(DELTA_LENGTH_BYTE_ARRAY) => delta().and_then(|lengths| {
                let texts = lengths.clone().end(page)?;
                Some(Values::Lengths(lengths, texts))
            }),
            Some(DELTA_BYTE_ARRAY) => delta().and_then(|shared| {
                let rests =
                    Delta::new(page, shared.clone().end(page)?).filter(|rests| rests.count() == count as u64)?;
                let texts = rests.clone().end(page)?;
                Some(Values::Shared(shared, rests, texts, Vec::new()))
            }),
            Some(PLAIN_DICTIONARY | RLE_DICTIONARY) => Hybrid::new(page, 0).map(Values::Positions),
            _ => return Err(Reason::Encoding),
        };
        // Nulls are counted, and have no value.
        self.values = values.ok_or(if self.chunk.is_optional { Reason::Null } else { Reason::Page })?;
        self.present = self.chunk.is_optional.then(Hybrid::levels);
        self.left_in_page = count;
        Ok(())
    }
}

/// Where the text is whose length stands at a place.
fn plain_text(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let len = bytes.get(at..)?.first_chunk::<4>()?;
    let begin = at + 4;
    let end = begin.checked_add(u32::from_le_bytes(*len) as usize).filter(|&end| end <= bytes.len())?;
    Some(begin..end)
}

/// Puts the bytes of a page, which are to be `len`, into `to`.
pub(super) fn decompress(codec: i64, body: &[u8], len: usize, to: &mut Vec<u8>) -> Result<(), Reason> {
    to.clear();
    match codec {
        UNCOMPRESSED => to.extend_from_slice(body),
        SNAPPY => {
            if snap::raw::decompress_len(body).ok() != Some(len) {
                return Err(Reason::Page);
            }
            to.resize(len, 0);
            snap::raw::Decoder::new().decompress(body, to).map_err(|_| Reason::Page)?;
        }
        GZIP => {
            let decoder = flate2::read::MultiGzDecoder::new(body);
            decoder.take(len as u64 + 1).read_to_end(to).map_err(|_| Reason::Page)?;
        }
        ZSTD => {
            to.reserve(len);
            let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| Reason::Page)?;
            decompressor.decompress_to_buffer(body, to).map_err(|_| Reason::Page)?;
        }
        _ => return Err(Reason::Encoding),
    }
    if to.len() == len { Ok(()) } else { Err(Reason::Page) }
}
