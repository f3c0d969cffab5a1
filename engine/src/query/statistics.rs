//! Mean, minimum and maximum of the values of an answer.

/// The statistics of an answer; all 0 by default, which says that they were not asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Statistics {
    pub(super) avg: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Statistics {
    /// Over the values that are not missing, summed in their order; all NaN if there is none.
    pub(super) fn of(data: &[f64]) -> Self {
        let (mut count, mut sum) = (0.0, 0.0);
        let (mut min, mut max) = (f64::NAN, f64::NAN);
        for &value in data.iter().filter(|value| !value.is_nan()) {
            count += 1.0;
            sum += value;
            min = value.min(min);
            max = value.max(max);
        }
        Self { avg: sum / count, min, max }
    }

    /// Multiplies all three; a negative factor does not swap minimum and maximum (they are those of the unscaled data).
    pub(super) fn scale(&mut self, factor: f64) {
        self.avg *= factor;
        self.min *= factor;
        self.max *= factor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_do_not_count() {
        let statistics = Statistics::of(&[f64::NAN, 3.0, -1.0, f64::NAN]);
        assert_eq!(statistics, Statistics { avg: 1.0, min: -1.0, max: 3.0 });
    }

    #[test]
    fn statistics_of_nothing_are_missing() {
        for data in [&[][..], &[f64::NAN, f64::NAN]] {
            let Statistics { avg, min, max } = Statistics::of(data);
            assert!(avg.is_nan() && min.is_nan() && max.is_nan());
        }
    }

    #[test]
    fn infinities_appear_as_they_are() {
        let statistics = Statistics::of(&[1.0, f64::INFINITY]);
        assert_eq!(statistics, Statistics { avg: f64::INFINITY, min: 1.0, max: f64::INFINITY });
    }
}
