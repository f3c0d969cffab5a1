//! Who kymo is for the broker.
//!
//! Files are read again with each attempt to connect: credentials that have a short life can be exchanged without a
//! restart. The library alone would read them once.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_nats::{Auth, AuthError, ConnectOptions};
use nkeys::KeyPair;

use crate::config;

/// What the broker is shown.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    user: Option<(String, String)>,
    credentials: Option<PathBuf>,
    nkey: Option<PathBuf>,
}

impl Identity {
    pub(super) fn of(config: &config::Nats) -> Self {
        Self {
            user: config.username.clone().zip(config.password.clone()),
            credentials: config.credentials_file.clone(),
            nkey: config.nkey_file.clone(),
        }
    }

    /// Options that show it. An error if it cannot be shown now.
    pub(super) async fn options(self) -> Result<ConnectOptions, String> {
        let identity = Arc::new(self);
        identity.show(Vec::new()).await?;
        Ok(ConnectOptions::with_auth_callback(move |nonce| {
            let identity = Arc::clone(&identity);
            async move { identity.show(nonce).await.map_err(AuthError::new) }
        }))
    }

    /// Reads files off the threads that serve connections.
    async fn show(self: &Arc<Self>, nonce: Vec<u8>) -> Result<Auth, String> {
        let identity = Arc::clone(self);
        let shown = tokio::task::spawn_blocking(move || identity.sign(&nonce)).await;
        shown.map_err(|error| error.to_string())?
    }

    fn sign(&self, nonce: &[u8]) -> Result<Auth, String> {
        let mut auth = Auth::new();
        if let Some((name, password)) = &self.user {
            (auth.username, auth.password) = (Some(name.clone()), Some(password.clone()));
        }
        if let Some(path) = &self.nkey {
            let seed = read(path)?;
            let pair = key(path, seed.trim())?;
            auth.nkey = Some(pair.public_key());
            auth.signature = Some(pair.sign(nonce).map_err(|error| unusable(path, &error))?);
        }
        if let Some(path) = &self.credentials {
            let text = read(path)?;
            let of = |title| block(&text, title).ok_or_else(|| unusable(path, &format!("it has no block {title:?}")));
            let pair = key(path, of("USER NKEY SEED")?)?;
            auth.jwt = Some(of("NATS USER JWT")?.to_owned());
            auth.signature = Some(pair.sign(nonce).map_err(|error| unusable(path, &error))?);
        }
        Ok(auth)
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("the credentials {} cannot be read: {error}", path.display()))
}

fn key(path: &Path, seed: &str) -> Result<KeyPair, String> {
    KeyPair::from_seed(seed).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> String {
    format!("the credentials {} cannot be used: {why}", path.display())
}

/// The line between `-----BEGIN title-----` and the end of that block.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let begin = format!("BEGIN {title}");
    let lines = text.lines().skip_while(|line| !(line.starts_with('-') && line.contains(&begin))).skip(1);
    lines.map(str::trim).find(|line| !line.is_empty()).filter(|line| !line.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(credentials: Option<&Path>, nkey: Option<&Path>) -> Identity {
        Identity { user: None, credentials: credentials.map(Into::into), nkey: nkey.map(Into::into) }
    }

    fn error(identity: &Identity) -> String {
        identity.sign(b"nonce").err().unwrap_or_default()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test's file need not survive a power cut")]
    fn files_are_read_each_time_and_what_is_wrong_with_them_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kymo.creds");
        let with_credentials = identity(Some(&path), None);
        assert!(error(&with_credentials).contains("cannot be read"));
        for _ in 0..2 {
            let pair = KeyPair::new_user();
            let seed = pair.seed().unwrap();
            let text = format!(
                "-----BEGIN NATS USER JWT-----\na.b.c\n------END NATS USER JWT------\n\n*** secret ***\n\
                 -----BEGIN USER NKEY SEED-----\r\n{seed}\r\n------END USER NKEY SEED------\n"
            );
            fs::write(&path, text).unwrap();
            let auth = with_credentials.sign(b"nonce").unwrap();
            assert_eq!(auth.jwt.as_deref(), Some("a.b.c"));
            assert!(pair.verify(b"nonce", &auth.signature.unwrap()).is_ok());
            fs::write(&path, seed + "\n").unwrap();
            let auth = identity(None, Some(&path)).sign(b"nonce").unwrap();
            assert_eq!(auth.nkey, Some(pair.public_key()));
            assert!(pair.verify(b"nonce", &auth.signature.unwrap()).is_ok());
        }
        for text in ["", "SUAnonsense", "-----BEGIN USER NKEY SEED-----\n------END USER NKEY SEED------\n"] {
            fs::write(&path, text).unwrap();
            for wrong in [identity(Some(&path), None), identity(None, Some(&path))] {
                assert!(error(&wrong).contains("cannot be used"), "{text:?}");
            }
        }
    }
}
