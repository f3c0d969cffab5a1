//! Reading: what exists, what a query selects, and its answer.

use super::{Store, selects_host, selects_key};
use crate::error::Unavailable;
use crate::head::{Host, SlotRun};
use crate::model::{Answer, Lsn, MetricId, Query, Request, SeriesError};
use crate::names::MetricName;
use crate::query::{self, Piece, Series};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A level of the tree of what is stored: cluster, host, component, subcomponent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DebugTree {
    /// The runs of each metric of this level.
    pub metrics: BTreeMap<String, Vec<DebugRun>>,
    /// The levels below.
    pub children: BTreeMap<String, DebugTree>,
}

/// A run of a series, as the predecessor shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugRun {
    /// First instant of slot 0, in unix seconds.
    pub start: i64,
    /// Slots up to the last one that has a value.
    pub len: u64,
    /// The end of the last one, in unix seconds.
    pub end: i64,
}

/// Which metrics of a host arrive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// Metrics with a series that is late, in the order asked.
    pub degraded: Vec<String>,
    /// Metrics without any series, in the order asked.
    pub missing: Vec<String>,
    /// How many arrive.
    pub healthy: usize,
}

/// Intervals after which a series is late.
const LATE_INTERVALS: i64 = 5;

/// One series of a host with its stored runs.
struct Stored {
    component: Arc<str>,
    subcomponent: Arc<str>,
    runs: Vec<SlotRun>,
}

impl Store {
    /// The queries of a request: its own, then one a host and metric of those for all nodes, by the names of the
    /// hosts. A host exists while it has data.
    pub fn plan(&self, request: &Request) -> Vec<Query> {
        let mut plan = request.queries.clone();
        if request.for_all_nodes.is_empty() {
            return plan;
        }
        for host in self.hosts.of_cluster(&request.cluster) {
            if host.state.lock().is_empty() {
                continue;
            }
            plan.extend(request.for_all_nodes.iter().map(|metric| Query {
                metric: metric.clone(),
                host: host.name.to_string(),
                ..Query::default()
            }));
        }
        plan
    }

    /// The series of one query of a plan, in order. Series that do not exist are not in the answer.
    pub fn evaluate(&self, request: &Request, query: &Query) -> Vec<Result<Answer, SeriesError>> {
        let selectors = query::selectors(query);
        let fail = |error: SeriesError| selectors.iter().map(|_| Err(error.clone())).collect();
        if request.from > request.to {
            return fail(SeriesError::InvalidRange);
        }
        let Some(metric) = self.metrics().find(query.metric.as_bytes()) else {
            return fail(SeriesError::UnknownMetric(query.metric.clone()));
        };
        let Some(host) = self.hosts.find(&request.cluster, &query.host) else { return Vec::new() };
        let stored = stored(&host, metric);
        let series: Vec<Series<'_>> = stored.iter().map(|stored| series(&stored.runs)).collect();
        let paths: Vec<query::Path<'_>> =
            stored.iter().map(|stored| (stored.component.as_bytes(), stored.subcomponent.as_bytes())).collect();
        let metric = self.metrics().get(metric);
        let options = query::Options {
            from: request.from,
            to: request.to,
            frequency: metric.frequency,
            aggregation: metric.aggregation,
            resolution: query.resolution,
            algo: query.resample_algo,
            scale_by: query.scale_by,
            with_stats: request.with_stats,
            with_data: request.with_data,
            with_padding: request.with_padding,
            point_limit: self.options.limits.query_points,
        };
        let has_data: Vec<bool> =
            series.iter().map(|series| series.has_data(request.from, request.to, metric.frequency)).collect();
        let answers = selectors.iter().filter_map(|selector| {
            let found = query::combined_paths(selector, &paths, |at| has_data[at]);
            let children: Vec<Series<'_>> = found.into_iter().map(|at| series[at].clone()).collect();
            (!children.is_empty()).then(|| query::answer(&children, &options))
        });
        answers.collect()
    }

