//! Writers, each with hosts of its own and one request in flight, and readers that look over their shoulders.

use crate::Failure;
use crate::client::Client;
use crate::journal::{Fault, Journal};
use crate::random::Random;
use crate::server::Server;
use crate::tally::Tally;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const INTERVAL: i64 = 60;
/// Slots of this hour, and of the same hour of the day before, so that snapshots have two partitions.
const GROUPS: [(i64, i64); 2] = [(0, 40), (86_400, 20)];
/// Metric, and the socket it belongs to.
const PLACES: [(&str, Option<u8>); 4] =
    [("cpu_load", None), ("mem_used", None), ("mem_bw", Some(0)), ("mem_bw", Some(1))];
/// How long nothing may be acknowledged while the server is well.
const PATIENCE: Duration = Duration::from_mins(1);

/// One slot: host of the writer, place at the host, group, and how many intervals it lies before the newest.
pub(crate) type Place = (u8, u8, u8, u8);

/// What was read of the slots of one writer.
type Reading = Vec<(Place, Option<f64>)>;

/// Numbers the events of a rig.
pub(crate) trait Ticks: Sync {
    fn tick(&self) -> u64;
}

/// A plain counter, for rigs in which nothing but the order of events counts.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicUsize);

impl Ticks for Counter {
    fn tick(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst) as u64
    }
}

