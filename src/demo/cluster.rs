//! The synthetic cluster: four hosts with two sockets, eight hardware threads and two accelerators each.

use kymo_engine::model::Metrics;
use std::fmt::Write as _;

/// The hosts.
pub(super) const HOSTS: [&str; 4] = ["node01", "node02", "node03", "node04"];

/// Which components carry a metric, and the level around which its values swing.
const SHAPES: [(&str, &str, usize, f64); 11] = [
    ("cpu_load", "node", 0, 6.0),
    ("cpu_user", "hwthread", 8, 70.0),
    ("mem_used", "node", 0, 48.0e9),
    ("mem_bw", "socket", 2, 85.0e9),
    ("flops_any", "hwthread", 8, 2.4e9),
    ("cpu_power", "socket", 2, 140.0),
    ("ipc", "hwthread", 8, 1.4),
    ("clock", "hwthread", 8, 2600.0),
    ("net_bw", "node", 0, 1.1e9),
    ("acc_utilization", "accelerator", 2, 88.0),
    ("acc_mem_used", "accelerator", 2, 31.0e9),
];

/// What is written: the shapes of which the metric is configured.
#[derive(Debug)]
pub(super) struct Cluster {
    shapes: Vec<(&'static str, &'static str, usize, f64)>,
}

impl Cluster {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let shapes = SHAPES.into_iter().filter(|(metric, ..)| metrics.find(metric.as_bytes()).is_some());
        Self { shapes: shapes.collect() }
    }

    /// The lines of one host at a time, and how many they are.
    pub(super) fn lines(&self, host: usize, time: i64) -> (String, usize) {
        let (mut body, mut lines) = (String::new(), 0);
        let name = HOSTS[host];
        for &(metric, kind, count, level) in &self.shapes {
            for id in 0..count.max(1) {
                let value = level * swing(time, host, id);
                let component = if count == 0 { String::new() } else { format!(",type-id={id}") };
                writeln!(body, "{metric},hostname={name},type={kind}{component} value={value:.3} {time}")
                    .expect("a String takes all that is written to it");
                lines += 1;
            }
        }
        (body, lines)
    }
}

/// A smooth curve between 0.6 and 1.4, another one for each host and component.
#[expect(clippy::cast_precision_loss, reason = "a curve to look at")]
fn swing(time: i64, host: usize, id: usize) -> f64 {
    let phase = (host * 7 + id * 3) as f64;
    let hours = (time.rem_euclid(86_400)) as f64 / 3600.0;
    1.0 + 0.25 * (hours * 5.0 + phase).sin() + 0.15 * (hours * 23.0 + phase * 1.7).sin()
}
