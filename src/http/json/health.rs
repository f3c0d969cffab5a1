//! The body of `/api/healthcheck`.

use super::request::set;
use super::text::quote;
use super::value::{Json, JsonError, Place};

/// Metrics of one request at most: each is looked up, and may be told, for each node.
const METRICS: usize = 4096;

/// Which metrics of which nodes are looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HealthRequest {
    /// The cluster of the nodes.
    pub(crate) cluster: String,
    /// Names of nodes.
    pub(crate) nodes: Vec<String>,
    /// Names of metrics.
    pub(crate) metrics: Vec<String>,
}

impl HealthRequest {
    /// Reads the body. Keys that nobody reads are errors here.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, JsonError> {
        let mut request = Self::default();
        for (key, value) in Json::first(body)?.object(Place::Value, "metricstore.HealthCheckReq")? {
            match key.to_ascii_lowercase().as_str() {
                "cluster" => set(&mut request.cluster, value.string(Place::Field("HealthCheckReq.cluster"))?),
                "nodes" => request.nodes = value.strings(Place::Field("HealthCheckReq.nodes"))?.unwrap_or_default(),
                "metric-names" => {
                    let metrics = value.strings(Place::Field("HealthCheckReq.metric-names"))?;
                    request.metrics = metrics.unwrap_or_default();
                    if request.metrics.len() > METRICS {
                        return Err(JsonError::TooMany { what: "metric-names", limit: METRICS });
                    }
                }
                _ => return Err(JsonError::UnknownField(quote(&key))),
            }
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_and_endless_lists_are_errors() {
        let error = HealthRequest::decode(br#"{"cluster":"alpha","metrics":[]}"#).unwrap_err();
        assert_eq!(error.to_string(), "json: unknown field \"metrics\"");
        let many = format!(r#"{{"metric-names":[{}]}}"#, vec!["\"m\""; METRICS + 1].join(","));
        let error = HealthRequest::decode(many.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "more than 4096 metric-names in one request");
        let request = HealthRequest::decode(br#"{"Cluster":"alpha","NODES":["a"],"metric-names":null}"#).unwrap();
        assert_eq!(request.cluster, "alpha");
        assert_eq!(request.nodes, ["a"]);
        assert!(request.metrics.is_empty());
    }
}
