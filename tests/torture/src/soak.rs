//! A long life under load: half of what the server can take, then more than it can take, for so many minutes each.
//!
//! Beside the writers there are queries of four shapes, frees, snapshots, merges, days that are archived, and retention.
//! The samples lie in the past, a day of them in less than a minute, so that days come and go; the writers go on where
//! they were. Every answer is compared with what was acknowledged, and after each phase, SIGKILL and a restart.

mod ask;
mod latencies;
mod work;

use crate::random::Random;
use crate::server::{Server, Setup};
use crate::{Failure, Run};
use ask::{Asker, SHAPES};
use latencies::Latencies;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use work::{Bodies, HOSTS, INTERVAL, Ledger, METRICS, MINUTES_A_DAY};

const DAY: i64 = 86_400;
/// The first sample lies so many days in the past: room for all that a run may write.
const DAYS: i64 = 900;
/// How long the server shows what it can take.
const MEASURE: Duration = Duration::from_mins(1);
/// Connections that keep the server busy while that is measured.
const MEASURING: usize = 16;
/// Connections at half of that.
const PACED: usize = 16;
/// Connections of the overload: each sends when it has its answer.
const OVERLOAD: usize = 128;
const LOG_BOUND: u64 = 16 << 20;
const IN_FLIGHT: u64 = 64 << 20;
/// What anonymous memory may be: rows of four log bounds and 64 MiB, above which writes are refused, the bodies that may
/// be held, and all else: names, queries, archiving, threads.
const BOUND: u64 = 4 * LOG_BOUND + (64 << 20) + IN_FLIGHT + (128 << 20);
/// The cluster whose data are freed again and again.
const FREED: &str = "freed";

/// A phase, for people and for the writers.
#[derive(Clone, Copy, Debug)]
struct Phase {
    name: &'static str,
    connections: usize,
    /// Requests a second, whether or not answers keep up.
    rate: Option<f64>,
    time: Duration,
    /// Days that are archived while it runs.
    archived: (u64, u64),
    has_company: bool,
}

/// What came of a phase.
#[derive(Debug, Default)]
struct Outcome {
    writes: Latencies,
    queries: [Latencies; 4],
    refused: AtomicU64,
    refused_queries: AtomicU64,
    frees: u64,
    watched: Watched,
}

/// What was seen of a phase twice a second.
#[derive(Debug, Default)]
struct Watched {
    /// Anonymous memory of the server.
    memory: Vec<u64>,
    /// When, and bodies that were acknowledged by then.
    acknowledged: Vec<(Duration, u64)>,
}

impl Watched {
    /// The most bodies a second over about this long.
    fn best_rate(&self, length: Duration) -> f64 {
        let from = |&(begun, before): &(Duration, u64)| {
            let &(ended, after) = self.acknowledged.iter().find(|(at, _)| *at >= begun + length)?;
            #[expect(clippy::cast_precision_loss, reason = "bodies of a minute")]
            let rate = (after - before) as f64 / ended.saturating_sub(begun).as_secs_f64();
            Some(rate)
        };
        self.acknowledged.iter().filter_map(from).fold(0.0, f64::max)
    }
}

#[derive(Debug)]
struct Soak<'a> {
    run: &'a Run,
    work: PathBuf,
    bodies: Bodies,
    ledger: Ledger,
}

