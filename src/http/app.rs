//! What all handlers share.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use kymo_engine::model::Lsn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::auth::{Access, Auth};
use super::engine::{Engine, Unavailable};
use super::limits::Limits;
use super::metrics::Metrics;
use super::peers::Peers;
use super::tls::{Tls, TlsError, TlsFiles};

/// Tells the time in unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What `POST /api/reload` calls: it tells what has changed, or why nothing has.
pub type Reload = Box<dyn Fn() -> Result<String, String> + Send + Sync>;

/// What the HTTP face is made for.
pub struct State {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// For the time claims of tokens.
    pub clock: Clock,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

/// What can be exchanged while the server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What clients may have.
    pub limits: Limits,
    /// Who may use the API.
    pub access: Access,
    /// The certificate of HTTPS; `None` speaks plain HTTP.
    pub tls: Option<TlsFiles>,
}

/// The settings as they are in force.
pub(super) struct Live {
    pub(super) limits: Limits,
    /// `None` lets everyone in.
    pub(super) auth: Option<Auth>,
    pub(super) tls: Option<Tls>,
}

/// The shared state of the handlers.
pub(super) struct App {
    pub(super) engine: Arc<dyn Engine>,
    clock: Clock,
    live: RwLock<Arc<Live>>,
    pub(super) reload: OnceLock<Reload>,
    pub(super) metrics: Metrics,
    pub(super) peers: Arc<Peers>,
    in_flight: usize,
    /// One permit for each byte of a body that may be held.
    pub(super) bytes: Arc<Semaphore>,
    /// One permit for each request that may evaluate at one time.
    pub(super) queries: Arc<Semaphore>,
    /// For the one overview of what is stored that may be made at one time: it may be as large as all names and runs.
    overviews: Arc<Semaphore>,
    /// One permit for each large body that may be decoded at one time.
    pub(super) decoders: Arc<Semaphore>,
    /// One permit for each piece of a compressed body that is decompressed: half of the cores, so that the threads that
    /// serve connections are never all busy with what some clients make of a few bytes.
    pub(super) inflaters: Semaphore,
    refusals: AtomicU64,
}

impl App {
    pub(super) fn new(state: State, settings: Settings) -> Result<Arc<Self>, TlsError> {
        let live = Live::new(settings, &state.clock)?;
        let limits = &live.limits;
        Ok(Arc::new(Self {
            engine: state.engine,
            clock: state.clock,
            reload: OnceLock::new(),
            metrics: Metrics::default(),
            peers: Arc::default(),
            in_flight: limits.in_flight,
            bytes: Arc::new(Semaphore::new(limits.in_flight)),
            queries: Arc::new(Semaphore::new(limits.queries)),
            overviews: Arc::new(Semaphore::new(1)),
            decoders: Arc::new(Semaphore::new(limits.decoders.max(1))),
            inflaters: Semaphore::new((limits.decoders / 2).max(1)),
            refusals: AtomicU64::new(0),
            live: RwLock::new(Arc::new(live)),
        }))
    }

    /// The settings that are in force now.
    pub(super) fn live(&self) -> Arc<Live> {
        // It is changed by a whole assignment only.
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other settings in force; the names of those that stay because they need a restart.
    pub(super) fn exchange(&self, mut settings: Settings) -> Result<Vec<&'static str>, TlsError> {
        let old = self.live();
        let mut kept = Vec::new();
        let (new, fixed) = (&mut settings.limits, &old.limits);
        for (name, new, fixed) in [
            ("in-flight", &mut new.in_flight, fixed.in_flight),
            ("queries", &mut new.queries, fixed.queries),
            ("decoders", &mut new.decoders, fixed.decoders),
        ] {
            if *new != fixed {
                kept.push(name);
                *new = fixed;
            }
        }
        let live = Arc::new(Live::new(settings, &self.clock)?);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = live;
        Ok(kept)
    }

    /// The time that one request may be held.
    pub(super) fn hold(&self) -> Hold {
        Hold { left: self.live().limits.hold }
    }

    /// Bytes of bodies held now.
    pub(super) fn bytes_held(&self) -> usize {
        self.in_flight.saturating_sub(self.bytes.available_permits())
    }

