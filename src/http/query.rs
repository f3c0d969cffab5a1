//! `/api/query`: a JSON request in the body, also of a GET; a streamed JSON answer.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::Instant;

use super::admit::Admitted;
use super::answer::answer;
use super::app::App;
use super::body::receive;
use super::json::decode_query;
use super::reply::{body_error, call_error, denied, json_error};
use super::stream::respond;

/// Answers a query request.
pub(super) async fn query(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let mut hold = app.hold();
    let body = match receive(&app, request.into_body(), app.live().limits.json_body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let request = match body.decode(&app, &mut hold, decode_query).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return json_error(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => return call_error(&app, error),
    };
    if let Err(error) = bearer.permit_cluster(Some(&request.cluster)) {
        return denied(&app, &error);
    }
    let begin = Instant::now();
    let points = app.live().limits.request_points;
    let response = respond(&app, &mut hold, move |engine, sink| answer(engine, &request, points, sink)).await;
    app.metrics.query_took(begin.elapsed());
    response
}
