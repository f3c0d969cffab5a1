//! What the bearer of a token may do: verbs and clusters, out of its claims.
//!
//! The claim `scope` names verbs, separated by spaces (RFC 8693) or as an array; the claim `clusters` names clusters,
//! as an array or as one string. A claim that is absent limits nothing; one that is malformed permits nothing.

use serde_json::{Map, Value};

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Verb {
    /// Sends samples.
    Write,
    /// Reads samples, and how fresh they are.
    Query,
    /// Frees, looks into the store, reloads the configuration.
    Admin,
}

impl Verb {
    const ALL: [Self; 3] = [Self::Write, Self::Query, Self::Admin];

    /// Its name in the claim `scope`.
    pub(in crate::http) fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }
}

/// Why a known bearer may not do what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum Denied {
    /// Its token does not name the verb.
    #[error("the token does not have the scope {:?}", .0.name())]
    Scope(Verb),
    /// Its token names other clusters.
    #[error("the token is not for the cluster {0:?}")]
    Cluster(String),
    /// Its token names clusters, and this concerns all of them.
    #[error("the token is for some clusters only: name one of them")]
    AllClusters,
}

impl Denied {
    /// The name to count by.
    pub(in crate::http) fn reason(&self) -> &'static str {
        match self {
            Self::Scope(_) => "scope",
            Self::Cluster(_) | Self::AllClusters => "cluster",
        }
    }
}

/// What a bearer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) struct Rights {
    verbs: Vec<Verb>,
    /// `None` is every cluster.
    clusters: Option<Vec<String>>,
}

impl Rights {
    /// Everything.
    #[cfg(test)]
    pub(in crate::http) fn all() -> Self {
        Self { verbs: Verb::ALL.to_vec(), clusters: None }
    }

    /// What the claims say.
    pub(super) fn of(claims: &Map<String, Value>, require_scopes: bool) -> Self {
        let verbs = match claims.get("scope") {
            None if require_scopes => Vec::new(),
            None => Verb::ALL.to_vec(),
            Some(scope) => {
                let named: Vec<&str> = strings(scope).into_iter().flat_map(str::split_ascii_whitespace).collect();
                Verb::ALL.into_iter().filter(|verb| named.contains(&verb.name())).collect()
            }
        };
        let clusters = claims.get("clusters");
        Self { verbs, clusters: clusters.map(|names| strings(names).into_iter().map(str::to_owned).collect()) }
    }

    /// Whether the bearer may do such a thing at all.
    pub(in crate::http) fn permit(&self, verb: Verb) -> Result<(), Denied> {
        if self.verbs.contains(&verb) { Ok(()) } else { Err(Denied::Scope(verb)) }
    }

    /// Whether it may do it with this cluster; `None` stands for all of them.
    pub(in crate::http) fn permit_cluster(&self, cluster: Option<&str>) -> Result<(), Denied> {
        match (&self.clusters, cluster) {
            (None, _) => Ok(()),
            (Some(own), Some(cluster)) if own.iter().any(|name| name == cluster) => Ok(()),
            (Some(_), Some(cluster)) => Err(Denied::Cluster(cluster.chars().take(255).collect())),
            (Some(_), None) => Err(Denied::AllClusters),
        }
    }

    /// The clusters of the bearer, if it has not all of them.
    pub(in crate::http) fn clusters(&self) -> Option<&[String]> {
        self.clusters.as_deref()
    }
}

/// One string or an array of them; anything else has none.
fn strings(value: &Value) -> Vec<&str> {
    match value {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rights(claims: &Value) -> Rights {
        Rights::of(claims.as_object().unwrap(), false)
    }

    #[test]
    fn a_token_without_claims_may_do_everything_unless_scopes_are_required() {
        let none = json!({"sub": "demo", "roles": ["api"]});
        assert_eq!(rights(&none), Rights::all());
        let strict = Rights::of(none.as_object().unwrap(), true);
        assert!(Verb::ALL.into_iter().all(|verb| strict.permit(verb) == Err(Denied::Scope(verb))));
        assert_eq!(strict.permit_cluster(Some("a")), Ok(()));
    }

    #[test]
    fn scopes_are_words_or_an_array_and_unknown_ones_permit_nothing() {
        for scope in [json!("write  query"), json!(["write", "query"]), json!(["query write", 5])] {
            let rights = rights(&json!({ "scope": scope }));
            assert_eq!((rights.permit(Verb::Write), rights.permit(Verb::Query)), (Ok(()), Ok(())));
            assert_eq!(rights.permit(Verb::Admin), Err(Denied::Scope(Verb::Admin)));
        }
        for scope in [json!(""), json!("Write"), json!("writes"), json!(null), json!(7), json!({"write": true})] {
            let rights = rights(&json!({ "scope": scope }));
            assert!(Verb::ALL.into_iter().all(|verb| rights.permit(verb).is_err()), "{scope}");
        }
    }

    #[test]
    fn clusters_limit_to_those_that_are_named() {
        for clusters in [json!(["a", "b"]), json!(["b", "a", null])] {
            let rights = rights(&json!({ "clusters": clusters }));
            assert_eq!(rights.permit_cluster(Some("a")), Ok(()));
            assert_eq!(rights.permit_cluster(Some("c")), Err(Denied::Cluster("c".to_owned())));
            assert_eq!(rights.permit_cluster(None), Err(Denied::AllClusters));
        }
        assert_eq!(rights(&json!({"clusters": "a b"})).permit_cluster(Some("a b")), Ok(()));
        for none in [json!([]), json!(null), json!(1)] {
            assert!(rights(&json!({ "clusters": none })).permit_cluster(Some("a")).is_err(), "{none}");
        }
    }
}
