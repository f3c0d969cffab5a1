//! SIGKILL at random moments: what was acknowledged is there, bit for bit, and nothing else that was not sent.
//!
//! Eight writers, each with its own hosts and one request in flight, send small and large bodies of values that occur
//! only once. The process is killed, mostly under load, sometimes while it starts, and restarted at once on the same
//! directory; then every slot is read and held against what its writer knows. The seed is printed; `KYMO_SEED`
//! repeats the choices (not the scheduling).

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use crate::clock::{self, PATIENCE};
use crate::history::History;
use crate::http::Client;
use crate::json::Json;
use crate::server::{Server, Site};

const KILLS: usize = 30;
const WRITERS: u64 = 8;
const HOSTS: u64 = 2;
const SLOTS: i64 = 60;
const INTERVAL: i64 = 60;

/// Metric, and the socket it belongs to; `None` is the host itself.
const PLACES: [(&str, Option<u8>); 4] =
    [("cpu_load", None), ("mem_used", None), ("mem_bw", Some(0)), ("mem_bw", Some(1))];

#[test]
fn what_was_acknowledged_survives_kill_with_io_uring() {
    survive("io_uring", &[]);
}

#[test]
fn what_was_acknowledged_survives_kill_with_posix() {
    survive("posix", &[]);
}

#[test]
fn what_was_acknowledged_survives_kill_while_snapshots_run_all_the_time() {
    survive("auto", &[("log-bound", Json::Number("65536".to_owned()))]);
}

fn survive(io: &str, storage: &[(&str, Json)]) {
    let seed = std::env::var("KYMO_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) ^ clock::unix_seconds().cast_unsigned());
    eprintln!("io {io}: repeat with KYMO_SEED={seed}");
    let mut random = Random(seed);

    let storage: Vec<(&str, Json)> = storage.iter().cloned().chain([("io", io.into())]).collect();
    let site = Site::new(&storage);
    if let Err(said) = site.spawn().wait_listening()
        && said.contains("io_uring refused")
    {
        eprintln!("io {io}: skipped, because this machine does not allow it:\n{said}");
        return;
    }
    let newest = clock::unix_seconds() / INTERVAL * INTERVAL;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|id| Writer::new(id, newest, random.next())).collect();
    let mut acknowledged = 0;
    for _ in 0..KILLS {
        if random.below(4) == 0 {
            let mut starting = site.spawn();
            thread::sleep(Duration::from_micros(random.below(40_000)));
            starting.kill();
        }
        let mut server = site.serve();
        check(&server, &mut writers);
        acknowledged += write_and_kill(&mut server, &mut writers, &mut random);
    }
    for _ in 0..2 {
        let server = site.serve();
        check(&server, &mut writers);
        server.stop();
    }
    eprintln!("io {io}: {KILLS} kills, {acknowledged} acknowledged requests");
    assert!(acknowledged > KILLS, "the writers hardly wrote: {acknowledged} requests");
}

/// Lets all writers write until a random moment, kills the server, and counts the acknowledged requests.
fn write_and_kill(server: &mut Server, writers: &mut [Writer], random: &mut Random) -> usize {
    let address = server.address();
    let killing = AtomicBool::new(false);
    let (acknowledge, acknowledged) = mpsc::channel();
    thread::scope(|scope| {
        for writer in writers {
            let acknowledge = acknowledge.clone();
            let killing = &killing;
            scope.spawn(move || writer.write_until_killed(address, killing, &acknowledge));
        }
        drop(acknowledge);
        let wanted = usize::try_from(random.below(160)).expect("a small number");
        let moment = Duration::from_micros(random.below(6_000));
        let count = await_acknowledgements(&acknowledged, wanted, moment);
        killing.store(true, Ordering::SeqCst);
        server.kill();
        assert!(count.is_some(), "no request is acknowledged any more; the server said:\n{}", server.said());
        count.unwrap_or_default() + acknowledged.iter().count()
    })
}

