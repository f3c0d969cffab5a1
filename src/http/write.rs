//! `/api/write`: line protocol in, an empty 200 out once it is durable.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::Instant;

use super::app::{App, Hold};
use super::body::receive;
use super::engine::{Unavailable, Written};
use super::param::param;
use super::reply::{body_error, json_error, unavailable, written};

/// How often a store that takes no writes is asked again while the request may be held: a full disk may get space, and
/// the common sender drops what is refused.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Answers a write.
pub(super) async fn write(State(app): State<Arc<App>>, request: Request) -> Response {
    let begin = Instant::now();
    let (head, body) = request.into_parts();
    let cluster = param(head.uri.query(), "cluster").unwrap_or_default();
    let mut hold = app.hold();
    let body = match receive(&app, body, app.limits.body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let result = match hand_over(&app, &body.bytes, &cluster, body.complete, &mut hold).await {
        Ok(result) => result,
        Err(error) => return unavailable(&app, &error.reason),
    };
    app.metrics.lines(&result);
    if !body.complete {
        // Whole lines before the cut are kept, but what the sender meant to send is not known: it has to send again.
        return json_error(StatusCode::BAD_REQUEST, "unexpected EOF: the body ended early and is not acknowledged");
    }
    if let Err(error) = app.durable(result.lsn, &mut hold).await {
        return unavailable(&app, &error.reason);
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

/// Gives the lines to the store, again and again while it takes none and the request may be held.
async fn hand_over(
    app: &App,
    body: &[u8],
    cluster: &str,
    complete: bool,
    hold: &mut Hold,
) -> Result<Written, Unavailable> {
    loop {
        match app.engine.write(body, cluster, complete) {
            Err(error) if !hold.pause(ASK_AGAIN).await => return Err(error),
            Err(_) => {}
            taken => return taken,
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
