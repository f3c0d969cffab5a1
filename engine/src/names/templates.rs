//! All templates, and how many of them are kept.

use super::Layout;
use super::template::{Learned, Template};
use hashbrown::HashMap;
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

type Hasher = foldhash::fast::RandomState;

/// Bytes of templates above which those that are not in use go.
const TEMPLATE_BYTES: usize = 64 << 20;
/// Templates of one layout that are looked through for one that fits: clusters, and kinds of senders.
const OF_A_LAYOUT: usize = 16;

/// The templates of a store: shared, bounded, and dropped when others need their room.
#[derive(Debug)]
pub struct Templates {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// By the id of the layout, the newest last.
    of_layout: HashMap<u32, Vec<Arc<Template>>, Hasher>,
    bytes: usize,
}

impl Default for Templates {
    fn default() -> Self {
        Self::bounded(TEMPLATE_BYTES)
    }
}

impl Templates {
    /// No templates yet, and never more than this many bytes of them.
    pub fn bounded(bytes_max: usize) -> Self {
        Self { kept: Mutex::default(), bytes_max }
    }

    /// The newest template of a layout and cluster.
    pub fn newest(&self, layout: &Layout, cluster: &str) -> Option<Arc<Template>> {
        let kept = self.kept.lock();
        kept.of_layout.get(&layout.id())?.iter().rev().find(|known| known.cluster() == cluster).map(Arc::clone)
    }

    /// A template of a layout that has all of `base` and what was learned: one that is known, or a new one.
    pub fn learn(
        &self,
        base: Option<&Arc<Template>>,
        layout: &Arc<Layout>,
        cluster: &Arc<str>,
        learned: &Learned,
    ) -> Arc<Template> {
        let least = base.map_or(0, |base| base.len());
        let fits =
            |known: &&Arc<Template>| known.cluster() == &**cluster && known.len() >= least && learned.are_in(known);
        let mut kept = self.kept.lock();
        if let Some(known) = kept.of_layout.get(&layout.id()).and_then(|list| list.iter().rev().find(fits)) {
            return Arc::clone(known);
        }
        let made = Arc::new(learned.template(base.map(|base| &**base), layout, cluster));
        kept.add(&made);
        if kept.bytes > self.bytes_max {
            kept.evict(self.bytes_max);
        }
        made
    }

    /// Bytes of heap.
    pub fn heap_bytes(&self) -> usize {
        self.kept.lock().bytes
    }
}

impl Kept {
    fn add(&mut self, template: &Arc<Template>) {
        self.bytes += template.heap_bytes();
        let list = self.of_layout.entry(template.layout().id()).or_default();
        if list.len() == OF_A_LAYOUT {
            self.bytes -= list.remove(0).heap_bytes();
        }
        list.push(Arc::clone(template));
    }

    /// Drops what was not in use since the last time; all, if that is not enough.
    fn evict(&mut self, bytes_max: usize) {
        self.retain(Template::was_used);
        if self.bytes > bytes_max / 4 * 3 {
            self.retain(|_| false);
        }
    }

    fn retain(&mut self, is_kept: impl Fn(&Template) -> bool) {
        let mut bytes = 0;
        self.of_layout.retain(|_, list| {
            list.retain(|template| {
                let stays = is_kept(template);
                bytes += if stays { template.heap_bytes() } else { 0 };
                stays
            });
            !list.is_empty()
        });
        self.bytes = bytes;
    }
}

/// What is known of how a host sends: its template, and when something may be learned again.
///
/// A sender that never repeats itself would make a new template with each request. So each time the pause before the
/// next is twice as long, up to [`Sender::PAUSE_MAX`] requests.
#[derive(Debug, Default)]
pub struct Sender {
    template: Weak<Template>,
    pause: u8,
    wait: u8,
}

impl Sender {
    /// Requests of a host between two of which something is learned, at most.
    pub const PAUSE_MAX: u8 = 64;

    /// The template, if it is still there.
    pub fn template(&self) -> Option<Arc<Template>> {
        self.template.upgrade()
    }

    /// Whether something may be learned from the request that begins now.
    pub fn may_learn(&mut self) -> bool {
        let may = self.wait == 0;
        self.wait = self.wait.saturating_sub(1);
        may
    }

    /// Takes a template that others have.
    pub fn take(&mut self, template: &Arc<Template>) {
        self.template = Arc::downgrade(template);
    }

    /// Takes a template that has what was learned.
    pub fn learned(&mut self, template: &Arc<Template>) {
        self.template = Arc::downgrade(template);
        self.wait = self.pause;
        self.pause = self.pause.saturating_mul(2).clamp(1, Self::PAUSE_MAX);
    }
}
