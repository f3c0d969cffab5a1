//! Receiving the body of a request within its limits.
//!
//! Owns the one place where bytes of clients pile up. A byte is read only when it has a permit: waiting for permits is
//! the back-pressure, and a body of known length waits before its first byte, holding nothing. Tells a body that
//! arrived whole from one that was cut.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::app::{App, CallError, Hold};
use super::json::JsonError;

/// How long what a refused client still sends is read and dropped, so that it gets to read the answer: closing a socket
/// with unread bytes makes the kernel throw the answer away.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes of a body that are worked on at once: that takes less time than handing them to another thread is worth.
const SMALL: usize = 64 << 10;

/// A received body. Its permits are given back when it is dropped.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    /// False when the client went away, stalled, or broke the framing before the end.
    pub(super) complete: bool,
    _permits: Option<OwnedSemaphorePermit>,
}

impl Received {
    /// Whether it may be worked on by the threads that serve connections.
    pub(super) fn is_small(&self) -> bool {
        self.bytes.len() <= SMALL
    }

    /// Reads it as a document, which is wrong if the body was cut.
    pub(super) async fn decode<T: Send + 'static>(
        self,
        app: &App,
        hold: &mut Hold,
        decode: fn(&[u8]) -> Result<T, JsonError>,
    ) -> Result<Result<T, JsonError>, CallError> {
        let whole = move |body: Self| match decode(&body.bytes) {
            Ok(_) if !body.complete => Err(JsonError::Cut),
            decoded => decoded,
        };
        if self.is_small() { Ok(whole(self)) } else { app.call(hold, move |_| whole(self)).await }
    }
}

/// Why a body was not received.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is longer than it may be.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// Its bytes got no permit in time.
    #[error("the server is overloaded: too many bytes of writes are waiting")]
    Overload,
}

/// Receives a body of at most `limit` bytes.
pub(super) async fn receive(app: &App, mut body: Body, limit: usize, hold: &mut Hold) -> Result<Received, BodyError> {
    let result = fill(app, &mut body, limit, hold).await;
    if result.is_err() {
        discard(body).await;
    }
    result
}

async fn fill(app: &App, body: &mut Body, limit: usize, hold: &mut Hold) -> Result<Received, BodyError> {
    let too_long = BodyError::TooLong { limit };
    let announced = match body.size_hint().exact() {
        Some(length) => usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(too_long)?,
        None => 0,
    };
    let mut permits = None;
    take(app, &mut permits, announced, hold).await?;
    let mut permitted = announced;
    let mut bytes = Vec::with_capacity(announced);

    let end = Instant::now() + app.limits.body_time;
    let complete = loop {
        let by = end.min(Instant::now() + app.limits.stall);
        let data = match timeout_at(by, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(None) => break true,
            Ok(Some(Err(_))) | Err(_) => break false,
        };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(BodyError::TooLong { limit });
        }
        take(app, &mut permits, length.saturating_sub(permitted), hold).await?;
        permitted = permitted.max(length);
        bytes.extend_from_slice(&data);
    };
    Ok(Received { bytes, complete, _permits: permits })
}

/// Takes `count` more permits.
async fn take(
    app: &App,
    permits: &mut Option<OwnedSemaphorePermit>,
    count: usize,
    hold: &mut Hold,
) -> Result<(), BodyError> {
    let count = u32::try_from(count).map_err(|_| BodyError::Overload)?;
    if count == 0 {
        return Ok(());
    }
    let more = hold.wait(Arc::clone(&app.bytes).acquire_many_owned(count)).await;
    let more = more.and_then(Result::ok).ok_or(BodyError::Overload)?;
    match permits {
        Some(permits) => permits.merge(more),
        None => *permits = Some(more),
    }
    Ok(())
}

/// Reads and drops what a client still sends, for a moment.
pub(super) async fn discard(mut body: Body) {
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    if timeout(LINGER, rest).await.is_err() {
        tracing::debug!("a refused client is still sending");
    }
}
