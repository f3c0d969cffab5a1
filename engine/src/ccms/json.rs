//! `<from>.json` snapshots: an object a level, with `metrics`, `children`, `from` and `to`.
//!
//! The text is read front to back; of one that is cut, the arrays before the cut are there. Numbers are taken with all
//! their digits, though the predecessor writes one decimal.

use super::bin::Tree;
use super::{Array, LEVELS, Name, Reason, Snapshot, Values, interval, name};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// Reads a file. `serde_json` bounds how deep values nest.
pub fn read(bytes: &[u8]) -> Snapshot<'static> {
    let mut snapshot = Snapshot::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let level = Level { to: &mut snapshot, path: &mut Vec::new() };
    if level.deserialize(&mut deserializer).is_err() {
        let at = deserializer.into_iter::<IgnoredAny>().byte_offset().min(bytes.len());
        let why = if bytes.is_empty() { Reason::Header } else { Reason::Json };
        snapshot.skips.add(at, bytes.len() - at, why);
    }
    snapshot
}

/// The names of the levels from the host down: all arrays of a level share them, however long they are.
type Path = Vec<Arc<str>>;

/// An object with metrics and children.
struct Level<'a> {
    to: &'a mut Snapshot<'static>,
    path: &'a mut Path,
}

impl<'de> DeserializeSeed<'de> for Level<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a level of a snapshot")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { to, path } = self;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match &*key {
                "metrics" => map.next_value_seed(Members { to, path, are_levels: false })?,
                "children" => map.next_value_seed(Members { to, path, are_levels: true })?,
                "from" | "to" if path.is_empty() => {
                    let time = map.next_value()?;
                    *if key == "from" { &mut to.from } else { &mut to.to } = time;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The members of `metrics` or of `children`.
struct Members<'a> {
    to: &'a mut Snapshot<'static>,
    path: &'a mut Path,
    are_levels: bool,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { to, path, are_levels } = self;
        while let Some(key) = map.next_key::<String>()? {
            if are_levels {
                path.push(key.into());
                map.next_value_seed(Level { to, path })?;
                path.pop();
            } else if let Some(array) = map.next_value::<Option<Text>>()? {
                put(to, path, key, array);
            }
        }
        Ok(())
    }
}

/// An array as it is written; what is absent counts as zero.
#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Text {
    frequency: i64,
    start: i64,
    data: Option<Data>,
}

/// Numbers and nulls.
#[derive(Default)]
struct Data(Vec<f64>);

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;

        impl<'de> Visitor<'de> for Values {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("numbers and nulls")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Data, A::Error> {
                let mut values = Vec::new();
                while let Some(value) = seq.next_element::<Option<f64>>()? {
                    values.push(value.unwrap_or(f64::NAN));
                }
                Ok(Data(values))
            }
        }

        deserializer.deserialize_seq(Values)
    }
}

fn put(to: &mut Snapshot<'static>, path: &Path, metric: String, array: Text) {
    let values = array.data.unwrap_or_default().0;
    let is_named = name(metric.as_bytes()).is_some() && path.iter().all(|part| !part.is_empty());
    let frequency = interval(array.start, array.frequency, values.len());
    match frequency {
        _ if values.is_empty() => {}
        _ if path.len() > LEVELS => to.skips.add(0, 0, Reason::Deep),
        _ if !is_named => to.skips.add(0, 0, Reason::Name),
        None => to.skips.add(0, 0, Reason::Grid),
        Some(frequency) => {
            let part = |at: usize| path.get(at).map_or(Name::Borrowed(""), |part| Name::Shared(Arc::clone(part)));
            to.arrays.push(Array {
                metric: Name::Shared(metric.into()),
                component: part(0),
                subcomponent: part(1),
                start: array.start,
                frequency,
                values: Values::Parsed(values),
            });
        }
    }
}

/// A value as the predecessor has it, in binary32; `None` if JSON has no number for that: it is missing, or infinite there.
pub fn rounded(value: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "that is what the predecessor does")]
    let rounded = value as f32;
    rounded.is_finite().then_some(rounded)
}

/// The text of a snapshot: keys in the predecessor's order. It rounds values to one decimal; with `digits` that is done
/// here too, otherwise all digits are written, which it reads just as well. What is beyond binary32 is missing.
pub fn write(from: i64, to: i64, tree: &Tree, digits: Option<usize>) -> String {
    let mut text = String::new();
    write_level(&mut text, (from, to), tree, digits);
    text.push('\n');
    text
}

fn write_level(text: &mut String, (from, to): (i64, i64), tree: &Tree, digits: Option<usize>) {
    text.push_str("{\"metrics\":{");
    for (number, (metric, series)) in tree.metrics.iter().enumerate() {
        text.push_str(if number > 0 { "," } else { "" });
        push_key(text, metric);
        push(text, format_args!("{{\"frequency\":{},\"start\":{},\"data\":[", series.frequency, series.start));
        for (number, &value) in series.values.iter().enumerate() {
            text.push_str(if number > 0 { "," } else { "" });
            match (rounded(value), digits) {
                (None, _) => text.push_str("null"),
                (Some(rounded), Some(digits)) => push(text, format_args!("{rounded:.digits$}")),
                (Some(_), None) => push(text, format_args!("{value:?}")),
            }
        }
        text.push_str("]}");
    }
    text.push_str("},\"children\":{");
    for (number, (name, child)) in tree.children.iter().enumerate() {
        text.push_str(if number > 0 { "," } else { "" });
        push_key(text, name);
        write_level(text, (from, to), child, digits);
    }
    push(text, format_args!("}},\"from\":{from},\"to\":{to}}}"));
}

fn push(text: &mut String, arguments: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    text.write_fmt(arguments).ok();
}

fn push_key(text: &mut String, key: &str) {
    text.push_str(&serde_json::Value::from(key).to_string());
    text.push(':');
}
