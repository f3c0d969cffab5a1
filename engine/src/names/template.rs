//! Templates: how senders spell the series of a layout, so that what they repeat need not be read again.
//!
//! A sender sends the same lines every interval, but for the value and the time. A template has these lines up to the
//! value, in the order they came, with a hole where the name of the host stands: hosts that are alike share templates as
//! they share layouts. A line that begins with the text of an entry, this host's name in the hole, means what the entry
//! says, whatever follows.
//!
//! A template is a cache and never decides anything: it is made from lines that were read the long way, it never
//! changes, and it may be dropped at any time. It is good as long as metrics mean what they meant for those lines; limits
//! on names may have changed since: see [`Template::component_len_max`].

use super::Layout;
use crate::model::MetricId;
use memchr::{memchr, memchr_iter};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How a line is spelled up to its value, without the name of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spelling<'a> {
    /// What stands before the name of the host.
    pub front: &'a [u8],
    /// What stands behind it, up to the value.
    pub back: &'a [u8],
    /// Whether the line names no cluster, and so is of the default one.
    pub by_default: bool,
}

/// The longest spelling that is kept, in bytes.
const SPELLING_BYTES: usize = 1024;
/// How many spellings of one series a template has at most: two senders that write the same in another order.
const VARIANTS: usize = 2;
/// No entry.
const NONE: u32 = u32::MAX;
/// Places of the index that are looked at for one line.
const PROBES: usize = 8;

/// A line of a template: what it means.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The metric.
    pub metric: MetricId,
    /// The ordinal in the layout.
    pub ordinal: u32,
    /// Whether the line names no cluster: it means this only where the default cluster is that of the template.
    pub by_default: bool,
    front_len: u16,
    back_len: u16,
    text: u32,
    /// Another entry of the same ordinal.
    other: u32,
}

impl Entry {
    /// Its spelling in the text that it points to: the front, then the back.
    fn text_in<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        let length = usize::from(self.front_len) + usize::from(self.back_len);
        text.get(self.text as usize..).and_then(|text| text.get(..length)).unwrap_or_default()
    }

    #[inline]
    fn spelling<'a>(&self, text: &'a [u8]) -> Spelling<'a> {
        let (front, back) = self.text_in(text).split_at_checked(usize::from(self.front_len)).unwrap_or_default();
        Spelling { front, back, by_default: self.by_default }
    }
}

/// What stands before and behind the name of the host, up to the value.
type Text<'a> = (&'a [u8], &'a [u8]);

/// The text of a line of `host`, if it can be one that is kept.
fn text_of<'a>(line: &'a [u8], host: &[u8]) -> Option<Text<'a>> {
    // No more is looked at: behind the line is the rest of its body.
    let line = line.get(..SPELLING_BYTES + host.len()).unwrap_or(line);
    let line = line.get(..memchr(b'\n', line)?)?;
    let is_host = |at: &usize| {
        let behind = line.get(at + 1..).and_then(|value| value.strip_prefix(host));
        behind.is_some_and(|behind| matches!(behind.first(), Some(b',' | b' ')))
    };
    let (front, named) = line.split_at_checked(memchr_iter(b'=', line).find(is_host)? + 1)?;
    let behind = named.get(host.len()..)?;
    let field = memchr(b' ', behind)?;
    let value = field + memchr(b'=', behind.get(field..)?)? + 1;
    Some((front, behind.get(..value)?))
}

/// Entries by their text, as far as there is room for them near their place. It is of no use to make them collide: a few
/// places are looked at, and the line is then read the long way.
#[derive(Debug)]
struct Index {
    /// Positions of entries; twice as many places as there are entries, or more.
    places: Box<[u32]>,
    hasher: foldhash::fast::FixedState,
}

impl Index {
    fn new(entries: &[Entry], text: &[u8]) -> Self {
        let places = vec![NONE; Self::places(entries.len())].into();
        let mut index = Self { places, hasher: foldhash::fast::FixedState::default() };
        for (position, entry) in (0..).zip(entries) {
            let Spelling { front, back, .. } = entry.spelling(text);
            let free = index.probe((front, back)).find(|&place| index.places[place] == NONE);
            if let Some(place) = free {
                index.places[place] = position;
            }
        }
        index
    }

    fn places(entries: usize) -> usize {
        (2 * entries).next_power_of_two()
    }

    /// The places where the entry with a text may be.
    fn probe(&self, text: Text<'_>) -> impl Iterator<Item = usize> + use<> {
        let mask = self.places.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "some bits of a hash")]
        let first = self.hasher.hash_one(text) as usize;
        (0..PROBES.min(self.places.len())).map(move |step| first.wrapping_add(step) & mask)
    }

    /// The positions of the entries that may have a text.
    fn find<'s>(&'s self, text: Text<'_>) -> impl Iterator<Item = u32> + use<'s> {
        self.probe(text).map(|place| self.places[place]).take_while(|&position| position != NONE)
    }
}

