//! Who may do what: every endpoint against every kind of token, good and bad.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};

use crate::clock;
use crate::http::Answer;
use crate::json::Json;
use crate::server::{Server, Site, recorded_config};
use kymo::http::{Route, routes};

/// Someone who signs tokens.
struct Issuer(KeyPair);

impl Issuer {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).expect("the machine has randomness"))
    }

    /// The key as a configuration has it.
    fn public_key(&self) -> String {
        BASE64_STANDARD.encode(self.0.der_bytes())
    }

    fn sign(&self, claims: &Value) -> String {
        let key = EncodingKey::from_ed_der(&self.0.serialize_der());
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &key).expect("the claims are JSON")
    }
}

/// A request, and the scope that it needs.
struct Endpoint {
    scope: &'static str,
    method: &'static str,
    path: String,
    body: String,
}

impl Endpoint {
    /// Whether an answer has a body.
    fn is_told(&self) -> bool {
        self.method != "HEAD"
    }
}

/// All endpoints that ask for a token, in each method and form of their path, about the cluster `alpha`. They come from
/// the table of the routes: one that is not known here fails the tests.
fn endpoints() -> Vec<Endpoint> {
    let now = clock::unix_seconds();
    let line = format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {now}\n");
    let query = format!(
        r#"{{"cluster":"alpha","from":{},"to":{},"queries":[{{"metric":"cpu_load","host":"h1"}}]}}"#,
        now - 600,
        now + 600
    );
    let health = r#"{"cluster":"alpha","nodes":["h1"],"metric-names":["cpu_load"]}"#;
    let mut found = Vec::new();
    for route in routes() {
        let Some(scope) = route.scope else { continue };
        let (parameters, body) = match &*route.path {
            "/api/write" => ("", &*line),
            "/api/query" => ("", &*query),
            "/api/healthcheck" => ("", health),
            "/api/diagnose" => ("?metric=cpu_load&host=h1&cluster=alpha", ""),
            "/api/free" => ("?to=1", r#"[["alpha"]]"#),
            "/api/debug" => ("?selector=alpha", ""),
            "/api/reload" => ("", ""),
            unknown => panic!("say here what a good request to {unknown} is"),
        };
        for (&method, form) in route.methods.iter().flat_map(|method| ["", "/", "/x"].map(|form| (method, form))) {
            let path = format!("{}{form}{parameters}", route.path);
            found.push(Endpoint { scope, method, path, body: body.to_owned() });
        }
    }
    found
}

/// A server with these keys and settings of `auth`.
fn serve(issuers: &[&Issuer], auth: &str) -> (Site, Server) {
    let site = Site::empty();
    let mut config = recorded_config("config.json");
    let keys: Vec<String> = issuers.iter().map(|issuer| format!("\"{}\"", issuer.public_key())).collect();
    let auth = format!("{{\"public-keys\": [{}]{auth}}}", keys.join(","));
    config.set("auth", Json::parse(&auth).expect("it is JSON"));
    site.configure(config, &[]);
    let server = site.serve();
    (site, server)
}

fn ask(server: &Server, endpoint: &Endpoint, authorization: Option<&str>) -> Answer {
    let headers: Vec<(&str, &str)> = authorization.into_iter().map(|value| ("Authorization", value)).collect();
    let answer = server.client().request(endpoint.method, &endpoint.path, &headers, endpoint.body.as_bytes());
    answer.expect("the server answers")
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// A token of three parts, signed by nobody who may.
fn forged(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    [part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()), part(signature)].join(".")
}

/// Each kind of bad token: what is wrong with it, the header, the words of the answer, and the reason it is counted by.
fn bad_tokens(issuer: &Issuer) -> Vec<(&'static str, Option<String>, &'static str, &'static str)> {
    let now = clock::unix_seconds();
    let good = json!({"sub": "demo", "exp": now + 3600});
    let token = issuer.sign(&good);
    let (signed, _) = token.rsplit_once('.').expect("a token has three parts");
    let (head, _) = signed.split_once('.').expect("a token has three parts");
    let other = Issuer::new().sign(&good);
    let (_, other_signature) = other.rsplit_once('.').expect("a token has three parts");
    let secret = EncodingKey::from_secret(issuer.0.der_bytes());
    let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &good, &secret).expect("the claims are JSON");
    let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({"sub": "root", "exp": now + 3600}).to_string());
    let algorithm = "only Ed25519/EdDSA supported";
    let signature = "ed25519: verification error";
    let none = "Use JWT Authentication";
    vec![
        ("no token", None, none, "no-token"),
        ("an empty token", Some("Bearer ".to_owned()), none, "no-token"),
        ("another scheme", Some(format!("Basic {token}")), none, "no-token"),
        ("a bare token", Some(token.clone()), none, "no-token"),
        ("no token at all", Some(bearer("let me in")), "number of segments", "token-malformed"),
        ("no base64", Some(bearer("!.!.!")), "", "token-malformed"),
        ("a huge token", Some(bearer(&"a".repeat(10_000))), "longer than 8192 bytes", "token-malformed"),
        ("no algorithm", Some(bearer(&forged(&json!({"alg": "none"}), &good, b""))), algorithm, "token-algorithm"),
        ("the key as a secret", Some(bearer(&hs256)), algorithm, "token-algorithm"),
        ("another key", Some(bearer(&other)), signature, "token-signature"),
        ("a strange signature", Some(bearer(&format!("{signed}.{other_signature}"))), signature, "token-signature"),
        ("no signature", Some(bearer(&format!("{signed}."))), signature, "token-signature"),
        (
            "changed claims",
            Some(bearer(&token.replace(signed, &format!("{head}.{claims}")))),
            signature,
            "token-signature",
        ),
        ("expired", Some(bearer(&issuer.sign(&json!({"exp": now - 1})))), "Token is expired", "token-expired"),
        ("no number", Some(bearer(&issuer.sign(&json!({"exp": "soon"})))), "Token is expired", "token-expired"),
        ("too early", Some(bearer(&issuer.sign(&json!({"nbf": now + 600})))), "not valid yet", "token-not-yet-valid"),
        (
            "of tomorrow",
            Some(bearer(&issuer.sign(&json!({"iat": now + 600})))),
            "used before issued",
            "token-not-yet-valid",
        ),
    ]
}

