//! The bodies of `/api/query` and `/api/free`.

use kymo_engine::model::{Query, Request, ResampleAlgo};

use super::text::quote;
use super::value::{Json, JsonError, Place};

/// Queries of one request at most: an empty one takes a hundred times the memory of its text.
const QUERIES: usize = 1 << 18;

/// Reads the body of a query request.
pub(crate) fn decode_query(body: &[u8]) -> Result<Request, JsonError> {
    let mut request = Request::default();
    for (key, value) in Json::first(body)?.object(Place::Value, "api.APIQueryRequest")? {
        match key.to_ascii_lowercase().as_str() {
            "cluster" => set(&mut request.cluster, value.string(Place::Field("APIQueryRequest.cluster"))?),
            "queries" => request.queries = queries(value)?,
            "for-all-nodes" => {
                let metrics = value.strings(Place::Field("APIQueryRequest.for-all-nodes"))?;
                request.for_all_nodes = metrics.unwrap_or_default();
            }
            "from" => set(&mut request.from, value.int(Place::Field("APIQueryRequest.from"))?),
            "to" => set(&mut request.to, value.int(Place::Field("APIQueryRequest.to"))?),
            "with-stats" => set(&mut request.with_stats, value.bool(Place::Field("APIQueryRequest.with-stats"))?),
            "with-data" => set(&mut request.with_data, value.bool(Place::Field("APIQueryRequest.with-data"))?),
            "with-padding" => set(&mut request.with_padding, value.bool(Place::Field("APIQueryRequest.with-padding"))?),
            _ => {}
        }
    }
    Ok(request)
}

fn queries(value: Json) -> Result<Vec<Query>, JsonError> {
    let items = value.array(Place::Field("APIQueryRequest.queries"), "[]api.APIQuery")?;
    let items = items.unwrap_or_default();
    if items.len() > QUERIES {
        return Err(JsonError::TooMany { what: "queries", limit: QUERIES });
    }
    items.into_iter().map(query).collect()
}

fn query(value: Json) -> Result<Query, JsonError> {
    let mut query = Query::default();
    for (key, value) in value.object(Place::Field("APIQueryRequest.queries"), "api.APIQuery")? {
        match key.to_ascii_lowercase().as_str() {
            "metric" => set(&mut query.metric, value.string(Place::Field("APIQuery.queries.metric"))?),
            "host" | "hostname" => set(&mut query.host, value.string(Place::Field("APIQuery.queries.host"))?),
            "type" => query.component = value.string(Place::Field("APIQuery.queries.type"))?,
            "type-ids" => {
                query.component_ids = value.strings(Place::Field("APIQuery.queries.type-ids"))?.unwrap_or_default();
            }
            "subtype" => query.subcomponent = value.string(Place::Field("APIQuery.queries.subtype"))?,
            "subtype-ids" => {
                let ids = value.strings(Place::Field("APIQuery.queries.subtype-ids"))?;
                query.subcomponent_ids = ids.unwrap_or_default();
            }
            "aggreg" => set(&mut query.aggregate, value.bool(Place::Field("APIQuery.queries.aggreg"))?),
            "resolution" => set(&mut query.resolution, value.int(Place::Field("APIQuery.queries.resolution"))?),
            "resample-algo" => {
                let algo = value.string(Place::Field("APIQuery.queries.resample-algo"))?;
                set(&mut query.resample_algo, algo.map(|algo| resample_algo(&algo)).transpose()?);
            }
            "scale-by" => query.scale_by = value.float()?,
            _ => {}
        }
    }
    Ok(query)
}

fn resample_algo(name: &str) -> Result<ResampleAlgo, JsonError> {
    match name {
        "" | "lttb" => Ok(ResampleAlgo::Lttb),
        "average" => Ok(ResampleAlgo::Average),
        "simple" => Ok(ResampleAlgo::Simple),
        _ => Err(JsonError::UnknownWord { field: "resample-algo", found: quote(name) }),
    }
}

/// Reads the body of a free request: selectors, each a list of names. The empty selector is the root.
pub(crate) fn selectors(body: &[u8]) -> Result<Vec<Vec<String>>, JsonError> {
    let items = Json::first(body)?.array(Place::Value, "[][]string")?;
    items.unwrap_or_default().into_iter().map(|item| Ok(item.strings(Place::Value)?.unwrap_or_default())).collect()
}