/// The lines of a kind of sender.
#[derive(Debug)]
pub struct Template {
    layout: Arc<Layout>,
    cluster: Arc<str>,
    text: Box<[u8]>,
    entries: Box<[Entry]>,
    /// The first entry of each ordinal.
    by_ordinal: Box<[u32]>,
    /// Made when a line does not stand where it is expected.
    index: OnceLock<Index>,
    component_len_max: usize,
    /// Whether it was of use since this was last asked.
    used: AtomicBool,
}

impl Template {
    /// The layout that the ordinals are of.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// The cluster that all its lines are of.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Bytes of the longest component or subcomponent that its lines name.
    pub fn component_len_max(&self) -> usize {
        self.component_len_max
    }

    /// How many lines it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of heap, those of the index included before it is made.
    pub fn heap_bytes(&self) -> usize {
        self.text.len()
            + self.entries.len() * size_of::<Entry>()
            + (self.by_ordinal.len() + Index::places(self.len())) * size_of::<u32>()
    }

    /// The positions of entries that may begin the first line of `line`, wherever they stand. However much follows makes no
    /// difference.
    pub fn candidates<'s>(&'s self, host: &[u8], line: &[u8]) -> impl Iterator<Item = u32> + use<'s> {
        let index = || self.index.get_or_init(|| Index::new(&self.entries, &self.text));
        text_of(line, host).map(|text| index().find(text)).into_iter().flatten()
    }

    /// The entry at a position and the offset of the value, if `line` begins with its text and with `host` in the hole.
    ///
    /// `host` must be a name that stands in a line as it is: see [`is_plain`].
    #[inline]
    pub fn matches(&self, at: u32, host: &[u8], line: &[u8]) -> Option<(&Entry, usize)> {
        let entry = self.entries.get(at as usize)?;
        let spelling = entry.spelling(&self.text);
        let behind = line.strip_prefix(spelling.front)?.strip_prefix(host)?.strip_prefix(spelling.back)?;
        Some((entry, line.len() - behind.len()))
    }

    /// The position of a series that is spelled like this.
    pub fn find(&self, ordinal: u32, spelling: &Spelling<'_>) -> Option<u32> {
        self.of_ordinal(ordinal).find(|&(_, entry)| entry.spelling(&self.text) == *spelling).map(|(at, _)| at)
    }

    /// The position of a series, however it is spelled.
    pub fn position(&self, ordinal: u32) -> Option<u32> {
        self.of_ordinal(ordinal).next().map(|(at, _)| at)
    }

    fn of_ordinal(&self, ordinal: u32) -> impl Iterator<Item = (u32, &Entry)> {
        let mut at = self.by_ordinal.get(ordinal as usize).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let found = at;
            let entry = self.entries.get(at as usize)?;
            at = entry.other;
            Some((found, entry))
        })
    }

    /// Notes that it is of use.
    pub fn touch(&self) {
        // Read first: a line of memory that all threads write to would be slow.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was of use since the last call.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}

/// Whether the name of a host stands in a line as it is, without escapes, and ends where it ends.
pub fn is_plain(host: &str) -> bool {
    !host.is_empty() && !host.bytes().any(|byte| matches!(byte, b',' | b'=' | b' ' | b'\\' | 0..=0x1f | 0x7f))
}

/// Lines that a template does not have.
#[derive(Debug, Default)]
pub struct Learned {
    text: Vec<u8>,
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug)]
struct Line {
    entry: Entry,
    /// The ordinal of the line before it in the body, if it was of the same host.
    after: Option<u32>,
}

impl Learned {
    /// Adds the line of a series. `after` is the ordinal of the line before it.
    pub fn push(&mut self, spelling: &Spelling<'_>, metric: MetricId, ordinal: u32, after: Option<u32>) {
        let (front, back) = (spelling.front.len(), spelling.back.len());
        let (Ok(front_len), Ok(back_len), Ok(text)) =
            (u16::try_from(front), u16::try_from(back), u32::try_from(self.text.len()))
        else {
            return;
        };
        if front + back > SPELLING_BYTES {
            return;
        }
        self.text.extend_from_slice(spelling.front);
        self.text.extend_from_slice(spelling.back);
        let by_default = spelling.by_default;
        let entry = Entry { metric, ordinal, by_default, front_len, back_len, text, other: NONE };
        self.lines.push(Line { entry, after });
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.text.clear();
        self.lines.clear();
    }

