//! Which path is served by whom.

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

use super::app::App;
use super::auth::Verb;
use super::{admin, diagnose, query, reply, write};

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Endpoint {
    Write,
    Query,
    Free,
    Debug,
    Healthcheck,
    Diagnose,
    Reload,
    Other,
}

impl Endpoint {
    /// Those below `/api`, which ask for a token.
    const API: [Self; 7] =
        [Self::Write, Self::Query, Self::Free, Self::Debug, Self::Healthcheck, Self::Diagnose, Self::Reload];

    /// Its name in paths and metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Query => "query",
            Self::Free => "free",
            Self::Debug => "debug",
            Self::Healthcheck => "healthcheck",
            Self::Diagnose => "diagnose",
            Self::Reload => "reload",
            Self::Other => "other",
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Self::Write | Self::Free | Self::Reload => "POST",
            Self::Query => "GET, HEAD, POST",
            Self::Debug | Self::Healthcheck | Self::Diagnose | Self::Other => "GET, HEAD",
        }
    }

    /// What its caller must be permitted to do.
    pub(super) fn verb(self) -> Verb {
        match self {
            Self::Write => Verb::Write,
            Self::Query | Self::Healthcheck | Self::Diagnose => Verb::Query,
            Self::Free | Self::Debug | Self::Reload | Self::Other => Verb::Admin,
        }
    }

    /// The endpoint that a path belongs to.
    pub(super) fn of(path: &str) -> Self {
        let name = path.strip_prefix("/api/").and_then(|rest| rest.split('/').next());
        Self::API.into_iter().find(|endpoint| Some(endpoint.name()) == name).unwrap_or(Self::Other)
    }
}

/// What needs no token: none of it tells samples or names.
const OPEN: [&str; 3] = ["/health", "/ready", "/metrics"];

/// An endpoint, for tests that go through all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The path; below `/api` it has two more forms, with a slash behind it and with anything behind that.
    pub path: String,
    /// The methods that are answered.
    pub methods: Vec<&'static str>,
    /// The scope that a token needs; `None` needs no token.
    pub scope: Option<&'static str>,
}

/// All endpoints, out of the same table as the routes.
pub fn routes() -> Vec<Route> {
    let methods = |endpoint: Endpoint| endpoint.allow().split(", ").collect();
    let api = Endpoint::API.into_iter().map(|endpoint| Route {
        path: format!("/api/{}", endpoint.name()),
        methods: methods(endpoint),
        scope: Some(endpoint.verb().name()),
    });
    let open =
        OPEN.into_iter().map(|path| Route { path: path.to_owned(), methods: methods(Endpoint::Other), scope: None });
    api.chain(open).collect()
}

/// All routes. Unknown paths and wrong methods are answered before anybody asks for a token.
pub(super) fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for endpoint in Endpoint::API {
        let methods = match endpoint {
            Endpoint::Write => post(write::write),
            Endpoint::Query => get(query::query).post(query::query),
            Endpoint::Free => post(admin::free),
            Endpoint::Debug => get(admin::debug),
            Endpoint::Diagnose => get(diagnose::diagnose),
            Endpoint::Reload => post(admin::reload),
            Endpoint::Healthcheck | Endpoint::Other => get(admin::healthcheck),
        };
        let methods = methods.fallback(move || async move { reply::method_not_allowed(endpoint.allow()) });
        let path = format!("/api/{}", endpoint.name());
        for path in [format!("{path}/"), format!("{path}/{{*below}}"), path] {
            router = router.route(&path, methods.clone());
        }
    }
    let other = || async { reply::method_not_allowed(Endpoint::Other.allow()) };
    for (path, methods) in OPEN.into_iter().zip([get(admin::health), get(admin::ready), get(admin::metrics)]) {
        router = router.route(path, methods.fallback(other));
    }
    router.fallback(|| async { reply::not_found() }).with_state(Arc::clone(app))
}
