//! What the predecessor's front end asks for, as it asks: GET with a body and a token, answers in its shape, within the
//! ten seconds after which it gives up.

use std::time::Duration;

use serde_json::{Value, json};

use crate::clock;
use crate::http::Client;
use crate::json::Json;
use crate::server::{RECORDINGS, Server, Site, recorded_config};

/// What the front end waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

const HOSTS: u32 = 40;
const CORES: u32 = 16;
const MINUTES: i64 = 30;

/// A server with the predecessor's key, and a job of forty nodes that has just ended. Gives the begin of the job.
fn serve() -> (Site, Server, i64, String) {
    let site = Site::empty();
    site.configure(recorded_config("config-jwt.json"), &[]);
    let server = site.serve();
    let token = token();
    let end = clock::unix_seconds() / 60 * 60;
    let start = end - MINUTES * 60;
    let mut client = server.client();
    for minute in 0..MINUTES {
        let time = start + 60 * minute;
        let mut body = String::new();
        for host in 0..HOSTS {
            let line = |metric: &str, place: &str, value: u32| {
                format!("{metric},cluster=alex,hostname=a{host:04},{place} value={value} {time}\n")
            };
            body += &line("cpu_load", "type=node", host);
            for core in 0..CORES {
                body += &line("flops_any", &format!("type=hwthread,type-id={core}"), core);
            }
        }
        let headers = [("Authorization", &*token)];
        let answer = client.request("POST", "/api/write?cluster=alex", &headers, body.as_bytes()).expect("an answer");
        assert_eq!((answer.status, answer.header("Kymo-Lines-Refused")), (200, None), "{}", answer.text());
    }
    (site, server, start, token)
}

/// A token of the predecessor's own test key: it stands in the recordings.
fn token() -> String {
    let index = std::fs::read_to_string(format!("{RECORDINGS}/index.json")).expect("the recordings are there");
    drop(Json::parse(&index).expect("it is JSON"));
    let at = index.find("Bearer ey").expect("a recorded token");
    index[at..].split('"').next().expect("a token ends").to_owned()
}

/// Asks as the front end does, and within its time.
fn ask(client: &mut Client, path: &str, token: &str, body: &Value) -> Value {
    let headers = [("Authorization", token), ("Accept-Encoding", "gzip"), ("User-Agent", "Go-http-client/1.1")];
    let deadline = clock::deadline(PATIENCE);
    let answer = client.request("GET", path, &headers, body.to_string().as_bytes()).expect("an answer");
    assert!(clock::remaining(deadline).is_some(), "the front end has given up");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("Content-Type").as_deref(), Some("application/json"));
    assert_eq!(answer.header("Content-Encoding"), None);
    serde_json::from_str(&answer.text()).expect("the answer is JSON")
}

