//! From points to the series of hosts: what a request says, gathered by host.

use super::Written;
use crate::decode::{Context, LineError, Point, Recall, Recaller, Repeated};
use crate::head::Host;
use crate::model::MetricId;
use crate::names::{KeyName, Layout, Learned, MetricName, Spelling, Template};
use crate::store::{Options, Store};
use hashbrown::HashMap;
use std::fmt::Arguments;
use std::ops::RangeInclusive;
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

/// The points of one host.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) host: Option<Arc<Host>>,
    pub(super) layout: Option<Arc<Layout>>,
    pub(super) points: Vec<PlacedLater>,
    pub(super) new_keys: Vec<(MetricName, String, String)>,
    new_ordinals: HashMap<(MetricName, String, String), u32, Hasher>,
    pub(super) template: Option<Arc<Template>>,
    may_learn: bool,
    /// Lines that the template does not have.
    pub(super) learned: Learned,
}

/// A sample of a series that is not placed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlacedLater {
    /// In the group's layout, or behind it for new keys.
    pub(super) ordinal: u32,
    pub(super) frequency: u32,
    pub(super) time: i64,
    pub(super) value: f64,
}

/// Gathers points, by host.
#[derive(Debug)]
pub(super) struct Groups {
    list: Vec<Group>,
    used: usize,
    of_host: HashMap<u32, usize, Hasher>,
    /// The group of the last point.
    current: usize,
}

/// Takes the lines of one request.
pub(super) struct Lines<'a> {
    pub(super) store: &'a Store,
    /// As they were when the body came.
    pub(super) options: &'a Options,
    pub(super) groups: &'a mut Groups,
    pub(super) context: Context<'a>,
    /// The clusters that the sender may write to, if not all.
    pub(super) clusters: Option<&'a [String]>,
    pub(super) written: Written,
    pub(super) now: i64,
    /// The times that are taken.
    pub(super) times: RangeInclusive<i64>,
}

impl Recaller for Lines<'_> {
    fn point(&mut self, point: Point<'_>, spelling: Option<Spelling<'_>>) -> Option<Recall> {
        if self.clusters.is_some_and(|own| !own.iter().any(|name| name == point.cluster)) {
            self.refuse("cluster-denied", &point, format_args!(" in cluster {}", point.cluster));
            return None;
        }
        let time = point.time.unwrap_or(self.now);
        if !self.times.contains(&time) {
            self.refuse_time(point.line, point.metric, point.host, time);
            return None;
        }
        let Some(group) = self.groups.of(self.store, self.options.limits.hosts, point.cluster, point.host) else {
            self.refuse("limit-hosts", &point, format_args!(""));
            return None;
        };
        let name = KeyName {
            metric: MetricName(point.metric.0),
            component: point.component,
            subcomponent: point.subcomponent,
        };
        let ordinal = group.ordinal(name);
        let before = group.points.last().map(|point| point.ordinal);
        let frequency = self.options.metrics.get(point.metric).frequency;
        group.points.push(PlacedLater { ordinal, frequency, time, value: point.value });
        group.recall(&spelling?, point.metric, ordinal, before, &self.context)
    }

    #[inline]
    fn repeated(&mut self, point: Repeated) {
        let Repeated { line, metric, ordinal, time, value } = point;
        let time = time.unwrap_or(self.now);
        let Some(group) = self.groups.list.get_mut(self.groups.current) else { return };
        if !self.times.contains(&time) {
            if let Some(host) = group.host.clone() {
                self.refuse_time(line, metric, &host.name, time);
            }
            return;
        }
        let frequency = self.options.metrics.get(metric).frequency;
        group.points.push(PlacedLater { ordinal, frequency, time, value });
    }

    fn refused(&mut self, error: LineError<'_>) {
        self.written.refuse(error.reason.as_str(), error);
        self.store.counters.refuse(error.reason.as_str(), error.metric, error.host);
        if error.reason.is_client_error() {
            self.written.first_client_error.get_or_insert_with(|| error.to_string());
        }
    }
}

