//! A sender that is told 200 forgets its batch. So a 200 may only be sent when the batch is durable and whole, and it
//! must look exactly as the common sender wants it, which reads no bodies and tries no status again.

use std::time::Duration;

use super::*;

fn full() -> Unavailable {
    Unavailable { reason: "the disk is full".to_owned() }
}

fn short_hold() -> Limits {
    Limits { hold: Duration::from_millis(50), ..Limits::default() }
}

fn assert_refused_for_now(reply: &Reply) {
    assert_eq!(reply.status, 503);
    assert!((1..=5).contains(&reply.header("retry-after").unwrap().parse().unwrap()));
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(reply.body.starts_with(r#"{"status":"Service Unavailable","error":""#), "{}", reply.body);
}

#[tokio::test]
async fn success_is_an_empty_200_and_keeps_the_connection() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let mut client = server.connect().await;
    for path in ["/api/write", "/api/write/", "/api/write/x/y", "/api/write?cluster=a%2Fb+c&cluster=d"] {
        let reply = client.ask_with("POST", path, "Content-Encoding: gzip\r\n", b"m value=1\n").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("Content-Length"), Some("0"));
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        assert_eq!(reply.header("Connection"), None);
        assert_eq!(reply.header("Kymo-Lines-Refused"), None);
    }
    let writes = server.engine.writes.lock().unwrap().clone();
    let clusters: Vec<_> = writes.iter().map(|(_, cluster, _)| cluster.as_str()).collect();
    assert_eq!(clusters, ["", "", "", "a/b+c"]);
    assert!(writes.iter().all(|(body, _, complete)| body == b"m value=1\n" && *complete));
}

#[tokio::test]
async fn chunked_body_is_put_together() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("4\r\nm va\r\n6\r\nlue=1\n\r\n0\r\n\r\n").await;
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
    assert_eq!(server.engine.writes.lock().unwrap()[0].0, b"m value=1\n");
}

