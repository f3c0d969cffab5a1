//! The predecessor's buffers, slot by slot: the oracle of the reading rule, and the way other tests store samples.

use std::borrow::Cow;

use crate::query::{Piece, Series, Values};

/// The buffers of one series, oldest first.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) frequency: i64,
    /// The slots of a buffer.
    pub(super) capacity: usize,
    pub(super) buffers: Vec<Buffer>,
}

#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) start: i64,
    pub(super) values: Vec<f64>,
}

impl Chain {
    pub(super) fn new(frequency: u32) -> Self {
        Self { frequency: frequency.into(), capacity: 512, buffers: Vec::new() }
    }

    pub(super) fn of(frequency: u32, samples: &[(i64, f64)]) -> Self {
        let mut chain = Self::new(frequency);
        for &(time, value) in samples {
            chain.write(time, value);
        }
        chain
    }

    /// Stores a sample; one before the newest buffer is dropped.
    pub(super) fn write(&mut self, time: i64, value: f64) {
        let slot = |buffer: &Buffer| usize::try_from((time - buffer.start) / self.frequency).unwrap();
        if self.buffers.last().is_some_and(|newest| time < newest.start) {
            return;
        }
        if self.buffers.last().is_none_or(|newest| slot(newest) >= self.capacity) {
            self.buffers.push(Buffer { start: time - self.frequency / 2, values: vec![value] });
            return;
        }
        let newest = self.buffers.last_mut().unwrap();
        let slot = slot(newest);
        newest.values.resize(newest.values.len().max(slot + 1), f64::NAN);
        newest.values[slot] = value;
    }

    /// The values, the first instant, and the first instant after them. There is a sample.
    pub(super) fn read(&self, mut from: i64, to: i64) -> (Vec<f64>, i64, i64) {
        let first_write = |at: usize| self.buffers[at].start + self.frequency / 2;
        let mut at = self.buffers.len() - 1;
        while from < first_write(at) {
            if at == 0 {
                from = first_write(at);
                break;
            }
            at -= 1;
        }
        let (mut time, mut values) = (from, Vec::new());
        while time < to {
            let slot = |at: usize| (time - self.buffers[at].start) / self.frequency;
            if slot(at) >= self.capacity.try_into().unwrap() {
                if at + 1 == self.buffers.len() {
                    break;
                }
                at += 1;
            }
            let buffer = &self.buffers[at];
            if slot(at) >= buffer.values.len().try_into().unwrap() {
                if self.buffers.get(at + 1).is_none_or(|next| to <= next.start) {
                    break;
                }
                values.push(f64::NAN);
            } else if time < buffer.start {
                values.push(f64::NAN);
            } else {
                values.push(buffer.values[usize::try_from(slot(at)).unwrap()]);
            }
            time += self.frequency;
        }
        (values, from, time)
    }

    /// How long a buffer lasts that uses all its slots, in seconds.
    pub(super) fn span(&self) -> i64 {
        self.frequency * i64::try_from(self.capacity).unwrap()
    }

    /// Whether a buffer begins at or before this instant inside the span of the one before it.
    pub(super) fn overlaps(&self, time: i64) -> bool {
        self.buffers.windows(2).any(|pair| pair[1].start <= time && time < pair[0].start + self.span())
    }

    /// The same samples as stored runs.
    pub(super) fn series(&self) -> Series<'_> {
        let frequency = u32::try_from(self.frequency).unwrap();
        let pieces = self.buffers.iter().map(|buffer| Piece {
            start: buffer.start,
            frequency,
            first_slot: 0,
            values: Values::F64(Cow::Borrowed(&buffer.values)),
        });
        Series::new(pieces.collect())
    }
}
