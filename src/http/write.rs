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
    let cluster = param(head.uri.query(), "cluster").unwrap_or_default();
    let mut hold = app.hold();
    let body = match receive_lines(&app, body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let delivery = Arc::new(Delivery { body, cluster: cluster.into_owned(), bearer });
    let result = match hand_over(&app, &delivery, &mut hold).await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => return not_durable(&app, &error.reason),
        Err(error) => return call_error(&app, error),
    };
    app.metrics.lines(&result);
    if !delivery.body.complete {
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

/// Gives the lines to the store, again and again while it takes none and the request may be held.
async fn hand_over(
    app: &App,
    delivery: &Arc<Delivery>,
    hold: &mut Hold,
) -> Result<Result<Written, Unavailable>, CallError> {
    loop {
        let taken = if delivery.body.is_small() {
            delivery.give(&*app.engine)
        } else {
            let delivery = Arc::clone(delivery);
            app.take_in(hold, move |engine| delivery.give(engine)).await?
        };
        match taken {
            Err(error) if !hold.pause(ASK_AGAIN).await => return Ok(Err(error)),
            Err(_) => {}
            taken => return Ok(taken),
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
