//! Who gets to a handler: a peer that sends no more than it may, with a token that permits what it asks for.
//!
//! Owns the order of that: unknown paths and wrong methods are answered before (by the router), then requests beyond
//! the rate, then those without a good token. Every handler below `/api` takes its request as [`Admitted`].

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::Response;

use super::app::App;
use super::auth::{AuthError, Bearer, Denied, Verb};
use super::peers::Connected;
use super::routes::Endpoint;
use super::{body, reply};

/// A request that may be answered, and what its bearer may do.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) bearer: Bearer,
    pub(super) request: Request,
}

impl FromRequest<Arc<App>> for Admitted {
    type Rejection = Response;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Response> {
        let endpoint = Endpoint::of(request.uri().path());
        let wait = pace(app, &request);
        if let Some(wait) = wait.as_ref().ok().filter(|wait| !wait.is_zero()) {
            tokio::time::sleep(*wait).await;
        }
        match wait.and_then(|_| judge(app, endpoint.verb(), &request)) {
            Ok(bearer) => Ok(Self { bearer, request }),
            Err(refusal) => {
                let answer = refusal.answer(app, endpoint);
                body::discard(request.into_body()).await;
                Err(answer)
            }
        }
    }
}

/// Why a request does not get to its handler.
enum Refusal {
    /// Its peer sends too many: when it may come back.
    Rate(Duration),
    /// It has no good token.
    Token(AuthError),
    /// Its token does not permit what it asks for.
    Scope(Denied),
}

impl Refusal {
    fn answer(&self, app: &App, endpoint: Endpoint) -> Response {
        match self {
            Self::Rate(retry) => {
                app.metrics.refused("rate");
                let is_write = endpoint == Endpoint::Write;
                let status = if is_write { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::TOO_MANY_REQUESTS };
                reply::too_many(status, retry.as_secs() + 1)
            }
            Self::Token(error) => {
                app.metrics.refused(error.reason());
                reply::unauthorized(&error.to_string())
            }
            Self::Scope(denied) => reply::denied(app, denied),
        }
    }
}

/// How long a request has to wait whose peer sends too many.
fn pace(app: &App, request: &Request) -> Result<Duration, Refusal> {
    let Some(peer) = request.extensions().get::<Arc<Connected>>() else { return Ok(Duration::ZERO) };
    peer.request(app.live().limits.requests_per_second).map_err(Refusal::Rate)
}

/// Who the request comes from: everyone may do everything if no key is configured.
fn judge(app: &App, verb: Verb, request: &Request) -> Result<Bearer, Refusal> {
    let live = app.live();
    let Some(auth) = &live.auth else { return Ok(Bearer::anyone()) };
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = auth.check(header).map_err(Refusal::Token)?;
    bearer.permit(verb).map_err(Refusal::Scope)?;
    Ok(bearer)
}
