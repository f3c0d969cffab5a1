//! Clients find an answer by its place in the document, and take what they read for the whole truth: the shape is
//! exact, and an answer that could not be finished must not look like one that is.

use std::time::Duration;

use super::*;

const NAN: f64 = f64::NAN;

fn series(data: &[f64], from: i64, to: i64, [avg, min, max]: [f64; 3]) -> Answer {
    Answer { data: data.to_vec(), from, to, resolution: 60, avg, min, max }
}

/// The answers of the contract's worked examples.
fn examples() -> Fake {
    Fake::answering(|query| match (query.metric.as_str(), query.host.as_str(), query.resolution) {
        ("nope", ..) => vec![Err(SeriesError::UnknownMetric("nope".to_owned()))],
        (_, _, 90) => vec![Err(SeriesError::Resolution { wanted: 90, frequency: 60 })],
        ("cpu_load", "a1", _) => vec![Ok(series(&[NAN, 1.0, 2.0, 4.5], 1000, 1180, [2.5, 1.0, 4.5]))],
        ("flops_any", ..) if query.aggregate => vec![Ok(series(&[5.5, 11.0], 1000, 1120, [8.25, 5.5, 11.0]))],
        ("flops_any", ..) => vec![
            Ok(series(&[10.0, 20.0], 1000, 1120, [15.0, 10.0, 20.0])),
            Ok(series(&[1.0, 2.0], 1000, 1120, [1.5, 1.0, 2.0])),
        ],
        ("clock", ..) => vec![Ok(series(&[2050.0, NAN, 2200.0], 1000, 1180, [2125.0, 2050.0, 2200.0]))],
        ("after", ..) => vec![Ok(series(&[], 5000, 5000, [NAN; 3]))],
        ("before", ..) => vec![Ok(series(&[NAN; 15], 1000, 1000, [NAN; 3]))],
        ("exact", ..) => vec![Ok(series(&[0.1 + 0.2, 1e-9, 1e300, f64::INFINITY, -0.0], 0, 0, [0.0; 3]))],
        _ => Vec::new(),
    })
}

async fn answer(body: &str) -> String {
    let server = Server::start(examples(), Limits::default()).await;
    let reply = server.ask("GET", "/api/query", body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    serde_json::from_str::<serde_json::Value>(&reply.body).unwrap();
    reply.body
}

#[tokio::test]
async fn answer_has_the_shape_of_the_worked_examples() {
    let defaults = r#"{"cluster":"alex","from":900,"to":1300,"queries":[{"metric":"cpu_load","host":"a1"}]}"#;
    let expected = r#"{"results":[[{"data":[null,1,2,4.5],"from":1000,"to":1180,"resolution":60,"#;
    assert_eq!(answer(defaults).await, format!("{expected}\"avg\":2.5,\"min\":1,\"max\":4.5}}]]}}\n"));

    let scaled = r#"{"cluster":"alex","from":1000,"to":1120,"with-padding":false,
        "queries":[{"metric":"flops_any","host":"a1","type":"socket","type-ids":["0","1"],
            "aggreg":true,"scale-by":0.5}]}"#;
    let expected = r#"{"results":[[{"data":[5.5,11],"from":1000,"to":1120,"resolution":60,"#;
    assert_eq!(answer(scaled).await, format!("{expected}\"avg\":8.25,\"min\":5.5,\"max\":11}}]]}}\n"));

    let averaged = r#"{"cluster":"alex","from":1000,"to":1180,"queries":[{"metric":"clock","host":"a1"}]}"#;
    let expected = r#"{"results":[[{"data":[2050,null,2200],"from":1000,"to":1180,"resolution":60,"#;
    assert_eq!(answer(averaged).await, format!("{expected}\"avg\":2125,\"min\":2050,\"max\":2200}}]]}}\n"));

    let one_per_id = r#"{"cluster":"alex","from":1000,"to":1120,"with-data":false,
        "queries":[{"metric":"flops_any","host":"a1","type":"socket","type-ids":["0","7","1"]}]}"#;
    let expected = concat!(
        r#"{"results":[[{"from":1000,"to":1120,"resolution":60,"avg":15,"min":10,"max":20},"#,
        r#"{"from":1000,"to":1120,"resolution":60,"avg":1.5,"min":1,"max":2}]]}"#,
    );
    assert_eq!(answer(one_per_id).await, format!("{expected}\n"));

    let errors = r#"{"cluster":"alex","from":1000,"to":1180,"with-data":false,"queries":[{"metric":"nope","host":"a1"},
        {"metric":"cpu_load","host":"zzz"},{"metric":"cpu_load","host":"a1","resolution":90}]}"#;
    let zeros = r#""from":0,"to":0,"resolution":0,"avg":0,"min":0,"max":0"#;
    let (unknown, odd) = (
        r"[METRICSTORE]\u003e unknown metric: nope",
        "new sampling frequency (90) must be a multiple of old frequency (60)",
    );
    let expected =
        format!("{{\"results\":[[{{\"error\":\"{unknown}\",{zeros}}}],[],[{{\"error\":\"{odd}\",{zeros}}}]]}}\n");
    assert_eq!(answer(errors).await, expected);

    let all_nodes = r#"{"cluster":"alex","from":1000,"to":1180,"with-data":false,"for-all-nodes":["cpu_load"]}"#;
    let expected = concat!(
        r#"{"queries":[{"metric":"cpu_load","host":"a1","resolution":0,"aggreg":false}],"#,
        r#""results":[[{"from":1000,"to":1180,"resolution":60,"avg":2.5,"min":1,"max":4.5}]]}"#,
    );
    assert_eq!(answer(all_nodes).await, format!("{expected}\n"));

    let after = r#"{"cluster":"alex","from":5000,"to":6000,"queries":[{"metric":"after","host":"a1"}]}"#;
    let expected = r#"{"results":[[{"from":5000,"to":5000,"resolution":60,"avg":null,"min":null,"max":null}]]}"#;
    assert_eq!(answer(after).await, format!("{expected}\n"));

    let before = r#"{"cluster":"alex","from":100,"to":200,"queries":[{"metric":"before","host":"a1"}]}"#;
    let nulls = ["null"; 15].join(",");
    let expected = format!(
        "{{\"results\":[[{{\"data\":[{nulls}],\"from\":1000,\"to\":1000,\"resolution\":60,\
         \"avg\":null,\"min\":null,\"max\":null}}]]}}\n"
    );
    assert_eq!(answer(before).await, expected);
    assert_eq!(answer("null").await, "{\"results\":[]}\n");
}