/// Waits until something holds, in short pauses, as long as an acknowledgement may take.
pub(crate) fn wait(failure: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > PATIENCE {
            return Err(failure.into());
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

/// How many writers, with how many hosts each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) writers: u8,
    pub(crate) hosts: u8,
}

/// All writers, and what they know.
#[derive(Debug)]
pub(crate) struct Fleet {
    writers: Vec<Writer>,
    hosts: u8,
    newest: i64,
    acknowledged_samples: AtomicUsize,
    acknowledged_requests: AtomicUsize,
    refused_requests: AtomicUsize,
}

/// A writer: its journal is looked at by readers, the rest is its own.
#[derive(Debug)]
struct Writer {
    id: u8,
    journal: Mutex<Journal<Place>>,
    mind: Mutex<Mind>,
}

/// What a writer chooses by.
#[derive(Debug)]
struct Mind {
    random: Random,
    counter: u32,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the driver of a load sees of it.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    fleet: &'a Fleet,
    stop: &'a AtomicBool,
}

impl Load<'_> {
    /// Waits for that many more acknowledged requests.
    pub(crate) fn wait_acknowledged(&self, requests: usize) -> Result<(), Failure> {
        let wanted = self.fleet.acknowledged_requests.load(Ordering::SeqCst) + requests;
        wait("no request is acknowledged any more", || {
            self.fleet.acknowledged_requests.load(Ordering::SeqCst) >= wanted
        })
    }

    /// Waits for a random moment: after some acknowledgements, or after a longer while, in which snapshots and merges
    /// come to run. Counts those in `tally`.
    pub(crate) fn random_moment(&self, random: &mut Random, client: &Client, tally: &mut Tally) -> Result<(), Failure> {
        if random.once_in(3) {
            thread::sleep(Duration::from_millis(random.below(1_500)));
        } else {
            self.wait_acknowledged(random.index(120))?;
        }
        if !self.stop.load(Ordering::SeqCst) {
            tally.count_jobs(client);
        }
        thread::sleep(Duration::from_micros(random.below(6_000)));
        Ok(())
    }

    /// Waits until a request was refused.
    pub(crate) fn wait_refused(&self) -> Result<(), Failure> {
        let before = self.fleet.refused_requests.load(Ordering::SeqCst);
        wait("no request is refused", || self.fleet.refused_requests.load(Ordering::SeqCst) > before)
    }

    /// From here on requests may fail: the server is about to be killed.
    pub(crate) fn expect_end(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Fleet {
    pub(crate) fn new(size: Size, random: &mut Random) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let newest = i64::try_from(now).unwrap_or_default() / INTERVAL * INTERVAL;
        let writer = |id| Writer {
            id,
            journal: Mutex::new(Journal::new()),
            mind: Mutex::new(Mind { random: Random(random.next()), counter: 0 }),
        };
        Self {
            writers: (0..size.writers).map(writer).collect(),
            hosts: size.hosts,
            newest,
            acknowledged_samples: AtomicUsize::new(0),
            acknowledged_requests: AtomicUsize::new(0),
            refused_requests: AtomicUsize::new(0),
        }
    }

    /// Samples that were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged_samples.load(Ordering::SeqCst)
    }

    /// Writes and reads until `drive` returns, which has ended the server or says why not.
    pub(crate) fn load(
        &self,
        address: SocketAddr,
        ticks: &dyn Ticks,
        drive: impl FnOnce(&Load<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let stop = AtomicBool::new(false);
        let complaint = Mutex::new(None);
        let load = Load { fleet: self, stop: &stop };
        let watch = |result: Result<(), String>| {
            if let Err(error) = result {
                stop.store(true, Ordering::SeqCst);
                lock(&complaint).get_or_insert(error);
            }
        };
        let (end, watch) = (&stop, &watch);
        let driven = thread::scope(|scope| {
            for writer in &self.writers {
                scope.spawn(move || watch(self.write(writer, address, ticks, end)));
            }
            scope.spawn(move || watch(self.read(address, ticks, end)));
            let driven = drive(&load);
            end.store(true, Ordering::SeqCst);
            driven
        });
        match complaint.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(complaint) => Err(complaint.into()),
            None => driven,
        }
    }

    /// One writer, until the server is gone or the load ends.
    fn write(&self, writer: &Writer, address: SocketAddr, ticks: &dyn Ticks, stop: &AtomicBool) -> Result<(), String> {
        let client = Client::new(address);
        let mut mind = lock(&writer.mind);
        while !stop.load(Ordering::SeqCst) {
            let (body, places) = self.body(writer, &mut mind, ticks);
            let answer = match client.post("/api/write", &body) {
                Ok(answer) => answer,
                Err(_) if stop.load(Ordering::SeqCst) => return Ok(()),
                Err(error) => return Err(format!("a write failed while the server was well: {error}")),
            };
            match answer.status {
                200 if answer.refused.is_none() => {
                    lock(&writer.journal).acknowledge(&places, ticks.tick());
                    self.acknowledged_samples.fetch_add(places.len(), Ordering::SeqCst);
                    self.acknowledged_requests.fetch_add(1, Ordering::SeqCst);
                }
                503 => {
                    self.refused_requests.fetch_add(1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(5));
                }
                status => return Err(format!("a write has status {status} ({:?}): {}", answer.refused, answer.text)),
            }
        }
        Ok(())
    }

    /// Reads writers at random. What is read must be there for what was acknowledged before, and stay from now on.
    fn read(&self, address: SocketAddr, ticks: &dyn Ticks, stop: &AtomicBool) -> Result<(), String> {
        let client = Client::new(address);
        let mut random = Random(u64::from(address.port()));
        while !stop.load(Ordering::SeqCst) {
            let writer = &self.writers[random.index(self.writers.len())];
            let begun = ticks.tick();
            let read = match self.query(&client, writer) {
                Ok(read) => read,
                Err(_) if stop.load(Ordering::SeqCst) => return Ok(()),
                Err(error) => return Err(format!("a query failed while the server was well: {error}")),
            };
            let ended = ticks.tick();
            let mut journal = lock(&writer.journal);
            for (place, value) in read {
                if let Err(fault) = journal.judge(place, value, begun, ended) {
                    return Err(format!("while it runs: {}", self.tell(writer, place, value, fault)));
                }
                journal.see(place, value, ended);
            }
        }
        Ok(())
    }

    /// Some lines, mostly few, and the slots they are for, which are in the journal when this returns.
    fn body(&self, writer: &Writer, mind: &mut Mind, ticks: &dyn Ticks) -> (String, Vec<Place>) {
        let lines = if mind.random.once_in(8) { 100 + mind.random.below(400) } else { 1 + mind.random.below(4) };
        let mut body = String::new();
        let mut places = Vec::new();
        let at = ticks.tick();
        let mut journal = lock(&writer.journal);
        for _ in 0..lines {
            let small = |number: u64| u8::try_from(number).unwrap_or_default();
            let host = small(mind.random.below(self.hosts.into()));
            let place = mind.random.index(PLACES.len());
            let group = mind.random.index(GROUPS.len());
            let age = small(mind.random.below(GROUPS[group].1.cast_unsigned()));
            let value = mind.value(writer.id);
            let at_place = (host, small(place as u64), small(group as u64), age);
            let (metric, socket) = PLACES[place];
            let (name, time) = (writer.host(host), self.time(group, age.into()));
            let socket = socket.map_or("type=node".to_owned(), |id| format!("type=socket,type-id={id}"));
            // Writing to a string does not fail.
            writeln!(body, "{metric},cluster=alpha,hostname={name},{socket} value={value:e} {time}").ok();
            journal.send(at_place, value, at);
            places.push(at_place);
        }
        (body, places)
    }

    fn time(&self, group: usize, age: i64) -> i64 {
        self.newest - GROUPS[group].0 - age * INTERVAL
    }

    /// All slots of a writer as the server has them.
    fn query(&self, client: &Client, writer: &Writer) -> Result<Reading, String> {
        let mut read = Vec::new();
        let places = (0..self.hosts).flat_map(|host| (0..PLACES.len()).map(move |place| (host, place)));
        let query = |(host, place): (u8, usize)| {
            let (metric, socket) = PLACES[place];
            let mut query = json!({"metric": metric, "host": writer.host(host)});
            if let Some(socket) = socket {
                query["type"] = "socket".into();
                query["type-ids"] = json!([socket.to_string()]);
            }
            query
        };
        let queries: Vec<Value> = places.clone().map(query).collect();
        for (group, &(_, slots)) in GROUPS.iter().enumerate() {
            let (from, to) = (self.time(group, slots - 1), self.time(group, -1));
            let results = client.query(&json!({
                "cluster": "alpha", "from": from, "to": to, "with-stats": false, "with-padding": false, "queries": queries,
            }))?;
            if results.len() != queries.len() {
                return Err(format!("{} queries have {} results", queries.len(), results.len()));
            }
            for ((host, place), result) in places.clone().zip(&results) {
                let values = self.values(group, slots, result)?;
                let small = |number: usize| u8::try_from(number).unwrap_or_default();
                read.extend((0..).zip(values).map(|(age, value)| ((host, small(place), small(group), age), value)));
            }
        }
        Ok(read)
    }

    /// The values of one result by age; missing where there is nothing.
    fn values(&self, group: usize, slots: i64, result: &Value) -> Result<Vec<Option<f64>>, String> {
        let mut values = vec![None; usize::try_from(slots).unwrap_or_default()];
        let Some(series) = result.get(0) else { return Ok(values) };
        if let Some(error) = series.get("error") {
            return Err(format!("a query has the error {error}"));
        }
        let from = series["from"].as_i64().ok_or("a series without `from`")?;
        if from.rem_euclid(INTERVAL) != 0 || series["resolution"].as_i64() != Some(INTERVAL) {
            return Err(format!("the grid has moved: {series}"));
        }
        for (index, value) in (0..).zip(series["data"].as_array().into_iter().flatten()) {
            let age = (self.time(group, 0) - from) / INTERVAL - index;
            if let Some(slot) = usize::try_from(age).ok().and_then(|age| values.get_mut(age)) {
                *slot = value.as_f64();
            }
        }
        Ok(values)
    }

    fn tell(&self, writer: &Writer, (host, place, group, age): Place, value: Option<f64>, fault: Fault) -> String {
        let (metric, socket) = PLACES[usize::from(place)];
        let time = self.time(group.into(), age.into());
        format!("{fault:?}: {metric} of {} (socket {socket:?}) at {time} reads as {value:?}", writer.host(host))
    }

    /// Reads everything and counts what is wrong, for what was acknowledged up to `acknowledged_by` and sent up to
    /// `sent_by`; gives what was read, writer after writer.
    pub(crate) fn audit(
        &self,
        server: &Server,
        (acknowledged_by, sent_by): (u64, u64),
        tally: &mut Tally,
    ) -> Result<Vec<Reading>, Failure> {
        let client = server.client();
        let mut all = Vec::new();
        for writer in &self.writers {
            let read =
                self.query(&client, writer).map_err(|error| format!("{error}; kymo said:\n{}", server.said()))?;
            let journal = lock(&writer.journal);
            for &(place, value) in &read {
                if let Err(fault) = journal.judge(place, value, acknowledged_by, sent_by) {
                    tally.fault(fault, || self.tell(writer, place, value, fault));
                }
            }
            all.push(read);
        }
        Ok(all)
    }

    /// Reads and judges everything after a crash; what is there now must stay.
    pub(crate) fn audit_and_settle(
        &self,
        server: &Server,
        ticks: &dyn Ticks,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        let now = ticks.tick();
        let read = self.audit(server, (now, now), tally)?;
        for (writer, read) in self.writers.iter().zip(read) {
            let mut journal = lock(&writer.journal);
            for (place, value) in read {
                journal.recovered(place, value, now);
            }
        }
        Ok(())
    }
}

impl Writer {
    fn host(&self, host: u8) -> String {
        format!("w{}h{host}", self.id)
    }
}

impl Mind {
    /// A finite value whose bits this and all other writers use only once: half of them small whole numbers, which a
    /// snapshot keeps in fewer bytes, half of them of any bits.
    fn value(&mut self, writer: u8) -> f64 {
        loop {
            self.counter += 1;
            if self.counter.is_multiple_of(2) && self.counter < 1 << 20 {
                return f64::from(u32::from(writer) << 20 | self.counter);
            }
            // An odd factor permutes the 64-bit numbers: different counters give different bits.
            let number = u64::from(writer) << 48 | 1 << 40 | u64::from(self.counter);
            let value = f64::from_bits(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            if value.is_finite() {
                return value;
            }
        }
    }
}
