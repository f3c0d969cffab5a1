//! What a reader asks and what it gets. The JSON of the wire belongs to the server.

/// One request: a range of time and the queries to answer for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The cluster of every query.
    pub cluster: String,
    /// The queries, answered in this order.
    pub queries: Vec<Query>,
    /// Metrics to be answered for every host of the cluster, after `queries`.
    pub for_all_nodes: Vec<String>,
    /// First instant asked for, in unix seconds.
    pub from: i64,
    /// End of the range in unix seconds, exclusive.
    pub to: i64,
    /// Whether average, minimum and maximum are computed.
    pub with_stats: bool,
    /// Whether the values are part of the answer.
    pub with_data: bool,
    /// Whether missing values stand in front of data that begin after `from`.
    pub with_padding: bool,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            queries: Vec::new(),
            for_all_nodes: Vec::new(),
            from: 0,
            to: 0,
            with_stats: true,
            with_data: true,
            with_padding: true,
        }
    }
}

/// One query of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The name of the metric.
    pub metric: String,
    /// The host.
    pub host: String,
    /// The kind of component below the host (`socket`); `None` asks for the host itself.
    pub component: Option<String>,
    /// Which components.
    pub component_ids: Vec<String>,
    /// The kind of component below the component.
    pub subcomponent: Option<String>,
    /// Which of them.
    pub subcomponent_ids: Vec<String>,
    /// One series of all components instead of one series each.
    pub aggregate: bool,
    /// Wanted interval in seconds; 0 or less means the metric's own.
    pub resolution: i64,
    /// How fewer points are made from many.
    pub resample_algo: ResampleAlgo,
    /// Factor on all values; 0 and 1 leave them alone, NaN makes them all missing.
    pub scale_by: f64,
}

/// How fewer points are made from many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResampleAlgo {
    /// Largest triangle three buckets: keeps the look of the curve.
    #[default]
    Lttb,
    /// The mean of each group of points.
    Average,
    /// The first of each group of points.
    Simple,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// One value per `resolution` seconds; NaN is a missing value.
    pub data: Vec<f64>,
    /// The instant of the first value that is no padding, in unix seconds.
    pub from: i64,
    /// The first instant that is not part of the answer.
    pub to: i64,
    /// Seconds between two values.
    pub resolution: i64,
    /// Mean, NaN where there is no value, 0 where it was not asked for.
    pub avg: f64,
    /// Minimum, likewise.
    pub min: f64,
    /// Maximum, likewise.
    pub max: f64,
}

/// Why one series of an answer could not be computed. The texts are part of the wire contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SeriesError {
    /// The metric is not configured.
    #[error("[METRICSTORE]> unknown metric: {0}")]
    UnknownMetric(String),
    /// The range ends before it begins.
    #[error("[METRICSTORE]> invalid time range")]
    InvalidRange,
    /// Several components of a metric that cannot be combined.
    #[error("[METRICSTORE]> invalid aggregation")]
    InvalidAggregation,
    /// The wanted resolution is no multiple of the frequency.
    #[error("new sampling frequency ({wanted}) must be a multiple of old frequency ({frequency})")]
    Resolution {
        /// Wanted seconds.
        wanted: i64,
        /// The metric's seconds.
        frequency: i64,
    },
    /// The store does not answer yet, and why.
    #[error("{0}")]
    NotReady(String),
    /// A file that holds a part of the answer is damaged.
    #[error("{0}")]
    Damaged(String),
    /// The answer would have more points than a request may ask for.
    #[error("the answer has more than {limit} points: ask for a shorter range or a coarser resolution")]
    TooManyPoints {
        /// The limit in points.
        limit: usize,
    },
}
