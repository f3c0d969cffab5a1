//! HTTPS, and certificates that are exchanged while the server runs: a bad one never replaces a good one.

use std::fs;
use std::io::{self, BufReader, Write as _};
use std::sync::Arc;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::clock::{self, PATIENCE};
use crate::http::{self, Answer};
use crate::server::{Server, Site, recorded_config};

/// A certificate for `localhost` that signs itself.
fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made")
}

/// Puts it where the server finds it.
fn install(site: &Site, certified: &CertifiedKey<KeyPair>) {
    site.write("cert.pem", certified.cert.pem().as_bytes());
    site.write("key.pem", certified.signing_key.serialize_pem().as_bytes());
}

fn serve(site: &Site) -> Server {
    let mut config = recorded_config("config.json");
    let main = config.get_mut("main").expect("a section `main`");
    main.set("https-cert-file", "cert.pem".into());
    main.set("https-key-file", "key.pem".into());
    site.configure(config, &[]);
    let mut server = site.spawn();
    server.wait_listening().expect("the server starts");
    server
}

/// Asks over TLS, trusting one certificate alone: the answer and the certificate that was shown.
fn ask(server: &Server, trusted: &CertificateDer<'static>, request: &str) -> io::Result<Answer> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, http::connect(server.address())?);
    stream.write_all(request.as_bytes())?;
    http::read_answer(&mut BufReader::new(stream), false)
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn https_serves_what_http_does_and_speaks_nothing_else() {
    let (site, certified) = (Site::empty(), certificate());
    install(&site, &certified);
    let server = serve(&site);
    let line = format!("cpu_load,cluster=alpha,hostname=h1,type=node value=1 {}\n", clock::unix_seconds());
    let write = format!("POST /api/write HTTP/1.1\r\nHost: k\r\nContent-Length: {}\r\n\r\n{line}", line.len());
    assert_eq!(ask(&server, certified.cert.der(), &write).expect("the server answers").status, 200);
    assert_eq!(ask(&server, certified.cert.der(), HEALTH).expect("the server answers").status, 200);
    let metrics =
        ask(&server, certified.cert.der(), &HEALTH.replace("/health", "/metrics")).expect("so it does").text();
    // The one that makes them for the tests lets them live until then.
    assert!(metrics.contains("\nkymo_http_certificate_expiry_timestamp_seconds 67090118400\n"), "{metrics}");
    assert!(ask(&server, certificate().cert.der(), HEALTH).is_err(), "it is not the certificate that is trusted");
    assert!(server.client().get("/health", b"").is_err(), "plain HTTP is not answered");
    // The one that trusts another certificate, and this one.
    let counted = clock::poll(PATIENCE, || {
        let metrics = ask(&server, certified.cert.der(), &HEALTH.replace("/health", "/metrics")).ok()?.text();
        metrics.contains("kymo_http_connections_closed_total{reason=\"tls\"} 2\n").then_some(())
    });
    assert!(counted.is_some(), "they are not counted");
    assert_eq!(ask(&server, certified.cert.der(), HEALTH).expect("the server goes on").status, 200);
    server.stop();
}

#[test]
fn an_exchanged_certificate_is_served_and_a_bad_one_is_not() {
    let (site, first, second) = (Site::empty(), certificate(), certificate());
    install(&site, &first);
    let server = serve(&site);
    assert!(ask(&server, first.cert.der(), HEALTH).is_ok());

    install(&site, &second);
    let is_served = clock::poll(PATIENCE, || ask(&server, second.cert.der(), HEALTH).ok());
    assert!(is_served.is_some(), "the new certificate is not served; it said:\n{}", server.said());

    // A key that does not fit, then no certificate at all.
    site.write("key.pem", first.signing_key.serialize_pem().as_bytes());
    let is_told = || server.said().contains("the new certificate cannot be used: the old one stays").then_some(());
    assert!(clock::poll(PATIENCE, is_told).is_some(), "it is not told:\n{}", server.said());
    fs::remove_file(site.path().join("cert.pem")).expect("the file is there");
    assert_eq!(ask(&server, second.cert.der(), HEALTH).expect("the old one stays").status, 200);
    server.stop();
}

#[test]
fn a_certificate_that_cannot_be_used_stops_the_start_and_touches_no_data() {
    let (site, first, second) = (Site::empty(), certificate(), certificate());
    install(&site, &first);
    site.write("key.pem", second.signing_key.serialize_pem().as_bytes());
    let mut config = recorded_config("config.json");
    let main = config.get_mut("main").expect("a section `main`");
    main.set("https-cert-file", "cert.pem".into());
    main.set("https-key-file", "key.pem".into());
    site.configure(config, &[]);
    let mut server = site.spawn();
    let said = server.wait_listening().expect_err("it does not start");
    assert_eq!(server.wait_exit().code(), Some(2), "{said}");
    assert!(said.contains("cert.pem with key.pem"), "{said}");
    assert!(!site.data().exists());
}
