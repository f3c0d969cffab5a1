//! The endpoints for operators: free, debug, healthcheck, and the health of the server itself.

use std::collections::BTreeSet;
use std::num::IntErrorKind;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ACCEPT;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use tokio::time::Instant;

use super::admit::Admitted;
use super::app::{App, CallError};
use super::body::receive;
use super::engine::{DebugTree, Engine, NodeHealth};
use super::json::{self, HealthRequest, write_string, write_strings};
use super::openmetrics;
use super::param::param;
use super::reply::{
    body_error, call_error, denied, json, json_error, not_durable, reply, retry_later, text, text_error, unavailable,
};
use super::stream::{Gone, Sink, TOO_LONG, respond};
use super::tls::Tls;

/// `POST /api/free`: forgets runs that end before `to`.
pub(super) async fn free(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let (head, body) = request.into_parts();
    let mut hold = app.hold();
    let body = match receive(&app, body, app.live().limits.json_body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let to = param(head.uri.query(), "to").unwrap_or_default();
    if to.is_empty() {
        return json_error(StatusCode::BAD_REQUEST, "'to' is a required query parameter");
    }
    let to = match parse_int(&to) {
        Ok(to) => to,
        Err(error) => return json_error(StatusCode::INTERNAL_SERVER_ERROR, &error),
    };
    let selectors = match body.decode(&app, &mut hold, json::selectors).await {
        Ok(Ok(selectors)) => selectors,
        Ok(Err(error)) => return text_error(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => return call_error(&app, error),
    };
    for selector in &selectors {
        if let Err(error) = bearer.permit_cluster(selector.first().map(String::as_str)) {
            return denied(&app, &error);
        }
    }
    let deadline = Instant::now() + app.live().limits.query_time;
    // The same thing named twice is freed once.
    let selectors: Vec<_> = BTreeSet::from_iter(selectors).into_iter().collect();
    let freed = app.call(&mut hold, move |engine| engine.free(&selectors, to, &|| Instant::now() >= deadline));
    let freed = match freed.await {
        Ok(Ok(Some(freed))) => freed,
        Ok(Ok(None)) => return not_durable(&app, TOO_LONG),
        Ok(Err(error)) => return not_durable(&app, &error.reason),
        Err(error) => return call_error(&app, error),
    };
    match app.durable(freed.lsn, &mut hold).await {
        Ok(()) => text(format!("buffers freed: {}\n", freed.runs)),
        Err(error) => not_durable(&app, &error.reason),
    }
}

/// An integer, or the error text of the predecessor's parser.
fn parse_int(text: &str) -> Result<i64, String> {
    text.parse().map_err(|error: std::num::ParseIntError| {
        let why = match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        format!("strconv.ParseInt: parsing {}: {why}", json::quote(text))
    })
}

/// `GET /api/debug`: what is stored at and below a selector.
pub(super) async fn debug(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let selector = param(request.uri().query(), "selector").unwrap_or_default();
    let selector: Vec<String> =
        if selector.is_empty() { Vec::new() } else { selector.split(':').map(str::to_owned).collect() };
    if let Err(error) = bearer.permit_cluster(selector.first().map(String::as_str)) {
        return denied(&app, &error);
    }
    let mut hold = app.hold();
    let answer = app.overview(&mut hold, move |engine| {
        engine.debug(&selector).map(|tree| {
            let Some(tree) = tree else {
                let parts: Vec<_> = selector.iter().map(|part| json::quote(part)).collect();
                return Err(format!("[METRICSTORE]> not found: []string{{{}}}", parts.join(", ")));
            };
            let mut out = b"{\"data\":{".to_vec();
            write_tree(&mut out, &tree, 1);
            out.extend_from_slice(b"\n}}\n");
            Ok(out)
        })
    });
    match answer.await {
        Ok(Ok(Ok(body))) => json(body),
        Ok(Ok(Err(error))) => json_error(StatusCode::BAD_REQUEST, &error),
        Ok(Err(error)) => unavailable(&app, &error.reason),
        Err(error) => call_error(&app, error),
    }
}

/// The members of a tree's object, each on its own line, indented by `depth` tabs.
fn write_tree(out: &mut Vec<u8>, tree: &DebugTree, depth: usize) {
    let mut first = true;
    let mut member = |out: &mut Vec<u8>, name: &str| {
        out.extend_from_slice(if std::mem::take(&mut first) { b"\n" } else { b",\n" });
        out.resize(out.len() + depth, b'\t');
        write_string(out, name);
        out.push(b':');
    };
    for (name, runs) in &tree.metrics {
        member(out, name);
        let runs: Vec<_> = runs
            .iter()
            .map(|run| format!("{{\"start\":{},\"len\":{},\"end\":{}}}", run.start, run.len, run.end))
            .collect();
        out.extend_from_slice(format!("[{}]", runs.join(",")).as_bytes());
    }
    for (name, child) in &tree.children {
        member(out, name);
        out.push(b'{');
        write_tree(out, child, depth + 1);
        out.push(b'\n');
        out.resize(out.len() + depth, b'\t');
        out.push(b'}');
    }
}

/// `GET /api/healthcheck`: how fresh the metrics of nodes are.
pub(super) async fn healthcheck(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    let mut hold = app.hold();
    let body = match receive(&app, request.into_body(), app.live().limits.json_body, &mut hold).await {
        Ok(body) => body,
        Err(error) => return body_error(&app, &error),
    };
    let request = match body.decode(&app, &mut hold, HealthRequest::decode).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => {
            return json_error(StatusCode::BAD_REQUEST, &format!("parsing request body failed: {error}"));
        }
        Err(error) => return call_error(&app, error),
    };
    if let Err(error) = bearer.permit_cluster(Some(&request.cluster)) {
        return denied(&app, &error);
    }
    respond(&app, &mut hold, move |engine, sink| write_health(engine, request, sink)).await
}

fn write_health(engine: &dyn Engine, request: HealthRequest, mut sink: Sink) -> Result<(), Gone> {
    let HealthRequest { cluster, nodes, metrics } = request;
    let nodes: BTreeSet<_> = nodes.into_iter().collect();
    sink.out.push(b'{');
    for (index, node) in nodes.iter().enumerate() {
        if sink.is_late() {
            return sink.give_up();
        }
        if index > 0 {
            sink.out.push(b',');
        }
        let (state, details) = match engine.health(&cluster, node, &metrics) {
            Ok(health) => verdict(health),
            Err(error) => return sink.fail(error.reason),
        };
        write_string(&mut sink.out, node);
        sink.out.extend_from_slice(b":{\"State\":");
        write_string(&mut sink.out, state);
        sink.out.extend_from_slice(b",\"HealthMetrics\":");
        write_string(&mut sink.out, &details);
        sink.out.push(b'}');
        sink.breathe()?;
    }
    sink.out.extend_from_slice(b"}\n");
    sink.finish()
}

/// The state of a node and its details, which are a JSON document inside a string.
fn verdict(health: Option<NodeHealth>) -> (&'static str, String) {
    let Some(health) = health else { return ("failed", String::new()) };
    let state = if health.degraded.is_empty() && health.missing.is_empty() {
        "full"
    } else if health.healthy == 0 {
        "failed"
    } else {
        "partial"
    };
    let mut details = b"{\"degraded\":".to_vec();
    write_strings(&mut details, &health.degraded);
    details.extend_from_slice(b",\"missing\":");
    write_strings(&mut details, &health.missing);
    details.push(b'}');
    (state, String::from_utf8_lossy(&details).into_owned())
}

/// `POST /api/reload`: reads the configuration again.
pub(super) async fn reload(State(app): State<Arc<App>>, Admitted { bearer, request }: Admitted) -> Response {
    // Its body says nothing: the connection may do without it.
    drop(request);
    if let Err(error) = bearer.permit_cluster(None) {
        return denied(&app, &error);
    }
    let shared = Arc::clone(&app);
    let reloaded = tokio::task::spawn_blocking(move || shared.reload.get().map(|reload| reload()));
    match reloaded.await {
        Ok(Some(Ok(said))) => text(said),
        Ok(Some(Err(error))) => json_error(StatusCode::UNPROCESSABLE_ENTITY, &error),
        Ok(None) => json_error(StatusCode::NOT_IMPLEMENTED, "this server runs without a configuration file"),
        Err(_) => call_error(&app, CallError::Panicked),
    }
}

/// `GET /health`: the process serves requests.
pub(super) async fn health() -> Response {
    text("ok\n")
}

/// `GET /ready`: writes are accepted, or why not.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.engine.ready() {
        Ok(()) => text(lines("ready", app.engine.notes())),
        Err(reason) => {
            let reason = lines(&reason, app.engine.notes());
            let mut response = text_error(StatusCode::SERVICE_UNAVAILABLE, reason.trim_end());
            retry_later(&app, &mut response);
            response
        }
    }
}

fn lines(first: &str, notes: Vec<String>) -> String {
    notes.into_iter().fold(format!("{first}\n"), |text, note| text + &note + "\n")
}

/// `GET /metrics`: the server's and the engine's numbers.
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let live = app.live();
    let expires = live.tls.as_ref().and_then(Tls::expires);
    let server = app.metrics.text(app.bytes_held(), &live.limits, expires);
    // Out of turn: what happens under load is what the numbers are for.
    let engine = Arc::clone(&app.engine);
    let engine = tokio::task::spawn_blocking(move || engine.metrics_text()).await.unwrap_or_default();
    let text = server + &engine;
    if headers.get_all(ACCEPT).iter().any(|accepted| accepted.to_str().is_ok_and(openmetrics::is_wanted)) {
        return reply(StatusCode::OK, HeaderValue::from_static(openmetrics::TYPE), openmetrics::convert(&text));
    }
    reply(StatusCode::OK, HeaderValue::from_static("text/plain; version=0.0.4"), text)
}
