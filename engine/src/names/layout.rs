//! Layouts and the place where they are shared.

use crate::format::frame;
use crate::model::Metrics;
use hashbrown::{HashMap, HashSet, HashTable};
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

type Hasher = foldhash::fast::RandomState;

/// A metric's name as a number of this process. Configured metrics come first, in their order, and what is configured
/// later gets its number as id, so that the number of a configured metric is its [`MetricId`](crate::model::MetricId).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MetricName(pub u32);

/// A series below a host: what the ordinals of a layout stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The metric.
    pub metric: MetricName,
    /// The component, empty for the host itself.
    pub component: Arc<str>,
    /// The part of the component, empty for the component itself.
    pub subcomponent: Arc<str>,
}

/// A [`Key`] by its names, before it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyName<'a> {
    /// The metric.
    pub metric: MetricName,
    /// The component, empty for the host itself.
    pub component: &'a str,
    /// The part of the component, empty for the component itself.
    pub subcomponent: &'a str,
}

impl Key {
    /// Its names.
    pub fn name(&self) -> KeyName<'_> {
        KeyName { metric: self.metric, component: &self.component, subcomponent: &self.subcomponent }
    }
}

/// The ordered series of a host.
#[derive(Debug)]
pub struct Layout {
    id: u32,
    keys: Vec<Key>,
    index: HashTable<u32>,
    hasher: Hasher,
    /// Bytes of its keys in the log.
    encoded_len: usize,
}

impl Layout {
    fn new(id: u32, keys: Vec<Key>, encoded_len: usize, hasher: &Hasher) -> Self {
        let mut index = HashTable::with_capacity(keys.len());
        for (ordinal, key) in (0_u32..).zip(&keys) {
            let rehash = |&at: &u32| hash(hasher, keys[at as usize].name());
            index.insert_unique(hash(hasher, key.name()), ordinal, rehash);
        }
        Self { id, keys, index, hasher: hasher.clone(), encoded_len }
    }

    /// A number that no other layout of this process has.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its series; the position is the ordinal.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How many series it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Bytes that its keys take in the log.
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    /// Bytes of heap, without the names, which layouts share.
    pub fn heap_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Key>() + self.index.allocation_size()
    }

    /// The ordinal of a series.
    #[inline]
    pub fn find(&self, name: KeyName<'_>) -> Option<u32> {
        let is_it = |&at: &u32| self.keys[at as usize].name() == name;
        self.index.find(hash(&self.hasher, name), is_it).copied()
    }

    /// The series of one metric with their ordinals.
    pub fn of_metric(&self, metric: MetricName) -> impl Iterator<Item = (u32, &Key)> {
        (0_u32..).zip(&self.keys).filter(move |(_, key)| key.metric == metric)
    }

    /// Whether `self` begins with all of `base`, in its order.
    pub fn extends(&self, base: &Layout) -> bool {
        self.id == base.id || self.keys.starts_with(&base.keys)
    }
}

#[inline]
fn hash(hasher: &Hasher, name: KeyName<'_>) -> u64 {
    hasher.hash_one((name.metric.0, name.component, name.subcomponent))
}

/// All layouts that hosts have, and the names that they are made of.
#[derive(Debug)]
pub struct Layouts {
    hasher: Hasher,
    empty: Arc<Layout>,
    shared: Mutex<Shared>,
    /// Bytes in the log of a layout that hosts may share.
    bytes_max: usize,
}

#[derive(Debug)]
struct Shared {
    metrics: Vec<Arc<str>>,
    metric_by_name: HashMap<Arc<str>, MetricName, Hasher>,
    strings: HashSet<Arc<str>, Hasher>,
    /// Layouts that were made or taken lately, the newest last.
    recent: Vec<Weak<Layout>>,
    next_id: u32,
}

/// How many layouts are looked through for one that fits: kinds of hosts in a centre, generously.
const RECENT: usize = 64;
/// The share of what a new host sends that a layout must have to be taken for one of its kind, as a fraction.
const ALIKE: (usize, usize) = (3, 4);
/// How many series more than it sends a host may share, times and plus: a host pays four bytes for each.
const SPARE: (usize, usize) = (4, 1024);

