//! The demo: a small synthetic cluster that writes through the real HTTP endpoint, two hours of history first.

mod cluster;

use crate::client::{Client, Target};
use crate::serve::print;
use cluster::Cluster;
use kymo_engine::env::{Env as _, System};
use kymo_engine::model::Metrics;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// The cluster of the demo.
const CLUSTER: &str = "demo";
/// Seconds between two samples, as in the demo's metrics.
const INTERVAL: i64 = 60;
/// Seconds of history that are written first.
const HISTORY: i64 = 2 * 3600;

/// Writes to the server at `addr` for ever: history, then a sample a minute. Returns only with an error.
pub fn run(addr: SocketAddr, metrics: &Metrics) -> io::Result<()> {
    let env = System::default();
    let cluster = Cluster::new(metrics);
    let target = Target::new(addr, "POST", &format!("/api/write?cluster={CLUSTER}"));
    let mut client = Client::connect(addr)?;
    let now = env.unix_now();
    let mut next = now - now.rem_euclid(INTERVAL) - HISTORY;
    let mut samples = 0;
    while next <= now {
        samples += write(&mut client, &target, &cluster, next)?;
        next += INTERVAL;
    }
    introduce(&mut client, addr, samples, now)?;
    loop {
        let wait = u64::try_from(next - env.unix_now()).unwrap_or(0);
        std::thread::sleep(Duration::from_secs(wait));
        write(&mut client, &target, &cluster, next)?;
        next += INTERVAL;
    }
}

/// Writes one minute of all hosts, a request a host as collectors do.
fn write(client: &mut Client, target: &Target, cluster: &Cluster, time: i64) -> io::Result<usize> {
    let mut samples = 0;
    for host in 0..cluster::HOSTS.len() {
        let (body, lines) = cluster.lines(host, time);
        let answer = client.request(target, body.as_bytes())?;
        if answer.status != 200 {
            return Err(io::Error::other(format!("the write was answered {}: {}", answer.status, answer.text())));
        }
        samples += lines;
    }
    Ok(samples)
}

/// Prints what can be tried, and one answered query.
fn introduce(client: &mut Client, addr: SocketAddr, samples: usize, now: i64) -> io::Result<()> {
    let host = cluster::HOSTS[0];
    let from = now - 600;
    let query = format!(
        r#"{{"cluster":"{CLUSTER}","from":{from},"to":{now},"queries":[{{"metric":"flops_any","host":"{host}"}}]}}"#
    );
    let answer = client.request(&Target::new(addr, "POST", "/api/query"), query.as_bytes())?;
    print(&format!(
        "kymo demo on http://{addr}: {samples} samples of the last two hours are stored and synced, \
         one a minute and series follows.\n\n\
         Ask for the last ten minutes of one host, all its hardware threads summed:\n  \
         curl -s http://{addr}/api/query -d '{query}'\n\n\
         Write a sample of your own:\n  \
         curl -i 'http://{addr}/api/write?cluster={CLUSTER}' --data-binary 'cpu_load,hostname=mine,type=node value=1.5'\n\n\
         The first of them, answered:\n{}\n",
        answer.text()
    ));
    Ok(())
}
