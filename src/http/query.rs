//! `/api/query`: a JSON request in the body, also of a GET; a streamed JSON answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::Instant;

use super::answer::answer;
use super::app::{App, CallError};
use super::body::receive;
use super::json::decode_query;
use super::reply::{body_error, call_error, json, json_error, unavailable};
use super::stream::stream;

/// Answers a query request.
pub(super) async fn query(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut hold = app.hold();
    let body = match receive(&app, request.into_body(), app.limits.json_body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let request = match decode_query(&body.bytes) {
        Ok(request) if body.complete => request,
        Ok(_) => return json_error(StatusCode::BAD_REQUEST, "unexpected EOF"),
        Err(error) => return json_error(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    drop(body);
    let permit = match app.turn(&mut hold).await {
        Ok(permit) => permit,
        Err(error) => return call_error(&app, error),
    };
    let (sink, source) = stream();
    let deadline = Instant::now() + app.limits.query_time;
    let engine = Arc::clone(&app.engine);
    tokio::task::spawn_blocking(move || {
        if answer(&*engine, &request, deadline, sink).is_err() {
            tracing::debug!("the client of a query went away");
        }
        drop(permit);
    });
    match source.body().await {
        Ok(body) => json(body),
        Err(Some(reason)) => unavailable(&app, reason),
        Err(None) => call_error(&app, CallError::Panicked),
    }
}
