//! Messages through a real nats-server: what arrives can be queried; what a stream was told to be durable survives
//! SIGKILL of either side.
//!
//! The publisher knows for each slot the one value that it sent, and whether the broker acknowledged it. After kills a
//! slot must have that value if it was acknowledged, and that value or none otherwise.

mod doors;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions};
use tokio::runtime::{Builder, Runtime};

use crate::broker::Broker;
use crate::clock::{self, PATIENCE};
use crate::json::Json;
use crate::server::{Server, Site, recorded_config};

const INTERVAL: i64 = 60;

/// A directory whose server reads from `broker`.
fn site(broker: &Broker, nats: &str, subscriptions: &str, stream: &str) -> Site {
    let mut config = recorded_config("config.json");
    let json = |text: &str| Json::parse(text).expect("a configuration is JSON");
    config.set("nats", json(&format!("{{\"address\":\"{}\"{nats}}}", broker.url())));
    let store = config.get_mut("metric-store").expect("a section `metric-store`");
    store.set("nats-subscriptions", json(&format!("[{subscriptions}]")));
    if !stream.is_empty() {
        config.set("nats-jetstream", json(&format!("{{{stream}}}")));
    }
    let site = Site::empty();
    site.configure(config, &[]);
    site
}

const STREAM: &str = r#""stream":"INGEST","subject":"ingest.{partition}.>","partitions":[0,1,2,3]"#;

/// A client of the broker, and what it runs on.
struct Publisher {
    runtime: Runtime,
    client: Client,
    context: jetstream::Context,
}

impl Publisher {
    fn new(broker: &Broker) -> Self {
        Self::with(broker, ConnectOptions::new())
    }

    fn with(broker: &Broker, options: ConnectOptions) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let connect = options.retry_on_initial_connect().connect(broker.url());
        let client = runtime.block_on(connect).expect("the address is one");
        let inside = runtime.enter();
        let context = jetstream::new(client.clone());
        drop(inside);
        Self { runtime, client, context }
    }

    /// Sends a message that nobody acknowledges.
    fn send(&self, subject: &str, body: &str) {
        let sent = async {
            self.client.publish(subject.to_owned(), body.to_owned().into()).await?;
            self.client.flush().await.map_err(async_nats::Error::from)?;
            Ok::<_, async_nats::Error>(())
        };
        self.runtime.block_on(sent).expect("the broker is there");
    }

    /// Sends a message until a stream has acknowledged it.
    fn store(&self, subject: &str, body: &str) {
        let stored = clock::poll(PATIENCE, || {
            self.runtime.block_on(async {
                let publish =
                    async { self.context.publish(subject.to_owned(), body.to_owned().into()).await.ok()?.await.ok() };
                tokio::time::timeout(Duration::from_secs(2), publish).await.ok().flatten()
            })
        });
        assert!(stored.is_some(), "the stream takes nothing");
    }
}

fn line(cluster: &str, host: &str, value: f64, time: i64) -> String {
    let cluster = if cluster.is_empty() { String::new() } else { format!(",cluster={cluster}") };
    format!("cpu_load{cluster},hostname={host},type=node value={value:e} {time}\n")
}