#[test]
fn no_endpoint_takes_a_bad_token_and_every_refusal_is_counted() {
    let issuer = Issuer::new();
    let (_site, server) = serve(&[&Issuer::new(), &issuer], "");
    let (endpoints, tokens) = (endpoints(), bad_tokens(&issuer));
    for endpoint in &endpoints {
        for (what, header, words, _) in &tokens {
            // Twice: the verdict on a bad token is remembered, and stays the same.
            for _ in 0..2 {
                let answer = ask(&server, endpoint, header.as_deref());
                let case = format!("{what}: {} {}: {}", endpoint.method, endpoint.path, answer.text());
                assert_eq!((answer.status, answer.header("Connection").as_deref()), (401, Some("close")), "{case}");
                assert!(!endpoint.is_told() || answer.text().contains(words), "{case}");
                assert!(answer.header("WWW-Authenticate").is_some_and(|value| value.contains("Bearer")), "{case}");
            }
        }
    }
    let metrics = server.client().get("/metrics", b"").expect("the server has metrics").text();
    for (_, _, _, reason) in &tokens {
        let same = tokens.iter().filter(|(.., other)| other == reason).count();
        let line = format!("kymo_http_requests_refused_total{{reason=\"{reason}\"}} {}\n", 2 * same * endpoints.len());
        assert!(metrics.contains(&line), "{line}{metrics}");
    }
    assert!(metrics.contains("kymo_samples_total 0\n"), "{metrics}");
    let open: Vec<Route> = routes().into_iter().filter(|route| route.scope.is_none()).collect();
    assert_eq!(open.iter().map(|route| &*route.path).collect::<Vec<_>>(), ["/health", "/ready", "/metrics"]);
    // Whatever token it brings.
    for (route, (what, header, ..)) in open.iter().flat_map(|route| tokens.iter().map(move |token| (route, token))) {
        let endpoint = Endpoint { scope: "", method: "GET", path: route.path.clone(), body: String::new() };
        assert_eq!(ask(&server, &endpoint, header.as_deref()).status, 200, "{what}: {}", route.path);
    }
    server.stop();
}

#[test]
fn a_method_that_an_endpoint_does_not_have_and_a_path_that_nothing_has_are_told_without_a_token() {
    let (_site, server) = serve(&[&Issuer::new()], "");
    for route in routes() {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let answer = server.client().request(method, &route.path, &[], b"").expect("the server answers");
            if route.methods.contains(&method) {
                let wanted = if route.scope.is_some() { 401 } else { 200 };
                assert_eq!(answer.status, wanted, "{method} {}", route.path);
            } else {
                let allowed = answer.header("Allow");
                assert_eq!((answer.status, allowed), (405, Some(route.methods.join(", "))), "{method} {}", route.path);
            }
        }
    }
    for path in ["/", "/api", "/api/", "/api/nothing", "/metrics/", "/api/../metrics"] {
        assert_eq!(server.client().get(path, b"").expect("the server answers").status, 404, "{path}");
    }
    server.stop();
}

#[test]
fn every_endpoint_needs_its_own_scope() {
    let issuer = Issuer::new();
    let (_site, server) = serve(&[&issuer], "");
    for scopes in [json!("write"), json!("query"), json!(["admin"]), json!("write query"), json!("sing"), json!("")] {
        let header = Some(bearer(&issuer.sign(&json!({ "scope": scopes }))));
        for endpoint in endpoints() {
            let answer = ask(&server, &endpoint, header.as_deref());
            let case = format!("{scopes}: {} {}: {} {}", endpoint.method, endpoint.path, answer.status, answer.text());
            if scopes.to_string().contains(endpoint.scope) {
                assert!(![401, 403].contains(&answer.status), "{case}");
            } else {
                assert_eq!(answer.status, 403, "{case}");
                assert!(!endpoint.is_told() || answer.text().contains(endpoint.scope), "{case}");
                let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
                assert!(challenge.contains("insufficient_scope") && challenge.contains(endpoint.scope), "{case}");
            }
        }
    }
    // The predecessor's tokens have no scopes, and may do everything.
    let header = Some(bearer(&issuer.sign(&json!({"sub": "demo", "roles": ["user"]}))));
    for endpoint in endpoints() {
        let answer = ask(&server, &endpoint, header.as_deref());
        assert!(![401, 403].contains(&answer.status), "{}: {}", endpoint.path, answer.text());
    }
    server.stop();
}

