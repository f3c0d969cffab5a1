//! Reading: what exists, what a query selects, and its answer.

use super::Store;
use super::cold::Asked;
use super::gather::{ALWAYS, Gathered, Unreadable, metrics_of, with_margins};
use super::layers::{Layers, selects_host, selects_series};
use crate::error::Unavailable;
use crate::head::Host;
use crate::model::{Answer, Lsn, Query, Request, SeriesError};
use crate::names::MetricName;
use crate::query::{self, Series};
use crate::slot::Run;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
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

/// What takes the series of an answer, and says whether it wants more.
pub type EachAnswer<'a> = dyn FnMut(Result<Answer, SeriesError>) -> ControlFlow<()> + 'a;

/// Intervals after which a series is late.
const LATE_INTERVALS: i64 = 5;

impl Store {
    /// The queries of a request: its own, then one a host and metric of those for all nodes, by the names of the
    /// hosts. A host exists while it has data.
    pub fn plan(&self, request: &Request) -> Vec<Query> {
        let mut plan = request.queries.clone();
        if request.for_all_nodes.is_empty() {
            return plan;
        }
        let mut hosts = self.hosts_of(&request.cluster);
        hosts.extend(self.archived_hosts(&request.cluster, request.from, request.to));
        for host in hosts {
            plan.extend(request.for_all_nodes.iter().map(|metric| Query {
                metric: metric.clone(),
                host: host.clone(),
                ..Query::default()
            }));
        }
        plan
    }

    /// The series of one query of a plan, in order. Series that do not exist are not in the answer.
    pub fn evaluate(&self, request: &Request, query: &Query) -> Vec<Result<Answer, SeriesError>> {
        let mut answers = Vec::new();
        self.evaluate_each(request, query, &mut |answer| {
            answers.push(answer);
            ControlFlow::Continue(())
        });
        answers
    }

    /// The same, one after the other, until `each` breaks off: only one of them is in memory.
    pub fn evaluate_each(&self, request: &Request, query: &Query, each: &mut EachAnswer<'_>) {
        let selectors = query::selectors(query);
        let outcome = self.try_evaluate(request, query, &selectors, each);
        if let Err((answered, error)) = outcome {
            let mut rest = selectors.iter().skip(answered);
            while rest.next().is_some() && each(Err(error.clone())).is_continue() {}
        }
    }