impl Layouts {
    /// No layouts yet, and the names of the configured metrics.
    pub fn new(configured: &Metrics) -> Self {
        let hasher = Hasher::default();
        let mut shared = Shared {
            metrics: Vec::new(),
            metric_by_name: HashMap::default(),
            strings: HashSet::default(),
            recent: Vec::new(),
            next_id: 1,
        };
        for (_, metric) in configured.iter() {
            shared.metric(&metric.name);
        }
        let empty = Arc::new(Layout::new(0, Vec::new(), 0, &hasher));
        Self { empty, hasher, shared: Mutex::new(shared), bytes_max: usize::MAX }
    }

    /// The same, where no host shares a layout of more bytes in the log than these: what one host may have is bounded,
    /// and must not grow by what others have.
    #[must_use]
    pub fn sharing_at_most(self, bytes_max: usize) -> Self {
        Self { bytes_max, ..self }
    }

    /// The layout of a host that has sent nothing.
    pub fn empty(&self) -> Arc<Layout> {
        Arc::clone(&self.empty)
    }

    /// The number of a metric's name, configured or not.
    pub fn metric(&self, name: &str) -> MetricName {
        self.shared.lock().metric(name)
    }

    /// The name of a metric.
    pub fn metric_name(&self, metric: MetricName) -> Arc<str> {
        self.shared.lock().metrics.get(metric.0 as usize).map_or_else(|| Arc::from(""), Arc::clone)
    }

    /// The keys of a layout from `first` on, by the names that the log writes.
    pub fn with_key_names<R>(&self, layout: &Layout, use_names: impl FnOnce(&[Arc<str>], &[Key]) -> R) -> R {
        let metrics = self.shared.lock().metrics.clone();
        use_names(&metrics, layout.keys())
    }

