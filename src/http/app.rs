//! What all handlers share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kymo_engine::model::Lsn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;

use super::auth::Auth;
use super::engine::{Engine, Unavailable};
use super::limits::Limits;
use super::metrics::Metrics;

/// Tells the time in unix seconds.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What the HTTP face is made for: a store, and who may use it.
pub struct State {
    /// The store.
    pub engine: Arc<dyn Engine>,
    /// The raw Ed25519 key that tokens are verified with; `None` lets everyone in.
    pub jwt_public_key: Option<[u8; 32]>,
    /// For the time claims of tokens.
    pub clock: Clock,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").field("authenticates", &self.jwt_public_key.is_some()).finish_non_exhaustive()
    }
}

/// The shared state of the handlers.
pub(super) struct App {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) auth: Option<Auth>,
    pub(super) limits: Limits,
    pub(super) metrics: Metrics,
    /// One permit for each byte of a body that may be held.
    pub(super) bytes: Arc<Semaphore>,
    /// One permit for each request that may evaluate at one time.
    pub(super) queries: Arc<Semaphore>,
    /// One permit for each large body that may be decoded at one time.
    pub(super) decoders: Arc<Semaphore>,
    refusals: AtomicU64,
}

impl App {
    pub(super) fn new(state: State, mut limits: Limits) -> Arc<Self> {
        // A body that could never get its permits would only be refused later. Permits are counted in 32 bits.
        limits.in_flight = limits.in_flight.min(Semaphore::MAX_PERMITS);
        limits.body = limits.body.min(limits.in_flight).min(u32::MAX as usize);
        limits.json_body = limits.json_body.min(limits.body);
        Arc::new(Self {
            auth: state.jwt_public_key.map(|key| Auth::new(key, state.clock)),
            engine: state.engine,
            metrics: Metrics::default(),
            bytes: Arc::new(Semaphore::new(limits.in_flight)),
            queries: Arc::new(Semaphore::new(limits.queries)),
            decoders: Arc::new(Semaphore::new(limits.decoders.max(1))),
            refusals: AtomicU64::new(0),
            limits,
        })
    }

    /// The time that one request may be held.
    pub(super) fn hold(&self) -> Hold {
        Hold { left: self.limits.hold }
    }

    /// Bytes of bodies held now.
    pub(super) fn bytes_held(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.bytes.available_permits())
    }

    /// Whether the next connections may soon find no room.
    pub(super) fn is_crowded(&self) -> bool {
        self.metrics.connections_open() > self.limits.connections as u64 / 4 * 3
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
        permit: OwnedSemaphorePermit,
        call: impl FnOnce(&dyn Engine) -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let engine = Arc::clone(&self.engine);
        let task = tokio::task::spawn_blocking(move || {
            let result = call(&*engine);
            drop(permit);
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
