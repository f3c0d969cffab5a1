//! A configuration with the metrics of the workload.

use super::workload::metrics;
use crate::serve::print as out;
use kymo_engine::model::Aggregation;
use serde_json::{Map, Value, json};

/// Prints a configuration for the server that is to be loaded.
pub fn print(directory: &str) {
    let metric = |metric: &kymo_engine::model::Metric| {
        let aggregation = match metric.aggregation {
            Aggregation::Sum => json!("sum"),
            Aggregation::Avg => json!("avg"),
            Aggregation::None => Value::Null,
        };
        (metric.name.to_string(), json!({ "frequency": metric.frequency, "aggregation": aggregation }))
    };
    let metrics: Map<String, Value> = metrics().iter().map(|(_, found)| metric(found)).collect();
    let config = json!({
        "main": { "addr": "127.0.0.1:8082" },
        "metrics": metrics,
        "metric-store": { "retention-in-memory": "48h" },
        "storage": { "directory": directory },
    });
    out(&format!("{config:#}\n"));
}
