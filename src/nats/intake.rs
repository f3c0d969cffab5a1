//! Where all messages pass on their way to the store.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kymo_engine::model::Lsn;
use tokio::sync::{oneshot, watch};
use tracing::warn;

use super::Shared;
use super::status::Source;
use crate::http::{Engine, Unavailable};

/// How often a store that takes no writes is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// The way from one subject to the store.
#[derive(Clone)]
pub(super) struct Intake {
    engine: Arc<dyn Engine>,
    pub(super) status: Arc<super::Status>,
    pub(super) source: Arc<Source>,
    pub(super) stop: watch::Receiver<bool>,
    cluster: Arc<str>,
}

impl Intake {
    pub(super) fn new(shared: &Shared, source: Arc<Source>, cluster: Option<String>) -> Self {
        Self {
            engine: Arc::clone(&shared.engine),
            status: Arc::clone(&shared.status),
            source,
            stop: shared.stop.clone(),
            cluster: cluster.unwrap_or_default().into(),
        }
    }

    /// Waits until this is to end.
    pub(super) async fn stopped(&self) {
        // The sender goes only after it has said so.
        drop(self.stop.clone().wait_for(|stop| *stop).await);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Gives bodies to the store in their order, again and again while it takes none. Gives the LSN up to which all of
    /// them are durable together; `None` if it was stopped before all were taken.
    pub(super) async fn give(&self, bodies: Vec<Bytes>) -> Option<Lsn> {
        let bodies: Arc<[Bytes]> = bodies.into();
        let mut taken = 0;
        let mut lsn = Lsn::default();
        let mut told = false;
        loop {
            let (intake, from, all) = (self.clone(), taken, Arc::clone(&bodies));
            // Decoding takes its time, which is not that of the threads that serve connections.
            let given = tokio::task::spawn_blocking(move || intake.write(&all[from..])).await;
            let (count, up_to, refusal) = given.ok()?;
            taken += count;
            lsn = lsn.max(up_to);
            let Some(why) = refusal else { return Some(lsn) };
            if self.is_stopped() {
                return None;
            }
            self.source.waited();
            if !std::mem::replace(&mut told, true) {
                warn!(subject = self.source.subject(), %why, "messages wait: the store takes no writes");
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Writes until the store refuses one: how many it took, up to where, and the refusal.
    fn write(&self, bodies: &[Bytes]) -> (usize, Lsn, Option<Unavailable>) {
        let mut lsn = Lsn::default();
        for (index, body) in bodies.iter().enumerate() {
            match self.engine.write(body, &self.cluster, true, None) {
                Ok(written) => {
                    lsn = lsn.max(written.lsn);
                    self.source.taken(body.len(), &written);
                }
                Err(why) => return (index, lsn, Some(why)),
            }
        }
        (bodies.len(), lsn, None)
    }

    /// Waits until everything up to `lsn` is durable.
    pub(super) async fn durable(&self, lsn: Lsn) -> Result<(), Unavailable> {
        let (done, durable) = oneshot::channel();
        // Nobody waits any more when the task was ended.
        self.engine.when_durable(lsn, Box::new(move |outcome| drop(done.send(outcome))));
        let gone = || Err(Unavailable { reason: "the store stopped before the messages were durable".to_owned() });
        durable.await.unwrap_or_else(|_| gone())
    }
}
