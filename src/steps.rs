//! The threads that run the store's steps: commits, the work on files, and what is looked at now and then.

use crate::background::step_back;
use crate::nodes::{NodeProvider, UsedNodes};
use kymo_engine::env::{Env, System};
use kymo_engine::store::{Pace, Progress, Store, Unavailable};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::Handle;
use tracing::{error, info, warn};

/// The threads, until they are stopped.
pub(crate) struct Steps {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    rounds: Arc<AtomicU64>,
}

/// How long a step waits before it looks again whether it shall stop.
const PATIENCE: Duration = Duration::from_millis(200);
/// Pause after a job on files has failed.
const BACK_OFF: Duration = Duration::from_secs(5);
/// Pause after days were not archived.
const ARCHIVE_BACK_OFF: Duration = Duration::from_mins(1);
/// Pause between two looks for days to archive.
const ARCHIVE_EVERY: Duration = Duration::from_secs(20);
/// Steps of patience between two measurements of the memory of names.
const MEASURE_EVERY: u32 = 25;
/// Steps of patience between two looks at the retention.
const RETENTION_EVERY: u32 = 300;

impl Steps {
    pub(crate) fn start(store: &Arc<Store>, retention: Retention) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = Arc::new(AtomicU64::new(0));
        let commit = {
            let (store, stop, rounds) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&rounds));
            move || {
                while !stop.load(Ordering::Acquire) {
                    rounds.fetch_add(1, Ordering::Relaxed);
                    match store.commit_step() {
                        Progress::Done => {}
                        Progress::Idle => store.wait_for_work(PATIENCE),
                        Progress::Blocked | Progress::Failed => thread::sleep(PATIENCE),
                    }
                }
            }
        };
        let background = {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            move || {
                step_back();
                let mut background = Background::new(retention);
                while !stop.load(Ordering::Acquire) {
                    background.round(&store);
                    thread::sleep(PATIENCE);
                }
            }
        };
        let compaction = {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            move || while_running(&stop, || compact(&store, &stop))
        };
        let archive = {
            let (store, stop) = (Arc::clone(store), Arc::clone(&stop));
            move || while_running(&stop, || archive(&store, &stop))
        };
        let threads = vec![
            thread::Builder::new().name("kymo-archive".to_owned()).spawn(archive)?,
            thread::Builder::new().name("kymo-commit".to_owned()).spawn(commit)?,
            thread::Builder::new().name("kymo-background".to_owned()).spawn(background)?,
            thread::Builder::new().name("kymo-compact".to_owned()).spawn(compaction)?,
        ];
        Ok(Self { stop, threads, rounds })
    }

    /// Grows while the thread that commits makes its rounds, with work or without.
    pub(crate) fn rounds(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.rounds)
    }

    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a thread of the store has panicked");
            }
        }
    }
}

/// What the background thread remembers from round to round.
#[derive(Debug)]
struct Background {
    retention: Retention,
    round: u32,
    /// The round in which it was last told that the next segment cannot be prepared.
    told_unprepared: Option<u32>,
    /// Whether it was told that writes are refused.
    told_refusing: bool,
}

impl Background {
    fn new(retention: Retention) -> Self {
        Self { retention, round: 0, told_unprepared: None, told_refusing: false }
    }

    fn round(&mut self, store: &Store) {
        // A full disk says so at once and then every minute.
        match store.prepare_step() {
            Ok(_) => self.told_unprepared = None,
            Err(why) if self.told_unprepared.is_none_or(|told| self.round.wrapping_sub(told) >= RETENTION_EVERY) => {
                warn!(%why, "cannot prepare the next segment of the log");
                self.told_unprepared = Some(self.round);
            }
            Err(_) => {}
        }
        self.tell_refusing(&store.ready());
        if self.round.is_multiple_of(MEASURE_EVERY) {
            store.measure_step();
        }
        if self.round.is_multiple_of(RETENTION_EVERY) {
            self.retention.round(store);
        }
        self.round = self.round.wrapping_add(1);
    }

    /// Says once that writes are refused until something changes, and once that they are not any more.
    fn tell_refusing(&mut self, ready: &Result<(), Unavailable>) {
        match ready {
            Err(why @ (Unavailable::Failed(_) | Unavailable::Full(_))) if !self.told_refusing => {
                error!(%why, "writes are refused");
                self.told_refusing = true;
            }
            Ok(()) if self.told_refusing => {
                warn!("writes are taken again");
                self.told_refusing = false;
            }
            _ => {}
        }
    }
}

/// Deletes what is older than the retention, but not the data of hosts that are in use.
#[derive(Debug)]
pub(crate) struct Retention {
    provider: Option<NodeProvider>,
    runtime: Handle,
    failures: Arc<AtomicU64>,
}

impl Retention {
    pub(crate) fn new(provider: Option<NodeProvider>, runtime: Handle) -> Self {
        Self { provider, runtime, failures: Arc::default() }
    }

    /// How often the provider did not answer; nothing is deleted then.
    pub(crate) fn failures(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.failures)
    }

    fn round(&self, store: &Store) {
        let Some(limit) = store.retention_is_due() else { return };
        let used = match &self.provider {
            None => UsedNodes::new(),
            Some(provider) => match self.runtime.block_on(provider.used_since(limit)) {
                Ok(used) => used,
                Err(why) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    warn!(%why, "the backend does not tell which hosts are in use: nothing is deleted");
                    return;
                }
            },
        };
        let is_exempt = |cluster: &str, host: &str| used.get(cluster).is_some_and(|hosts| hosts.contains(host));
        match store.retention_step(&is_exempt) {
            Ok(Progress::Done) => info!("data older than the retention were removed"),
            Ok(_) => {}
            Err(why) => warn!(%why, "retention failed and is tried again"),
        }
    }
}

/// Works now and then: each round says how long to wait for the next.
fn while_running(stop: &AtomicBool, mut round: impl FnMut() -> Duration) {
    step_back();
    let mut wait = PATIENCE;
    let mut waited = Duration::ZERO;
    while !stop.load(Ordering::Acquire) {
        if waited >= wait {
            wait = round();
            waited = Duration::ZERO;
        }
        thread::sleep(PATIENCE);
        waited += PATIENCE;
    }
}

/// Archives what is due; how long to wait before the next look.
fn archive(store: &Store, stop: &AtomicBool) -> Duration {
    let mut has_worked = false;
    let (mut pace, clock) = (Pace::default(), System::default());
    while !stop.load(Ordering::Acquire) {
        let begun = clock.monotonic();
        match store.archive_step() {
            Ok(Progress::Done) => {
                has_worked = true;
                thread::sleep(pace.rest(store, clock.monotonic().saturating_sub(begun)));
            }
            Ok(_) => break,
            Err(why) => {
                error!(%why, "days were not archived, they stay hot and it is tried again");
                return ARCHIVE_BACK_OFF;
            }
        }
    }
    if has_worked {
        info!("days that have passed the retention are archived");
    }
    ARCHIVE_EVERY
}

/// Runs the work on files while there is some; how long to wait before the next look.
fn compact(store: &Store, stop: &AtomicBool) -> Duration {
    let (mut pace, clock) = (Pace::default(), System::default());
    while !stop.load(Ordering::Acquire) {
        let begun = clock.monotonic();
        match store.compact_step(false) {
            Ok(Progress::Done) => thread::sleep(pace.rest(store, clock.monotonic().saturating_sub(begun))),
            Ok(_) => return PATIENCE,
            Err(why) => {
                warn!(%why, "work on snapshots failed and is tried again; nothing is lost by it");
                return BACK_OFF;
            }
        }
    }
    PATIENCE
}
