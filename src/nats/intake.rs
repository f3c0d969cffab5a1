//! Where all messages pass on their way to the store.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kymo_engine::model::Lsn;
use tokio::sync::{oneshot, watch};
use tracing::{error, warn};

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

/// What became of bodies that were given to the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// Up to here all that were taken are durable together.
    pub(super) lsn: Lsn,
    /// The indices of those that were not, because writing them panicked.
    pub(super) failed: Vec<usize>,
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

    /// Gives bodies to the store in their order, again and again while it takes none. `None` if it was stopped before
    /// all were taken.
    pub(super) async fn give(&self, bodies: Vec<Bytes>) -> Option<Given> {
        let bodies: Arc<[Bytes]> = bodies.into();
        let (mut next, mut given) = (0, Given::default());
        let mut told = false;
        loop {
            let (intake, all) = (self.clone(), Arc::clone(&bodies));
            // Decoding takes its time, which is not that of the threads that serve connections.
            let refusal;
            (next, given, refusal) = tokio::task::spawn_blocking(move || intake.write(&all, next, given)).await.ok()?;
            let Some(why) = refusal else { return Some(given) };
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

    /// Writes from `next` on until the store refuses one: which one is next then, what became of those before it, and
    /// the refusal.
    fn write(&self, bodies: &[Bytes], next: usize, mut given: Given) -> (usize, Given, Option<Unavailable>) {
        for (index, body) in bodies.iter().enumerate().skip(next) {
            let write = || self.engine.write(body, &self.cluster, true, None);
            match panic::catch_unwind(AssertUnwindSafe(write)) {
                Ok(Ok(written)) => {
                    given.lsn = given.lsn.max(written.lsn);
                    self.source.taken(body.len(), &written);
                }
                Ok(Err(why)) => return (index, given, Some(why)),
                // A defect must not take those behind it along.
                Err(_) => {
                    given.failed.push(index);
                    self.source.failed();
                    error!(subject = self.source.subject(), "a message was not written: that panicked");
                }
            }
        }
        (bodies.len(), given, None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Written;
    use crate::http::tests::Fake;

    #[tokio::test]
    async fn a_message_that_cannot_be_decoded_is_counted_and_the_ones_behind_it_are_taken() {
        let engine = Fake::writing(|body| {
            assert_ne!(body, b"bad", "as a bug in decoding");
            Ok(Written { lsn: Lsn(7), accepted: 1, ..Written::default() })
        });
        let status = Arc::new(super::super::Status::new("nats://a".to_owned()));
        let (_running, stop) = watch::channel(false);
        let bounds = super::super::Bounds { held_bytes: 1, max_age: Duration::ZERO };
        let shared = Shared { engine: Arc::new(engine), status: Arc::clone(&status), stop, bounds };
        let intake = Intake::new(&shared, status.source("core", "a"), None);
        let bodies = [&b"good"[..], b"bad", b"good"].map(Bytes::from_static);
        assert_eq!(intake.give(bodies.to_vec()).await, Some(Given { lsn: Lsn(7), failed: vec![1] }));
        let metrics = status.metrics_text();
        for line in [
            "kymo_nats_lines_accepted_total{kind=\"core\",subject=\"a\"} 2\n",
            "kymo_nats_messages_failed_total{kind=\"core\",subject=\"a\"} 1\n",
        ] {
            assert!(metrics.contains(line), "{line}\n{metrics}");
        }
    }
}