#[test]
fn scopes_and_an_expiry_can_be_required() {
    let issuer = Issuer::new();
    let (_site, server) = serve(&[&issuer], ", \"require-scopes\": true, \"require-expiry\": true");
    let soon = clock::unix_seconds() + 3600;
    for endpoint in endpoints() {
        let status = |claims: &Value| ask(&server, &endpoint, Some(&*bearer(&issuer.sign(claims)))).status;
        assert_eq!(status(&json!({"scope": "write query admin"})), 401, "{}", endpoint.path);
        assert_eq!(status(&json!({ "exp": soon })), 403, "{}", endpoint.path);
        assert!(![401, 403].contains(&status(&json!({"exp": soon, "scope": "write query admin"}))));
    }
    let metrics = server.client().get("/metrics", b"").expect("the server has metrics").text();
    let counted =
        format!("kymo_http_requests_refused_total{{reason=\"token-without-expiry\"}} {}\n", endpoints().len());
    assert!(metrics.contains(&counted), "{metrics}");
    server.stop();
}

#[test]
fn a_token_of_some_clusters_reaches_no_other() {
    let issuer = Issuer::new();
    let (_site, server) = serve(&[&issuer], "");
    let own = Some(bearer(&issuer.sign(&json!({"clusters": ["alpha", "gamma"]}))));
    let other = Some(bearer(&issuer.sign(&json!({"clusters": ["beta"]}))));
    for endpoint in endpoints().iter().filter(|endpoint| !endpoint.path.starts_with("/api/reload")) {
        assert_eq!(ask(&server, endpoint, own.as_deref()).status, 200, "{}", endpoint.path);
        let answer = ask(&server, endpoint, other.as_deref());
        if endpoint.scope == "write" {
            let refused = answer.header("Kymo-Lines-Refused");
            assert_eq!((answer.status, refused.as_deref()), (200, Some("1; cluster-denied=1")));
        } else {
            assert_eq!(answer.status, 403, "{}: {}", endpoint.path, answer.text());
            assert!(answer.header("WWW-Authenticate").is_none(), "another scope would not help");
        }
    }
    let denied = "kymo_http_requests_refused_total{reason=\"cluster\"} ";
    let metrics = server.client().get("/metrics", b"").expect("the server has metrics").text();
    assert!(metrics.contains(denied) && !metrics.contains(&format!("{denied}0\n")), "{metrics}");
    // What concerns all clusters is for nobody who has some.
    for (method, path, body) in [
        ("GET", "/api/debug", ""),
        ("POST", "/api/free?to=1", "[[]]"),
        ("POST", "/api/free?to=1", r#"[["alpha"],[]]"#),
        ("GET", "/api/diagnose?metric=cpu_load&host=h1", ""),
        ("POST", "/api/reload", ""),
    ] {
        let endpoint = Endpoint { scope: "admin", method, path: path.to_owned(), body: body.to_owned() };
        assert_eq!(ask(&server, &endpoint, own.as_deref()).status, 403, "{path} {body}");
    }
    // Good lines are stored beside those of other clusters, and lines without one belong to that of the request.
    let now = clock::unix_seconds();
    let line = |cluster: &str, host: &str| format!("cpu_load{cluster},hostname={host},type=node value=1 {now}\n");
    let body = [line(",cluster=beta", "b1"), line(",cluster=gamma", "g1"), line("", "d1")].concat();
    for (cluster, refused) in [("alpha", "1; cluster-denied=1"), ("beta", "2; cluster-denied=2")] {
        let path = format!("/api/write?cluster={cluster}");
        let headers = [("Authorization", own.as_deref().unwrap_or_default())];
        let answer = server.client().request("POST", &path, &headers, body.as_bytes()).expect("the server answers");
        assert_eq!((answer.status, answer.header("Kymo-Lines-Refused").as_deref()), (200, Some(refused)));
    }
    let all = Some(bearer(&issuer.sign(&json!({}))));
    let tree = Endpoint { scope: "admin", method: "GET", path: "/api/debug".to_owned(), body: String::new() };
    let tree = ask(&server, &tree, all.as_deref()).text();
    let tree: Value = serde_json::from_str(&tree).expect("it is JSON");
    let clusters: Vec<_> = tree["data"].as_object().expect("an object").keys().collect();
    assert_eq!(clusters, ["alpha", "gamma"]);
    let hosts: Vec<_> = tree["data"]["alpha"].as_object().expect("an object").keys().collect();
    assert_eq!(hosts, ["d1", "h1"]);
    server.stop();
}
