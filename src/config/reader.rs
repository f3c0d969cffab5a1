//! Walks along the keys of the layout and fills the draft from a file.
//!
//! A wrong value leaves its field alone and is reported, so one run names all that is wrong. What the layout did not
//! ask for when a section ends is unknown: the layout is the list of known keys, there is no other.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kind::{Kind, mismatch, shorten},
    layout::{Foreign, Keys},
    nearest::nearest,
    report::Report,
    source::{Entry, Place},
};

/// A walk along a file.
#[derive(Debug)]
pub(super) struct Reader<'s> {
    open: Section<'s>,
    /// Where each key stands that the layout asked for and the file has.
    places: BTreeMap<String, Place<'s>>,
    pub(super) report: Report,
}

/// A section that is being read.
#[derive(Debug)]
struct Section<'s> {
    /// Its key with those around it; empty for the whole file.
    name: String,
    place: Place<'s>,
    /// What nobody asked for yet.
    entries: Vec<Entry<'s>>,
    /// What was asked for.
    known: BTreeSet<String>,
}

impl Section<'_> {
    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

impl<'s> Reader<'s> {
    /// Begins at the top of a file with these sections.
    pub(super) fn new(top: Place<'s>, entries: Vec<Entry<'s>>, report: Report) -> Self {
        let open = Section { name: String::new(), place: top, entries: Vec::new(), known: BTreeSet::new() };
        let mut reader = Self { open, places: BTreeMap::new(), report };
        reader.open.entries = reader.without_repeated(entries, "");
        reader
    }

    /// Reports what is left at the top. A section may belong to another program, so it is no error there.
    pub(super) fn finish(&mut self) {
        for entry in std::mem::take(&mut self.open.entries) {
            let nearest = self.nearest(&entry.key);
            self.report.warn(entry.place, &entry.key, format!("unknown section, ignored{nearest}"));
        }
    }

    /// Where a key stands in the file, if it does.
    pub(super) fn place(&self, path: &str) -> Option<Place<'s>> {
        self.places.get(path).copied()
    }

    /// The top of the file.
    pub(super) fn top(&self) -> Place<'s> {
        self.open.place
    }

    fn take(&mut self, name: &str) -> Option<Entry<'s>> {
        self.open.known.insert(name.to_owned());
        let index = self.open.entries.iter().position(|entry| entry.key == name)?;
        let entry = self.open.entries.remove(index);
        self.places.insert(self.open.path(name), entry.place);
        Some(entry)
    }

    fn fill<T>(&mut self, entry: &Entry<'_>, kind: &impl Kind<T>, field: &mut T) {
        match entry.value.json().map_or_else(|| Err(mismatch("a value", "{")), |json| kind.parse(json)) {
            Ok(value) => *field = value,
            Err(reason) => self.report.problem(entry.place, &self.open.path(&entry.key), reason),
        }
    }

    /// Opens the section, reads it, and reports what is left.
    fn within(&mut self, entry: Entry<'s>, keys: impl FnOnce(&mut Self)) {
        let (name, place) = (self.open.path(&entry.key), entry.place);
        let json = entry.value.json().unwrap_or_default();
        let Some(entries) = entry.value.into_entries() else {
            return self.report.problem(place, &name, mismatch("an object", json));
        };
        let entries = self.without_repeated(entries, &name);
        let section = Section { name, place, entries, known: BTreeSet::new() };
        let outer = std::mem::replace(&mut self.open, section);
        keys(self);
        for entry in std::mem::take(&mut self.open.entries) {
            let (nearest, section) = (self.nearest(&entry.key), shorten(&self.open.name));
            let reason = format!("unknown key in section '{section}'{nearest}");
            self.report.problem(entry.place, &self.open.path(&entry.key), reason);
        }
        self.open = outer;
    }

    /// Drops all but the last entry of each key, as the predecessor's parser does, and says so.
    fn without_repeated(&mut self, entries: Vec<Entry<'s>>, section: &str) -> Vec<Entry<'s>> {
        let mut last = BTreeMap::new();
        for (index, entry) in entries.iter().enumerate() {
            last.insert(entry.key.clone(), (index, entry.place.line));
        }
        let keep = |(index, entry): (usize, Entry<'s>)| match last.get(&entry.key) {
            Some(&(kept, line)) if kept != index => {
                let path = if section.is_empty() { entry.key } else { format!("{section}.{}", entry.key) };
                self.report.warn(entry.place, &path, format!("ignored: the key stands again in line {line}"));
                None
            }
            _ => Some(entry),
        };
        entries.into_iter().enumerate().filter_map(keep).collect()
    }

    fn nearest(&self, typed: &str) -> String {
        let known = self.open.known.iter().map(String::as_str);
        nearest(typed, known).map_or_else(String::new, |name| format!("; the nearest known is '{name}'"))
    }
}

impl Keys for Reader<'_> {
    fn key<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        if let Some(entry) = self.take(name) {
            self.fill(&entry, kind, field);
        }
    }

    fn required<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        match self.take(name) {
            Some(entry) => self.fill(&entry, kind, field),
            None => self.report.problem(self.open.place, &self.open.path(name), "is missing".to_owned()),
        }
    }

    fn foreign(&mut self, name: &str, meaning: Foreign) {
        let Some(entry) = self.take(name) else { return };
        let path = self.open.path(name);
        match meaning {
            Foreign::Meaningless(why) => {
                self.report.note(entry.place, &path, format!("has no meaning in kymo: {why}"));
            }
            Foreign::Old(advice) => self.report.warn(entry.place, &path, advice.to_owned()),
        }
    }

    fn section(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        // A section of nothing is one that is not there.
        if let Some(entry) = self.take(name).filter(|entry| entry.value.json() != Some("null")) {
            self.within(entry, keys);
        }
    }

    fn lenient_section(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        self.section(name, |reader| {
            keys(reader);
            for entry in std::mem::take(&mut reader.open.entries) {
                let reason = format!("unknown key in section '{name}', ignored{}", reader.nearest(&entry.key));
                reader.report.warn(entry.place, &reader.open.path(&entry.key), reason);
            }
        });
    }

    fn each<T: Default>(&mut self, items: &mut Vec<(String, T)>, keys: impl Fn(&mut Self, &mut T)) {
        for entry in std::mem::take(&mut self.open.entries) {
            let (name, mut item) = (entry.key.clone(), T::default());
            self.places.insert(self.open.path(&name), entry.place);
            self.within(entry, |reader| keys(reader, &mut item));
            items.push((name, item));
        }
    }

    fn list<T: Default>(&mut self, name: &str, items: &mut Vec<T>, keys: impl Fn(&mut Self, &mut T)) {
        let Some(entry) = self.take(name) else { return };
        let json = entry.value.json().unwrap_or_default();
        let Some(values) = entry.value.into_items() else {
            return self.report.problem(entry.place, &self.open.path(name), mismatch("an array of objects", json));
        };
        for (index, (place, value)) in values.into_iter().enumerate() {
            let mut item = T::default();
            let entry = Entry { key: format!("{name}[{index}]"), place, value };
            self.within(entry, |reader| keys(reader, &mut item));
            items.push(item);
        }
    }
}
