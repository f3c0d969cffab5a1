//! What clients do wrong, or too much of: cut bodies, huge bodies, many connections.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr};

use crate::clock;
use crate::http::{self, Answer};
use crate::json::Json;
use crate::server::{Server, Site};

#[test]
fn a_cut_body_is_never_acknowledged_and_its_cut_line_is_not_stored() {
    let site = Site::new(&[]);
    let server = site.serve();
    let now = clock::unix_seconds();
    let whole = format!("cpu_load,cluster=alpha,hostname=whole,type=node value=1 {now}\n");
    for (index, tail) in ["value=12", "value=12 17", "value=123 1700000040", "val"].iter().enumerate() {
        let cut = format!("cpu_load,cluster=alpha,hostname=cut{index},type=node {tail}");
        let chunk = format!("{:x}\r\n{whole}{cut}\r\n", whole.len() + cut.len());
        let promised = format!("Content-Length: 1000\r\n\r\n{whole}{cut}");
        let endless = format!("Transfer-Encoding: chunked\r\n\r\n{chunk}");
        for rest in [promised, endless] {
            let message = format!("POST /api/write HTTP/1.1\r\nHost: kymo\r\n{rest}");
            let said = send_and_hang_up(server.address(), message.as_bytes());
            assert!(!said.starts_with("HTTP/1.1 200"), "a cut body was acknowledged: {said}");
        }
        assert_eq!(results(&server, &format!("cut{index}")), "[[]]", "the cut line was stored");
    }
    server.stop();
}

#[test]
fn a_body_over_the_limit_is_refused_with_413_and_the_server_goes_on() {
    let site = Site::new(&[]);
    let server = site.serve();
    let message = format!("POST /api/write HTTP/1.1\r\nHost: kymo\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    let answer = server.client().exchange(message.as_bytes(), false).expect("the refusal does not wait for the body");
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(answer.header("Connection").as_deref(), Some("close"), "the body would be read as requests");
    let message = format!("GET /api/query HTTP/1.1\r\nHost: kymo\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
    let answer = server.client().exchange(message.as_bytes(), false).expect("the refusal does not wait for the body");
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert_eq!(write(&server, "after").status, 200);
    server.stop();
}

#[test]
fn two_hundred_clients_do_not_disturb_each_other() {
    let site = Site::new(&[]);
    let server = site.serve();
    let mut clients: Vec<_> = (0..200).map(|_| server.client()).collect();
    // Clients that promise something and then say nothing.
    let silent: Vec<_> = (0..50)
        .map(|_| {
            let mut stream = http::connect(server.address()).expect("there is room for a connection");
            stream.write_all(b"POST /api/write HTTP/1.1\r\nHost: kymo\r\nContent-Le").expect("the server listens");
            stream
        })
        .collect();
    let now = clock::unix_seconds();
    for round in 0..3 {
        for (index, client) in clients.iter_mut().enumerate() {
            let time = now - 60 * (2 - round);
            let line = format!("cpu_load,cluster=alpha,hostname=c{index},type=node value={index}.5 {time}\n");
            let answer = client.post("/api/write", line.as_bytes()).expect("every client is answered");
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let answer =
            client.get("/api/query", query(&format!("c{index}")).as_bytes()).expect("every client is answered");
        let answer = Json::parse(&answer.text()).expect("the answer is JSON");
        let data = answer.get("results").and_then(|results| results.list()?.first()?.list()?.first()?.get("data"));
        let data: Vec<_> = data.and_then(Json::list).unwrap_or_default().iter().filter_map(Json::double).collect();
        let index = f64::from(u32::try_from(index).expect("a small number"));
        assert_eq!(data, vec![index + 0.5; 3]);
    }
    drop(silent);
    server.stop();
}

/// Sends `message`, ends the sending side, and gives all that comes back until the server hangs up too.
fn send_and_hang_up(address: SocketAddr, message: &[u8]) -> String {
    let mut stream = http::connect(address).expect("the server listens");
    stream.write_all(message).expect("the server reads");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut said = Vec::new();
    // A reset is a way to hang up.
    drop(BufReader::new(stream).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}

fn write(server: &Server, host: &str) -> Answer {
    let line = format!("cpu_load,cluster=alpha,hostname={host},type=node value=1 {}\n", clock::unix_seconds());
    server.client().post("/api/write", line.as_bytes()).expect("the server answers a write")
}

/// Asks for the last two hours of a host. A host that has a sample at any other time answers with an empty series, one
/// that has none with no series.
fn query(host: &str) -> String {
    let now = clock::unix_seconds();
    let queries = format!(r#"[{{"metric":"cpu_load","host":"{host}"}}]"#);
    let (from, to) = (now - 7200, now + 3600);
    format!(r#"{{"cluster":"alpha","from":{from},"to":{to},"with-padding":false,"queries":{queries}}}"#)
}

fn results(server: &Server, host: &str) -> String {
    let answer = server.client().get("/api/query", query(host).as_bytes()).expect("the server answers a query");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = Json::parse(&answer.text()).expect("the answer is JSON");
    answer.get("results").expect("there are results").to_string()
}
