//! HTTPS: the certificate, and its exchange while the server runs.
//!
//! Owns the two files and what was made of them. Promises that a certificate that cannot be used never replaces one
//! that can: it is told, and the old one stays.

mod expiry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use super::app::Settings;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Where certificate and key are, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, then those it is signed by.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or has nothing that is wanted.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// Key and certificate do not fit each other, or are of no use.
    #[error("{} with {}: {source}", files.certificate.display(), files.key.display())]
    Pair {
        /// Both files.
        files: TlsFiles,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

/// Whether the certificate of some settings, if they have one, can be used.
pub fn check(settings: &Settings) -> Result<(), TlsError> {
    settings.tls.as_ref().map_or(Ok(()), |files| load(files).map(drop))
}

/// The certificate that is served.
#[derive(Debug)]
pub(super) struct Tls(Mutex<State>);

#[derive(Debug)]
struct State {
    files: TlsFiles,
    /// What the files looked like when they were last tried.
    seen: Stamps,
    loaded: Loaded,
}

/// What the files had.
#[derive(Debug)]
struct Loaded {
    config: Arc<ServerConfig>,
    /// When the first certificate of the chain expires, in unix seconds; `None` if that cannot be told.
    expires: Option<i64>,
}

/// What tells that a file was exchanged: length and time of each; `None` where there is none.
type Stamps = [Option<(u64, SystemTime)>; 2];

impl Tls {
    pub(super) fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let seen = stamps(&files);
        Ok(Self(Mutex::new(State { loaded: load(&files)?, files, seen })))
    }

    /// For the next connection.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().loaded.config)
    }

    /// When the certificate that is served expires, or one that it is signed by, in unix seconds.
    pub(super) fn expires(&self) -> Option<i64> {
        self.lock().loaded.expires
    }

    /// Loads the files again if they were exchanged since they were last tried: whether they were.
    pub(super) fn refresh(&self) -> Result<bool, TlsError> {
        let mut state = self.lock();
        let seen = stamps(&state.files);
        if seen == state.seen {
            return Ok(false);
        }
        state.seen = seen;
        state.loaded = load(&state.files)?;
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // It is changed by whole assignments only.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &Path| -> io::Result<_> {
        let data = fs::metadata(path)?;
        Ok((data.len(), data.modified()?))
    };
    [&files.certificate, &files.key].map(|path| stamp(path).ok())
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(wrong(&files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(wrong(&files.key))?;
    let expires = chain.iter().filter_map(|certificate| expiry::not_after(certificate)).min();
    let pair = |source| TlsError::Pair { files: files.clone(), source };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), expires })
}
