//! A partition of a JetStream stream: at least once, and in effect exactly once.
//!
//! Owns the rule that a message is acknowledged only after its samples are durable. What was not acknowledged comes
//! again after [`ACK_WAIT`], which is harmless: the same slots get the same values. A store that takes nothing is
//! asked again, and meanwhile nothing is pulled, nothing is acknowledged and nothing is given back: the stream is the
//! queue. Two batches are in flight at most: one that is written while the one before waits for the device.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::consumer::pull::{Batch, Config as ConsumerConfig};
use async_nats::jetstream::consumer::{AckPolicy, PullConsumer};
use async_nats::jetstream::message::Acker;
use async_nats::jetstream::stream::{Config as StreamConfig, StorageType};
use async_nats::jetstream::{self, Context, Message};
use futures_util::StreamExt as _;
use futures_util::stream::ReadyChunks;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::BACK_OFF;
use super::intake::{Given, Intake};
use crate::config::JetStream;

/// When the broker sends again what was not acknowledged. A commit takes milliseconds; a disk in trouble seconds.
const ACK_WAIT: Duration = Duration::from_secs(10);
/// Bytes of one pull. The broker's longest message fits in any case.
const PULL_BYTES: usize = 8 << 20;
/// How long one pull waits for messages.
const PULL_TIME: Duration = Duration::from_secs(20);

/// One consumer of one stream.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    stream: String,
    /// What the whole stream takes in, all partitions.
    subjects: String,
    durable: String,
    filter: String,
    create: bool,
    max_ack_pending: u32,
    max_age: Duration,
}

impl Partition {
    pub(super) fn new(config: &JetStream, durable: String, filter: String, max_age: Duration) -> Self {
        Self {
            stream: config.stream.clone().unwrap_or_default(),
            subjects: config.subject.as_deref().unwrap_or_default().replace(JetStream::PARTITION, "*"),
            durable,
            filter,
            create: config.create,
            max_ack_pending: config.max_ack_pending,
            max_age,
        }
    }

    fn batch(&self) -> usize {
        self.max_ack_pending as usize / 2
    }
}

/// The durable name and the filter of each consumer.
pub(super) fn consumers(config: &JetStream) -> Vec<(String, String)> {
    let (Some(_), Some(subject)) = (&config.stream, &config.subject) else { return Vec::new() };
    if config.partitions.is_empty() {
        return vec![(config.durable.clone(), subject.clone())];
    }
    let one = |partition: &u32| {
        let number = partition.to_string();
        (format!("{}-{number}", config.durable), subject.replace(JetStream::PARTITION, &number))
    };
    config.partitions.iter().map(one).collect()
}

/// Consumes a partition until it is stopped.
pub(super) async fn consume(client: Client, partition: Partition, intake: Intake) {
    let context = jetstream::new(client.clone());
    let mut unsettled = None;
    while !intake.is_stopped() {
        let outcome = tokio::select! {
            () = intake.stopped() => break,
            outcome = find(&context, &partition) => outcome,
        };
        let why = match outcome {
            Ok(consumer) => {
                intake.status.solved(&partition.durable);
                info!(stream = partition.stream, consumer = partition.durable, "consuming");
                read(&client, &consumer, &partition, &intake, &mut unsettled).await
            }
            Err(why) => why,
        };
        if intake.is_stopped() {
            break;
        }
        if intake.status.problem(&partition.durable, &why) {
            warn!(stream = partition.stream, consumer = partition.durable, why, "not consuming, trying again");
        }
        tokio::select! {
            () = intake.stopped() => {}
            () = tokio::time::sleep(BACK_OFF) => {}
        }
    }
    settled(&mut unsettled).await;
}

/// Pulls and writes until that does not work any more, and says why.
async fn read(
    client: &Client,
    consumer: &PullConsumer,
    partition: &Partition,
    intake: &Intake,
    unsettled: &mut Option<JoinHandle<()>>,
) -> String {
    let mut connection = intake.status.connection();
    loop {
        // A question that is asked while nobody is there would wait in the client's buffer.
        let connected = async { connection.wait_for(|(_, is_up)| *is_up).await.map_or(0, |now| now.0) };
        let connects = tokio::select! {
            () = intake.stopped() => return "stopped".to_owned(),
            connects = connected => connects,
        };
        let bytes = PULL_BYTES.max(client.server_info().max_payload.saturating_mul(2));
        let pull = consumer.batch().max_messages(partition.batch()).max_bytes(bytes).expires(PULL_TIME).messages();
        let mut messages: ReadyChunks<Batch> = match pull.await {
            Ok(batch) => batch.ready_chunks(partition.batch()),
            Err(error) => return format!("cannot pull: {error}"),
        };
        let mut pulled = 0;
        loop {
            let group = tokio::select! {
                () = intake.stopped() => return "stopped".to_owned(),
                // The broker that was asked has gone, and the question with it.
                _ = connection.wait_for(|now| now.0 != connects) => None,
                group = messages.next() => group,
            };
            let Some(group) = group else { break };
            let mut end = None;
            let mut good = Vec::with_capacity(group.len());
            for message in group {
                match message {
                    Ok(message) => good.push(message),
                    Err(error) => end = Some(error.to_string()),
                }
            }
            pulled += good.len();
            if !good.is_empty() && !take(good, intake, unsettled).await {
                return "stopped".to_owned();
            }
            match end {
                // The bytes of a pull were used up: that is how a batch ends too.
                Some(_) if pulled > 0 => break,
                Some(why) => return why,
                None => {}
            }
        }
    }
}

