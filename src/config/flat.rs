//! The flat file of the predecessor before 1.5: its keys are moved to where they stand today, with a warning each.

use super::{
    report::Report,
    source::{Entry, Place, Value},
};

/// Old place, new place. The first that fits counts; what stands below a section moves with it.
const MOVED: [(&str, &str); 9] = [
    ("http-api.address", "main.addr"),
    ("http-api", "main"),
    ("jwt-public-key", "main.jwt-public-key"),
    ("retention-in-memory", "metric-store.retention-in-memory"),
    ("checkpoints.interval", "metric-store.checkpoint-interval"),
    ("checkpoints", "metric-store.checkpoints"),
    ("archive.delete-instead", "metric-store.cleanup.mode"),
    ("archive", "metric-store.cleanup"),
    ("debug", "metric-store.debug"),
];

/// The sections that tell a file of today, also where they stand in a file of their own.
const TODAY: [&str; 4] = ["main", "main-file", "metric-store", "metric-store-file"];

/// Whether these are the sections of a flat file.
pub(super) fn is_flat(entries: &[Entry<'_>]) -> bool {
    let today = entries.iter().any(|entry| TODAY.contains(&entry.key.as_str()));
    let old = entries.iter().any(|entry| entry.key != "debug" && MOVED.iter().any(|(old, _)| *old == entry.key));
    old && !today
}

/// Moves all keys to their new places.
pub(super) fn migrate<'s>(entries: Vec<Entry<'s>>, report: &mut Report) -> Vec<Entry<'s>> {
    let mut moved = Vec::new();
    for entry in entries {
        if entry.key != "nats" && !MOVED.iter().any(|(old, _)| *old == entry.key) {
            moved.push(entry);
            continue;
        }
        if entry.key == "nats" {
            move_nats(&mut moved, entry, report);
            continue;
        }
        let Some(members) = entry.value.clone().into_entries().filter(|_| entry.key != "debug") else {
            relocate(&mut moved, &entry.key, entry.place, entry.value, report);
            continue;
        };
        // An archive was written unless the file said to delete instead.
        if entry.key == "archive" && !members.iter().any(|member| member.key == "delete-instead") {
            put(&mut moved, "metric-store.cleanup.mode", entry.place, Value::Given(r#""archive""#));
        }
        for member in members {
            let value = match (entry.key.as_str(), member.key.as_str(), member.value.json()) {
                ("archive", "delete-instead", Some("true")) => Value::Given(r#""delete""#),
                ("archive", "delete-instead", Some("false" | "null")) => Value::Given(r#""archive""#),
                _ => member.value,
            };
            relocate(&mut moved, &format!("{}.{}", entry.key, member.key), member.place, value, report);
        }
    }
    moved
}

/// Moves an array of connections with their subscriptions; kymo has one connection.
fn move_nats<'s>(moved: &mut Vec<Entry<'s>>, entry: Entry<'s>, report: &mut Report) {
    let Some(connections) = entry.value.clone().into_items() else {
        // As it stands today, or wrong: the reader tells.
        moved.push(entry);
        return;
    };
    if connections.len() > 1 {
        let reason = "kymo has one connection: join the addresses of servers of one cluster with commas".to_owned();
        return report.problem(entry.place, "nats", reason);
    }
    let Some((place, connection)) = connections.into_iter().next() else { return };
    let Some(members) = connection.clone().into_entries() else {
        moved.push(Entry { value: connection, place, ..entry });
        return;
    };
    for member in members {
        let (old, new) = match member.key.as_str() {
            "subscriptions" => ("nats[0].subscriptions".to_owned(), "metric-store.nats-subscriptions".to_owned()),
            key => (format!("nats[0].{key}"), format!("nats.{key}")),
        };
        report.warn(member.place, &old, format!("is a key from before 1.5, read as '{}'", super::kind::shorten(&new)));
        put(moved, &new, member.place, member.value);
    }
}

/// Moves one key and says so.
fn relocate<'s>(moved: &mut Vec<Entry<'s>>, old: &str, place: Place<'s>, value: Value<'s>, report: &mut Report) {
    let new = MOVED.iter().find_map(|(from, to)| {
        let below = old.strip_prefix(from)?;
        (below.is_empty() || below.starts_with('.')).then(|| format!("{to}{below}"))
    });
    let new = new.unwrap_or_else(|| old.to_owned());
    report.warn(place, old, format!("is a key from before 1.5, read as '{}'", super::kind::shorten(&new)));
    put(moved, &new, place, value);
}

/// Puts a value at a dotted path. The last part may have dots of its own.
fn put<'s>(entries: &mut Vec<Entry<'s>>, path: &str, place: Place<'s>, value: Value<'s>) {
    const SECTIONS: [&str; 5] = ["main", "metric-store", "checkpoints", "cleanup", "nats"];
    if let Some((section, rest)) = path.split_once('.').filter(|(section, _)| SECTIONS.contains(section)) {
        let index = entries.iter().position(|entry| entry.key == section).unwrap_or_else(|| {
            entries.push(Entry { key: section.to_owned(), place, value: Value::Object(Vec::new()) });
            entries.len() - 1
        });
        if let Value::Object(members) = &mut entries[index].value {
            return put(members, rest, place, value);
        }
    }
    entries.push(Entry { key: path.to_owned(), place, value });
}