/// Measures, then runs both phases of this length.
pub(crate) fn run(run: &Run, length: Duration) -> Result<(), Failure> {
    let work = tempfile::tempdir_in(&run.work)?;
    let bodies = Bodies::new((unix_now() / DAY - DAYS) * DAY);
    let soak = Soak { run, work: work.path().to_owned(), bodies, ledger: Ledger::default() };
    let measuring = Phase {
        name: "measure",
        connections: MEASURING,
        rate: None,
        time: MEASURE,
        archived: (0, 0),
        has_company: false,
    };
    let mut server = soak.serve(0)?;
    // The best ten seconds of the minute: other programs may disturb the rest.
    let most = soak.phase(&mut server, measuring)?.watched.best_rate(Duration::from_secs(10));
    if most <= 0.0 {
        return Err("nothing is acknowledged".into());
    }
    // What was written so far leaves the late window and is archived during the next phase.
    let mut archived = (0, 0);
    let mut summary = Vec::new();
    for (name, connections, rate) in [("half", PACED, Some(most / 2.0)), ("overload", OVERLOAD, None)] {
        // Writers are well past the first minutes of the day that is still open, which pass while it runs.
        archived = (archived.1, soak.ledger.complete_minutes().saturating_sub(120) / MINUTES_A_DAY);
        let mut server = soak.serve(archived.1)?;
        let phase = Phase { name, connections, rate, time: length, archived, has_company: true };
        let outcome = soak.phase(&mut server, phase)?;
        summary.push(soak.tell(phase, &outcome)?);
    }
    // A late window of what is not archived yet, as it was.
    let server = soak.serve(archived.1)?;
    let (audited, took) = soak.audit(&server)?;
    let layers = ["kymo_archived_rows ", "kymo_archived_parts ", "kymo_snapshots ", "kymo_log_bytes "]
        .map(|name| server.client().metric(name).unwrap_or_default());
    server.stop()?;
    println!(
        "soak: seed {}: {audited} samples acknowledged, each found at the end after 3 SIGKILLs, 0 lost, read in {} s out of {} rows \
         in {} archived days, {} snapshots and {} bytes of log; anonymous memory at most {} of {} MiB",
        run.seed,
        took.as_secs(),
        layers[0],
        layers[1],
        layers[2],
        layers[3],
        summary.iter().max().copied().unwrap_or_default() >> 20,
        BOUND >> 20,
    );
    Ok(())
}

