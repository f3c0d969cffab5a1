//! Connections cost descriptors and memory, and clients may be slow, silent or many.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn head_that_does_not_end_is_cut() {
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let mut slow = server.connect().await;
    slow.send("GET /health HTTP/1.1\r\nHost: k\r\nX-").await;
    assert!(!slow.rest().await.contains(" 200 "));
    let mut silent = server.connect().await;
    assert_eq!(silent.rest().await, "");
}

/// Time enough for a client on the same machine to say what it has to say.
const SHORT: Duration = Duration::from_millis(300);

/// Returns when at least [`Limits::head`] has passed.
async fn head_time_passes(server: &Server) {
    assert_eq!(server.connect().await.rest().await, "");
}

#[tokio::test]
async fn idle_connection_is_kept_for_longer_than_a_head_may_take() {
    let server = Server::start(Fake::default(), Limits { head: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    for method in ["GET", "HEAD", "GET"] {
        assert_eq!(client.ask(method, "/health", "").await.status, 200);
        head_time_passes(&server).await;
    }
    let mut sender = server.connect().await;
    for _ in 0..2 {
        assert_eq!(sender.ask("POST", "/api/write", "m value=1\n").await.status, 200);
        head_time_passes(&server).await;
    }
    // The second head begins, and does not end.
    client.send("GET /health HTTP/1.1\r\nHost: k\r\nX-").await;
    assert!(!client.rest().await.contains(" 200 "));
}

#[tokio::test]
async fn silent_connection_is_closed_after_its_own_time() {
    let limits = Limits { idle: Duration::from_millis(50), head: Duration::from_mins(1), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    for method in ["GET", "HEAD"] {
        let mut client = server.connect().await;
        assert_eq!(client.ask(method, "/health", "").await.status, 200);
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn request_may_take_longer_than_a_head_or_a_silence() {
    let (fake, mut waiters) = Fake::waiting();
    let server = Server::start(fake, Limits { head: SHORT, idle: SHORT, ..Limits::default() }).await;
    let mut client = server.connect().await;
    client.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\n").await;
    head_time_passes(&server).await;
    client.send("m\n").await;
    let durable = waiters.recv().await.unwrap();
    head_time_passes(&server).await;
    durable(Ok(()));
    assert_eq!(client.reply("POST").await.unwrap().status, 200);
}

#[tokio::test]
async fn idle_connections_make_room_when_there_are_too_many() {
    let server = Server::start(Fake::default(), Limits { connections: 4, ..Limits::default() }).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        assert_eq!(client.ask("GET", "/health", "").await.status, 200);
        idle.push(client);
    }
    assert_eq!(server.ask("GET", "/health", "").await.status, 200);
}

#[tokio::test]
async fn what_is_not_http_is_answered_with_400_and_closed() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let mut client = server.connect().await;
    client.send("\x16\x03\x01 hello\r\n\r\n").await;
    let reply = client.rest().await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 400 "), "{reply}");
    assert_eq!(server.ask("GET", "/health", "").await.status, 200);
}

#[tokio::test]
async fn at_the_limit_the_next_connection_waits_for_its_turn() {
    let server = Server::start(Fake::default(), Limits { connections: 1, ..Limits::default() }).await;
    let mut first = server.connect().await;
    assert_eq!(first.ask("GET", "/health", "").await.status, 200);
    let mut second = server.connect().await;
    second.send("GET /health HTTP/1.1\r\nHost: k\r\n\r\n").await;
    // The first one is still served while the second one is not accepted.
    assert_eq!(first.ask("GET", "/health", "").await.status, 200);
    assert!(second.stream.try_read(&mut [0]).is_err());
    drop(first);
    assert_eq!(second.reply("GET").await.unwrap().status, 200);
}

#[tokio::test]
async fn when_there_is_no_room_for_long_the_next_connection_is_told() {
    let limits = Limits { connections: 1, head: Duration::from_hours(1), ..Limits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let (first, mut second) = (server.connect().await, server.connect().await);
    let told = second.rest().await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("all connections are in use"), "{told}");
    assert!(told.contains("Retry-After: 5\r\n"), "{told}");
    drop(first);
    // There is room when the server has noticed that it is gone.
    while server.ask("GET", "/health", "").await.status != 200 {}
    assert!(server.refused("connections").await >= 1);
}

#[tokio::test]
async fn shutdown_finishes_running_requests_and_closes_idle_connections() {
    let (fake, mut waiters) = Fake::waiting();
    let server = Server::start(fake, Limits::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    assert_eq!(idle.ask("GET", "/health", "").await.status, 200);
    busy.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\nm\n").await;
    let durable = waiters.recv().await.unwrap();
    let address = server.address;
    let stopping = tokio::spawn(server.stop());
    assert_eq!(idle.rest().await, "");
    durable(Ok(()));
    assert_eq!(busy.reply("POST").await.unwrap().status, 200);
    assert_eq!(stopping.await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn shutdown_does_not_wait_for_ever() {
    let (fake, mut waiters) = Fake::waiting();
    let limits = Limits { grace: Duration::from_millis(50), hold: Duration::from_mins(1), ..Limits::default() };
    let server = Server::start(fake, limits).await;
    let mut busy = server.connect().await;
    busy.send("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 2\r\n\r\nm\n").await;
    let _never = waiters.recv().await.unwrap();
    assert_eq!(server.stop().await, 1);
    assert_eq!(busy.rest().await, "");
}

#[tokio::test]
async fn readiness_says_why_not() {
    let server = Server::start(Fake::default(), Limits::default()).await;
    let reply = server.ask("GET", "/ready", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "ready\n"));
    let fake = Fake { ready: Err("the disk is full".to_owned()), ..Fake::default() };
    let server = Server::start_with(fake, Limits::default(), Some([0; 32])).await;
    let reply = server.ask("GET", "/ready", "").await;
    assert_eq!((reply.status, reply.body.as_str()), (503, "the disk is full\n"));
    assert!((1..=5).contains(&reply.header("retry-after").unwrap().parse().unwrap()));
    assert_eq!(reply.header("connection"), Some("close"));
    assert_eq!(server.ask("GET", "/health", "").await.status, 200);
    let reply = server.ask("GET", "/metrics", "").await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    assert_eq!(server.ask("POST", "/metrics", "").await.header("allow"), Some("GET, HEAD"));
}