impl Lines<'_> {
    #[cold]
    fn refuse_time(&mut self, line: u32, metric: MetricId, host: &str, time: i64) {
        let reason = if time < *self.times.start() { "too-late" } else { "too-far-ahead" };
        let metric = &self.options.metrics.get(metric).name;
        let now = self.now;
        let about = format_args!("line {line}: {metric} of host {host} is for {time}, it is {now} now");
        self.written.refuse(reason, about);
        self.store.counters.refuse(reason, metric, host);
    }

    /// Refuses a good line for what it is about; `place` is said behind the host.
    #[cold]
    fn refuse(&mut self, reason: &'static str, point: &Point<'_>, place: Arguments<'_>) {
        let (metric, host) = (&self.options.metrics.get(point.metric).name, point.host);
        self.written.refuse(reason, format_args!("line {}: {metric} of host {host}{place}", point.line));
        self.store.counters.refuse(reason, metric, host);
    }
}

impl Default for Groups {
    fn default() -> Self {
        Self { list: Vec::new(), used: 0, of_host: HashMap::default(), current: usize::MAX }
    }
}

impl Groups {
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Group> {
        self.list[..self.used].iter_mut()
    }

    pub(super) fn clear(&mut self) {
        for group in &mut self.list[..self.used] {
            group.clear();
        }
        self.used = 0;
        self.current = usize::MAX;
        self.of_host.clear();
    }

    /// The group of a host, which is then the current one. `None` if there may be no more hosts.
    fn of(&mut self, store: &Store, hosts_max: usize, cluster: &str, host: &str) -> Option<&mut Group> {
        let is_it =
            |group: &Group| group.host.as_ref().is_some_and(|known| *known.name == *host && *known.cluster == *cluster);
        if !self.list.get(self.current).is_some_and(is_it) {
            let host = store.hosts.find_or_create(cluster, host, &store.layouts, hosts_max)?;
            let Self { list, used, of_host, .. } = self;
            self.current = *of_host.entry(host.id).or_insert_with(|| {
                let at = *used;
                *used += 1;
                if at == list.len() {
                    list.push(Group::default());
                }
                list[at].begin(store, host);
                at
            });
        }
        self.list.get_mut(self.current)
    }
}

impl Group {
    fn begin(&mut self, store: &Store, host: Arc<Host>) {
        let mut state = host.state.lock();
        self.may_learn = state.sender.may_learn();
        self.template = state.sender.template();
        if self.template.is_none()
            && let Some(template) = store.templates.newest(&state.layout, &host.cluster)
        {
            state.sender.take(&template);
            self.template = Some(template);
        }
        self.layout = Some(Arc::clone(&state.layout));
        drop(state);
        if let Some(template) = &self.template {
            template.touch();
        }
        self.host = Some(host);
    }

    fn ordinal(&mut self, name: KeyName<'_>) -> u32 {
        let Some(layout) = &self.layout else { return 0 };
        // Senders repeat themselves: mostly the series that follows the last one in the layout comes next.
        let next = self.points.last().map_or(0, |point| point.ordinal.saturating_add(1));
        if layout.keys().get(next as usize).is_some_and(|key| key.name() == name) {
            return next;
        }
        if let Some(ordinal) = layout.find(name) {
            return ordinal;
        }
        let first_new = u32::try_from(layout.len()).unwrap_or(u32::MAX);
        let key = (name.metric, name.component.to_owned(), name.subcomponent.to_owned());
        let Self { new_keys, new_ordinals, .. } = self;
        *new_ordinals.entry(key).or_insert_with_key(|key| {
            new_keys.push(key.clone());
            // As many lines as that do not fit into a body.
            first_new.saturating_add(u32::try_from(new_keys.len() - 1).unwrap_or(u32::MAX))
        })
    }

    /// What follows a line that was read the long way, which is learned if the template does not have it. `before` is
    /// the ordinal of the line before it.
    fn recall(
        &mut self,
        spelling: &Spelling<'_>,
        metric: MetricId,
        ordinal: u32,
        before: Option<u32>,
        context: &Context<'_>,
    ) -> Option<Recall> {
        let known = self.template.as_ref().and_then(|template| template.find(ordinal, spelling));
        if known.is_none() && self.may_learn {
            self.learned.push(spelling, metric, ordinal, before);
        }
        let template = self.template.as_ref()?;
        let last = known.or_else(|| template.position(before?));
        let host = Arc::clone(&self.host.as_ref()?.name);
        Recall::new(Arc::clone(template), host, last.map_or(0, |last| last + 1), context)
    }

    fn clear(&mut self) {
        self.host = None;
        self.layout = None;
        self.template = None;
        self.points.clear();
        self.new_keys.clear();
        self.new_ordinals.clear();
        self.learned.clear();
    }
}