    /// Frees the runs that ended before `to` (unix seconds) in each of the selectors: how many can be seen to go, and
    /// the LSN that must be durable before that is acknowledged. At most four names a selector.
    pub fn free(&self, selectors: &[Vec<String>], to: i64) -> Result<(u64, Lsn), Unavailable> {
        self.log.admit()?;
        let (mut runs, mut lsn) = (0, self.log.durable());
        for selector in selectors {
            let ended: usize = self
                .hosts
                .all()
                .iter()
                .filter(|host| selects_host(selector, &host.cluster, &host.name))
                .map(|host| host.state.lock().ended_before(|key| selects_key(selector, key), to, Lsn(u64::MAX)).len())
                .sum();
            // What names nothing frees nothing, and leaves nothing behind.
            if ended > 0 {
                runs += ended as u64;
                lsn = self.log.append_free(selector, to)?;
            }
        }
        Ok((runs, lsn))
    }

    /// What is stored below a selector of up to four names; `None` where there is nothing of that name.
    pub fn debug(&self, selector: &[String]) -> Option<DebugTree> {
        let mut root = DebugTree::default();
        for host in self.hosts.all() {
            if selects_host(selector, &host.cluster, &host.name) {
                self.add_host(&host, &mut root);
            }
        }
        let mut level = root;
        for name in selector {
            level = level.children.remove(name)?;
        }
        Some(level)
    }

    fn add_host(&self, host: &Host, root: &mut DebugTree) {
        let (layout, series) = {
            let state = host.state.lock();
            let ordinals: Vec<u32> = (0_u32..).zip(state.layout.keys()).map(|(ordinal, _)| ordinal).collect();
            (Arc::clone(&state.layout), state.collect(&ordinals))
        };
        for (key, runs) in layout.keys().iter().zip(series) {
            if runs.is_empty() {
                continue;
            }
            let mut level = root.children.entry(host.cluster.to_string()).or_default();
            for name in [&host.name, &key.component, &key.subcomponent] {
                if !name.is_empty() {
                    level = level.children.entry(name.to_string()).or_default();
                }
            }
            let metric = self.layouts.metric_name(key.metric).to_string();
            level.metrics.insert(metric, runs.iter().map(debug_run).collect());
        }
    }

    /// Whether the metrics of a host arrive; `None` if there is no such host.
    pub fn health(&self, cluster: &str, node: &str, metrics: &[String]) -> Option<NodeHealth> {
        let host = self.hosts.find(cluster, node).filter(|host| !host.state.lock().is_empty())?;
        let now = self.env.unix_now();
        let mut health = NodeHealth::default();
        for name in metrics {
            let stored = self.metrics().find(name.as_bytes()).map(|metric| stored(&host, metric)).unwrap_or_default();
            let is_late = |stored: &Stored| {
                stored.runs.last().is_some_and(|run| {
                    now.saturating_sub(debug_run(run).end) > LATE_INTERVALS * i64::from(run.run.frequency)
                })
            };
            if stored.is_empty() {
                health.missing.push(name.clone());
            } else if stored.iter().any(is_late) {
                health.degraded.push(name.clone());
            } else {
                health.healthy += 1;
            }
        }
        Some(health)
    }
}

/// The series of one metric of a host that have data.
fn stored(host: &Host, metric: MetricId) -> Vec<Stored> {
    let state = host.state.lock();
    let layout = Arc::clone(&state.layout);
    let keys: Vec<_> = layout.of_metric(MetricName(metric.0)).collect();
    let ordinals: Vec<u32> = keys.iter().map(|(ordinal, _)| *ordinal).collect();
    let runs = state.collect(&ordinals);
    drop(state);
    let with_runs = keys.into_iter().zip(runs).filter(|(_, runs)| !runs.is_empty());
    with_runs
        .map(|((_, key), runs)| Stored {
            component: Arc::clone(&key.component),
            subcomponent: Arc::clone(&key.subcomponent),
            runs,
        })
        .collect()
}

fn series(runs: &[SlotRun]) -> Series<'_> {
    let pieces = runs.iter().map(|run| Piece {
        start: run.run.start,
        frequency: run.run.frequency,
        first_slot: run.first_slot,
        values: Cow::Borrowed(&run.values[..]),
    });
    Series::new(pieces.collect())
}

fn debug_run(run: &SlotRun) -> DebugRun {
    let len = u64::from(run.first_slot) + run.values.len() as u64;
    let end = run.run.end_after(u32::try_from(len).unwrap_or(u32::MAX));
    DebugRun { start: run.run.start, len, end }
}
