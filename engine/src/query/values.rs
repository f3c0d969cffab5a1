//! The values of a piece, read where they are stored.

use crate::canary::{self, Canary};
use std::borrow::Cow;
use std::ops::Range;

/// One value a slot; NaN is missing.
#[derive(Clone, Debug, PartialEq)]
pub enum Values<'a> {
    /// As they are computed with.
    F64(Cow<'a, [f64]>),
    /// Values that are the same as `f32`.
    F32(&'a [f32]),
    /// One value, not missing, that stands in every slot.
    Constant {
        /// The value.
        value: f64,
        /// How often it stands.
        slots: usize,
    },
}

impl Values<'_> {
    /// How many slots they are.
    pub fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Constant { slots, .. } => *slots,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a slot, counted from the first; NaN where there is none.
    pub fn get(&self, slot: usize) -> f64 {
        match self {
            Self::F64(values) => values.get(slot).copied().unwrap_or(f64::NAN),
            Self::F32(values) => values.get(slot).copied().map_or(f64::NAN, f64::from),
            Self::Constant { value, slots } if slot < *slots => *value,
            Self::Constant { .. } => f64::NAN,
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = f64> + ExactSizeIterator {
        (0..self.len()).map(|slot| self.get(slot))
    }

    /// The same values where they are.
    #[must_use]
    pub fn borrow(&self) -> Values<'_> {
        self.part(0..self.len())
    }

    /// Those of some slots, as far as there are any.
    #[must_use]
    pub fn part(&self, slots: Range<usize>) -> Values<'_> {
        let end = slots.end.min(self.len());
        let slots = slots.start.min(end)..end;
        match self {
            Self::F64(values) => Values::F64(Cow::Borrowed(values.get(slots).unwrap_or_default())),
            Self::F32(values) => Values::F32(values.get(slots).unwrap_or_default()),
            Self::Constant { value, .. } => Values::Constant { value: *value, slots: slots.len() },
        }
    }

    /// The first slot that is not missing.
    pub fn first_present(&self) -> Option<usize> {
        self.iter().position(|value| !value.is_nan())
    }

    /// The last slot that is not missing.
    pub fn last_present(&self) -> Option<usize> {
        self.iter().rposition(|value| !value.is_nan())
    }

    /// Puts those that are not missing over older ones, slot by slot.
    pub fn overlay(&self, older: &mut [f64]) {
        fn put(older: &mut [f64], newer: impl Iterator<Item = f64>) {
            let is_broken = canary::is(Canary::MissingOverwritesInReads);
            for (older, newer) in older.iter_mut().zip(newer) {
                *older = if newer.is_nan() && !is_broken { *older } else { newer };
            }
        }
        match self {
            Self::F64(values) => put(older, values.iter().copied()),
            Self::F32(values) => put(older, values.iter().copied().map(f64::from)),
            Self::Constant { value, slots } => put(older, std::iter::repeat_n(*value, *slots)),
        }
    }

    /// Adds them to sums, slot by slot; a missing one makes its sum missing.
    pub(super) fn add_to(&self, sums: &mut [f64]) {
        fn add(sums: &mut [f64], values: impl Iterator<Item = f64>) {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += value;
            }
        }
        match self {
            Self::F64(values) => add(sums, values.iter().copied()),
            Self::F32(values) => add(sums, values.iter().copied().map(f64::from)),
            Self::Constant { value, slots } => add(sums, std::iter::repeat_n(*value, *slots)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same values in each form that can have them.
    fn forms(values: &[f32]) -> Vec<(Vec<f64>, Values<'_>)> {
        let wide: Vec<f64> = values.iter().copied().map(f64::from).collect();
        let mut forms = vec![(wide.clone(), Values::F64(wide.into()))];
        forms.push((values.iter().copied().map(f64::from).collect(), Values::F32(values)));
        forms.push((vec![2.5; values.len()], Values::Constant { value: 2.5, slots: values.len() }));
        forms
    }

    #[test]
    fn every_form_reads_like_plain_values() {
        for values in [&[][..], &[1.0], &[f32::NAN, 3.0, -0.5, f32::NAN], &[f32::NAN, f32::NAN]] {
            for (plain, form) in forms(values) {
                let bits = |values: &[f64]| -> Vec<u64> { values.iter().map(|value| value.to_bits()).collect() };
                assert_eq!(bits(&form.iter().collect::<Vec<f64>>()), bits(&plain));
                assert_eq!((form.len(), form.is_empty()), (plain.len(), plain.is_empty()));
                assert!(form.get(plain.len()).is_nan());
                assert_eq!(form.first_present(), plain.iter().position(|value| !value.is_nan()));
                assert_eq!(form.last_present(), plain.iter().rposition(|value| !value.is_nan()));
                let part: Vec<f64> = form.part(1..9).iter().collect();
                assert_eq!(bits(&part), bits(plain.get(1..).unwrap_or_default()));
                let (mut over, mut sums) = (vec![7.0; 5], vec![7.0; 5]);
                form.overlay(&mut over);
                form.add_to(&mut sums);
                for at in 0..5 {
                    let value = plain.get(at).copied();
                    let newer = value.filter(|value| !value.is_nan()).unwrap_or(7.0);
                    assert_eq!(over[at].to_bits(), newer.to_bits());
                    let sum = value.map_or(7.0, |value| 7.0 + value);
                    assert!(sums[at].to_bits() == sum.to_bits() || sums[at].is_nan() && sum.is_nan());
                }
            }
        }
    }
}
