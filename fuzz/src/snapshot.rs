//! Snapshot files.

use crate::repair;
use kymo_engine::disk::Region;
use kymo_engine::snapshot::{HostRef, Snapshot, Stripe};

/// The bytes of a snapshot.
///
/// Opening, reading and verifying are total; each stripe lies in its file and has as many columns and slots as it says;
/// hosts, metrics and columns are found by their names; what verifies can be read.
///
/// # Panics
///
/// Where one of these does not hold.
pub fn snapshot(data: &[u8]) {
    read_all(data);
}

/// [`snapshot`] once all checksums were repaired, so that what is behind them is reached.
///
/// # Panics
///
/// As [`snapshot`].
pub fn snapshot_repaired(data: &[u8]) {
    let mut repaired = data.to_vec();
    repair::snapshot(&mut repaired);
    read_all(&repaired);
}

fn read_all(bytes: &[u8]) {
    let Ok(snapshot) = Snapshot::open_unlisted(Region::copy_of(bytes)) else { return };
    assert_eq!(snapshot.file_len(), bytes.len() as u64, "a file is as long as it says");
    let bound = 2 + u64::from(snapshot.host_count()) + u64::from(snapshot.stripe_count());
    let (mut steps, mut verified, mut is_good) = (0, 0_u64, true);
    for step in snapshot.verify() {
        steps += 1;
        assert!(steps <= bound, "verifying ends");
        match step {
            Ok(bytes) => verified += bytes,
            Err(_) => is_good = false,
        }
    }
    assert!(verified <= bytes.len() as u64, "no byte is verified twice");
    let (mut hosts, mut stripes) = (0, 0);
    for (cluster, name, host) in snapshot.hosts() {
        hosts += 1;
        assert_eq!(snapshot.find(cluster, name), Some(host), "a host is found by its name");
        assert_eq!(snapshot.host_name(host), Some((cluster, name)), "and has it");
        stripes += read_host(&snapshot, host, is_good);
    }
    assert_eq!(hosts, snapshot.host_count(), "hosts are counted");
    assert!(stripes <= u64::from(snapshot.stripe_count()), "a file has no more stripes than it says");
    assert!(!is_good || stripes == u64::from(snapshot.stripe_count()), "a good file has all its stripes");
}

/// Reads all of a host; returns how many stripes it has.
fn read_host(snapshot: &Snapshot, host: HostRef, is_good: bool) -> u64 {
    let stripes = match snapshot.stripes(host) {
        Ok(stripes) => stripes,
        Err(error) => {
            assert!(!is_good, "a directory that was verified is read: {error}");
            return 0;
        }
    };
    for stripe in stripes.iter() {
        let of_metric = snapshot.stripes_of(host, stripe.metric()).expect("the directory was read before");
        let is_there = of_metric.iter().any(|other| other.run() == stripe.run());
        assert!(is_there, "a stripe is found by its metric");
        read_stripe(snapshot, &stripe, is_good);
    }
    stripes.len() as u64
}

fn read_stripe(snapshot: &Snapshot, stripe: &Stripe<'_>, is_good: bool) {
    let day = snapshot.identity().day().expect("the header was checked");
    let (times, within) = (stripe.times(), snapshot.times());
    assert!(day.contains(&times.start) && times.start < times.end, "slots lie in the day");
    assert!(within.start <= times.start && times.end <= within.end, "and in the times of the file");
    assert!((1..=86_400).contains(&stripe.slots()), "a day has no more seconds");
    assert!(stripe.data_len() <= snapshot.file_len(), "data lie in the file");
    for (at, (component, subcomponent)) in stripe.columns().enumerate() {
        assert_eq!(stripe.position(component, subcomponent), Some(at), "a column is found by its name");
    }
    let columns = match stripe.data() {
        Ok(columns) => columns,
        Err(error) => return assert!(!is_good, "a stripe that was verified is read: {error}"),
    };
    assert_eq!(columns.len(), stripe.column_count(), "a stripe has as many columns as it says");
    assert_eq!(columns.len(), stripe.columns().len(), "and a name for each");
    let slots = stripe.slots() as usize;
    for column in columns.iter() {
        assert_eq!(column.len(), slots, "a column has as many slots as its stripe");
        // A few, since a constant column takes the same bytes for a day as for a minute.
        for slot in [0, slots / 2, slots - 1] {
            let value = column.get(slot);
            if slots <= 64 {
                assert_eq!(column.to_cow()[slot].to_bits(), value.to_bits(), "a slot is the same in its column");
            }
        }
    }
    assert!(columns.column(columns.len()).is_none(), "there is no column behind the last");
}