    /// The error is that of all selectors behind those that were answered.
    fn try_evaluate(
        &self,
        request: &Request,
        query: &Query,
        selectors: &[query::Selector],
        each: &mut EachAnswer<'_>,
    ) -> Result<(), (usize, SeriesError)> {
        let fail = |error: SeriesError| (0, error);
        if request.from > request.to {
            return Err(fail(SeriesError::InvalidRange));
        }
        let settings = self.options();
        let Some(metric) = settings.metrics.find(query.metric.as_bytes()) else {
            return Err(fail(SeriesError::UnknownMetric(query.metric.clone())));
        };
        let name = MetricName(metric.0);
        let metric = settings.metrics.get(metric);
        let times = with_margins(request.from, request.to, metric.frequency);
        let captured = self.capture(&request.cluster, &query.host, name, &times);
        let limit = settings.limits.query_points;
        let range = Asked { from: request.from, to: request.to, frequency: metric.frequency };
        let is_damaged = |error: Unreadable| fail(SeriesError::Damaged(error.to_string()));
        let hot = captured.gather_at_most(&times, limit).map_err(is_damaged)?;
        let gathered = match hot {
            Some(hot) => self.put_under(&captured, hot, &range, limit),
            None => Ok(None),
        };
        let gathered = gathered.map_err(|error| fail(SeriesError::Damaged(error.to_string())))?;
        let gathered = gathered.ok_or_else(|| fail(SeriesError::TooManyPoints { limit }))?;
        let series: Vec<Series<'_>> = gathered.iter().map(Gathered::series).collect();
        let paths: Vec<query::Path<'_>> =
            gathered.iter().map(|series| (series.component.as_bytes(), series.subcomponent.as_bytes())).collect();
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
            point_limit: limit,
        };
        let has_data: Vec<bool> =
            series.iter().map(|series| series.has_data(request.from, request.to, metric.frequency)).collect();
        for (at, selector) in selectors.iter().enumerate() {
            let found = query::combined_paths(selector, &paths, |at| has_data[at]);
            let children: Vec<&Series<'_>> = found.into_iter().map(|at| &series[at]).collect();
            let answer = (!children.is_empty()).then(|| query::answer(&children, &options));
            // What was computed out of a page that turned out to be unreadable is worth nothing, nor is that there is none.
            if let Some(path) = captured.poisoned() {
                return Err((at, SeriesError::Damaged(format!("{}: a page cannot be read", path.display()))));
            }
            let Some(answer) = answer else { continue };
            if each(answer).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The names of the hosts of a cluster that have data, sorted.
    fn hosts_of(&self, cluster: &str) -> BTreeSet<String> {
        self.host_names(&[cluster.to_owned()]).into_iter().map(|(_, host)| host).collect()
    }

    /// Cluster and name of all hosts with data that a selector names.
    pub(super) fn host_names(&self, selector: &[String]) -> BTreeSet<(String, String)> {
        let in_head = self.hosts.all().into_iter().filter(|host| !host.state.lock().is_empty());
        let mut names: BTreeSet<(String, String)> =
            in_head.map(|host| (host.cluster.to_string(), host.name.to_string())).collect();
        for loaded in &self.layers().snapshots {
            names.extend(loaded.file.hosts().map(|(cluster, host, _)| (cluster.to_owned(), host.to_owned())));
        }
        names.retain(|(cluster, host)| selects_host(selector, cluster, host));
        names
    }

    /// The metrics that a host has data of in any layer.
    fn metrics_of_host(&self, cluster: &str, host: &str) -> Result<BTreeSet<MetricName>, Unreadable> {
        let mut metrics = BTreeSet::new();
        if let Some(known) = self.hosts.find(cluster, host) {
            metrics.extend(known.state.lock().layout.keys().iter().map(|key| key.metric));
        }
        for loaded in &self.layers().snapshots {
            let names = metrics_of(&loaded.file, cluster, host).map_err(Unreadable::at(&loaded.path))?;
            metrics.extend(names.iter().map(|name| self.layouts.metric(name)));
        }
        Ok(metrics)
    }

    /// Frees the runs that ended before `to` (unix seconds) in any of the selectors: how many can be seen to go, and
    /// the LSN that must be durable before that is acknowledged. At most four names a selector.
    pub fn free(&self, selectors: &[Vec<String>], to: i64) -> Result<(u64, Lsn), Unavailable> {
        let freed = self.free_in_time(selectors, to, &|| false)?;
        Ok(freed.unwrap_or((0, self.log.durable())))
    }

    /// The same; `None` if it gets late while it looks for them, and nothing is freed.
    pub fn free_in_time(
        &self,
        selectors: &[Vec<String>],
        to: i64,
        is_late: &dyn Fn() -> bool,
    ) -> Result<Option<(u64, Lsn)>, Unavailable> {
        self.log.admit()?;
        let selectors: Vec<_> = selectors.iter().filter(|selector| selector.len() <= 4).collect();
        let mut runs = 0;
        let mut wanted = Vec::new();
        for (at, &selector) in selectors.iter().enumerate() {
            if is_late() {
                return Ok(None);
            }
            let (ended, is_all) = self.ended_before(selector, to, &selectors[..at]);
            // What names nothing frees nothing, and leaves nothing behind.
            if ended > 0 || !is_all {
                runs += ended;
                wanted.push(selector);
            }
        }
        // One after the other: rows between two frees would be a snapshot of their own.
        let append = |selector: &Vec<String>| self.log.append_free(selector, to);
        let lsn = wanted.into_iter().map(append).try_fold(self.log.durable(), |_, lsn| lsn)?;
        Ok(Some((runs, lsn)))
    }

    /// How many runs that a selector names, and none of some others, ended before a time, and whether these are all: those
    /// that cannot be read are not among them.
    fn ended_before(&self, selector: &[String], to: i64, others: &[&Vec<String>]) -> (u64, bool) {
        let (mut ended, mut is_all) = (0, true);
        for (cluster, host) in self.host_names(selector) {
            let others: Vec<_> = others.iter().filter(|other| selects_host(other, &cluster, &host)).collect();
            let metrics = self.metrics_of_host(&cluster, &host);
            is_all &= metrics.is_ok();
            for metric in metrics.unwrap_or_default() {
                let captured = self.capture(&cluster, &host, metric, &ALWAYS);
                let gathered = captured.gather(&ALWAYS);
                is_all &= gathered.is_ok();
                for series in gathered.unwrap_or_default() {
                    let selects =
                        |selector: &[String]| selects_series(selector, &series.component, &series.subcomponent);
                    if selects(selector) && !others.iter().any(|other| selects(other)) {
                        ended += series.runs().iter().filter(|(run, slots)| run.nominal(**slots) < to).count() as u64;
                    }
                }
            }
        }
        (ended, is_all)
    }

    /// What is stored below a selector of up to four names; `None` where there is nothing of that name.
    pub fn debug(&self, selector: &[String]) -> Option<DebugTree> {
        let mut root = DebugTree::default();
        for (cluster, host) in self.host_names(selector) {
            for metric in self.metrics_of_host(&cluster, &host).unwrap_or_default() {
                let captured = self.capture(&cluster, &host, metric, &ALWAYS);
                for series in captured.gather(&ALWAYS).unwrap_or_default() {
                    let mut level = root.children.entry(cluster.clone()).or_default();
                    for name in [&*host, &series.component, &series.subcomponent] {
                        if !name.is_empty() {
                            level = level.children.entry(name.to_owned()).or_default();
                        }
                    }
                    let runs = series.runs().into_iter().map(|(run, slots)| debug_run(run, slots));
                    level.metrics.insert(self.layouts.metric_name(metric).to_string(), runs.collect());
                }
            }
        }
        let mut level = root;
        for name in selector {
            level = level.children.remove(name)?;
        }
        Some(level)
    }

    /// Whether the metrics of a host arrive; `None` if there is no such host.
    pub fn health(&self, cluster: &str, node: &str, metrics: &[String]) -> Option<NodeHealth> {
        let is_in_head = |host: Arc<Host>| !host.state.lock().is_empty();
        let layers: Arc<Layers> = self.layers();
        if !self.hosts.find(cluster, node).is_some_and(is_in_head) && !layers.has_host(cluster, node) {
            return None;
        }
        let now = self.env.unix_now();
        let options = self.options();
        let mut health = NodeHealth::default();
        for name in metrics {
            let metric = options.metrics.find(name.as_bytes());
            // Whatever ended before this is late; of what did, one slot is enough to tell that it exists.
            let frequency = metric.map_or(1, |metric| options.metrics.get(metric).frequency);
            let times = now.saturating_sub((LATE_INTERVALS + 1) * i64::from(frequency))..i64::MAX;
            let captured = metric.map(|metric| self.capture(cluster, node, MetricName(metric.0), &times));
            let gathered = captured.as_ref().and_then(|captured| captured.gather(&times).ok());
            let ends: Vec<(Run, u32)> =
                gathered.iter().flatten().filter_map(|series| series.runs().pop_last()).collect();
            let is_late = |(run, slots): &(Run, u32)| {
                now.saturating_sub(run.end_after(*slots)) > LATE_INTERVALS * i64::from(run.frequency)
            };
            if ends.is_empty() {
                health.missing.push(name.clone());
            } else if ends.iter().any(is_late) {
                health.degraded.push(name.clone());
            } else {
                health.healthy += 1;
            }
        }
        Some(health)
    }
}

fn debug_run(run: Run, slots: u32) -> DebugRun {
    DebugRun { start: run.start, len: u64::from(slots), end: run.end_after(slots) }
}
