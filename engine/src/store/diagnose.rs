//! Where a metric of a host is, and why it is not.

use super::Store;
use super::gather::ALWAYS;
use super::recent::RecentRefusal;
use crate::names::MetricName;

/// What is known of a metric at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The interval of the metric in seconds; `None` if it is not configured.
    pub frequency: Option<u32>,
    /// The clusters that have a host of this name.
    pub places: Vec<Place>,
    /// The last refusals that are remembered: of this metric at this host, of lines of this metric without a host, of
    /// lines of this host whatever their metric; the latest first.
    pub refusals: Vec<RecentRefusal>,
}

/// The metric at the host of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The cluster.
    pub cluster: String,
    /// Series of the metric at the host and its components.
    pub series: usize,
    /// The end of the interval of the newest sample, in unix seconds; `None` if there is none.
    pub newest: Option<i64>,
}

impl Store {
    /// What is known of a metric at a host, in one cluster or in all. Files that cannot be read count as empty.
    pub fn diagnose(&self, cluster: Option<&str>, metric: &str, host: &str) -> Diagnosis {
        let options = self.options();
        let id = options.metrics.find(metric.as_bytes());
        let names = self.host_names(&cluster.map(|name| vec![name.to_owned(), host.to_owned()]).unwrap_or_default());
        let places = names.into_iter().filter(|(_, name)| name == host).map(|(cluster, _)| {
            let captured = id.map(|id| self.capture(&cluster, host, MetricName(id.0), &ALWAYS));
            let gathered = captured.as_ref().and_then(|captured| captured.gather(&ALWAYS).ok()).unwrap_or_default();
            let ends = gathered.iter().filter_map(|series| series.runs().pop_last());
            let newest = ends.map(|(run, slots)| run.end_after(slots)).max();
            Place { series: gathered.len(), newest, cluster }
        });
        let places = places.collect();
        let about = [(metric, host), (metric, ""), ("", host)];
        let mut refusals: Vec<_> =
            about.iter().filter_map(|(metric, host)| self.counters.recent(metric, host)).collect();
        refusals.sort_by_key(|refusal| std::cmp::Reverse(refusal.at));
        Diagnosis { frequency: id.map(|id| options.metrics.get(id).frequency), places, refusals }
    }
}
