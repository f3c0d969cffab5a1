//! Clients that want to hurt: memory stays within its bound, everything is counted, and whoever behaves is served.
//!
//! `KYMO_HOSTILE_SERIES` says how many distinct series one sender makes up; the default suits every test run:
//! `KYMO_HOSTILE_SERIES=10000000 cargo test --release --test it hostile::made_up -- --nocapture`.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::{Arc, Weak, mpsc};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use kymo::background::step_back;
use serde_json::Value;

use crate::clock::{self, PATIENCE};
use crate::http::{self, Answer, Client};
use crate::json::Json;
use crate::server::{Server, Site};

const MIB: u64 = 1 << 20;
/// What a head without an end may get rid of before it is cut: the buffers of both sockets alone take some ten MiB.
const HEAD_FLOOD: u64 = 32 * MIB;

/// A server with these limits.
fn serve(limits: &str) -> (Site, Server) {
    let site = Site::new(&[("limits", Json::parse(limits).expect("the limits are JSON"))]);
    let server = site.serve();
    (site, server)
}

/// Memory of the server that is no mapped file, in bytes.
fn anonymous_memory(server: &mut Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.child().id())).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel tells it");
    1024 * line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).expect("a number")
}

/// The value of one series of `/metrics`.
fn metric(server: &Server, series: &str) -> u64 {
    let metrics = server.client().get("/metrics", b"").expect("the server has metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{series} is not in\n{metrics}"))
}

fn refused(server: &Server, reason: &str) -> u64 {
    metric(server, &format!("kymo_http_requests_refused_total{{reason=\"{reason}\"}}"))
}

fn closed(server: &Server, reason: &str) -> u64 {
    metric(server, &format!("kymo_http_connections_closed_total{{reason=\"{reason}\"}}"))
}

/// Writes one good line.
fn write(client: &mut Client, host: &str) -> Answer {
    let line = format!("cpu_load,cluster=alpha,hostname={host},type=node value=1 {}\n", clock::unix_seconds());
    client.post("/api/write", line.as_bytes()).expect("the server answers a write")
}

/// How many samples of `cpu_load` the server has stored.
fn samples(server: &Server) -> u64 {
    metric(server, "kymo_samples_total")
}

/// A connection from an address of the loopback that is not the usual one.
fn connect_from(source: &str, server: SocketAddr) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source.parse().expect("an address"), 0))?;
        socket.connect(server).await?.into_std()
    });
    let stream = stream.expect("there is room for a connection");
    stream.set_nonblocking(false).expect("a socket has options");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has options");
    stream
}

/// Lets this thread run only where nobody else wants to, as far as the system has what it takes.
fn stand_aside() {
    step_back();
    let thread = fs::read_link("/proc/thread-self").expect("the kernel tells who runs");
    let thread = thread.file_name().expect("it ends in a number").to_owned();
    drop(Command::new("chrt").args(["--idle", "--pid", "0"]).arg(thread).status());
}

/// All that the server still says.
fn rest(stream: TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is a way to hang up.
    drop(BufReader::new(stream).read_to_end(&mut said));
    String::from_utf8_lossy(&said).into_owned()
}

/// Text made of many pieces.
fn text(pieces: impl Iterator<Item = String>) -> String {
    pieces.fold(String::new(), |text, piece| text + &piece)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, 1).expect("memory takes all")
}

