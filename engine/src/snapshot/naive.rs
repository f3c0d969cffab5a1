//! The model that snapshots are held against: every value under its full name.

use super::{ColumnData, Finished, Identity, Snapshot, SnapshotError, StripeData, Writer};
use crate::disk::NewFile;
use crate::slot::Run;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// (cluster, host), metric, run, (component, subcomponent), slot.
pub(super) type Place = ((String, String), String, Run, (String, String), u32);
/// The bits of the values, none of which is missing.
pub(super) type Model = BTreeMap<Place, u64>;

/// The values of one series in one run.
type Slots = BTreeMap<u32, u64>;

/// A new file in memory, whose content is there when it is finished.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFile {
    bytes: Vec<u8>,
    finished: Arc<Mutex<Option<Vec<u8>>>>,
}

impl MemoryFile {
    /// The content, if it was finished.
    pub(super) fn content(&self) -> Option<Vec<u8>> {
        self.finished.lock().clone()
    }
}

impl NewFile for MemoryFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self: Box<Self>, head: &[u8]) -> io::Result<()> {
        self.bytes[..head.len()].copy_from_slice(head);
        *self.finished.lock() = Some(self.bytes);
        Ok(())
    }
}

/// A host's values as stripes, with some slots more than needed and the columns in falling order.
pub(super) fn stripes(model: &Model, host: &(String, String)) -> Vec<StripeData> {
    let mut stripes: BTreeMap<(String, Run), BTreeMap<(String, String), Slots>> = BTreeMap::new();
    for ((_, metric, run, column, slot), value) in model.iter().filter(|((of, ..), _)| of == host) {
        let columns = stripes.entry((metric.clone(), *run)).or_default();
        columns.entry(column.clone()).or_default().insert(*slot, *value);
    }
    let stripe = |((metric, run), columns): ((String, Run), BTreeMap<_, Slots>)| {
        let slots = || columns.values().flat_map(BTreeMap::keys).copied();
        let (first, last) = (slots().min().unwrap().saturating_sub(2), slots().max().unwrap() + 3);
        let value = |values: &Slots, slot: u32| values.get(&slot).map_or(f64::NAN, |&bits| f64::from_bits(bits));
        let columns = columns.iter().rev().map(|((component, subcomponent), values): (&(String, String), _)| {
            let values = (first..=last).map(|slot| value(values, slot)).collect();
            ColumnData { component: (&**component).into(), subcomponent: (&**subcomponent).into(), values }
        });
        StripeData {
            metric: metric.into(),
            run,
            first_slot: first,
            slots: last - first + 1,
            columns: columns.collect(),
        }
    };
    stripes.into_iter().rev().map(stripe).collect()
}

/// The file that has these values.
pub(super) fn write(model: &Model, identity: Identity) -> (Vec<u8>, Finished) {
    let file = MemoryFile::default();
    let mut writer = Writer::new(Box::new(file.clone()), identity).unwrap();
    let mut hosts: Vec<_> = model.keys().map(|(host, ..)| host).collect();
    hosts.dedup();
    for host in hosts {
        let before = writer.written();
        let bytes = writer.host(&host.0, &host.1, &mut stripes(model, host)).unwrap();
        assert_eq!(writer.written(), before + bytes);
    }
    let finished = writer.finish().unwrap();
    (file.content().unwrap(), finished)
}

/// All values that can be read, and what cannot.
pub(super) fn read(snapshot: &Snapshot) -> (Model, Vec<SnapshotError>) {
    let (mut model, mut errors) = (Model::new(), Vec::new());
    for (cluster, name, host) in snapshot.hosts() {
        let stripes = match snapshot.stripes(host) {
            Ok(stripes) => stripes,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        for stripe in stripes.iter() {
            let columns = match stripe.data() {
                Ok(columns) => columns,
                Err(error) => {
                    errors.push(error);
                    continue;
                }
            };
            for ((component, subcomponent), column) in stripe.columns().zip(columns.iter()) {
                for slot in (0..column.len()).filter(|&slot| !column.get(slot).is_nan()) {
                    let place = (
                        (cluster.to_owned(), name.to_owned()),
                        stripe.metric().to_owned(),
                        stripe.run(),
                        (component.to_owned(), subcomponent.to_owned()),
                        stripe.first_slot() + u32::try_from(slot).unwrap(),
                    );
                    assert_eq!(model.insert(place, column.get(slot).to_bits()), None);
                }
            }
        }
    }
    (model, errors)
}
