//! Which hosts the retention spares: those of running jobs, as cc-backend tells.

use crate::config::Config;
use reqwest::{Certificate, Client, StatusCode};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// The whole request may take this long, as with the predecessor.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of an answer: some hundred thousand host names.
const ANSWER_MAX: usize = 16 << 20;

/// Cluster -> hosts that are in use.
pub(crate) type UsedNodes = HashMap<String, HashSet<String>>;

/// Where to ask, and with which token.
#[derive(Clone, Debug)]
pub(crate) struct NodeProvider {
    client: Client,
    url: String,
    token: Option<String>,
}

/// Why nobody knows which hosts are in use. Nothing may be deleted then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NodesError {
    #[error("{}", whole(.0))]
    Http(#[from] reqwest::Error),
    #[error("{}: {source}", path.display())]
    Authorities { path: PathBuf, source: io::Error },
    #[error("it answers {0}; is 'storage.backend-token' a token with the role api?")]
    Status(StatusCode),
    #[error("its answer is longer than {ANSWER_MAX} bytes")]
    TooLong,
    #[error("its answer is not a map of clusters to hosts: {0}")]
    Answer(#[from] serde_json::Error),
}

/// An error with what it comes from: by itself it says little.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A client of HTTP and HTTPS whose requests take at most so long. It trusts the authorities of the system, and those in
/// a file (PEM).
pub(crate) fn client(timeout: Duration, authorities: Option<&Path>) -> Result<Client, NodesError> {
    // The one implementation that is built in. Whoever was first has installed the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    let trusted = authorities.map(trusted).transpose()?.unwrap_or_default();
    let builder = Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
    Ok(builder.tls_certs_merge(trusted).build()?)
}

/// The certificates in a file, at least one.
fn trusted(path: &Path) -> Result<Vec<Certificate>, NodesError> {
    let unusable = |source| NodesError::Authorities { path: path.to_owned(), source };
    let text = fs::read(path).map_err(unusable)?;
    let found = Certificate::from_pem_bundle(&text).map_err(|error| unusable(io::Error::other(whole(&error))))?;
    if found.is_empty() { Err(unusable(io::Error::other("it has no certificate"))) } else { Ok(found) }
}

/// Both shapes that are about: cc-backend wraps the map, the predecessor expected it bare.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Wrapped {
        #[serde(rename = "usedNodes")]
        used_nodes: UsedNodes,
    },
    Bare(UsedNodes),
}

impl NodeProvider {
    /// The one that the configuration names, if it names one.
    pub(crate) fn of(config: &Config) -> Result<Option<Self>, NodesError> {
        let storage = &config.storage;
        let of =
            |url: &String| Self::new(url.clone(), storage.backend_token.clone(), storage.backend_ca_file.as_deref());
        config.main.backend_url.as_ref().map(of).transpose()
    }

    /// Asks over HTTPS too, where the certificate must come from an authority that this machine or the file trusts.
    fn new(url: String, token: Option<String>, authorities: Option<&Path>) -> Result<Self, NodesError> {
        Ok(Self { client: client(TIMEOUT, authorities)?, url, token })
    }

    /// The hosts that are in use or were since `since`, in unix seconds.
    pub(crate) async fn used_since(&self, since: i64) -> Result<UsedNodes, NodesError> {
        let mut request = self.client.get(format!("{}/api/jobs/used_nodes?ts={since}", self.url));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let mut answer = request.send().await?;
        if answer.status() != StatusCode::OK {
            return Err(NodesError::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            if body.len() + part.len() > ANSWER_MAX {
                return Err(NodesError::TooLong);
            }
            body.extend_from_slice(&part);
        }
        Ok(match serde_json::from_slice(&body)? {
            Answer::Wrapped { used_nodes } | Answer::Bare(used_nodes) => used_nodes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    /// Answers one request with these bytes and returns what was asked.
    async fn asked(answer: &'static str) -> (Result<UsedNodes, NodesError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        });
        let used = NodeProvider::new(url, Some("secret".to_owned()), None).unwrap().used_since(1_700_000_000).await;
        (used, server.await.unwrap())
    }

    #[tokio::test]
    async fn both_shapes_are_understood_and_the_token_is_sent() {
        let bare = "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{\"a\":[\"n1\",\"n2\"]} ";
        let wrapped = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\n{\"usedNodes\":{\"a\":[\"n1\",\"n2\"]}}\r\n0\r\n\r\n";
        for answer in [bare, wrapped] {
            let (used, request) = asked(answer).await;
            assert_eq!(used.unwrap()["a"], HashSet::from(["n1".to_owned(), "n2".to_owned()]), "{answer}");
            assert!(request.starts_with("GET /api/jobs/used_nodes?ts=1700000000 HTTP/1.1\r\n"), "{request}");
            assert!(request.to_lowercase().contains("authorization: bearer secret\r\n"), "{request}");
        }
    }

    /// An authority, and a certificate for `localhost` that it has signed.
    fn authority() -> (rcgen::Certificate, tokio_rustls::TlsAcceptor) {
        let (authority_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(params, &authority_key);
        let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into());
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![leaf.der().clone()], key).unwrap();
        (authority, std::sync::Arc::new(config).into())
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    async fn over_https_only_a_backend_of_a_trusted_authority_is_told_the_token() {
        let ((own, acceptor), (other, _)) = (authority(), authority());
        let listener = TcpListener::bind("localhost:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let answering = tokio::spawn(async move {
            let mut requests = Vec::new();
            for _ in 0..3 {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => break,
                    }
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{\"a\":[\"n1\"]}").await.ok();
                requests.push(String::from_utf8(request).unwrap());
            }
            requests
        });
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, certificate: &rcgen::Certificate| {
            let path = directory.path().join(name);
            fs::write(&path, certificate.pem()).unwrap();
            path
        };
        let (own, other) = (file("own.pem", &own), file("other.pem", &other));
        let ask = async |authorities| {
            let provider = NodeProvider::new(url.clone(), Some("secret".to_owned()), authorities).unwrap();
            provider.used_since(7).await
        };
        for authorities in [None, Some(&*other)] {
            let error = ask(authorities).await.unwrap_err().to_string();
            assert!(error.contains("certificate"), "{error}");
        }
        assert_eq!(ask(Some(&own)).await.unwrap()["a"], HashSet::from(["n1".to_owned()]));
        let requests = answering.await.unwrap();
        assert_eq!(requests.iter().filter(|request| request.contains("secret")).count(), 1, "{requests:?}");

        for (name, text) in [("empty.pem", ""), ("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n")] {
            fs::write(directory.path().join(name), text).unwrap();
            assert!(NodeProvider::new(url.clone(), None, Some(&directory.path().join(name))).is_err(), "{name}");
        }
        let missing = NodeProvider::new(url, None, Some(Path::new("missing.pem"))).unwrap_err().to_string();
        assert!(missing.starts_with("missing.pem: "), "{missing}");
    }

    #[tokio::test]
    async fn whatever_is_no_answer_is_an_error() {
        for answer in [
            "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
            "nonsense\r\n\r\n",
            "",
        ] {
            assert!(asked(answer).await.0.is_err(), "{answer:?}");
        }
    }
}
