//! The metrics that a store keeps: name, frequency, aggregation.

use hashbrown::HashMap;

/// How the series of the components below a level become one series of that level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// Values of different components cannot be combined.
    #[default]
    None,
    /// The sum of the components.
    Sum,
    /// The arithmetic mean of the components.
    Avg,
}

/// One configured metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, the measurement of a line.
    pub name: Box<str>,
    /// The interval between two samples in seconds, 1 to [`Metric::MAX_FREQUENCY`].
    pub frequency: u32,
    /// How components are combined.
    pub aggregation: Aggregation,
}

impl Metric {
    /// The longest interval in seconds: a day. A run of 512 slots then spans a year and a half.
    pub const MAX_FREQUENCY: u32 = 86_400;
}

/// The position of a metric in [`Metrics`]; valid for one list of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(pub u32);

/// Why a list of metrics is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricError {
    /// The interval is zero or too long.
    #[error("metric '{name}': frequency must be 1 to {} seconds, found {frequency}", Metric::MAX_FREQUENCY)]
    Frequency {
        /// The metric.
        name: Box<str>,
        /// What was asked for.
        frequency: u32,
    },
    /// The name is empty, or too long to be written to the log.
    #[error("metric '{name}': a name has 1 to 255 bytes")]
    Name {
        /// The metric.
        name: Box<str>,
    },
    /// Two metrics have one name.
    #[error("metric '{name}' is configured twice")]
    Twice {
        /// The metric.
        name: Box<str>,
    },
}

/// The configured metrics, found by name. Ids are dense unless metrics were added later: see [`Metrics::with`].
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// By id; a place without a metric has one without a name.
    list: Vec<Metric>,
    by_name: HashMap<Box<[u8]>, MetricId, foldhash::fast::RandomState>,
}

impl Metrics {
    /// Takes the metrics in their order.
    pub fn new(list: Vec<Metric>) -> Result<Self, MetricError> {
        let mut by_name = HashMap::default();
        for (id, metric) in (0_u32..).zip(&list) {
            let name = || metric.name.clone();
            if !(1..=Metric::MAX_FREQUENCY).contains(&metric.frequency) {
                return Err(MetricError::Frequency { name: name(), frequency: metric.frequency });
            }
            if metric.name.is_empty() || metric.name.len() > 255 {
                return Err(MetricError::Name { name: name() });
            }
            if by_name.insert(metric.name.as_bytes().into(), MetricId(id)).is_some() {
                return Err(MetricError::Twice { name: name() });
            }
        }
        Ok(Self { list, by_name })
    }

    /// The same metrics with the same ids, and more of them with ids of their own.
    pub fn with(&self, added: impl IntoIterator<Item = (MetricId, Metric)>) -> Result<Self, MetricError> {
        let mut metrics = self.clone();
        for (id, metric) in added {
            // The rules of a list of its own.
            let one = Self::new(vec![metric])?.list;
            let Some(metric) = one.into_iter().next() else { continue };
            let at = id.0 as usize;
            if at >= metrics.list.len() {
                let nothing = || Metric { name: "".into(), frequency: 1, aggregation: Aggregation::None };
                metrics.list.resize_with(at + 1, nothing);
            }
            let is_taken = !metrics.list[at].name.is_empty();
            if is_taken || metrics.by_name.insert(metric.name.as_bytes().into(), id).is_some() {
                return Err(MetricError::Twice { name: metric.name });
            }
            metrics.list[at] = metric;
        }
        Ok(metrics)
    }

    /// Seconds of the longest interval.
    pub fn longest_interval(&self) -> i64 {
        self.list.iter().map(|metric| i64::from(metric.frequency)).max().unwrap_or(0)
    }

    /// The metric of this name.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<MetricId> {
        self.by_name.get(name).copied()
    }

    /// The metric with this id, which must come from this list.
    #[inline]
    pub fn get(&self, id: MetricId) -> &Metric {
        &self.list[id.0 as usize]
    }

    /// All metrics by rising id, which is the order they were given in.
    pub fn iter(&self) -> impl Iterator<Item = (MetricId, &Metric)> {
        (0..).map(MetricId).zip(&self.list).filter(|(_, metric)| !metric.name.is_empty())
    }
}
