//! Which hosts the retention spares: those of running jobs, as cc-backend tells.

use reqwest::{Client, StatusCode};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

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

/// A client of HTTP and HTTPS whose requests take at most so long.
pub(crate) fn client(timeout: Duration) -> Result<Client, reqwest::Error> {
    // The one implementation that is built in. Whoever was first has installed the same.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none()).build()
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
    /// Asks over HTTPS too, where the certificate must be one that this machine trusts.
    pub(crate) fn new(url: String, token: Option<String>) -> Result<Self, NodesError> {
        Ok(Self { client: client(TIMEOUT)?, url, token })
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
        let used = NodeProvider::new(url, Some("secret".to_owned())).unwrap().used_since(1_700_000_000).await;
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