#[tokio::test]
async fn generated_queries_are_listed_alone_and_answered_last() {
    let body = r#"{"queries":[{"metric":"after"}],"for-all-nodes":["x"]}"#;
    let expected = concat!(
        r#"{"queries":[{"metric":"x","host":"a1","resolution":0,"aggreg":false}],"#,
        r#""results":[[{"from":5000,"to":5000,"resolution":60,"avg":null,"min":null,"max":null}],[]]}"#,
    );
    assert_eq!(answer(body).await, format!("{expected}\n"));
}

#[tokio::test]
async fn numbers_are_exact_and_infinities_do_not_break_the_document() {
    let text = answer(r#"{"queries":[{"metric":"exact"}]}"#).await;
    assert!(text.contains("[0.30000000000000004,1e-9,1e+300,null,-0]"), "{text}");
}

#[tokio::test]
async fn post_and_head_are_answered_like_get() {
    let server = Server::start(examples(), Limits::default()).await;
    let body = r#"{"queries":[{"metric":"after"}]}"#;
    let get = server.ask("GET", "/api/query/", body).await;
    let post = server.ask("POST", "/api/query/below/this", body).await;
    assert_eq!((post.status, &post.body), (200, &get.body));
    let mut client = server.connect().await;
    let head = client.ask("HEAD", "/api/query", body).await;
    assert_eq!((head.status, head.header("content-length")), (200, get.header("content-length")));
    let head = client.ask("HEAD", "/api/query", "").await;
    assert_eq!((head.status, head.header("connection")), (400, Some("close")));
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn query_for_very_many_series_is_evaluated_in_parts_and_answered_in_order() {
    let fake = Fake::answering(|query| {
        assert!(query.component_ids.len() <= 1024, "{} series at one time", query.component_ids.len());
        let one = |id: &String| Ok(series(&[1.0; 4], id.parse().unwrap(), 0, [0.5; 3]));
        query.component_ids.iter().map(one).collect()
    });
    let server = Server::start(fake, Limits::default()).await;
    let ids: Vec<_> = (0..5000).map(|id| format!("\"{id}\"")).collect();
    for range in ["\"from\":0,\"to\":9223372036854775807", "\"from\":0,\"to\":60"] {
        let body = format!(r#"{{{range},"queries":[{{"metric":"m","type":"core","type-ids":[{}]}}]}}"#, ids.join(","));
        let reply = server.ask("POST", "/api/query", &body).await;
        let document: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        let found: Vec<_> = document["results"][0].as_array().unwrap().iter().map(|one| &one["from"]).collect();
        assert!(found.into_iter().eq(&(0..5000).map(serde_json::Value::from).collect::<Vec<_>>()));
    }
}

#[tokio::test]
async fn short_text_that_asks_for_hundreds_of_millions_of_series_is_given_up_in_time() {
    let limits = Limits { query_time: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let ids = vec!["\"1\""; 20_000].join(",");
    let body = format!(r#"{{"queries":[{{"type":"a","type-ids":[{ids}],"subtype":"b","subtype-ids":[{ids}]}}]}}"#);
    let reply = server.ask("POST", "/api/query", &body).await;
    assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
    assert!(reply.body.contains("takes too long"), "{}", reply.body);
}

#[tokio::test]
async fn operators_requests_have_an_end_too() {
    let limits = Limits { query_time: Duration::ZERO, ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let health = server.ask("GET", "/api/healthcheck", r#"{"cluster":"alpha","nodes":["g1"],"metric-names":[]}"#).await;
    let free = server.ask("POST", "/api/free?to=1", r#"[["alpha","a1"]]"#).await;
    for reply in [health, free] {
        assert_eq!((reply.status, reply.header("connection")), (503, Some("close")));
        assert!(reply.header("retry-after").is_some());
        assert!(reply.body.contains("takes too long"), "{}", reply.body);
    }
}

/// An answer of several hundred kilobytes.
fn long() -> Fake {
    Fake::answering(|query| match query.metric.as_str() {
        "panic" => panic!("as asked"),
        _ => vec![Ok(series(&vec![0.123_456_789; 50_000], 0, 3_000_000, [0.5; 3]))],
    })
}

#[tokio::test]
async fn long_answer_is_streamed_and_whole() {
    let server = Server::start(long(), Limits::default()).await;
    let mut client = server.connect().await;
    let reply = client.ask("GET", "/api/query", r#"{"queries":[{},{},{}]}"#).await;
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    let document: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    for index in 0..3 {
        assert_eq!(document["results"][index][0]["data"].as_array().unwrap().len(), 50_000);
    }
    assert_eq!(client.ask("GET", "/api/query", "null").await.body, "{\"results\":[]}\n");
}

#[tokio::test]
async fn answer_that_fails_half_way_is_not_ended() {
    let server = Server::start(long(), Limits::default()).await;
    let mut client = server.connect().await;
    let body = r#"{"queries":[{},{"metric":"panic"}]}"#;
    client.send(format!("GET /api/query HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    assert!(client.reply("GET").await.is_none());
    let reply = server.ask("GET", "/api/query", r#"{"queries":[{"metric":"panic"}]}"#).await;
    assert_eq!(reply.status, 500);
    assert!(reply.body.starts_with(r#"{"status":"Internal Server Error","#));
}

#[tokio::test]
async fn queries_that_take_too_long_are_given_up() {
    let limits = Limits { query_time: Duration::ZERO, ..Limits::default() };
    let server = Server::start(long(), limits).await;
    let reply = server.ask("GET", "/api/query", r#"{"queries":[{}]}"#).await;
    assert_eq!((reply.status, server.refused("query-time").await), (503, 1));
}

#[tokio::test]
async fn client_that_does_not_read_gives_its_place_to_the_next() {
    let limits = Limits { queries: 1, stall: Duration::from_millis(100), ..Limits::default() };
    let server = Server::start(long(), limits).await;
    let mut deaf = server.connect().await;
    let body = format!("{{\"queries\":[{}{{}}]}}", "{},".repeat(100));
    deaf.send(format!("GET /api/query HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    // Its answer has begun: it holds the only permit.
    deaf.take(1).await.unwrap();
    assert_eq!(server.ask("GET", "/api/query", "null").await.status, 200);
}

#[tokio::test]
async fn too_many_queries_at_one_time_are_refused() {
    let limits = Limits { queries: 0, hold: Duration::from_millis(20), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let reply = server.ask("GET", "/api/query", "null").await;
    assert_eq!((reply.status, server.refused("overload").await), (503, 1));
    assert!(reply.header("retry-after").is_some());
}

#[tokio::test]
async fn an_answer_with_series_that_are_too_long_is_counted_once() {
    let fake = Fake::answering(|_| vec![Err(SeriesError::TooManyPoints { limit: 7 })]);
    let server = Server::start(fake, Limits::default()).await;
    let reply = server.ask("GET", "/api/query", r#"{"queries":[{},{}]}"#).await;
    assert_eq!((reply.status, reply.body.matches("more than 7 points").count()), (200, 2));
    assert_eq!((server.refused("query-points").await, server.refused("request-points").await), (1, 0));
}

#[tokio::test]
async fn document_that_is_too_long_is_413() {
    let server = Server::start(Fake::default(), Limits { json_body: 4, ..Limits::default() }).await;
    assert_eq!(server.ask("GET", "/api/query", "null").await.status, 200);
    assert_eq!(server.ask("GET", "/api/query", "null ").await.status, 413);
}