/// The values of a host at the slots from `from` to `to`.
fn values(server: &Server, cluster: &str, host: &str, from: i64, to: i64) -> Vec<Option<f64>> {
    let mut query = String::new();
    _ = write!(query, r#"{{"cluster":"{cluster}","from":{from},"to":{to},"with-stats":false,"with-padding":true,"#);
    _ = write!(query, r#""queries":[{{"metric":"cpu_load","host":"{host}"}}]}}"#);
    let answer = server.client().get("/api/query", query.as_bytes()).expect("the server answers a query");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = Json::parse(&answer.text()).expect("the answer is JSON");
    let series = answer.get("results").and_then(|results| results.list()?.first()?.list()?.first());
    let Some(series) = series else { return Vec::new() };
    assert!(series.get("error").is_none(), "{series}");
    let start = series.get("from").and_then(Json::integer).expect("`from`");
    let data = series.get("data").and_then(Json::list).unwrap_or_default();
    let at = |time: i64| data.get(usize::try_from((time - start) / INTERVAL).ok()?)?.double();
    (0..(to - from) / INTERVAL).map(|slot| at(from + slot * INTERVAL)).collect()
}

/// Waits until a slot has a value.
fn await_value(server: &Server, cluster: &str, host: &str, time: i64, value: f64) {
    let found = clock::poll(PATIENCE, || {
        values(server, cluster, host, time, time + INTERVAL).contains(&Some(value)).then_some(())
    });
    assert!(found.is_some(), "{value} of {host} did not arrive; the server said:\n{}", server.said());
}

fn text(server: &Server, path: &str) -> String {
    server.client().get(path, b"").expect("the server answers").text()
}

/// The sum of the samples of `/metrics` whose line begins so.
fn metric(server: &Server, beginning: &str) -> f64 {
    let lines = text(server, "/metrics");
    let samples = lines.lines().filter(|line| line.starts_with(beginning));
    samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
}

fn await_metric(server: &Server, beginning: &str, wanted: f64) {
    let seen = clock::poll(PATIENCE, || (metric(server, beginning) >= wanted).then_some(()));
    assert!(seen.is_some(), "{beginning} does not reach {wanted}:\n{}\n{}", text(server, "/metrics"), server.said());
}

fn await_connected(server: &Server) {
    await_metric(server, "kymo_nats_connected ", 1.0);
}

/// A slot in the past whose grid does not depend on what comes first.
fn slot() -> i64 {
    clock::unix_seconds() / INTERVAL * INTERVAL - 600 * INTERVAL
}

#[test]
fn messages_arrive_with_the_cluster_of_their_subscription_and_bad_lines_are_counted() {
    let broker = Broker::start();
    let subscriptions = r#"{"subscribe-to":"hpc-nats","cluster-tag":"alpha"},{"subscribe-to":"other.>"}"#;
    let site = site(&broker, "", subscriptions, "");
    let server = site.serve();
    await_connected(&server);
    let publisher = Publisher::new(&broker);
    let time = slot();
    // Subscriptions are made after the connection is: the first message may come too early.
    let first = clock::poll(PATIENCE, || {
        publisher.send("hpc-nats", &line("", "h0", 0.5, time));
        publisher.send("other.deep.below", &line("beta", "h0", 0.5, time));
        let both = ["hpc-nats", "other.>"].map(|subject| {
            metric(&server, &format!("kymo_nats_messages_total{{kind=\"core\",subject=\"{subject}\"}}")) > 0.0
        });
        both.iter().all(|is_there| *is_there).then_some(())
    });
    assert!(first.is_some(), "nothing arrives:\n{}", text(&server, "/metrics"));
    let body = [line("", "h1", 1.25, time), "cpu_load value\n".to_owned(), line("beta", "h2", 2.5, time)].concat();
    publisher.send("hpc-nats", &body);
    publisher.send("other.x", &line("beta", "h3", 3.5, time));
    // Without a cluster, in the line and in the configuration.
    publisher.send("other.x", &line("", "h4", 4.5, time));
    await_value(&server, "alpha", "h1", time, 1.25);
    await_value(&server, "beta", "h2", time, 2.5);
    await_value(&server, "beta", "h3", time, 3.5);
    let refused = "kymo_nats_lines_refused_total{kind=\"core\",subject=";
    await_metric(&server, &format!("{refused}\"hpc-nats\",reason=\"syntax\"}}"), 1.0);
    await_metric(&server, &format!("{refused}\"other.>\",reason=\"no-cluster\"}}"), 1.0);
    assert_eq!(text(&server, "/ready"), "ready\n");
    server.stop();
}

#[test]
fn a_broker_that_comes_late_or_comes_back_is_found_again() {
    let mut broker = Broker::start();
    broker.kill();
    let site = site(&broker, "", r#"{"subscribe-to":"s","cluster-tag":"alpha"}"#, "");
    let server = site.serve();
    let ready = text(&server, "/ready");
    assert!(ready.starts_with(&format!("ready\nnats: not connected to {}", broker.url())), "{ready}");
    assert!(text(&server, "/metrics").contains("\nkymo_nats_connected 0\n"));
    for (round, value) in [1.5, 2.5, 3.5].into_iter().enumerate() {
        broker.run_again();
        await_metric(&server, "kymo_nats_connects_total ", f64::from(u32::try_from(round).unwrap() + 1));
        await_connected(&server);
        let (publisher, time) = (Publisher::new(&broker), slot() + i64::try_from(round).unwrap() * INTERVAL);
        let arrived = clock::poll(PATIENCE, || {
            publisher.send("s", &line("", "h", value, time));
            values(&server, "alpha", "h", time, time + INTERVAL).contains(&Some(value)).then_some(())
        });
        assert!(arrived.is_some(), "nothing arrives after start {round}:\n{}", server.said());
        broker.kill();
        let lost = clock::poll(PATIENCE, || (metric(&server, "kymo_nats_connected ") < 1.0).then_some(()));
        assert!(lost.is_some(), "the loss of the connection is not seen");
    }
    server.stop();
}

#[test]
fn a_queue_group_gives_each_message_to_one_of_two_servers() {
    let broker = Broker::start();
    let subscription = r#"{"subscribe-to":"s","cluster-tag":"alpha"}"#;
    let sites = [(); 2].map(|()| site(&broker, r#","queue-group":"g""#, subscription, ""));
    let servers = sites.each_ref().map(Site::serve);
    let publisher = Publisher::new(&broker);
    let taken = || servers.each_ref().map(|server| metric(server, "kymo_nats_messages_total{"));
    let time = slot();
    let mut sent = 0.0;
    let both = clock::poll(PATIENCE, || {
        publisher.send("s", &line("", "h", 1.0, time));
        sent += 1.0;
        taken().iter().all(|count| *count > 0.0).then_some(())
    });
    assert!(both.is_some(), "one of the two gets nothing: {:?} of {sent}", taken());
    let before = taken();
    for _ in 0..100 {
        publisher.send("s", &line("", "h", 1.0, time));
    }
    let all =
        clock::poll(PATIENCE, || (taken().iter().sum::<f64>() >= before.iter().sum::<f64>() + 100.0).then_some(()));
    assert!(all.is_some(), "messages are missing: {:?} after {before:?}", taken());
    let after = taken();
    assert!((0..2).all(|server| after[server] > before[server]), "one got all: {after:?} after {before:?}");
    assert!(after.iter().sum::<f64>() <= sent + 100.0, "messages came twice: {after:?} of {sent}");
    for server in servers {
        server.stop();
    }
}

/// Publishes to all partitions; each slot gets one value.
struct Load {
    hosts: usize,
    start: i64,
    /// Messages that the stream acknowledged, each with the slot of that number of all hosts.
    slots: i64,
}

impl Load {
    fn new() -> Self {
        Self { hosts: 8, start: slot(), slots: 0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "both are small")]
    fn value(host: usize, slot: i64) -> f64 {
        (slot * 100) as f64 + host as f64 + 0.5
    }

    /// One more slot of all hosts; returns when the stream has acknowledged it.
    fn publish(&mut self, publisher: &Publisher) {
        for host in 0..self.hosts {
            let body = line("", &format!("h{host}"), Self::value(host, self.slots), self.start + self.slots * INTERVAL);
            publisher.store(&format!("hpc.alpha.h{host}"), &body);
        }
        self.slots += 1;
    }

    /// Waits until all that was acknowledged can be read, and nothing else can. Where the first slots come last, the
    /// others are answered in other places until then: missing values in front are counted from the epoch.
    fn check(&self, server: &Server) {
        for host in 0..self.hosts {
            let wanted: Vec<_> = (0..self.slots).map(|slot| Some(Self::value(host, slot))).collect();
            let end = self.start + self.slots * INTERVAL;
            let mut seen = Vec::new();
            let found = clock::poll(PATIENCE * 2, || {
                seen = values(server, "alpha", &format!("h{host}"), self.start, end);
                (seen == wanted).then_some(())
            });
            assert!(found.is_some(), "h{host} is not whole: {seen:?}\n{}\n{}", text(server, "/metrics"), server.said());
        }
    }
}

#[test]
fn what_a_stream_acknowledged_survives_kills_of_the_server() {
    let broker = Broker::start();
    let site = site(&broker, "", "", &format!(r#"{STREAM},"cluster-tag":"alpha""#));
    let publisher = Publisher::new(&broker);
    let mut load = Load::new();
    let mut server = site.serve();
    await_connected(&server);
    for round in 0..6 {
        for _ in 0..5 {
            load.publish(&publisher);
        }
        // Sometimes at once, sometimes when it has acknowledged some.
        if round % 2 == 0 {
            await_metric(&server, "kymo_nats_acknowledged_total{", 1.0);
        }
        server.kill();
        load.publish(&publisher);
        server = site.serve();
    }
    load.check(&server);
    let partitions = text(&server, "/metrics");
    for partition in 0..4 {
        let name = format!("kymo_nats_pending_messages{{kind=\"jetstream\",subject=\"ingest.{partition}.>\"}} ");
        assert!(partitions.contains(&name), "{name} is missing:\n{partitions}");
    }
    server.stop();
    // Nothing is wrong either when all of it comes out of the files.
    let server = site.serve();
    load.check(&server);
    server.stop();
}

#[test]
fn what_a_stream_acknowledged_survives_kills_of_the_broker() {
    let mut broker = Broker::start();
    let site = site(&broker, "", "", &format!(r#"{STREAM},"cluster-tag":"alpha""#));
    let server = site.serve();
    let mut load = Load::new();
    for _ in 0..3 {
        let publisher = Publisher::new(&broker);
        for _ in 0..5 {
            load.publish(&publisher);
        }
        broker.kill();
        broker.run_again();
    }
    load.publish(&Publisher::new(&broker));
    load.check(&server);
    server.stop();
}

#[test]
fn what_a_stream_acknowledged_while_both_are_killed_is_there() {
    let mut broker = Broker::start();
    let site = site(&broker, "", "", &format!(r#"{STREAM},"cluster-tag":"alpha""#));
    let mut server = site.serve();
    await_connected(&server);
    let (publisher, stop) = (Publisher::new(&broker), AtomicBool::new(false));
    // It publishes all the while, through every kill, and goes on when a message is acknowledged.
    let load = thread::scope(|scope| {
        let publishing = scope.spawn(|| {
            let mut load = Load::new();
            while !stop.load(Ordering::SeqCst) {
                load.publish(&publisher);
            }
            load
        });
        for round in 0..8 {
            await_metric(&server, "kymo_nats_acknowledged_total{", f64::from(round * 10 + 1));
            match round % 4 {
                0 | 2 => server.kill(),
                1 => broker.kill(),
                _ => {
                    server.kill();
                    broker.kill();
                }
            }
            if round % 4 % 2 == 1 {
                broker.run_again();
            }
            if round % 4 != 1 {
                server = site.serve();
            }
            await_connected(&server);
        }
        stop.store(true, Ordering::SeqCst);
        publishing.join().expect("it publishes")
    });
    load.check(&server);
    server.kill();
    let server = site.serve();
    load.check(&server);
    server.stop();
}

#[test]
fn a_stream_that_is_missing_is_explained_and_used_once_it_is_there() {
    let broker = Broker::start();
    let stream = r#""stream":"INGEST","subject":"one","cluster-tag":"alpha","create":false"#;
    let site = site(&broker, "", "", stream);
    let server = site.serve();
    let notes = |wanted: &str| {
        let seen = clock::poll(PATIENCE, || text(&server, "/ready").contains(wanted).then_some(()));
        assert!(seen.is_some(), "{wanted:?} is not in {}", text(&server, "/ready"));
    };
    notes("nats stream add INGEST --subjects 'one'");
    let publisher = Publisher::new(&broker);
    let stream = jetstream::stream::Config {
        name: "INGEST".to_owned(),
        subjects: vec!["one".to_owned()],
        ..jetstream::stream::Config::default()
    };
    let stream =
        publisher.runtime.block_on(publisher.context.create_stream(stream)).expect("the broker makes a stream");
    notes("nats consumer add INGEST kymo --pull --ack explicit --filter 'one'");
    // Published before there is a consumer, bad lines included: it waits, is read once, and does not come again.
    let time = slot();
    publisher.store("one", &format!("nonsense\n{}", line("", "h", 7.5, time)));
    let consumer = jetstream::consumer::pull::Config {
        durable_name: Some("kymo".to_owned()),
        filter_subject: "one".to_owned(),
        ..jetstream::consumer::pull::Config::default()
    };
    let mut consumer =
        publisher.runtime.block_on(stream.create_consumer(consumer)).expect("the broker makes a consumer");
    await_value(&server, "alpha", "h", time, 7.5);
    await_metric(&server, "kymo_nats_acknowledged_total{", 1.0);
    await_metric(&server, "kymo_nats_lines_refused_total{", 1.0);
    let settled = clock::poll(PATIENCE, || {
        let info = publisher.runtime.block_on(consumer.info()).ok()?;
        (info.num_ack_pending == 0 && info.num_pending == 0).then_some(())
    });
    assert!(settled.is_some(), "the broker was not told");
    assert_eq!(text(&server, "/ready"), "ready\n");
    server.stop();
}

#[test]
fn a_store_that_takes_no_writes_leaves_messages_in_the_stream() {
    let broker = Broker::start();
    let site = site(&broker, "", "", r#""stream":"S","subject":"s","cluster-tag":"alpha""#);
    // The shell's way to have the process told, not killed, when it may write no further.
    let kymo = site.command(&["serve", "--config", "config.json", "--io", "posix"]);
    let mut command = Command::new("sh");
    command.current_dir(site.path()).args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(kymo.get_program());
    let mut server = Server::spawn(command.args(kymo.get_args()));
    server.wait_ready();
    let (publisher, time) = (Publisher::new(&broker), slot());
    publisher.store("s", &line("", "before", 1.5, time));
    await_metric(&server, "kymo_nats_acknowledged_total{", 1.0);

    // No byte more: the next write of the log fails, and no write is taken from then on.
    let limited = Command::new("prlimit").args(["--fsize=0", "--pid", &server.child().id().to_string()]).status();
    assert!(limited.is_ok_and(|status| status.success()), "the process was not limited");
    for message in 0..5 {
        publisher.store("s", &line("", &format!("h{message}"), 2.5, time));
    }
    await_metric(&server, "kymo_log_failed ", 1.0);
    publisher.store("s", &line("", "after", 3.5, time));
    await_metric(&server, "kymo_nats_waits_total{", 2.0);
    assert_eq!(server.client().get("/ready", b"").expect("the server answers").status, 503);
    let state = publisher.runtime.block_on(async {
        let stream = publisher.context.get_stream("S").await.expect("the stream is there");
        let mut consumer: jetstream::consumer::PullConsumer = stream.get_consumer("kymo").await.expect("so is it");
        consumer.info().await.expect("it tells").clone()
    });
    assert_eq!(state.ack_floor.stream_sequence, 1, "what is not durable was acknowledged: {state:?}");
    assert_eq!(state.num_ack_pending + usize::try_from(state.num_pending).unwrap_or(0), 6, "{state:?}");
    server.kill();

    let server = site.serve();
    for (host, value) in [("before", 1.5), ("h0", 2.5), ("h4", 2.5), ("after", 3.5)] {
        await_value(&server, "alpha", host, time, value);
    }
    server.stop();
}
