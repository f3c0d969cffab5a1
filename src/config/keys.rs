//! Walks along the keys of the layout and lists the effective settings, to see which differ.

use std::collections::BTreeMap;

use super::{
    Config,
    kind::Kind,
    layout::{Foreign, Keys, describe},
    writer::draft,
};

/// Each key with its sections, as `storage.limits.body`, and its value as JSON. Keys without a value are absent.
pub(super) fn list(config: &Config) -> BTreeMap<String, String> {
    let mut lister = Lister::default();
    describe(&mut lister, &mut draft(config));
    lister.keys
}

#[derive(Default)]
struct Lister {
    /// The sections that are open, each with a dot behind it.
    prefix: String,
    keys: BTreeMap<String, String>,
}

impl Keys for Lister {
    fn key<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        if let Some(json) = kind.print(field) {
            self.keys.insert(format!("{}{name}", self.prefix), json);
        }
    }

    fn required<T>(&mut self, name: &str, kind: &impl Kind<T>, field: &mut T) {
        self.key(name, kind, field);
    }

    fn foreign(&mut self, _: &str, _: Foreign) {}

    fn section(&mut self, name: &str, keys: impl FnOnce(&mut Self)) {
        let outer = self.prefix.len();
        self.prefix.push_str(name);
        self.prefix.push('.');
        keys(self);
        self.prefix.truncate(outer);
    }

    fn each<T: Default>(&mut self, items: &mut Vec<(String, T)>, keys: impl Fn(&mut Self, &mut T)) {
        for (name, item) in items {
            self.section(name, |lister| keys(lister, item));
        }
    }

    fn list<T: Default>(&mut self, name: &str, items: &mut Vec<T>, keys: impl Fn(&mut Self, &mut T)) {
        for (index, item) in items.iter_mut().enumerate() {
            self.section(&format!("{name}[{index}]"), |lister| keys(lister, item));
        }
    }
}