#[test]
fn slow_heads_and_bodies_are_cut_and_counted() {
    let (_site, server) = serve(r#"{"head-timeout": "300ms", "body-timeout": "600ms", "idle-timeout": "900ms"}"#);
    let begin = |bytes: &str| {
        let mut stream = http::connect(server.address()).expect("there is room");
        stream.write_all(bytes.as_bytes()).expect("the server listens");
        stream
    };
    let heads: Vec<_> = (0..100).map(|_| begin("POST /api/write HTTP/1.1\r\nX-a: b\r\n")).collect();
    let bodies: Vec<_> = (0..100)
        .map(|_| begin("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: 1000000\r\n\r\ncpu_load,"))
        .collect();
    let mut client = server.client();
    for number in 0..20 {
        assert_eq!(write(&mut client, &format!("good{number}")).status, 200);
    }
    for stream in heads {
        assert!(!rest(stream).contains(" 200 "));
    }
    for stream in bodies {
        assert!(rest(stream).starts_with("HTTP/1.1 400 "), "a body that does not end is never acknowledged");
    }
    // A byte now and then does not help: the whole head has its time.
    let mut dripping = begin("GET / HTTP/1.1\r\n");
    let dripped = clock::poll(PATIENCE, || dripping.write_all(b"X: y\r\n").err());
    assert!(dripped.is_some(), "a dripping head is never cut");
    assert_eq!((closed(&server, "slow-head"), refused(&server, "slow-body")), (101, 100));
    server.stop();
}

#[test]
fn ten_thousand_idle_connections_cost_little_memory_and_hinder_nobody() {
    let limits = fs::read_to_string("/proc/self/limits").expect("the kernel tells the limits");
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    // The server has the same limit.
    let count: usize = files.unwrap_or(1024_usize).saturating_sub(300).min(10_000);
    let (_site, mut server) =
        serve(r#"{"connections": 15000, "connections-per-peer": 15000, "head-timeout": "10m", "idle-timeout": "10m"}"#);
    let mut client = server.client();
    assert_eq!(write(&mut client, "before").status, 200);
    let before = anonymous_memory(&mut server);
    let idle: Vec<_> = (0..count).map(|_| http::connect(server.address()).expect("there is room")).collect();
    let is_full = || (metric(&server, "kymo_http_connections_open") >= count as u64).then_some(());
    assert!(clock::poll(PATIENCE, is_full).is_some(), "not all are accepted");
    for number in 0..20 {
        assert_eq!(write(&mut client, &format!("good{number}")).status, 200);
        assert_eq!(write(&mut server.client(), &format!("new{number}")).status, 200);
    }
    let each = anonymous_memory(&mut server).saturating_sub(before) / count as u64;
    assert!(each < 24 << 10, "an idle connection takes {each} bytes");
    drop(idle);
    server.stop();
}

#[test]
fn one_address_cannot_take_all_connections() {
    let (_site, server) = serve(r#"{"connections": 200, "connections-per-peer": 100, "head-timeout": "10m"}"#);
    // The server was waited for through this address: what that took may not be closed yet.
    let mut held = Vec::new();
    let mut told = 0;
    for _ in 0..300 {
        let mut stream = connect_from("127.0.0.2", server.address());
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: k\r\n\r\n").expect("the server listens");
        let mut line = String::new();
        let mut reader = BufReader::new(stream);
        drop(reader.read_line(&mut line));
        if line.contains(" 200 ") {
            held.push(reader);
        } else {
            assert!(line.starts_with("HTTP/1.1 503 "), "{line}");
            let mut answer = String::new();
            drop(reader.read_to_string(&mut answer));
            assert!(answer.contains("Retry-After: 5") && answer.contains("too many connections"), "{answer}");
            told += 1;
        }
    }
    assert_eq!((held.len(), told), (100, 200));
    assert_eq!(write(&mut server.client(), "good").status, 200);
    assert_eq!(refused(&server, "connections-per-peer"), 200);
    // Who leaves makes room.
    drop(held);
    let again = clock::poll(PATIENCE, || {
        let mut stream = connect_from("127.0.0.2", server.address());
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: k\r\nConnection: close\r\n\r\n").ok()?;
        rest(stream).contains(" 200 ").then_some(())
    });
    assert!(again.is_some());
    server.stop();
}

#[test]
fn too_many_requests_are_slowed_down_then_told_to_come_back() {
    let (_site, server) = serve(r#"{"requests-per-second": 20}"#);
    let ask = |path: &'static str, method: &'static str| {
        let mut clients: Vec<_> = (0..80).map(|_| server.client()).collect();
        let answers: Vec<Answer> = thread::scope(|scope| {
            let asked: Vec<_> = clients
                .iter_mut()
                .map(|client| scope.spawn(move || client.request(method, path, &[], b"").expect("it is answered")))
                .collect();
            asked.into_iter().map(|thread| thread.join().expect("it asks")).collect()
        });
        answers
    };
    for (path, method, status) in [("/api/write", "POST", 503), ("/api/debug?selector=x", "GET", 429)] {
        let answers = ask(path, method);
        let (refused, served): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == status);
        assert!(!refused.is_empty() && served.len() >= 20, "{} of 80 were served", served.len());
        assert!(refused.iter().all(|answer| answer.header("Retry-After").is_some_and(|after| after == "1")));
        assert!(served.iter().all(|answer| [200, 400].contains(&answer.status)));
    }
    assert!(refused(&server, "rate") > 0);
    assert_eq!(server.client().get("/health", b"").expect("it is not counted").status, 200);
    server.stop();
}

#[test]
fn a_head_or_a_line_without_an_end_is_cut_early() {
    let (_site, mut server) = serve("{}");
    assert_eq!(write(&mut server.client(), "before").status, 200);
    let before = anonymous_memory(&mut server);
    let flood = |begin: &str, piece: &[u8]| {
        let mut stream = http::connect(server.address()).expect("there is room");
        stream.write_all(begin.as_bytes()).expect("the server listens");
        let mut sent = 0;
        while sent < 1 << 30 {
            match stream.write(piece) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        sent as u64
    };
    let head = "GET / HTTP/1.1\r\nHost: k\r\n";
    assert!(flood(head, &b"X-a: b\r\n".repeat(1000)) < HEAD_FLOOD, "headers without end");
    assert!(flood(&format!("{head}X-a: "), &[b'a'; 8192]) < HEAD_FLOOD, "a header without end");
    assert!(flood(&format!("GET /{}", "a".repeat(100)), &[b'a'; 8192]) < HEAD_FLOOD, "a path without end");
    // A line of 1 GiB, in chunks of 64 KiB: the body may have 32 MiB.
    let mut chunk = b"10000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x10000, b'a');
    chunk.extend_from_slice(b"\r\n");
    let post = "POST /api/write HTTP/1.1\r\nHost: k\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(flood(post, &chunk) < 96 * MIB, "a line without end");
    assert_eq!((refused(&server, "body-too-long"), closed(&server, "long-head")), (1, 3));
    assert_eq!(write(&mut server.client(), "after").status, 200);
    let grown = anonymous_memory(&mut server).saturating_sub(before);
    assert!(grown < 96 * MIB, "memory grew by {grown} bytes");
    server.stop();
}

#[test]
fn malformed_framing_is_refused_and_nothing_of_it_is_stored() {
    let (_site, server) = serve("{}");
    let line = format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {}\n", clock::unix_seconds());
    let (len, hex) = (line.len(), format!("{:x}", line.len()));
    let chunked = |chunks: &str| format!("Transfer-Encoding: chunked\r\n\r\n{chunks}");
    for rest in [
        chunked(&format!("ffffffffffffffffff\r\n{line}\r\n0\r\n\r\n")),
        chunked(&format!("-1\r\n{line}\r\n0\r\n\r\n")),
        chunked(&format!("zz\r\n{line}\r\n0\r\n\r\n")),
        chunked(&format!("\r\n{line}\r\n0\r\n\r\n")),
        chunked(&format!("{hex};{}\r\n{line}\r\n0\r\n\r\n", "x".repeat(100_000))),
        format!("Content-Length: {len}\r\nContent-Length: {}\r\n\r\n{line}", len + 1),
        format!("Content-Length: -{len}\r\n\r\n{line}"),
        format!("Content-Length: {len}x\r\n\r\n{line}"),
        format!("Content-Length : {len}\r\n\r\n{line}"),
        format!("Content-Length: {}\r\n\r\n{line}", u128::MAX),
        format!("Transfer-Encoding: gzip\r\nContent-Length: {len}\r\n\r\n{line}"),
        format!("X-folded: a\r\n b\r\nContent-Length: {len}\r\n\r\n{line}"),
        format!("X-nul: a\0b\r\nContent-Length: {len}\r\n\r\n{line}"),
    ] {
        let mut stream = http::connect(server.address()).expect("there is room");
        let message = format!("POST /api/write HTTP/1.1\r\nHost: k\r\n{rest}");
        // The server may have closed before it has read everything.
        drop(stream.write_all(message.as_bytes()).and_then(|()| stream.shutdown(Shutdown::Write)));
        let said = self::rest(stream);
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 4"), "{rest:?}: {said}");
    }
    assert_eq!(samples(&server), 0);
    // Of thirteen: chunks are a matter of the body, all else of the head.
    let counted = clock::poll(PATIENCE, || {
        let (heads, bodies) = (closed(&server, "malformed-head"), refused(&server, "body-cut"));
        (heads + bodies >= 13).then_some((heads, bodies))
    });
    assert_eq!(counted, Some((8, 5)), "{}", server.client().get("/metrics", b"").expect("it has metrics").text());
    assert_eq!(write(&mut server.client(), "good").status, 200);
    server.stop();
}

#[test]
fn bombs_are_cut_before_they_unfold_and_compressed_lines_are_stored() {
    let (_site, mut server) = serve(r#"{"decoded-body": 4194304, "lines": 50000}"#);
    let address = server.address();
    assert_eq!(write(&mut server.client(), "before").status, 200);
    let before = anonymous_memory(&mut server);
    // Members and frames one behind the other: 2 GiB of nothing each.
    let nothing = vec![0; 8 << 20];
    for (name, bomb) in [("gzip", gzip(&nothing).repeat(256)), ("zstd", zstd(&nothing).repeat(256))] {
        let answers: Vec<Answer> = thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Client::new(address).post("/api/write", &bomb).expect("it is answered")))
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("it asks")).collect()
        });
        for answer in answers {
            assert_eq!(answer.status, 413, "{name}: {}", answer.text());
            assert!(answer.text().contains("100:1"), "{name}: {}", answer.text());
        }
    }
    let grown = anonymous_memory(&mut server).saturating_sub(before);
    assert!(grown < 64 * MIB, "memory grew by {grown} bytes");
    assert_eq!(refused(&server, "body-ratio"), 16);

    // Honest lines, and those that are too many, too long or broken.
    let now = clock::unix_seconds();
    let line = |host: usize| format!("cpu_load,cluster=alpha,hostname=h{host},type=node value={host} {now}\n");
    let lines = text((0..2000).map(line));
    let stored = samples(&server);
    for body in [gzip(lines.as_bytes()), zstd(lines.as_bytes())] {
        // The header is not looked at, as with the predecessor.
        let headers = [("Content-Encoding", "identity")];
        let answer = server.client().request("POST", "/api/write", &headers, &body).expect("the server answers");
        assert_eq!((answer.status, answer.header("Kymo-Lines-Refused")), (200, None), "{}", answer.text());
    }
    assert_eq!(samples(&server), stored + 4000);
    let noise = text((0..80_000_u32).map(|number| format!("{}\n", number.wrapping_mul(2_654_435_761))));
    let long = text((0..600_000_u32).map(|number| format!("{}x", number.wrapping_mul(2_654_435_761))));
    let broken = {
        let mut body = gzip(lines.as_bytes());
        let middle = body.len() / 2;
        body[middle] ^= 0xff;
        body
    };
    for (what, body, status, reason) in [
        ("too many lines", gzip(noise.as_bytes()), 413, "body-lines"),
        ("too many lines", noise.clone().into_bytes(), 413, "body-lines"),
        ("too long", zstd(long.as_bytes()), 413, "body-too-long"),
        ("broken", broken, 400, "body-broken"),
        ("cut", zstd(lines.as_bytes())[..1000].to_vec(), 400, "body-broken"),
    ] {
        let counted = refused(&server, reason);
        let answer = server.client().post("/api/write", &body).expect("the server answers");
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        assert_eq!(refused(&server, reason), counted + 1, "{what}");
    }
    assert_eq!(samples(&server), stored + 4000, "nothing of a refused body is stored");
    server.stop();
}

