//! All hosts, by name and by number.

use super::host::{Host, HostState};
use crate::names::Layouts;
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;

type Hasher = foldhash::fast::RandomState;

/// The hosts of the store. They are only added: a host without data does not exist for readers.
#[derive(Debug, Default)]
pub struct Hosts {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    clusters: BTreeMap<Arc<str>, HashMap<Arc<str>, Arc<Host>, Hasher>>,
    by_id: Vec<Arc<Host>>,
}

impl Hosts {
    /// A host by its names.
    pub fn find(&self, cluster: &str, host: &str) -> Option<Arc<Host>> {
        self.inner.read().clusters.get(cluster)?.get(host).map(Arc::clone)
    }

    /// A host by its names, created if there are fewer than `limit`.
    pub fn find_or_create(&self, cluster: &str, name: &str, layouts: &Layouts, limit: usize) -> Option<Arc<Host>> {
        if let Some(host) = self.find(cluster, name) {
            return Some(host);
        }
        let mut inner = self.inner.write();
        let Inner { clusters, by_id } = &mut *inner;
        if let Some(host) = clusters.get(cluster).and_then(|hosts| hosts.get(name)) {
            return Some(Arc::clone(host));
        }
        let id = u32::try_from(by_id.len()).ok().filter(|_| by_id.len() < limit)?;
        let cluster =
            clusters.get_key_value(cluster).map_or_else(|| Arc::from(cluster), |(known, _)| Arc::clone(known));
        let host = Arc::new(Host {
            id,
            cluster: Arc::clone(&cluster),
            name: Arc::from(name),
            state: Mutex::new(HostState::new(layouts.empty())),
        });
        by_id.push(Arc::clone(&host));
        clusters.entry(cluster).or_default().insert(Arc::clone(&host.name), Arc::clone(&host));
        Some(host)
    }

    /// A host by its number.
    pub fn by_id(&self, id: u32) -> Option<Arc<Host>> {
        self.inner.read().by_id.get(id as usize).map(Arc::clone)
    }

    /// All hosts in the order of their numbers.
    pub fn all(&self) -> Vec<Arc<Host>> {
        self.inner.read().by_id.clone()
    }

    /// The hosts of a cluster, by name.
    pub fn of_cluster(&self, cluster: &str) -> Vec<Arc<Host>> {
        let inner = self.inner.read();
        let mut hosts: Vec<_> = inner.clusters.get(cluster).into_iter().flat_map(HashMap::values).cloned().collect();
        drop(inner);
        hosts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// The names of all clusters.
    pub fn clusters(&self) -> Vec<Arc<str>> {
        self.inner.read().clusters.keys().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inner.read().by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