pub(super) fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(body: &str) -> String {
        decode_query(body.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn keys_match_in_any_case_and_the_last_one_wins() {
        let body = br#"{"Cluster":"omega","FROM":1,"To":2,"cluster":"alpha","WITH-Stats":false,
            "Queries":[{"Metric":"m","HOST":"h"},{"hostname":"g","Type":"socket","TYPE-ids":["0",null]}]} trailing"#;
        let request = decode_query(body).unwrap();
        assert_eq!((request.cluster.as_str(), request.from, request.to), ("alpha", 1, 2));
        assert!(!request.with_stats && request.with_data && request.with_padding);
        assert_eq!((request.queries[0].metric.as_str(), request.queries[0].host.as_str()), ("m", "h"));
        assert_eq!(request.queries[1].host, "g");
        assert_eq!(request.queries[1].component.as_deref(), Some("socket"));
        assert_eq!(request.queries[1].component_ids, ["0", ""]);
    }

    #[test]
    fn null_leaves_the_default_alone() {
        assert_eq!(decode_query(b"null").unwrap(), Request::default());
        let body = br#"{"from":7,"from":null,"with-data":null,"queries":[null,{"type":null,"scale-by":2e0}],"x":[1]}"#;
        let request = decode_query(body).unwrap();
        assert_eq!(request.from, 7);
        assert!(request.with_data);
        assert_eq!(request.queries[0], Query::default());
        assert_eq!(request.queries[1], Query { scale_by: 2.0, ..Query::default() });
    }

    #[test]
    fn null_as_scale_is_the_missing_value() {
        let request = decode_query(br#"{"queries":[{"scale-by":null}]}"#).unwrap();
        assert!(request.queries[0].scale_by.is_nan());
    }

    #[test]
    fn resample_algorithms_are_known_by_name() {
        let body = br#"{"queries":[{"resample-algo":""},{"resample-algo":"average"},{"resample-algo":"simple"}]}"#;
        let algos: Vec<_> = decode_query(body).unwrap().queries.iter().map(|query| query.resample_algo).collect();
        assert_eq!(algos, [ResampleAlgo::Lttb, ResampleAlgo::Average, ResampleAlgo::Simple]);
        assert_eq!(error(r#"{"queries":[{"resample-algo":"x"}]}"#), "resample-algo: unknown value \"x\"");
    }

    #[test]
    fn errors_have_the_texts_of_the_predecessor() {
        assert_eq!(error(""), "EOF");
        assert_eq!(error(" \n"), "EOF");
        assert_eq!(error(r#"{"cluster":"alpha","from":"#), "unexpected EOF");
        assert_eq!(error("hello"), "invalid character 'h' looking for beginning of value");
        assert_eq!(error("[]"), "json: cannot unmarshal array into Go value of type api.APIQueryRequest");
        assert_eq!(
            error(r#"{"from":"1"}"#),
            "json: cannot unmarshal string into Go struct field APIQueryRequest.from of type int64"
        );
        assert_eq!(
            error(r#"{"from":1.5}"#),
            "json: cannot unmarshal number 1.5 into Go struct field APIQueryRequest.from of type int64"
        );
        assert_eq!(
            error(r#"{"queries":[{"type-ids":[1,2]}]}"#),
            "json: cannot unmarshal number into Go struct field APIQuery.queries.type-ids of type string"
        );
        assert_eq!(
            error(r#"{"queries":[{"scale-by":"2"}]}"#),
            r#"strconv.ParseFloat: parsing "\"2\"": invalid syntax"#
        );
    }

    #[test]
    fn integers_out_of_range_are_errors() {
        assert!(error(r#"{"to":9223372036854775808}"#).contains("number 9223372036854775808"));
        assert!(error(r#"{"to":1e3}"#).contains("of type int64"));
        assert_eq!(decode_query(br#"{"to":-9223372036854775808}"#).unwrap().to, i64::MIN);
    }

    #[test]
    fn more_queries_than_anybody_asks_are_refused() {
        let body = format!(r#"{{"queries":[{}]}}"#, vec!["{}"; QUERIES + 1].join(","));
        assert_eq!(error(&body), "more than 262144 queries in one request");
    }

    #[test]
    fn deep_documents_are_errors_and_not_overflows() {
        assert!(decode_query("[".repeat(1_000_000).as_bytes()).is_err());
    }

    #[test]
    fn selectors_are_lists_of_names() {
        assert_eq!(selectors(br#"[["alpha","a1"],[]]"#).unwrap(), [vec!["alpha".to_owned(), "a1".to_owned()], vec![]]);
        assert!(selectors(b"null").unwrap().is_empty());
        assert_eq!(
            selectors(b"{}").unwrap_err().to_string(),
            "json: cannot unmarshal object into Go value of type [][]string"
        );
        assert_eq!(
            selectors(b"[1]").unwrap_err().to_string(),
            "json: cannot unmarshal number into Go value of type []string"
        );
        assert_eq!(selectors(b"").unwrap_err(), JsonError::Empty);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, text in "[\\[\\]{}:,\"a0-9nul .e-]{0,40}") {
            for body in [&bytes, text.as_bytes()] {
                let error = decode_query(body).err().map(|error| error.to_string());
                prop_assert_ne!(error, Some(String::new()));
            }
        }
    }
}
