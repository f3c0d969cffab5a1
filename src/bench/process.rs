//! What a process has cost, as `/proc` tells.

use std::io;
use std::time::Duration;

/// Ticks a second of the times in `/proc`; fixed by the interface of Linux on the machines that kymo runs on.
const TICKS: u32 = 100;

/// The time that a process has computed, user and system, all its threads.
pub(super) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    ticks(&stat)
        .map(|ticks| Duration::from_secs(ticks) / TICKS)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "its /proc/stat has no times"))
}

/// Fields 14 and 15 of `proc_pid_stat(5)`. The second field, the name, may hold anything, also `)`.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let mut field = || fields.next()?.parse::<u64>().ok();
    Some(field()? + field()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_added_whatever_the_name_is() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 30 12 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
    }
}