#[test]
fn names_are_never_paths_and_bad_ones_are_refused_by_line() {
    let (site, server) = serve("{}");
    let now = clock::unix_seconds();
    let long = "n".repeat(300);
    let mut body = Vec::new();
    let names: [&[u8]; 7] = [b"..", b".", b"a/b", b"../../etc", b"a\\0b", long.as_bytes(), b"\xff\xfe"];
    for name in names {
        for (key, other) in [("cluster", "hostname"), ("hostname", "cluster")] {
            body.extend_from_slice(format!("cpu_load,{other}=good,{key}=").as_bytes());
            body.extend_from_slice(&if name == b"a\\0b" { b"a\0b".to_vec() } else { name.to_vec() });
            body.extend_from_slice(format!(",type=node value=1 {now}\n").as_bytes());
        }
    }
    body.extend_from_slice(format!("cpu_load,cluster=good,hostname=h1,type=node value=1 {now}\n").as_bytes());
    let answer = server.client().post("/api/write", &body).expect("the server answers");
    let told = answer.header("Kymo-Lines-Refused").expect("lines were refused");
    assert!(told.starts_with("14; "), "{told}");
    assert_eq!(samples(&server), 1);
    // Names of metrics and components are text, whatever they look like; no name becomes a path.
    let body = format!("cpu_load,cluster=good,hostname=h1,type=../../x,type-id=../../y value=1 {now}\n");
    assert_eq!(server.client().post("/api/write", body.as_bytes()).expect("the server answers").status, 200);
    let answer = server.client().get("/api/debug?selector=..:..", b"").expect("the server answers");
    assert_eq!(answer.status, 400, "{}", answer.text());
    server.stop();
    let mut found: Vec<_> =
        fs::read_dir(site.path()).expect("it is there").flatten().map(|entry| entry.file_name()).collect();
    found.sort();
    assert_eq!(found, ["config.json", "data"]);
}

