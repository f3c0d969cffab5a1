//! What clients may have, where only a store that does what a test tells it can show it; and settings that are exchanged
//! while the server runs.

use std::time::Duration;

use super::super::{Access, Server as Face, Settings, State, TlsFiles};
use super::*;

fn series(points: usize) -> Answer {
    let data = vec![0.123_456_789; points];
    Answer { data, from: 0, to: 60, resolution: 60, avg: 0.0, min: 0.0, max: 0.0 }
}

fn request(queries: usize) -> String {
    format!(
        r#"{{"cluster":"c","from":0,"to":600,"queries":[{}]}}"#,
        vec![r#"{"metric":"m","host":"h"}"#; queries].join(",")
    )
}

#[tokio::test]
async fn series_beyond_the_points_of_a_request_are_errors_and_the_rest_is_answered() {
    let limits = Limits { request_points: 25, ..Limits::default() };
    let server = Server::start(Fake::answering(|_| vec![Ok(series(10))]), limits).await;
    let reply = server.ask("POST", "/api/query", &request(5)).await;
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let results = answer["results"].as_array().unwrap();
    assert_eq!((reply.status, results.len()), (200, 5));
    assert!(results[..3].iter().all(|rows| rows[0]["data"].as_array().is_some_and(|data| data.len() == 10)));
    assert!(results[3..].iter().all(|rows| rows[0]["error"].as_str().unwrap().contains("more than 25 points")));
    assert_eq!((server.refused("request-points").await, server.refused("query-points").await), (1, 0));
}

#[tokio::test]
async fn a_reader_that_takes_a_little_now_and_then_is_cut() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let server = Server::start(Fake::answering(|_| vec![Ok(series(100_000))]), limits).await;
    let mut client = server.connect().await;
    let body = request(200);
    client.send(format!("POST /api/query HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    let mut read = 0;
    let cut = async {
        loop {
            let mut bytes = [0; 100];
            match client.stream.read(&mut bytes).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
            // Slower than the least, but never silent for long.
            tokio::time::sleep(Duration::from_millis(20)).await;
            let metrics = server.ask("GET", "/metrics", "").await.body;
            if metrics.contains("kymo_http_connections_closed_total{reason=\"slow-reader\"} 1\n") {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), cut).await.expect("a slow reader is cut");
    let whole = 200 * 100_000 * 12;
    assert!(read < whole / 100, "{read} bytes of an answer of {whole}");
}

#[tokio::test]
async fn a_reader_that_takes_longer_than_a_query_may_takes_nobodys_turn() {
    let limits = Limits { queries: 1, query_time: Duration::from_millis(300), ..Limits::default() };
    let points = |query: &Query| if query.host == "h" { 4_000_000 } else { 1 };
    let server = Server::start(Fake::answering(move |query| vec![Ok(series(points(query)))]), limits).await;
    let mut slow = server.connect().await;
    let body = request(1);
    slow.send(format!("POST /api/query HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    assert!(slow.fill().await, "its answer has begun");
    let reply = server.ask("POST", "/api/query", &body.replace("\"h\"", "\"other\"")).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(server.refused("query-time").await, 1);
    assert!(!slow.rest().await.ends_with("0\r\n\r\n"), "what was cut is not taken for a whole answer");
}

#[tokio::test]
async fn series_are_sent_as_they_are_computed_until_it_is_late() {
    let limits = Limits { query_time: Duration::ZERO, ..Limits::default() };
    let server = Server::start(Fake::answering(|_| vec![Ok(series(1)), Ok(series(1))]), limits).await;
    // The first one is too late for nothing: the time before is looked at, and that after it.
    let reply = server.ask("POST", "/api/query", &request(1)).await;
    assert_eq!(reply.status, 503, "{}", reply.body);
}

#[tokio::test]
async fn one_overview_is_made_at_a_time_and_queries_go_on() {
    let (allow, overviews) = std::sync::mpsc::channel();
    let fake = Fake { overviews: Mutex::new(Some(overviews)), ..Fake::answering(|_| vec![Ok(series(1))]) };
    let limits = Limits { hold: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(fake, limits).await;
    let mut first = server.connect().await;
    first.send("GET /api/debug HTTP/1.1\r\nHost: k\r\n\r\n").await;
    // Whichever of the two came first is the one that is made.
    let mut second = server.connect().await;
    second.send("GET /api/debug HTTP/1.1\r\nHost: k\r\n\r\n").await;
    let (first, second) = (first.reply("GET"), second.reply("GET"));
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    let (refused, rest) = tokio::select! {
        reply = &mut first => (reply, second),
        reply = &mut second => (reply, first),
    };
    assert_eq!(refused.unwrap().status, 503);
    assert_eq!(server.ask("POST", "/api/query", &request(1)).await.status, 200);
    allow.send(()).unwrap();
    assert_eq!(rest.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reader_that_is_fast_enough_gets_all() {
    let limits = Limits { stall: Duration::from_millis(500), ..Limits::default() };
    let server = Server::start(Fake::answering(|_| vec![Ok(series(100_000))]), limits).await;
    let reply = server.ask("POST", "/api/query", &request(10)).await;
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!(answer["results"][9][0]["data"].as_array().map(Vec::len), Some(100_000));
}

#[tokio::test]
async fn promises_of_long_bodies_take_no_room_from_others() {
    let limits = Limits { in_flight: 1 << 20, body: 1 << 20, hold: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let mut silent = Vec::new();
    for _ in 0..8 {
        let mut client = server.connect().await;
        client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 1048576\r\n\r\nm value=1").await;
        silent.push(client);
    }
    while !server.ask("GET", "/metrics", "").await.body.contains("kymo_http_body_bytes_held 524288\n") {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.ask("POST", "/api/write", &"m value=1\n".repeat(30_000)).await.status, 200);
}

#[tokio::test]
async fn settings_are_exchanged_while_the_server_runs_or_stay_whole() {
    let engine: Arc<dyn Engine> = Arc::new(Fake::default());
    let face = Face::new(State { engine, clock: Arc::new(|| 0) }, Settings::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = face.clone();
    let task = tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
    let connect = || async { Client { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() } };
    let status = |body: &'static str| async move { connect().await.ask("POST", "/api/write", body).await.status };

    assert_eq!(status("m value=1\n").await, 200);
    let small = Limits { body: 4, in_flight: 1 << 10, ..Limits::default() };
    let kept = face.reload(Settings { limits: small.clone(), ..Settings::default() }).unwrap();
    assert_eq!(kept, ["in-flight"]);
    assert_eq!((status("m value=1\n").await, status("m\n").await), (413, 200));

    let access = Access { keys: vec![[7; 32]], ..Access::default() };
    assert!(face.reload(Settings { limits: small, access: access.clone(), tls: None }).is_ok());
    assert_eq!(status("m\n").await, 401);
    let nowhere = TlsFiles { certificate: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
    let error = face.reload(Settings { limits: Limits::default(), access, tls: Some(nowhere) }).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/cert.pem: "), "{error}");
    // Nothing of settings that cannot be used is taken over.
    assert_eq!(status("m\n").await, 401);
    let metrics = connect().await.ask("GET", "/metrics", "").await.body;
    assert!(metrics.contains("kymo_config_reloads_total{outcome=\"good\"} 2\n"), "{metrics}");
    assert!(metrics.contains("kymo_config_reloads_total{outcome=\"bad\"} 1\n"), "{metrics}");
    task.abort();
}