impl Soak<'_> {
    /// The configuration: `open` is the first day that still takes samples, `kept` the first that is not archived.
    fn config(&self, open: u64, kept: u64) -> Value {
        // The day before has passed; the first has none before it.
        let slack = |day: u64| if day == 0 { DAY } else { -INTERVAL };
        let back_to = |day: u64| format!("{}s", unix_now() - self.bodies.time(day * MINUTES_A_DAY) + slack(day));
        let metric = |name: &str| (name.to_owned(), json!({"frequency": INTERVAL, "aggregation": "sum"}));
        let metrics: serde_json::Map<_, _> = METRICS.iter().map(|(name, _)| metric(name)).collect();
        json!({
            "main": {"addr": "127.0.0.1:0"},
            "metrics": metrics,
            "metric-store": {
                "checkpoints": {"directory": "./checkpoints"},
                "retention-in-memory": back_to(kept),
                "cleanup": {"mode": "archive", "directory": self.work.join("archive")},
            },
            "storage": {
                "directory": self.work.join("data"),
                "late-window": back_to(open),
                "log-bound": LOG_BOUND,
                "limits": {"in-flight": IN_FLIGHT},
            },
        })
    }

    /// Starts the server, which takes samples from day `open` on; nothing new is to be archived yet.
    fn serve(&self, open: u64) -> Result<Server, Failure> {
        let setup = Setup::of(&self.run.program, &self.work, &self.config(open, 0))?;
        let (server, took) = setup.serve()?;
        println!("ready {} ms after the start", took.as_millis());
        Ok(server)
    }

    /// Has the server archive what lies before a day.
    fn archive_before(&self, server: &Server, open: u64, day: u64) -> Result<(), Failure> {
        Setup::of(&self.run.program, &self.work, &self.config(open, day))?;
        let answer = server.client().post("/api/reload", "")?;
        if answer.status == 200 && answer.text.contains("metric-store.retention-in-memory") {
            return Ok(());
        }
        Err(format!("the retention was not changed: {answer:?}").into())
    }

    /// Loads the server for a while, then kills it amid the load.
    fn phase(&self, server: &mut Server, phase: Phase) -> Result<Outcome, Failure> {
        let stop = AtomicBool::new(false);
        let outcome = Mutex::new(Outcome::default());
        let complaint = Mutex::new(None::<String>);
        let sent = AtomicU64::new(0);
        let begun = Instant::now();
        let (address, frees) = (server.address(), AtomicU64::new(0));
        let client = || crate::client::Client::new(address);
        let watch = |result: Result<(), String>| {
            if let Err(error) = result {
                stop.store(true, Ordering::SeqCst);
                complaint.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        };
        let (watched, driven) = thread::scope(|scope| {
            for _ in 0..phase.connections {
                scope.spawn(|| watch(self.write(&client(), phase.rate, (begun, &sent), &stop, &outcome)));
            }
            if phase.has_company {
                for seed in 0..2 {
                    let asker = Asker { client: client(), bodies: &self.bodies, ledger: &self.ledger };
                    let (watch, stop, outcome) = (&watch, &stop, &outcome);
                    scope.spawn(move || watch(ask(&asker, self.run.seed + seed, stop, outcome)));
                }
                scope.spawn(|| watch(Self::free(&client(), &stop, &frees)));
            }
            let mut watched = Watched::default();
            let driven = self.drive(server, phase, &stop, &mut watched);
            stop.store(true, Ordering::SeqCst);
            server.kill();
            (watched, driven)
        });
        driven?;
        if let Some(complaint) = complaint.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("{}: {complaint}; kymo said:\n{}", phase.name, server.said()).into());
        }
        let outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Outcome { watched, frees: frees.into_inner(), ..outcome })
    }

    /// Watches memory and lets one day after the other be archived, for the time of the phase.
    fn drive(&self, server: &Server, phase: Phase, stop: &AtomicBool, watched: &mut Watched) -> Result<(), Failure> {
        let (begun, (first, end)) = (Instant::now(), phase.archived);
        // All of them in four fifths of the time, so that the last ones get done.
        let every = phase.time.mul_f64(0.8) / u32::try_from(end - first + 1)?;
        let mut day = first;
        while begun.elapsed() < phase.time && !stop.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(500));
            let now = server.anonymous_memory().ok_or("the server has no memory")?;
            watched.memory.push(now);
            watched.acknowledged.push((begun.elapsed(), self.ledger.acknowledged()));
            if now > BOUND {
                return Err(
                    format!("{}: {now} bytes of anonymous memory; kymo said:\n{}", phase.name, server.said()).into()
                );
            }
            if day < end && begun.elapsed() >= every * u32::try_from(day - first + 1)? {
                day += 1;
                self.archive_before(server, end, day)?;
            }
            if self.bodies.time(self.ledger.minute() + MINUTES_A_DAY) > unix_now() {
                return Err("all days up to now are written: make the run shorter".into());
            }
        }
        let count = |name| server.client().metric(name).unwrap_or_default();
        println!(
            "{}: {} snapshots and {} merges were written, {} days are archived, {} job failures, {} snapshots live, log {} MiB",
            phase.name,
            count("kymo_snapshot_files_total "),
            count("kymo_merge_files_total "),
            count("kymo_archived_parts "),
            count("kymo_job_failures_total "),
            count("kymo_snapshots "),
            count("kymo_log_bytes ") >> 20,
        );
        Ok(())
    }

    /// One connection: sends body after body until it is acknowledged, at its time where there is a rate.
    fn write(
        &self,
        client: &crate::client::Client,
        rate: Option<f64>,
        (begun, sent): (Instant, &AtomicU64),
        stop: &AtomicBool,
        outcome: &Mutex<Outcome>,
    ) -> Result<(), String> {
        let (mut body, mut latencies, mut refused) = (String::new(), Latencies::default(), 0);
        let mut result = Ok(());
        'bodies: while !stop.load(Ordering::SeqCst) {
            #[expect(clippy::cast_precision_loss, reason = "requests of an hour")]
            let due =
                rate.map(|rate| begun + Duration::from_secs_f64(sent.fetch_add(1, Ordering::SeqCst) as f64 / rate));
            let number = self.ledger.take();
            self.bodies.write(number, &mut body);
            thread::sleep(due.map_or(Duration::ZERO, |due| due.saturating_duration_since(Instant::now())));
            let mut due = due.unwrap_or_else(Instant::now);
            loop {
                match client.post("/api/write", &body) {
                    Ok(answer) if answer.status == 200 && answer.refused.is_none() => break,
                    Ok(answer) if answer.status == 503 && !stop.load(Ordering::SeqCst) => {
                        refused += 1;
                        thread::sleep(Duration::from_millis(100));
                        due = Instant::now();
                    }
                    failed => {
                        self.ledger.give_up(number);
                        if !stop.load(Ordering::SeqCst) {
                            result = Err(format!("a write failed while the server was well: {failed:?}"));
                        }
                        break 'bodies;
                    }
                }
            }
            self.ledger.acknowledge(number);
            latencies.note(due.elapsed());
        }
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        outcome.writes.extend(&latencies);
        outcome.refused.fetch_add(refused, Ordering::SeqCst);
        result
    }

    /// Writes a line a second to a cluster of its own, and frees it every ten.
    fn free(client: &crate::client::Client, stop: &AtomicBool, frees: &AtomicU64) -> Result<(), String> {
        for second in 0_u64.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let time = unix_now();
            let line = format!("cpu_load,cluster={FREED},hostname=h{},type=node value={second} {time}\n", second % 10);
            let mut failure = check(client.post("/api/write", &line), stop);
            if second % 10 == 9 {
                let selector = json!([[FREED, format!("h{}", second / 10 % 10)]]).to_string();
                failure = failure.and(check(client.post(&format!("/api/free?to={time}"), &selector), stop));
                frees.fetch_add(1, Ordering::SeqCst);
            }
            failure.map_err(|error| format!("writing and freeing: {error}"))?;
            thread::sleep(Duration::from_secs(1));
        }
        Ok(())
    }

    /// Prints what a phase was; gives the most memory.
    fn tell(&self, phase: Phase, outcome: &Outcome) -> Result<u64, Failure> {
        let Outcome { writes, queries, refused, refused_queries, frees, watched } = outcome;
        let memory = &watched.memory;
        let samples = self.bodies.samples();
        println!(
            "{}: writes of {samples} samples{}: {writes}, {} refused with 503",
            phase.name,
            phase.rate.map_or(String::new(), |rate| format!(" at {rate:.0} a second")),
            refused.load(Ordering::SeqCst),
        );
        for (shape, latencies) in SHAPES.iter().zip(queries) {
            println!("{}: {shape}: {latencies}", phase.name);
        }
        println!("{}: {} queries refused, {frees} frees", phase.name, refused_queries.load(Ordering::SeqCst));
        let (first, second) = memory.split_at(memory.len() / 2);
        let most = |part: &[u64]| part.iter().max().copied().unwrap_or_default();
        let end = memory.last().ok_or("a phase has a length")? >> 20;
        let [one, two] = [most(first), most(second)];
        println!(
            "{}: anonymous memory at most {} MiB in the first half, {} MiB in the second, {end} MiB at its end; the bound is {} MiB",
            phase.name,
            one >> 20,
            two >> 20,
            BOUND >> 20
        );
        Ok(one.max(two))
    }

    /// Reads everything that was ever acknowledged; gives the samples, and how long that took.
    fn audit(&self, server: &Server) -> Result<(u64, Duration), Failure> {
        let begun = Instant::now();
        println!("reading {} bodies of {} minutes", self.ledger.acknowledged(), self.ledger.minute());
        let days = self.ledger.minute() / MINUTES_A_DAY + 1;
        let next = AtomicU64::new(0);
        let complaint = Mutex::new(None::<String>);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let asker = Asker { client: server.client(), bodies: &self.bodies, ledger: &self.ledger };
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        // Day by day, all hosts: what is read of an archived day is near to what was read before.
                        let (day, host) = (number / u64::from(HOSTS), u32::try_from(number % u64::from(HOSTS)));
                        let (Ok(host), true) = (host, day < days) else { return };
                        let minutes = day * MINUTES_A_DAY..(day + 1) * MINUTES_A_DAY;
                        if let Err(error) = asker.audit(host, minutes, &mut Random(self.run.seed ^ number)) {
                            next.store(u64::MAX / 2, Ordering::SeqCst);
                            complaint.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
                        }
                    }
                });
            }
        });
        match complaint.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(complaint) => Err(format!("at the end: {complaint}; kymo said:\n{}", server.said()).into()),
            None => Ok((self.ledger.acknowledged() * self.bodies.samples(), begun.elapsed())),
        }
    }
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs().cast_signed())
}

/// Queries of all shapes in turns, ten a second; every answer is compared.
fn ask(asker: &Asker<'_>, seed: u64, stop: &AtomicBool, outcome: &Mutex<Outcome>) -> Result<(), String> {
    let mut random = Random(seed);
    for shape in (0..SHAPES.len()).cycle() {
        match asker.ask(shape, &mut random) {
            Ok(took) => {
                let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
                match took {
                    Some(took) => outcome.queries[shape].note(took),
                    None => drop(outcome.refused_queries.fetch_add(1, Ordering::SeqCst)),
                }
            }
            Err(_) if stop.load(Ordering::SeqCst) => return Ok(()),
            Err(error) => return Err(format!("{}: {error}", SHAPES[shape])),
        }
        if stop.load(Ordering::SeqCst) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Whether a request was taken, or refused for overload; at the end anything may happen.
fn check(answer: Result<crate::client::Answer, String>, stop: &AtomicBool) -> Result<(), String> {
    match answer {
        Ok(answer) if [200, 503].contains(&answer.status) => Ok(()),
        _ if stop.load(Ordering::SeqCst) => Ok(()),
        failed => Err(format!("{failed:?}")),
    }
}
