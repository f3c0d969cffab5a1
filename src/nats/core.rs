//! A subscription of core NATS: at most once.
//!
//! The broker keeps nothing, so a store that takes no writes for a while must not make it drop what comes meanwhile:
//! messages wait here, in order, up to a bound in bytes. What comes above it is dropped and counted.

use std::sync::Arc;

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use super::BACK_OFF;
use super::intake::Intake;

/// Messages that are given to the store at once, at most.
const AT_ONCE: usize = 64;

/// A message, and the room that it takes until the store has it.
type Held = (Message, OwnedSemaphorePermit);

/// Reads a subject until it is stopped, then gives the store what has come.
pub(super) async fn subscribe(
    client: Client,
    subject: String,
    group: Option<String>,
    intake: Intake,
    held_bytes: usize,
) {
    let (queue, held) = mpsc::unbounded_channel();
    let writer = tokio::spawn(write(held, intake.clone()));
    let room = Arc::new(Semaphore::new(held_bytes.min(Semaphore::MAX_PERMITS)));
    // A subscription outlives reconnects; it ends only with its client, or where the client could not even be asked.
    while !intake.is_stopped() {
        tokio::select! {
            () = intake.stopped() => {}
            () = receive(&client, &subject, group.as_deref(), &intake, &room, &queue) => tokio::time::sleep(BACK_OFF).await,
        }
    }
    drop(queue);
    if let Err(error) = writer.await {
        warn!(%error, subject, "messages that were received could not be written");
    }
}

async fn receive(
    client: &Client,
    subject: &str,
    group: Option<&str>,
    intake: &Intake,
    room: &Arc<Semaphore>,
    queue: &mpsc::UnboundedSender<Held>,
) {
    let subscribed = match group {
        Some(group) => client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
        None => client.subscribe(subject.to_owned()).await,
    };
    let mut messages = match subscribed {
        Ok(messages) => messages,
        Err(error) => {
            warn!(%error, subject, "cannot subscribe, trying again");
            return;
        }
    };
    while let Some(message) = messages.next().await {
        intake.source.received();
        let size = u32::try_from(message.payload.len().max(1)).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(room).try_acquire_many_owned(size) else {
            intake.source.dropped();
            continue;
        };
        if queue.send((message, permit)).is_err() {
            return;
        }
    }
}

/// Gives messages to the store, several at once where several have come.
async fn write(mut held: mpsc::UnboundedReceiver<Held>, intake: Intake) {
    let mut group = Vec::with_capacity(AT_ONCE);
    while held.recv_many(&mut group, AT_ONCE).await > 0 {
        let (messages, permits): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        let given = intake.give(messages.into_iter().map(|message: Message| message.payload).collect()).await;
        drop(permits);
        if given.is_none() {
            warn!(subject = intake.source.subject(), "messages were dropped: the store took no writes up to the stop");
            return;
        }
    }
}
