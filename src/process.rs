//! What the process takes of the machine, under the names that all exporters have.

use std::fmt::Write as _;
use std::fs;

/// Ticks of the kernel's clock in a second, as it shows them to processes: fixed on Linux.
const TICKS: f64 = 100.0;

/// Writes the metrics of this process; what cannot be found out is left out.
pub(crate) fn write_metrics(text: &mut String) {
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // Writing to a string does not fail.
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}").unwrap_or_default();
        }
    };
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name of the program, which stands in parentheses and may have any characters.
    let fields: Vec<&str> = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let seconds = |ticks: f64| ticks / TICKS;
    let cpu = field(14).zip(field(15)).map(|(user, system)| seconds(user + system));
    metric("process_cpu_seconds_total", "counter", "CPU time of the process.", cpu);
    let started = boot_time().zip(field(22)).map(|(boot, ticks)| boot + seconds(ticks));
    metric("process_start_time_seconds", "gauge", "Start of the process in unix seconds.", started);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| number_of(&status, name).map(|kilobytes| kilobytes * 1024.0);
    metric("process_resident_memory_bytes", "gauge", "Memory in use, mapped files included.", bytes("VmRSS:"));
    metric("kymo_anonymous_memory_bytes", "gauge", "Memory in use that is no mapped file.", bytes("RssAnon:"));
    #[expect(clippy::cast_precision_loss, reason = "descriptors are counted in thousands")]
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
    metric("process_open_fds", "gauge", "Open file descriptors.", open);
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    metric("process_max_fds", "gauge", "Limit of open file descriptors.", number_of(&limits, "Max open files"));
}

/// When the machine was started, in unix seconds.
fn boot_time() -> Option<f64> {
    number_of(&fs::read_to_string("/proc/stat").ok()?, "btime")
}

/// The first number in the line that begins with `name`.
fn number_of(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_what_it_takes() {
        let mut text = String::new();
        write_metrics(&mut text);
        for name in ["cpu_seconds_total", "start_time_seconds", "resident_memory_bytes", "open_fds", "max_fds"] {
            let name = format!("process_{name} ");
            assert!(text.lines().any(|line| line.starts_with(&name)), "{name} in\n{text}");
        }
        let start = number_of(&text, "process_start_time_seconds").unwrap();
        assert!((1.7e9..1e11).contains(&start), "{start}");
    }
}