#[test]
fn made_up_series_stop_at_the_limit_and_known_ones_flow_on() {
    let offered = std::env::var("KYMO_HOSTILE_SERIES").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000_u64);
    let limit = (offered / 10).max(10_000);
    let (_site, mut server) = serve(&format!(r#"{{"series": {limit}, "series-per-host": 1000, "hosts": 100000}}"#));
    let mut good = server.client();
    assert_eq!(write(&mut good, "known").status, 200);
    let before = anonymous_memory(&mut server);
    let now = clock::unix_seconds();
    let mut client = server.client();
    let (mut told, mut sent) = (0_u64, 0);
    while sent < offered {
        let batch = 20_000.min(offered - sent);
        let lines = text((sent..sent + batch).map(|number| {
            let (host, core) = (number / 900, number % 900);
            format!("mem_bw,cluster=evil,hostname=e{host},type=core,type-id={core} value={number} {now}\n")
        }));
        let answer = client.post("/api/write", lines.as_bytes()).expect("the server answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let header = answer.header("Kymo-Lines-Refused").unwrap_or_default();
        told += header.split(';').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
        sent += batch;
        assert_eq!(write(&mut good, "known").status, 200);
    }
    let known = metric(&server, "kymo_series");
    assert!(known <= limit && known >= limit / 10 * 9, "{known} series of {limit}");
    assert_eq!(told, offered + 1 - known, "every refused line was told");
    let counted = metric(&server, "kymo_http_lines_refused_total{reason=\"limit-series\"}");
    assert!(counted > 0 && counted <= told);
    let grown = anonymous_memory(&mut server).saturating_sub(before);
    println!("{offered} series offered, {known} known, memory grew by {} KiB", grown >> 10);
    // Rows of three logs of the bound, a body and what it becomes, and some hundred bytes a series. Rows may be those of
    // four and 64 MiB, but here snapshots keep up.
    let bound = 192 * MIB + 48 * MIB + 512 * limit;
    assert!(grown < bound, "memory grew by {grown} bytes, more than {bound}");
    server.stop();
}

#[test]
fn good_senders_are_served_while_others_misbehave() {
    let (_site, server) = serve(r#"{"head-timeout": "1s", "decoded-body": 8388608}"#);
    let address = server.address();
    let latencies = |took: &mut Vec<Duration>| {
        let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
        for round in 0..30 {
            for (number, client) in clients.iter_mut().enumerate() {
                let deadline = clock::deadline(PATIENCE);
                assert_eq!(write(client, &format!("good{number}-{}", round % 10)).status, 200);
                took.push(PATIENCE.saturating_sub(clock::remaining(deadline).unwrap_or_default()));
            }
        }
    };
    let bomb = gzip(&vec![0; 8 << 20]).repeat(16);
    // As much as a body may unfold to: one that is refused at its end only.
    let noise = text((0..4000_u32).map(|number| format!("{:x}\n", number.wrapping_mul(2_654_435_761))));
    let patient = gzip(&[noise.as_bytes(), &b"\n".repeat(40 * noise.len())].concat()).repeat(6);
    // Each of them may be refused, cut or reset at any time.
    let send = |bytes: &[u8]| {
        if let Ok(mut stream) = http::connect(address) {
            drop(stream.write_all(bytes));
            drop(stream.shutdown(Shutdown::Write));
            drop(rest(stream));
        }
    };
    let misdeeds: [&(dyn Fn() + Sync); 7] = [
        &|| drop(Client::new(address).post("/api/write", &bomb)),
        &|| drop(Client::new(address).post("/api/write", &patient)),
        &|| drop(Client::new(address).post("/api/write", &patient)),
        &|| drop(Client::new(address).post("/api/write", &patient)),
        &|| send(b"POST /api/write HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        &|| send(&b"GET / HTTP/1.1\r\nX: y\r\n".repeat(50)),
        &|| {
            let silent: Vec<_> = (0..50).filter_map(|_| http::connect(address).ok()).collect();
            for stream in silent {
                drop(rest(stream));
            }
        },
    ];
    // In turns, so that what else the machine does is in both. The ratio is told and not asserted: it is a figure of the
    // machine too.
    let (mut alone, mut crowded) = (Vec::new(), Vec::new());
    thread::scope(|scope| {
        let (done, are_done) = mpsc::channel();
        let turns: Vec<mpsc::Sender<Weak<()>>> = misdeeds
            .iter()
            .map(|misdeed| {
                let ((sender, turns), done) = (mpsc::channel::<Weak<()>>(), done.clone());
                scope.spawn(move || {
                    // Elsewhere they compute on machines of their own: what they cost the server is the question.
                    stand_aside();
                    done.send(()).ok();
                    for turn in turns {
                        while turn.strong_count() > 0 {
                            misdeed();
                        }
                        done.send(()).ok();
                    }
                });
                sender
            })
            .collect();
        let rest = || misdeeds.iter().for_each(|_| are_done.recv().expect("they end"));
        for _ in 0..8 {
            rest();
            latencies(&mut alone);
            let turn = Arc::new(());
            for misdeed in &turns {
                misdeed.send(Arc::downgrade(&turn)).expect("they wait for their turn");
            }
            latencies(&mut crowded);
        }
    });
    let [alone, crowded] = [alone, crowded].map(|mut took| {
        took.sort_unstable();
        (took[took.len() / 2], took[took.len() * 99 / 100])
    });
    let ratio = crowded.1.as_secs_f64() / alone.1.as_secs_f64();
    println!("writes: median and p99 {alone:?} alone, {crowded:?} beside clients that misbehave: {ratio:.2} times");
    let answer: Value =
        serde_json::from_str(&server.client().get("/api/debug?selector=alpha", b"").expect("an answer").text())
            .expect("it is JSON");
    assert_eq!(answer["data"].as_object().map(serde_json::Map::len), Some(40), "{answer}");
    server.stop();
}