#[tokio::test]
async fn body_is_the_same_however_it_arrives() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let body = "m value=1\n# 345678901234567890\n".repeat(700);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, body.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let request = |body: &[u8]| {
        let head = format!("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let mut client = server.connect().await;
    for body in [body.as_bytes(), &gzip] {
        // The second time the connection's buffer has room for all of it.
        for _ in 0..2 {
            client.send(&request(body)).await;
            assert_eq!(client.reply("POST").await.unwrap().status, 200);
        }
        let pieces = request(body);
        for piece in pieces.chunks(pieces.len() / 3) {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.reply("POST").await.unwrap().status, 200);
        // The next request is there before this one is answered.
        client.send(&[request(body), request(b"m value=1\n")].concat()).await;
        assert_eq!(client.reply("POST").await.unwrap().status, 200);
        assert_eq!(client.reply("POST").await.unwrap().status, 200);
    }
    let writes = server.engine.writes.lock().unwrap();
    let expected: Vec<&[u8]> = [&[body.as_bytes(); 4][..], &[b"m value=1\n"]].concat();
    let received: Vec<&[u8]> = writes.iter().map(|(body, ..)| &body[..]).collect();
    assert!(received == expected.repeat(2), "{:?}", received.iter().map(|body| body.len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_durable() {
    let (fake, mut waiters) = Fake::waiting();
    let server = Server::start(fake, Limits::default()).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\nm\n").await;
    let durable = waiters.recv().await.unwrap();
    let error = client.stream.try_read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    durable(Ok(()));
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
}

#[tokio::test]
async fn write_that_will_never_be_durable_is_refused() {
    let (fake, mut waiters) = Fake::waiting();
    let server = Server::start(fake, Limits::default()).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\nm\n").await;
    let durable = waiters.recv().await.unwrap();
    durable(Err(full()));
    assert_refused_for_now(&client.reply("POST").await.unwrap());
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn write_that_is_not_durable_in_time_is_refused() {
    let (fake, _waiters) = Fake::waiting();
    let server = Server::start(fake, short_hold()).await;
    assert_refused_for_now(&server.ask("POST", "/api/write", "m\n").await);
    assert_eq!(server.refused("not-durable").await, 1);
}

#[tokio::test]
async fn store_that_takes_nothing_is_asked_again_and_then_the_write_is_refused() {
    let server = Server::start(Fake::writing(|_| Err(full())), short_hold()).await;
    let reply = server.ask("POST", "/api/write", "m\n").await;
    assert_refused_for_now(&reply);
    assert!(reply.body.contains("the disk is full"));

    let mut tries = 0;
    let fake = Fake::writing(move |_| {
        tries += 1;
        if tries == 1 { Err(full()) } else { Ok(Written::default()) }
    });
    let server = Server::start(fake, Limits::default()).await;
    assert_eq!(server.ask("POST", "/api/write", "m\n").await.status, 200);
}

#[tokio::test]
async fn bytes_wait_for_their_permits() {
    let (fake, mut waiters) = Fake::waiting();
    let limits = Limits { in_flight: 8, hold: Duration::from_secs(10), ..Limits::default() };
    let server = Server::start(fake, limits).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 6\r\n\r\nfirst\n").await;
    let durable = waiters.recv().await.unwrap();
    // The announced bytes do not fit beside those of the first write: its body is not even asked for.
    second.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 7\r\nExpect: 100-continue\r\n\r\n").await;
    durable(Ok(()));
    assert_eq!(first.reply("POST").await.unwrap().status, 200);
    assert_eq!(second.take(25).await.unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
    second.send("second\n").await;
    let durable = waiters.recv().await.unwrap();
    durable(Ok(()));
    assert_eq!(second.reply("POST").await.unwrap().status, 200);
}

#[tokio::test]
async fn bytes_that_get_no_permit_in_time_are_refused() {
    let server = Server::start(Fake::default(), Limits { in_flight: 8, ..short_hold() }).await;
    let mut first = server.connect().await;
    first.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n").await;
    // Being asked for the body means having the permits for it.
    first.take(25).await.unwrap();
    assert_refused_for_now(&server.ask("POST", "/api/write", "second\n").await);
    assert_eq!(server.refused("overload").await, 1);
    assert!(server.engine.writes.lock().unwrap().is_empty());
    first.send("first\n").await;
    assert_eq!(first.reply("POST").await.unwrap().status, 200);
    assert_eq!(server.ask("POST", "/api/write", "second\n").await.status, 200);
}

#[tokio::test]
async fn cut_body_is_never_acknowledged() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let head = "POST /api/write HTTP/1.1\r\nHost: k\r\n";
    for tail in [
        "Content-Length: 100\r\n\r\nm value=1 1700000040\nm value=2 17000",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nm value=1\r\n",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nm val",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nm value=1\r\nzz\r\nm value=2\r\n0\r\n\r\n",
    ] {
        let mut client = server.connect().await;
        client.send(format!("{head}{tail}")).await;
        client.stream.shutdown().await.unwrap();
        let reply = client.rest().await;
        assert!(!reply.contains(" 200 "), "{reply}");
    }
    assert!(server.engine.writes.lock().unwrap().iter().all(|(.., complete)| !complete));
    assert_eq!(server.refused("body-cut").await, 4);
}

#[tokio::test]
async fn stalled_body_is_never_acknowledged() {
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 100\r\n\r\nm value=1 17").await;
    let reply = client.reply("POST").await.unwrap();
    assert_eq!((reply.status, reply.header("connection")), (400, Some("close")));
    assert_eq!(*server.engine.writes.lock().unwrap(), [(b"m value=1 17".to_vec(), String::new(), false)]);
}

#[tokio::test]
async fn dripping_body_has_an_end() {
    let limits = Limits { body_time: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 100\r\n\r\n").await;
    client.send("m").await;
    assert_eq!(client.reply("POST").await.unwrap().status, 400);
}

#[tokio::test]
async fn body_over_the_limit_is_413_and_not_written() {
    let server = Server::start(Fake::default(), Limits { body: 8, ..Limits::default() }).await;
    let known = server.ask("POST", "/api/write", "123456789").await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    client.send("6\r\n123456\r\n6\r\n123456\r\n0\r\n\r\n").await;
    let grown = client.reply("POST").await.unwrap();
    for reply in [known, grown] {
        assert_eq!((reply.status, reply.header("connection")), (413, Some("close")));
        assert!(reply.body.starts_with(r#"{"status":"Payload Too Large","#));
    }
    assert!(server.engine.writes.lock().unwrap().is_empty());
    assert_eq!(server.ask("POST", "/api/write", "12345678").await.status, 200);
}

#[tokio::test]
async fn refused_lines_are_told_most_frequent_first() {
    let reasons = vec![("unknown-metric", 2), ("late", 4), ("future", 2), ("limit", 0)];
    let fake = Fake::writing(move |body| {
        let first_client_error = body.starts_with(b"bad").then(|| "at line 1:1: <syntax>".to_owned());
        Ok(Written { refused: 8, accepted: 3, reasons: reasons.clone(), first_client_error, lsn: Lsn(3) })
    });
    let server = Server::start(fake, Limits::default()).await;
    let header = Some("8; late=4, future=2, unknown-metric=2");
    let good = server.ask("POST", "/api/write", "good").await;
    assert_eq!((good.status, good.header("Kymo-Lines-Refused")), (200, header));
    assert_eq!(good.header("content-length"), Some("0"));
    let bad = server.ask("POST", "/api/write", "bad").await;
    assert_eq!((bad.status, bad.header("Kymo-Lines-Refused")), (400, header));
    assert_eq!(bad.header("connection"), Some("close"));
    assert_eq!(bad.body, "{\"status\":\"Bad Request\",\"error\":\"at line 1:1: \\u003csyntax\\u003e\"}\n");

    let metrics = server.ask("GET", "/metrics", "").await.body;
    for line in [
        "kymo_http_requests_total{endpoint=\"write\",code=\"200\"} 1\n",
        "kymo_http_requests_total{endpoint=\"write\",code=\"400\"} 1\n",
        "kymo_http_lines_accepted_total 6\n",
        "kymo_http_lines_refused_total{reason=\"late\"} 8\n",
        "kymo_http_write_seconds_count 2\n",
        "kymo_http_body_bytes_held 0\n",
        "kymo_rows 1\n",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn answer_to_a_bad_line_waits_until_the_good_ones_are_durable() {
    let (fake, mut waiters) = Fake::waiting();
    *fake.on_write.lock().unwrap() =
        Box::new(|_| Ok(Written { first_client_error: Some("bad".to_owned()), ..Written::default() }));
    let server = Server::start(fake, Limits::default()).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\nm\n").await;
    let durable = waiters.recv().await.unwrap();
    assert!(client.stream.try_read(&mut [0]).is_err());
    durable(Ok(()));
    assert_eq!(client.reply("POST").await.unwrap().status, 400);
}

#[tokio::test]
async fn large_bodies_do_not_hold_up_others_while_they_are_decoded() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (entered, mut has_entered) = mpsc::unbounded_channel();
    let fake = Fake::writing(move |_| {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Ok(Written::default())
    });
    // One thread serves all connections.
    let server = Server::start(fake, Limits::default()).await;
    let mut client = server.connect().await;
    let body = "m value=1\n".repeat(20_000);
    client.send(format!("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    has_entered.recv().await.unwrap();
    assert_eq!(server.ask("GET", "/health", "").await.status, 200);
    release.send(()).unwrap();
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
}

#[tokio::test]
async fn large_body_whose_decoding_panics_is_not_acknowledged() {
    let server = Server::start(Fake::writing(|_| panic!("as asked")), Limits::default()).await;
    let reply = server.ask("POST", "/api/write", &"m value=1\n".repeat(20_000)).await;
    assert_eq!((reply.status, reply.header("connection")), (500, Some("close")));
}