    /// The layout with exactly these keys in this order, as the log defines it.
    pub fn exact(&self, wanted: &[KeyName<'_>]) -> Arc<Layout> {
        let is_it = |layout: &Arc<Layout>| layout.keys.iter().map(Key::name).eq(wanted.iter().copied());
        let known = self.shared.lock().recent.iter().rev().filter_map(Weak::upgrade).find(is_it);
        known.unwrap_or_else(|| self.make(&mut self.shared.lock(), &self.empty, wanted))
    }

    /// A layout that begins with `base` and has `wanted` somewhere: one that exists, where it fits, or a new one with
    /// what is missing appended in the order given.
    pub fn extend(&self, base: &Arc<Layout>, wanted: &[KeyName<'_>]) -> Arc<Layout> {
        let mut shared = self.shared.lock();
        let most = (base.len() + wanted.len()) * SPARE.0 + SPARE.1;
        let fits = |layout: &Arc<Layout>| {
            layout.len() <= most
                && layout.encoded_len <= self.bytes_max
                && wanted.iter().all(|&name| layout.find(name).is_some())
                && (base.is_empty() || layout.extends(base))
        };
        if wanted.iter().all(|&name| base.find(name).is_some()) {
            return Arc::clone(base);
        }
        if let Some(found) = shared.recent.iter().rev().filter_map(Weak::upgrade).find(fits) {
            return found;
        }
        let wanted_len: usize = wanted.iter().map(|&name| shared.len_in_log(name)).sum();
        if base.is_empty()
            && let Some(alike) = shared.recent.iter().rev().filter_map(Weak::upgrade).find(|layout| {
                let known = wanted.iter().filter(|&&name| layout.find(name).is_some()).count();
                layout.len() <= most
                    && layout.encoded_len.saturating_add(wanted_len) <= self.bytes_max
                    && known * ALIKE.1 >= wanted.len() * ALIKE.0
            })
        {
            // The host is of a known kind that happened not to send everything, or sends a little more.
            return self.make(&mut shared, &alike, wanted);
        }
        self.make(&mut shared, base, wanted)
    }

    fn make(&self, shared: &mut Shared, base: &Layout, wanted: &[KeyName<'_>]) -> Arc<Layout> {
        let mut keys = base.keys.clone();
        let mut encoded_len = base.encoded_len;
        let mut added: HashSet<(MetricName, &str, &str), Hasher> = HashSet::default();
        for &name in wanted {
            let is_new = base.find(name).is_none() && added.insert((name.metric, name.component, name.subcomponent));
            if is_new {
                let key = Key {
                    metric: name.metric,
                    component: shared.string(name.component),
                    subcomponent: shared.string(name.subcomponent),
                };
                encoded_len += frame::write::key_len(&shared.key_for_log(&key));
                keys.push(key);
            }
        }
        let layout = Arc::new(Layout::new(shared.next_id, keys, encoded_len, &self.hasher));
        shared.next_id += 1;
        shared.recent.retain(|known| known.strong_count() > 0);
        if shared.recent.len() >= RECENT {
            shared.recent.remove(0);
        }
        shared.recent.push(Arc::downgrade(&layout));
        layout
    }
}

impl Shared {
    fn metric(&mut self, name: &str) -> MetricName {
        if let Some(&metric) = self.metric_by_name.get(name) {
            return metric;
        }
        // Names come from the config and from checked files; four billion of them do not fit into memory.
        let metric = MetricName(u32::try_from(self.metrics.len()).unwrap_or(u32::MAX));
        let name: Arc<str> = Arc::from(name);
        self.metrics.push(Arc::clone(&name));
        self.metric_by_name.insert(name, metric);
        metric
    }

    fn string(&mut self, text: &str) -> Arc<str> {
        Arc::clone(self.strings.get_or_insert_with(text, |text| Arc::from(text)))
    }

    fn len_in_log(&self, KeyName { metric, component, subcomponent }: KeyName<'_>) -> usize {
        let metric = self.metrics.get(metric.0 as usize).map_or("", |name| name);
        frame::write::key_len(&frame::Key { metric, component, subcomponent })
    }

    fn key_for_log<'a>(&'a self, key: &'a Key) -> frame::Key<'a> {
        frame::Key {
            metric: self.metrics.get(key.metric.0 as usize).map_or("", |name| name),
            component: &key.component,
            subcomponent: &key.subcomponent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(metric: u32, component: &str) -> KeyName<'_> {
        KeyName { metric: MetricName(metric), component, subcomponent: "" }
    }

    #[test]
    fn hosts_that_are_alike_share_a_layout_whatever_order_they_send_in() {
        let layouts = Layouts::new(&Metrics::default());
        let all = [name(0, ""), name(1, "socket0"), name(1, "socket1")];
        let first = layouts.extend(&layouts.empty(), &all);
        let second = layouts.extend(&layouts.empty(), &[name(1, "socket1"), name(0, "")]);
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(second.find(name(1, "socket1")), Some(2));
        assert_eq!(second.find(name(2, "socket1")), None);
    }

    #[test]
    fn hosts_that_miss_a_few_series_at_first_share_a_layout_all_the_same() {
        let layouts = Layouts::new(&Metrics::default());
        let names: Vec<String> = (0..100).map(|at| format!("hwthread{at}")).collect();
        let all: Vec<KeyName<'_>> = names.iter().map(|component| name(0, component)).collect();
        let without = |missing: usize| -> Vec<KeyName<'_>> {
            all.iter().enumerate().filter(|(at, _)| at % 50 != missing).map(|(_, &name)| name).collect()
        };
        let first = layouts.extend(&layouts.empty(), &without(0));
        let second = layouts.extend(&layouts.empty(), &without(1));
        let third = layouts.extend(&layouts.empty(), &without(2));
        assert_eq!((first.len(), second.len()), (98, 100));
        assert!(Arc::ptr_eq(&second, &third));
        // The first host sends what it had missed, and comes to the same layout.
        assert!(Arc::ptr_eq(&second, &layouts.extend(&first, &all)));
    }

    #[test]
    fn a_longer_layout_keeps_the_ordinals_and_is_shared_again() {
        let layouts = Layouts::new(&Metrics::default());
        let short = layouts.extend(&layouts.empty(), &[name(0, "a"), name(0, "b")]);
        let long = layouts.extend(&short, &[name(0, "b"), name(7, "c"), name(7, "c")]);
        assert_eq!(long.len(), 3);
        assert_eq!(long.find(name(0, "b")), Some(1));
        assert!(Arc::ptr_eq(&long, &layouts.extend(&short, &[name(7, "c")])));
        let other = layouts.extend(&layouts.empty(), &[name(9, "x")]);
        assert!(!Arc::ptr_eq(&other, &long));
    }
}
