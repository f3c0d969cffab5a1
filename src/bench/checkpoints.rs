//! Checkpoints of cc-metric-store with the series of the workload, to be imported.

use super::workload::{CLUSTER, INTERVAL, MISSING_EVERY, SplitMix, component_names, host_name, time};
use kymo_engine::ccms::bin::{Tree, write};
use kymo_engine::disk::{Disk, Posix};
use std::io;
use std::path::Path;

/// Minutes of a file: what the predecessor takes by default.
const MINUTES: u32 = 12 * 60;

/// Writes `.bin` checkpoints of so many hosts and minutes into a directory; returns how many values they have.
pub fn run(directory: &Path, hosts: u32, minutes: u32) -> io::Result<u64> {
    let mut values = 0;
    for host in 0..hosts {
        let to = directory.join(CLUSTER).join(host_name(host));
        Posix.create_dir_all(&to)?;
        for begin in (0..minutes).step_by(MINUTES as usize) {
            let end = minutes.min(begin + MINUTES);
            let mut tree = Tree::default();
            let mut random = SplitMix((u64::from(host) << 32) | u64::from(begin));
            for (metric, component) in component_names() {
                let series = tree.at(metric, &component, "");
                (series.start, series.frequency) = (time(begin), INTERVAL);
                series.values = (begin..end).map(|_| value(random.draw())).collect();
                values += series.values.iter().filter(|value| !value.is_nan()).count() as u64;
            }
            let (from, until) = (time(begin), time(end));
            Posix.replace(&to.join(format!("{from}.bin")), &write(from, until, &tree))?;
        }
    }
    Ok(values)
}

/// A number below 10,000 with two decimals; sometimes none.
fn value(draw: u64) -> f64 {
    let hundredths = u32::try_from((draw >> 32) % 1_000_000).unwrap_or(0);
    if draw.is_multiple_of(MISSING_EVERY) { f64::NAN } else { f64::from(hundredths) / 100.0 }
}

#[cfg(test)]
mod tests {
    use super::super::workload::SERIES;
    use super::*;
    use kymo_engine::ccms::bin;
    use std::fs;

    #[test]
    fn checkpoints_have_all_series_of_all_hosts() {
        let directory = tempfile::tempdir().unwrap();
        let values = run(directory.path(), 2, MINUTES + 5).unwrap();
        let mut found = 0;
        for host in [0, 1] {
            for (begin, count) in [(0, MINUTES), (MINUTES, 5)] {
                let name = format!("{CLUSTER}/{}/{}.bin", host_name(host), time(begin));
                let bytes = fs::read(directory.path().join(name)).unwrap();
                let snapshot = bin::read(&bytes);
                assert_eq!((snapshot.arrays.len(), snapshot.skips.count), (SERIES as usize, 0));
                for array in &snapshot.arrays {
                    assert_eq!((array.start, array.values.len()), (time(begin), count as usize));
                    found += (0..array.values.len()).filter(|&at| !array.values.get(at).is_nan()).count() as u64;
                }
            }
        }
        assert_eq!(found, values);
        let all = u64::from(2 * SERIES * (MINUTES + 5));
        assert!((all * 95 / 100..all).contains(&values), "{values} of {all}");
    }
}
