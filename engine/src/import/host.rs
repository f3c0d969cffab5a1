//! What the files of one host hold, together.

use super::Damaged;
use crate::ccms::directory::{File, Kind};
use crate::ccms::{self, Array, Skips, Snapshot, wal};
use crate::disk::{Disk, Region};
use crate::store::{ImportArray, ImportHost};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A child of this name is what a node-level sample with `type-id=0` made: the host itself.
const NODE: &str = "0";

/// The files of a host, mapped.
pub(super) struct Reading<'f> {
    /// What archives have of it: less than files of its own.
    archived: Vec<&'f [u8]>,
    files: Vec<(&'f File, Region)>,
    /// Those that the system does not give.
    pub(super) failed: Vec<Damaged>,
}

/// What they hold.
pub(super) struct Parsed<'a> {
    /// In the order of the files.
    arrays: Vec<Array<'a>>,
    samples: BTreeMap<Name<'a>, Vec<(i64, f64)>>,
    /// Files of which something was passed over.
    pub(super) damaged: Vec<Damaged>,
}

/// Metric, component, subcomponent.
type Name<'a> = (&'a str, &'a str, &'a str);

impl<'f> Reading<'f> {
    pub(super) fn open(disk: &dyn Disk, files: &'f [File], archived: Vec<&'f [u8]>) -> Self {
        let mut reading = Self { archived, files: Vec::new(), failed: Vec::new() };
        for file in files {
            let open = || -> io::Result<Region> {
                let region = disk.map(&file.path)?;
                region.touch(0..region.len())?;
                Ok(region)
            };
            match open() {
                Ok(region) => reading.files.push((file, region)),
                Err(error) => {
                    let damaged = Damaged { path: file.path.clone(), skips: Skips::default(), error: Some(error) };
                    reading.failed.push(damaged);
                }
            }
        }
        reading
    }

    pub(super) fn parse(&self) -> Parsed<'_> {
        let mut parsed = Parsed { arrays: Vec::new(), samples: BTreeMap::new(), damaged: Vec::new() };
        for snapshot in &self.archived {
            parsed.take(ccms::bin::read(snapshot));
        }
        for (file, region) in &self.files {
            let skips = match file.kind {
                Kind::Wal => wal::read(region, |record| {
                    let samples = parsed.samples.entry((record.metric, record.component, record.subcomponent));
                    samples.or_default().push((record.time, record.value.into()));
                }),
                Kind::Bin => parsed.take(ccms::bin::read(region)),
                Kind::Json => parsed.take(ccms::json::read(region)),
            };
            if skips.count > 0 {
                parsed.damaged.push(Damaged { path: file.path.clone(), skips, error: None });
            }
        }
        parsed
    }

    /// A file of which a page could not be read after all: what was taken from it is not to be relied on.
    pub(super) fn lost(&self) -> Option<&Path> {
        self.files.iter().find(|(_, region)| region.is_poisoned()).map(|(file, _)| &*file.path)
    }
}

impl<'a> Parsed<'a> {
    fn take(&mut self, mut snapshot: Snapshot<'a>) -> Skips {
        self.arrays.append(&mut snapshot.arrays);
        snapshot.skips
    }

    /// The names of the metrics; one may come more than once.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &str> {
        self.arrays.iter().map(|array| &*array.metric).chain(self.samples.keys().map(|&(metric, ..)| metric))
    }

    /// What the store wants: what counts more comes last.
    pub(super) fn by_metric(&self) -> ImportHost<'_> {
        let mut host = ImportHost::new();
        // What was filed under the child `0` counts less than what stands at the host.
        for of_node in [true, false] {
            for (&(metric, component, subcomponent), samples) in &self.samples {
                if is_node(component, subcomponent) == of_node {
                    let component = if of_node { "" } else { component };
                    let series = host.entry(metric).or_default().entry((component, subcomponent)).or_default();
                    series.samples.extend(samples);
                }
            }
            for array in &self.arrays {
                if is_node(&array.component, &array.subcomponent) == of_node {
                    let component = if of_node { "" } else { &*array.component };
                    let series = host.entry(&array.metric).or_default();
                    let Array { start, frequency, ref values, .. } = *array;
                    let arrays = &mut series.entry((component, &array.subcomponent)).or_default().arrays;
                    arrays.push(ImportArray { start, frequency, values });
                }
            }
        }
        host
    }
}

fn is_node(component: &str, subcomponent: &str) -> bool {
    component == NODE && subcomponent.is_empty()
}
