//! The shapes of answers: the one place that knows status, content type and framing.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use super::app::{App, CallError};
use super::auth::Denied;
use super::body::BodyError;
use super::inflate::InflateError;
use super::json::write_string;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NO_SNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// An answer with this body.
pub(super) fn reply(status: StatusCode, content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// 200 with a JSON document.
pub(super) fn json(body: impl Into<Body>) -> Response {
    reply(StatusCode::OK, JSON, body)
}

/// 200 without a body: the only answer to a write that the common sender takes for success.
pub(super) fn written() -> Response {
    let mut response = json(Body::empty());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// 200 with text, as it is.
pub(super) fn text(body: impl Into<Body>) -> Response {
    reply(StatusCode::OK, TEXT, body)
}

/// An error as a JSON document.
pub(super) fn json_error(status: StatusCode, error: &str) -> Response {
    let mut body = b"{\"status\":".to_vec();
    write_string(&mut body, status.canonical_reason().unwrap_or_default());
    body.extend_from_slice(b",\"error\":");
    write_string(&mut body, error);
    body.extend_from_slice(b"}\n");
    reply(status, JSON, body)
}

/// An error as a line of text.
pub(super) fn text_error(status: StatusCode, error: &str) -> Response {
    let mut response = reply(status, TEXT, format!("{error}\n"));
    response.headers_mut().extend([NO_SNIFF]);
    response
}

/// 401 with the reason.
pub(super) fn unauthorized(error: &str) -> Response {
    let mut response = text_error(StatusCode::UNAUTHORIZED, error);
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"kymo\""));
    response
}

/// 403 with the reason: the token is good, but not for this.
pub(super) fn denied(app: &App, denied: &Denied) -> Response {
    app.metrics.refused(denied.reason());
    let mut response = text_error(StatusCode::FORBIDDEN, &denied.to_string());
    if let Denied::Scope(verb) = denied {
        let challenge = format!("Bearer realm=\"kymo\", error=\"insufficient_scope\", scope=\"{}\"", verb.name());
        response.headers_mut().extend(HeaderValue::try_from(challenge).ok().map(|value| (WWW_AUTHENTICATE, value)));
    }
    response
}

/// The answer to a peer that sends too many requests. Senders drop what is answered with 429, and come back after a 503.
pub(super) fn too_many(status: StatusCode, retry_after_secs: u64) -> Response {
    let mut response = json_error(status, "too many requests of this address in a second");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(retry_after_secs));
    response
}

/// 404.
pub(super) fn not_found() -> Response {
    text_error(StatusCode::NOT_FOUND, "404 page not found")
}

/// 405 with the methods that are allowed.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response = text_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    response
}

/// 503: the client may come back.
pub(super) fn unavailable(app: &App, reason: &str) -> Response {
    let mut response = json_error(StatusCode::SERVICE_UNAVAILABLE, reason);
    retry_later(app, &mut response);
    response
}

/// 503 for a write that is not on the device: the store does not take or keep it now.
pub(super) fn not_durable(app: &App, reason: &str) -> Response {
    app.metrics.refused("not-durable");
    unavailable(app, reason)
}

/// Tells when to come back.
pub(super) fn retry_later(app: &App, response: &mut Response) {
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(app.retry_after_secs()));
}

/// The answer to a body that was not received.
pub(super) fn body_error(app: &App, error: &BodyError) -> Response {
    app.metrics.refused(error.reason());
    let status = match error {
        BodyError::TooLong { .. }
        | BodyError::TooManyLines { .. }
        | BodyError::Inflate(InflateError::TooLong(_) | InflateError::Ratio) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Inflate(InflateError::Broken(_)) => StatusCode::BAD_REQUEST,
        BodyError::Overload => return unavailable(app, &error.to_string()),
    };
    json_error(status, &error.to_string())
}

/// The answer to a request that the engine did not answer.
pub(super) fn call_error(app: &App, error: CallError) -> Response {
    match error {
        CallError::Overload => {
            app.metrics.refused("overload");
            unavailable(app, &error.to_string())
        }
        CallError::Panicked => json_error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}