#[test]
fn the_requests_of_the_front_end_are_answered_in_its_shape_and_time() {
    let (_site, server, start, token) = serve();
    let mut client = server.client();
    let end = start + MINUTES * 60;
    let cores: Vec<String> = (0..CORES).map(|core| core.to_string()).collect();
    let host = |number: u32| format!("a{number:04}");

    // A job: one query a metric, scope and node, answered at the same place.
    let mut queries = Vec::new();
    for number in 0..HOSTS {
        queries.push(json!({"metric": "cpu_load", "host": host(number), "resolution": 0, "aggreg": false}));
        let threads = json!({"type": "hwthread", "type-ids": cores});
        for aggregate in [false, true] {
            let mut query = threads.clone();
            query["metric"] = "flops_any".into();
            query["host"] = host(number).into();
            query["resolution"] = 60.into();
            query["aggreg"] = aggregate.into();
            queries.push(query);
        }
    }
    queries.push(json!({"metric": "cpu_load", "host": "nobody", "resolution": 0, "aggreg": false}));
    queries.push(json!({"metric": "nothing", "host": host(0), "resolution": 0, "aggreg": false}));
    let request = json!({"cluster": "alex", "from": start, "to": end, "with-stats": true, "with-data": true,
        "queries": queries, "for-all-nodes": null});
    let answer = ask(&mut client, "/api/query?version=v2", &token, &request);
    assert!(answer.get("queries").is_none(), "only generated queries are repeated");
    let results = answer["results"].as_array().expect("results");
    assert_eq!(results.len(), queries.len());
    for (number, rows) in (0..HOSTS).zip(results.chunks(3)) {
        let load = &rows[0][0];
        assert_eq!((load["resolution"].as_i64(), load["error"].as_str()), (Some(60), None), "{load}");
        let data = load["data"].as_array().expect("data");
        assert!(data.iter().all(|value| value.is_null() || value.as_u64() == Some(u64::from(number))), "{load}");
        assert!(data.len() >= 29 && load["avg"].is_number() && load["min"].is_number() && load["max"].is_number());
        assert_eq!(rows[1].as_array().map(Vec::len), Some(CORES as usize), "one series a thread");
        for (core, series) in (0..CORES).zip(rows[1].as_array().expect("series")) {
            assert_eq!((series["max"].as_f64(), series["resolution"].as_i64()), (Some(f64::from(core)), Some(60)));
        }
        assert_eq!(rows[2].as_array().map(Vec::len), Some(1), "one sum of all threads");
        assert_eq!(rows[2][0]["max"].as_f64(), Some(f64::from((0..CORES).sum::<u32>())));
    }
    assert_eq!(results[3 * HOSTS as usize], json!([]), "an unknown host is an empty row");
    let unknown = &results[3 * HOSTS as usize + 1];
    assert!(unknown == &json!([]) || unknown[0]["error"].is_string(), "{unknown}");

    // A view of a cluster: queries are generated, repeated, and answered at the same place.
    let request = json!({"cluster": "alex", "from": start, "to": end, "with-stats": false, "with-data": true,
        "for-all-nodes": ["cpu_load", "mem_used"]});
    let answer = ask(&mut client, "/api/query?version=v2", &token, &request);
    let (queries, results) =
        (answer["queries"].as_array().expect("queries"), answer["results"].as_array().expect("results"));
    assert_eq!((queries.len(), results.len()), (2 * HOSTS as usize, 2 * HOSTS as usize));
    for (query, rows) in queries.iter().zip(results) {
        let number: f64 = query["host"].as_str().and_then(|name| name[1..].parse().ok()).expect("a host");
        match query["metric"].as_str() {
            Some("cpu_load") => {
                assert_eq!(rows[0]["data"].as_array().and_then(|data| data.last()?.as_f64()), Some(number));
            }
            _ => assert_eq!(rows, &json!([]), "{query}"),
        }
    }

    // Statistics of a footprint: no data. What is missing is null.
    let query = json!([{"metric": "cpu_load", "host": host(1), "resolution": 0, "aggreg": false}]);
    let request =
        json!({"cluster": "alex", "from": start, "to": end, "with-stats": true, "with-data": false, "queries": query});
    let answer = ask(&mut client, "/api/query?version=v2", &token, &request);
    let series = &answer["results"][0][0];
    assert!(series.get("data").is_none() && series["avg"].as_f64() == Some(1.0), "{series}");
    let request = json!({"cluster": "alex", "from": start - 600, "to": end, "with-stats": true, "with-data": true, "queries": query});
    let answer = ask(&mut client, "/api/query?version=v2", &token, &request);
    let data = answer["results"][0][0]["data"].as_array().expect("data");
    assert!(data[..9].iter().all(Value::is_null) && data.last().is_some_and(Value::is_number), "{data:?}");

    // The state of nodes, without a slash at the end.
    let nodes: Vec<String> = (0..HOSTS).map(host).chain(["nobody".to_owned()]).collect();
    let request = json!({"cluster": "alex", "nodes": nodes, "metric-names": ["cpu_load", "mem_used"]});
    let answer = ask(&mut client, "/api/healthcheck", &token, &request);
    assert_eq!(answer.as_object().map(serde_json::Map::len), Some(HOSTS as usize + 1));
    assert_eq!(answer["nobody"], json!({"State": "failed", "HealthMetrics": ""}));
    let state = &answer[&host(0)];
    assert_eq!(state["State"], "partial", "{state}");
    let details: Value = serde_json::from_str(state["HealthMetrics"].as_str().expect("a text")).expect("it is JSON");
    assert_eq!(details, json!({"degraded": [], "missing": ["mem_used"]}));
    server.stop();
}