/// Waits for `wanted` acknowledgements and `moment` longer; `None` if they do not come.
fn await_acknowledgements(acknowledged: &Receiver<()>, wanted: usize, moment: Duration) -> Option<usize> {
    for _ in 0..wanted {
        acknowledged.recv_timeout(PATIENCE).ok()?;
    }
    let deadline = clock::deadline(moment);
    let mut count = wanted;
    while let Some(left) = clock::remaining(deadline) {
        match acknowledged.recv_timeout(left) {
            Ok(()) => count += 1,
            Err(RecvTimeoutError::Timeout) => break,
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    Some(count)
}

/// Reads every slot of every writer.
fn check(server: &Server, writers: &mut [Writer]) {
    let mut client = server.client();
    for writer in writers {
        let answer = client.get("/api/query", writer.query().as_bytes()).expect("the server answers a query");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let answer = Json::parse(&answer.text()).expect("the answer is JSON");
        if let Err(error) = writer.check(&answer) {
            panic!("{error}\nthe server said:\n{}", server.said());
        }
    }
}

/// One slot of one writer: host, place, and how many intervals it lies before the newest slot.
type Place = (u64, usize, i64);

struct Writer {
    id: u64,
    /// The newest slot's time; a multiple of the interval, so that every first sample gives the same grid.
    newest: i64,
    random: Random,
    counter: u64,
    slots: HashMap<Place, History>,
}

impl Writer {
    fn new(id: u64, newest: i64, seed: u64) -> Self {
        Self { id, newest, random: Random(seed), counter: id << 48, slots: HashMap::new() }
    }

    fn write_until_killed(&mut self, address: SocketAddr, killing: &AtomicBool, acknowledge: &Sender<()>) {
        let mut client = Client::new(address);
        loop {
            let (body, places) = self.body();
            match client.post("/api/write", body.as_bytes()) {
                Ok(answer) if answer.status == 200 => {
                    assert_eq!(answer.header("Kymo-Lines-Refused"), None, "good lines were refused:\n{body}");
                    for place in places {
                        self.slots.entry(place).or_default().acknowledge();
                    }
                    acknowledge.send(()).expect("the receiver outlives the writers");
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{}", answer.text()),
                Err(error) => {
                    assert!(killing.load(Ordering::SeqCst), "a request failed before the kill: {error}");
                    return;
                }
            }
        }
    }

    /// Some lines, mostly few, and the slots they are for.
    fn body(&mut self) -> (String, Vec<Place>) {
        let lines = if self.random.below(8) == 0 { 200 + self.random.below(800) } else { 1 + self.random.below(4) };
        let mut body = String::new();
        let mut places = Vec::new();
        for _ in 0..lines {
            let host = self.random.below(HOSTS);
            let place = usize::try_from(self.random.below(PLACES.len() as u64)).expect("a small number");
            let age = self.random.below(SLOTS.cast_unsigned()).cast_signed();
            let value = self.unique_value();
            let (metric, socket) = PLACES[place];
            let (name, time) = (self.host(host), self.newest - age * INTERVAL);
            _ = match socket {
                None => writeln!(body, "{metric},cluster=alpha,hostname={name},type=node value={value:e} {time}"),
                Some(id) => {
                    writeln!(
                        body,
                        "{metric},cluster=alpha,hostname={name},type=socket,type-id={id} value={value:e} {time}"
                    )
                }
            };
            self.slots.entry((host, place, age)).or_default().send(value);
            places.push((host, place, age));
        }
        (body, places)
    }

    /// A finite value whose bits this and all other writers use only once.
    fn unique_value(&mut self) -> f64 {
        loop {
            self.counter += 1;
            // An odd factor permutes the 64-bit numbers: different counters give different bits.
            let value = f64::from_bits(self.counter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if value.is_finite() {
                return value;
            }
        }
    }

    fn host(&self, host: u64) -> String {
        format!("w{}h{host}", self.id)
    }

    fn oldest(&self) -> i64 {
        self.newest - (SLOTS - 1) * INTERVAL
    }

    /// One request for all slots: hosts, then places.
    fn query(&self) -> String {
        let mut queries = Vec::new();
        for host in 0..HOSTS {
            for (metric, socket) in PLACES {
                let host = self.host(host);
                let socket = socket.map_or_else(String::new, |id| format!(r#","type":"socket","type-ids":["{id}"]"#));
                queries.push(format!(r#"{{"metric":"{metric}","host":"{host}"{socket}}}"#));
            }
        }
        format!(
            r#"{{"cluster":"alpha","from":{},"to":{},"with-stats":false,"with-padding":false,"queries":[{}]}}"#,
            self.oldest(),
            self.newest + INTERVAL,
            queries.join(",")
        )
    }

    fn check(&mut self, answer: &Json) -> Result<(), String> {
        let mut results = answer.get("results").and_then(Json::list).unwrap_or_default().iter();
        for host in 0..HOSTS {
            for (place, (metric, socket)) in PLACES.iter().enumerate() {
                let result = results.next().and_then(Json::list).ok_or("a result is missing")?;
                let read = self.values(result).map_err(|error| format!("{}: {error}", self.host(host)))?;
                for age in 0..SLOTS {
                    let slot = self.slots.entry((host, place, age)).or_default();
                    slot.read(read.get(&age).copied()).map_err(|error| {
                        let time = self.newest - age * INTERVAL;
                        format!("{metric} of {} (socket {socket:?}) at {time}: {error}", self.host(host))
                    })?;
                }
            }
        }
        Ok(())
    }

    /// The values of one result by age.
    fn values(&self, result: &[Json]) -> Result<HashMap<i64, f64>, String> {
        let Some(series) = result.first() else { return Ok(HashMap::new()) };
        if let Some(error) = series.get("error") {
            return Err(format!("the query failed: {error}"));
        }
        let from = series.get("from").and_then(Json::integer).ok_or("no `from`")?;
        let data = series.get("data").and_then(Json::list).unwrap_or_default();
        let mut values = HashMap::new();
        let mut time = from;
        for value in data {
            if let Some(value) = value.double() {
                values.insert((self.newest - time) / INTERVAL, value);
            }
            time += INTERVAL;
        }
        let aligned =
            from.rem_euclid(INTERVAL) == 0 && series.get("resolution").and_then(Json::integer) == Some(INTERVAL);
        if aligned { Ok(values) } else { Err(format!("the grid moved: {series}")) }
    }
}

/// `SplitMix64`: small, seeded, good enough to choose moments.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is small, so that the bias is too.
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