/// Gives messages to the store; they are acknowledged when they are durable. Waits for the ones before, so that not
/// more than two groups are in flight. False if it was stopped before all were taken.
async fn take(messages: Vec<Message>, intake: &Intake, unsettled: &mut Option<JoinHandle<()>>) -> bool {
    let (mut bodies, mut ackers) = (Vec::with_capacity(messages.len()), Vec::with_capacity(messages.len()));
    for message in messages {
        intake.source.received();
        if let Ok(info) = message.info() {
            intake.source.delivered(info.delivered > 1, info.pending);
        }
        let (message, acker) = message.split();
        bodies.push(message.payload);
        ackers.push(acker);
    }
    let Some(Given { lsn, failed }) = intake.give(bodies).await else { return false };
    let mut index = 0..;
    ackers.retain(|_| index.next().is_some_and(|index| !failed.contains(&index)));
    settled(unsettled).await;
    let intake = intake.clone();
    *unsettled = Some(tokio::spawn(async move {
        match intake.durable(lsn).await {
            Ok(()) => acknowledge(&ackers, &intake).await,
            Err(why) => {
                warn!(subject = intake.source.subject(), %why, "messages are not acknowledged, they come again");
            }
        }
    }));
    true
}

async fn acknowledge(ackers: &[Acker], intake: &Intake) {
    for acker in ackers {
        // One that is lost on its way brings the message again, which is harmless.
        match acker.ack().await {
            Ok(()) => intake.source.acknowledged(),
            Err(error) => warn!(%error, "an acknowledgement could not be sent: the message comes again"),
        }
    }
}

async fn settled(unsettled: &mut Option<JoinHandle<()>>) {
    if let Some(task) = unsettled.take()
        && let Err(error) = task.await
    {
        warn!(%error, "messages were not acknowledged, they come again");
    }
}

/// The consumer, made if it is missing and that is wanted; otherwise the reason says what to do.
async fn find(context: &Context, partition: &Partition) -> Result<PullConsumer, String> {
    let Partition { stream: name, subjects, durable, filter, create, max_ack_pending, .. } = partition;
    let wanted = ConsumerConfig {
        durable_name: Some(durable.clone()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        // Never given up: a message may be late, not lost.
        max_deliver: -1,
        filter_subject: filter.clone(),
        max_ack_pending: i64::from(*max_ack_pending),
        ..ConsumerConfig::default()
    };
    let consumer: PullConsumer = if *create {
        let config = StreamConfig {
            name: name.clone(),
            subjects: vec![subjects.clone()],
            storage: StorageType::File,
            max_age: partition.max_age,
            ..StreamConfig::default()
        };
        let stream = context.get_or_create_stream(config).await.map_err(|error| format!("stream '{name}': {error}"))?;
        let consumer = stream.get_or_create_consumer(durable, wanted).await;
        consumer.map_err(|error| format!("consumer '{durable}' of stream '{name}': {error}"))?
    } else {
        let stream = context.get_stream(name).await.map_err(|error| {
            format!(
                "stream '{name}': {error}; make it, as with: nats stream add {name} --subjects '{subjects}' --storage \
                 file --defaults, or set 'nats-jetstream.create'"
            )
        })?;
        stream.get_consumer(durable).await.map_err(|error| {
            format!(
                "consumer '{durable}' of stream '{name}': {error}; make it, as with: nats consumer add {name} {durable} \
                 --pull --ack explicit --filter '{filter}' --max-pending {max_ack_pending} --deliver all --defaults, or \
                 set 'nats-jetstream.create'"
            )
        })?
    };
    let found = &consumer.cached_info().config;
    if found.ack_policy != AckPolicy::Explicit {
        return Err(format!("consumer '{durable}' of stream '{name}' does not ask for acknowledgements: make it anew"));
    }
    if found.filter_subject != *filter {
        return Err(format!(
            "consumer '{durable}' of stream '{name}' filters '{}' and not '{filter}': remove it when it has nothing \
             pending, or choose another 'nats-jetstream.durable'",
            found.filter_subject
        ));
    }
    Ok(consumer)
}
