//! Bodies of one host over HTTP, durable before they are answered: what the server computes for a request, against an empty
//! handler on the same stack that reads the body and drops it. The load comes from a process of its own, which tells what
//! the server's process cost.

use crate::compare::{Figure, compare};
use crate::env::{is_test, scale};
use axum::Router;
use axum::extract::Request;
use axum::routing::post;
use criterion::{Criterion, SamplingMode};
use http_body_util::BodyExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use kymo::bench::workload::INTERVAL;
use kymo_engine::env::{Env as _, System};
use std::fs::File;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

const KYMO: &str = env!("CARGO_BIN_EXE_kymo");
/// How long a server may take to listen, in hundredths of a second.
const PATIENCE: u32 = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let (hosts, minutes) = (scale(200, 2), scale(20, 1));
    let mut group = criterion.benchmark_group("http");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
    let connections: &[u32] = if is_test() { &[2] } else { &[4, 16, 64] };
    for connections in connections {
        let id = format!("{connections} connections");
        let figure = Figure::Rate { unit: "request", count: 1 };
        let setup = || (Server::start(), Drain::start(), 0);
        compare(&mut group, &id, figure, &["body read and dropped"], setup, |(server, drain, round), _, times| {
            let load = Load { hosts, minutes, connections: *connections, round: *round };
            *round += 1;
            let kymo = load.cost_of(server.address, server.process.id());
            times.add(0, kymo);
            times.add(1, load.cost_of(drain.address, std::process::id()));
            kymo
        });
    }
    group.finish();
}

/// A run of the load tool.
struct Load {
    hosts: u32,
    minutes: u32,
    connections: u32,
    /// Each one sends what follows the one before.
    round: i64,
}

impl Load {
    /// What a request costs the process that serves it.
    fn cost_of(&self, address: SocketAddr, process: u32) -> Duration {
        let length = i64::from(self.minutes * INTERVAL);
        let yesterday = System::default().unix_now() / length * length - 86_400;
        let output = Command::new(KYMO)
            .args(["bench", "write", &format!("http://{address}/api/write"), "--json"])
            .args(["--hosts", &self.hosts.to_string(), "--minutes", &self.minutes.to_string()])
            .args(["--connections", &self.connections.to_string(), "--pid", &process.to_string()])
            .args(["--begin", &(yesterday + self.round * length).to_string()])
            .output()
            .expect("the load tool runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
        let figure = |name: &str| report[name].as_f64().expect("the report has it");
        Duration::from_secs_f64(figure("server_cpu_seconds") / figure("requests"))
    }
}

/// The server, as a process of its own.
struct Server {
    process: Child,
    address: SocketAddr,
    _directory: TempDir,
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory is made");
        let config = directory.path().join("config.json");
        let print =
            Command::new(KYMO).args(["bench", "config", "--directory"]).arg(directory.path().join("data")).output();
        let printed = print.expect("the configuration is printed").stdout;
        File::create(&config).and_then(|mut file| file.write_all(&printed)).expect("there is space");
        // Free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port is free");
        let process = Command::new(KYMO)
            .args(["serve", "--addr", &address.to_string(), "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        let listens = (0..PATIENCE).any(|_| {
            thread::sleep(Duration::from_millis(10));
            TcpStream::connect(address).is_ok()
        });
        assert!(listens, "the server does not listen on {address}");
        Self { process, address, _directory: directory }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is of no use any more, and so is what became of it.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The empty handler, in this process, which does nothing else meanwhile.
struct Drain {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Drain {
    fn start() -> Self {
        let runtime = Builder::new_multi_thread().enable_all().build().expect("threads start");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/api/write", post(drain));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("it is a TCP socket");
                let service = TowerToHyperService::new(router.clone());
                // It ends with its client.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, _runtime: runtime }
    }
}

async fn drain(request: Request) {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}