    /// Gives the lines other ordinals; those that have none are left out.
    pub fn translate(&mut self, ordinal: impl Fn(u32) -> Option<u32>) {
        self.lines.retain_mut(|line| {
            line.after = line.after.and_then(&ordinal);
            ordinal(line.entry.ordinal).map(|ordinal| line.entry.ordinal = ordinal).is_some()
        });
    }

    /// Whether a template has all of them.
    pub(super) fn are_in(&self, template: &Template) -> bool {
        self.lines.iter().all(|line| template.find(line.entry.ordinal, &line.entry.spelling(&self.text)).is_some())
    }

    /// A template with the lines of `base`, and each of these behind the line that it followed.
    pub(super) fn template(&self, base: Option<&Template>, layout: &Arc<Layout>, cluster: &Arc<str>) -> Template {
        let mut builder = Builder::new(layout);
        if !builder.add(base, self) && base.is_some() {
            // The senders have changed their ways.
            builder = Builder::new(layout);
            builder.add(None, self);
        }
        builder.finish(cluster)
    }
}

/// A template under construction.
struct Builder<'a> {
    layout: &'a Arc<Layout>,
    text: Vec<u8>,
    entries: Vec<Entry>,
    by_ordinal: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(layout: &'a Arc<Layout>) -> Self {
        Self { layout, text: Vec::new(), entries: Vec::new(), by_ordinal: vec![NONE; layout.len()] }
    }

    /// Adds the lines of both in their order. False if a series has more spellings than a template keeps; some are then
    /// left out.
    fn add(&mut self, base: Option<&Template>, learned: &Learned) -> bool {
        let base_entries = base.map_or(&[] as &[Entry], |base| &base.entries);
        // A list through all lines; the last node is the place in front of the first line.
        let first = base_entries.len() + learned.lines.len();
        let mut next: Vec<usize> = (1..=first + 1).collect();
        let end = usize::MAX;
        if let Some(last) = base_entries.len().checked_sub(1) {
            next[last] = end;
        }
        next[first] = if base_entries.is_empty() { end } else { 0 };
        let mut last_learned: Option<(u32, usize)> = None;
        for (node, line) in (base_entries.len()..).zip(&learned.lines) {
            let after = line.after.and_then(|after| match last_learned {
                Some((ordinal, node)) if ordinal == after => Some(node),
                _ => base.and_then(|base| base.position(after)).map(|at| at as usize),
            });
            let after = after.unwrap_or(first);
            next[node] = next[after];
            next[after] = node;
            last_learned = Some((line.entry.ordinal, node));
        }
        let mut fits = true;
        let mut node = next[first];
        while node != end {
            let (entry, text) = match node.checked_sub(base_entries.len()) {
                None => (&base_entries[node], base.map_or(&[] as &[u8], |base| &base.text)),
                Some(at) => (&learned.lines[at].entry, &learned.text[..]),
            };
            fits &= self.push(entry, entry.text_in(text));
            node = next[node];
        }
        fits
    }

    /// Adds a line behind the others, unless it is there; false if there is no room for another spelling.
    fn push(&mut self, entry: &Entry, spelling: &[u8]) -> bool {
        let (Ok(at), Ok(text), Some(&first)) = (
            u32::try_from(self.entries.len()),
            u32::try_from(self.text.len()),
            self.by_ordinal.get(entry.ordinal as usize),
        ) else {
            return false;
        };
        let (mut link, mut last, mut variants) = (first, NONE, 0);
        while let Some(known) = self.entries.get(link as usize) {
            if known.front_len == entry.front_len && known.text_in(&self.text) == spelling {
                return true;
            }
            variants += 1;
            last = link;
            link = known.other;
        }
        if variants == VARIANTS {
            return false;
        }
        match self.entries.get_mut(last as usize) {
            Some(known) => known.other = at,
            None => self.by_ordinal[entry.ordinal as usize] = at,
        }
        self.text.extend_from_slice(spelling);
        self.entries.push(Entry { text, other: NONE, ..*entry });
        true
    }

    fn finish(self, cluster: &Arc<str>) -> Template {
        let keys = self.entries.iter().filter_map(|entry| self.layout.keys().get(entry.ordinal as usize));
        let component_len_max = keys.map(|key| key.component.len().max(key.subcomponent.len())).max().unwrap_or(0);
        Template {
            component_len_max,
            layout: Arc::clone(self.layout),
            cluster: Arc::clone(cluster),
            index: OnceLock::new(),
            text: self.text.into(),
            entries: self.entries.into(),
            by_ordinal: self.by_ordinal.into(),
            used: AtomicBool::new(true),
        }
    }
}
