//! `/api/write`: line protocol in, an empty 200 out once it is durable.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::Instant;

use super::admit::Admitted;
use super::app::{App, CallError, Hold};
use super::auth::Bearer;
use super::body::{Received, receive_lines};
use super::engine::{Engine, Unavailable, Written};
use super::param::param;
use super::reply::{body_error, call_error, json_error, not_durable, written};

/// How often a store that takes no writes is asked again while the request may be held: a full disk may get space, and
/// the common sender drops what is refused.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Answers a write.
pub(super) async fn write(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let begin = Instant::now();
    let (head, body) = request.into_parts();
    let cluster = param(head.uri.query(), "cluster").unwrap_or_default().into_owned();
    drop(head);
    let mut hold = app.hold();
    let body = match receive_lines(&app, body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let delivery = Delivery { body, cluster, bearer };
    let (mut body, result) = match hand_over(&app, delivery, &mut hold).await {
        Ok((body, Ok(result))) => (body, result),
        Ok((_, Err(error))) => return not_durable(&app, &error.reason),
        Err(error) => return call_error(&app, error),
    };
    // The connection's buffer is free for what comes next, while this waits for the device.
    body.consume();
    app.metrics.lines(&result);
    if !body.complete {
        // Whole lines before the cut are kept, but what the sender meant to send is not known: it has to send again.
        return json_error(StatusCode::BAD_REQUEST, "unexpected EOF: the body ended early and is not acknowledged");
    }
    if let Err(error) = app.durable(result.lsn, &mut hold).await {
        return not_durable(&app, &error.reason);
    }
    app.metrics.write_took(begin.elapsed());
    let mut response = match &result.first_client_error {
        Some(error) => json_error(StatusCode::BAD_REQUEST, error),
        None => written(),
    };
    if let Some(refused) = refused(&result) {
        response.headers_mut().insert("kymo-lines-refused", refused);
    }
    response
}

/// What a sender delivers.
#[derive(Debug)]
struct Delivery {
    body: Received,
    cluster: String,
    bearer: Bearer,
}

impl Delivery {
    fn give(&self, engine: &dyn Engine) -> Result<Written, Unavailable> {
        engine.write(&self.body.bytes, &self.cluster, self.body.complete, self.bearer.clusters())
    }
}

/// Gives the lines to the store, again and again while it takes none and the request may be held. Gives back the body.
async fn hand_over(
    app: &App,
    mut delivery: Delivery,
    hold: &mut Hold,
) -> Result<(Received, Result<Written, Unavailable>), CallError> {
    loop {
        let taken;
        (delivery, taken) = if delivery.body.is_small() {
            let taken = delivery.give(&*app.engine);
            (delivery, taken)
        } else {
            let give = move |engine: &dyn Engine| {
                let taken = delivery.give(engine);
                (delivery, taken)
            };
            app.take_in(hold, give).await?
        };
        if taken.is_ok() || !hold.pause(ASK_AGAIN).await {
            return Ok((delivery.body, taken));
        }
    }
}

/// `<total>; <reason>=<n>, ...`, the most frequent reason first; `None` if no line was refused.
fn refused(result: &Written) -> Option<HeaderValue> {
    if result.refused == 0 {
        return None;
    }
    let mut reasons: Vec<_> = result.reasons.iter().filter(|(_, count)| *count > 0).collect();
    reasons.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let mut text = result.refused.to_string();
    for (index, (name, count)) in reasons.into_iter().enumerate() {
        let separator = if index == 0 { "; " } else { ", " };
        // Writing to a string does not fail.
        write!(text, "{separator}{name}={count}").ok()?;
    }
    HeaderValue::try_from(text).ok()
}
