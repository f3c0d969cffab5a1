//! What the records of a segment say, held against each other: the names behind the ids, and the rules that a checksum
//! does not cover.

use crate::format::FormatError;
use crate::format::frame::{Frame, Key, Record, Row};
use hashbrown::{HashMap, HashSet};

/// The names that a segment has defined so far.
#[derive(Debug, Default)]
pub(super) struct Definitions {
    hosts: HashMap<u32, (String, String)>,
    layouts: HashMap<u32, Layout>,
}

/// A layout by its own keys; those before `base` are its parent's.
#[derive(Debug)]
struct Layout {
    parent: u32,
    base: usize,
    keys: Vec<[String; 3]>,
}

impl Definitions {
    /// Begins with nothing, as each segment does.
    pub(super) fn clear(&mut self) {
        self.hosts.clear();
        self.layouts.clear();
    }

    /// Takes the definition of a record, or checks that what it names is defined.
    pub(super) fn take(&mut self, record: &Record<'_>) -> Result<(), FormatError> {
        match record {
            Record::Layout { id, parent, keys } => self.layout(*id, *parent, keys),
            Record::Host { id, cluster, host } => {
                match self.hosts.insert(*id, ((*cluster).to_owned(), (*host).to_owned())) {
                    None => Ok(()),
                    Some(_) => Err(FormatError::Field("host has the id of another one")),
                }
            }
            Record::Row(row) => self.row(row),
            Record::Free { .. } => Ok(()),
        }
    }

    fn layout(&mut self, id: u32, parent: u32, keys: &[Key<'_>]) -> Result<(), FormatError> {
        let base = match (parent, self.layouts.get(&parent)) {
            (0, _) => 0,
            (_, Some(parent)) => parent.base + parent.keys.len(),
            (_, None) => return Err(FormatError::Field("layout has an unknown parent")),
        };
        if self.has_twice(parent, keys) {
            return Err(FormatError::Field("layout has a key twice"));
        }
        let keys = keys.iter().map(|key| [key.metric, key.component, key.subcomponent].map(str::to_owned)).collect();
        // A parent is defined before its child, so there is no circle.
        if id == 0 || self.layouts.contains_key(&id) {
            return Err(FormatError::Field("layout has the id of another one"));
        }
        self.layouts.insert(id, Layout { parent, base, keys });
        Ok(())
    }

    fn has_twice(&self, mut parent: u32, keys: &[Key<'_>]) -> bool {
        let mut known: HashSet<[&str; 3]> = HashSet::new();
        while let Some(layout) = self.layouts.get(&parent) {
            known.extend(layout.keys.iter().map(|key| key.each_ref().map(String::as_str)));
            parent = layout.parent;
        }
        !keys.iter().all(|key| known.insert([key.metric, key.component, key.subcomponent]))
    }

    fn row(&self, row: &Row<'_>) -> Result<(), FormatError> {
        if !self.hosts.contains_key(&row.host()) {
            return Err(FormatError::Field("row of an unknown host"));
        }
        let layout = self.layouts.get(&row.layout()).ok_or(FormatError::Field("row with an unknown layout"))?;
        if row.last_ordinal() as usize >= layout.base + layout.keys.len() {
            return Err(FormatError::Field("row has an ordinal that its layout has not"));
        }
        Ok(())
    }

    /// Cluster and name of a host.
    pub(super) fn host(&self, id: u32) -> Option<(&str, &str)> {
        self.hosts.get(&id).map(|(cluster, host)| (&**cluster, &**host))
    }

    /// Metric, component and subcomponent of a series.
    pub(super) fn key(&self, layout: u32, ordinal: u32) -> Option<[&str; 3]> {
        let mut layout = self.layouts.get(&layout)?;
        while (ordinal as usize) < layout.base {
            layout = self.layouts.get(&layout.parent)?;
        }
        Some(layout.keys.get(ordinal as usize - layout.base)?.each_ref().map(String::as_str))
    }
}

/// Checks all records of a frame, and that it has as many rows as it says.
pub(super) fn check_frame(frame: &Frame<'_>, definitions: &mut Definitions) -> Result<(), FormatError> {
    let mut lsn = frame.first_lsn();
    for record in frame.records() {
        let (_, record) = record?;
        if record.has_lsn() && lsn >= frame.next_lsn() {
            return Err(FormatError::Field("frame has more rows than it says"));
        }
        definitions.take(&record)?;
        lsn.0 += u64::from(record.has_lsn());
    }
    if lsn == frame.next_lsn() { Ok(()) } else { Err(FormatError::Field("frame has fewer rows than it says")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(metric: &'static str) -> Key<'static> {
        Key { metric, component: "cpu0", subcomponent: "" }
    }

    #[test]
    fn an_ordinal_is_found_through_the_parents() {
        let mut known = Definitions::default();
        let layout = |id, parent, keys: &[&'static str]| Record::Layout {
            id,
            parent,
            keys: keys.iter().map(|metric| key(metric)).collect(),
        };
        known.take(&layout(1, 0, &["a", "b"])).unwrap();
        known.take(&layout(2, 1, &[])).unwrap();
        known.take(&layout(3, 2, &["c"])).unwrap();
        let metric = |layout, ordinal| known.key(layout, ordinal).map(|[metric, ..]| metric);
        assert_eq!([metric(3, 0), metric(3, 1), metric(3, 2), metric(3, 3)], [Some("a"), Some("b"), Some("c"), None]);
        assert_eq!([metric(1, 1), metric(1, 2), metric(4, 0)], [Some("b"), None, None]);
        assert!(known.take(&layout(4, 3, &["b"])).is_err(), "a key of a parent again");
        assert!(known.take(&layout(4, 9, &[])).is_err(), "an unknown parent");
        assert!(known.take(&layout(3, 0, &["d"])).is_err(), "an id again");
    }
}