    /// Whether the next connections may soon find no room.
    pub(super) fn is_crowded(&self, limits: &Limits) -> bool {
        self.metrics.connections_open() > limits.connections as u64 / 4 * 3
    }

    /// When a refused client may come back: 1 to 5 seconds, spread so that they do not all come at once.
    pub(super) fn retry_after_secs(&self) -> u64 {
        1 + self.refusals.fetch_add(1, Ordering::Relaxed) % 5
    }

    /// Calls the engine where waiting is allowed, when it is this request's turn.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        hold: &mut Hold,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let permit = self.turn(hold).await?;
        self.aside(permit, call).await
    }

    /// Calls the engine for an overview of what is stored, when no other one is made and it is this request's turn.
    pub(super) async fn overview<T: Send + 'static>(
        &self,
        hold: &mut Hold,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let only = turn(&self.overviews, hold).await?;
        let permit = self.turn(hold).await?;
        self.aside((only, permit), call).await
    }

    /// Calls the engine with a large body, off the threads that serve connections, when it is this request's turn.
    pub(super) async fn take_in<T: Send + 'static>(
        &self,
        hold: &mut Hold,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let permit = turn(&self.decoders, hold).await?;
        self.aside(permit, call).await
    }

    /// Waits until it is this request's turn to evaluate.
    pub(super) async fn turn(&self, hold: &mut Hold) -> Result<OwnedSemaphorePermit, CallError> {
        turn(&self.queries, hold).await
    }

    async fn aside<T: Send + 'static>(
        &self,
        permits: impl Send + 'static,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let engine = Arc::clone(&self.engine);
        let task = tokio::task::spawn_blocking(move || {
            let result = call(&*engine);
            drop(permits);
            result
        });
        task.await.map_err(|_| CallError::Panicked)
    }

    /// Waits until everything up to `lsn` is durable.
    pub(super) async fn durable(&self, lsn: Lsn, hold: &mut Hold) -> Result<(), Unavailable> {
        let (done, durable) = oneshot::channel();
        self.engine.when_durable(
            lsn,
            Box::new(move |result| {
                // Nobody waits any more when the request was refused or its client has gone.
                drop(done.send(result));
            }),
        );
        match hold.wait(durable).await {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Unavailable { reason: "the store stopped before the write was durable".to_owned() }),
            None => Err(Unavailable { reason: "the write is not durable in time".to_owned() }),
        }
    }
}

impl Live {
    fn new(settings: Settings, clock: &Clock) -> Result<Self, TlsError> {
        let Settings { mut limits, access, tls } = settings;
        // A body that could never get its permits would only be refused later. Permits are counted in 32 bits.
        limits.in_flight = limits.in_flight.min(Semaphore::MAX_PERMITS);
        limits.body = limits.body.min(limits.in_flight).min(u32::MAX as usize);
        limits.decoded_body = limits.decoded_body.min(limits.in_flight).min(u32::MAX as usize);
        limits.json_body = limits.json_body.min(limits.body);
        let auth = Auth::new(&access, Arc::clone(clock));
        Ok(Self { limits, auth, tls: tls.map(Tls::load).transpose()? })
    }
}

async fn turn(permits: &Arc<Semaphore>, hold: &mut Hold) -> Result<OwnedSemaphorePermit, CallError> {
    let permit = hold.wait(Arc::clone(permits).acquire_owned()).await;
    permit.and_then(Result::ok).ok_or(CallError::Overload)
}

/// Why the engine gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// It was not this request's turn in time.
    #[error("the server is overloaded: too many requests are waiting")]
    Overload,
    /// It panicked.
    #[error("the request could not be answered: the server's log has the cause")]
    Panicked,
}

/// What is left of the time that one request may be held. Only waiting uses it up; receiving a body does not.
#[derive(Debug)]
pub(super) struct Hold {
    left: Duration,
}

impl Hold {
    /// Waits for `future`, `None` once the time is used up.
    pub(super) async fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let begin = Instant::now();
        let output = tokio::time::timeout(self.left, future).await.ok();
        self.left = self.left.saturating_sub(begin.elapsed());
        output
    }

    /// Waits for `pause`; false once the time is used up.
    pub(super) async fn pause(&mut self, pause: Duration) -> bool {
        self.wait(tokio::time::sleep(pause)).await.is_some()
    }
}
