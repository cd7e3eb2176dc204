//! TLS certificates: read at the start, and again when their files change.
//!
//! A new pair that cannot be used is told in the log, and the one before it
//! stays; so a key that is written after its certificate is found when both fit.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, version};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::config::{Tls, TlsVersion};

/// What may follow in a TLS connection.
const ALPN: &[u8] = b"http/1.1";

/// The certificates that a server shows, which are those in its files.
pub(super) struct Certificates {
    tls: Tls,
    provider: Arc<CryptoProvider>,
    shown: RwLock<Arc<CertifiedKey>>,
    /// What the files were when they were looked at last; none if one was not there.
    seen: Mutex<Option<Fingerprint>>,
}

type Fingerprint = [u8; 32];

/// Why the files of a certificate and its key cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The key of the configuration that names the file.
    pub key: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The contents of both files.
struct Pair {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

/// Checks that the files of a certificate and its key can be read and fit.
///
/// # Errors
/// The first fault, and the key of the configuration that it is about.
pub fn check_certificates(tls: &Tls) -> Result<(), Unusable> {
    Pair::read(tls)?.certified(tls, &ring::default_provider()).map(drop)
}

impl Certificates {
    /// Reads the files.
    pub(super) fn open(tls: &Tls) -> Result<Arc<Self>, Unusable> {
        let provider = Arc::new(ring::default_provider());
        let pair = Pair::read(tls)?;
        let shown = RwLock::new(Arc::new(pair.certified(tls, &provider)?));
        Ok(Arc::new(Self { tls: tls.clone(), provider, shown, seen: Mutex::new(Some(pair.fingerprint())) }))
    }

    /// What every TLS connection of the server begins with.
    pub(super) fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let versions: &[_] = match self.tls.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12],
            TlsVersion::V1_3 => &[&version::TLS13],
        };
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Clients that come back all at once cost less, and the server remembers nothing for it.
        config.ticketer = ring::Ticketer::new()?;
        Ok(Arc::new(config))
    }

    /// Reads the files again and again, until `stopping` is cancelled.
    pub(super) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        let interval = Duration::from_millis(self.tls.reload_interval_ms);
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = stopping.cancelled() => return,
            }
            let certificates = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || certificates.refresh()).await {
                tracing::error!(%error, "the certificate cannot be read again");
            }
        }
    }

    /// Takes what the files hold, if that is new and can be used; each fault is told once.
    fn refresh(&self) {
        let read = Pair::read(&self.tls);
        let now = read.as_ref().ok().map(Pair::fingerprint);
        if std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), now) == now {
            return;
        }
        match read.and_then(|pair| pair.certified(&self.tls, &self.provider)) {
            Ok(certified) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                tracing::info!(file = self.tls.cert_file, "the certificate has been read again");
            }
            Err(unusable) => tracing::error!(%unusable, "the certificate stays the one before"),
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("tls", &self.tls).finish_non_exhaustive()
    }
}

const CERT_FILE: &str = "server.tls.cert_file";
const KEY_FILE: &str = "server.tls.key_file";

impl Pair {
    fn read(tls: &Tls) -> Result<Self, Unusable> {
        let file = |key, path: &str| {
            std::fs::read(path).map_err(|error| Unusable { key, message: format!("cannot read {path}: {error}") })
        };
        Ok(Self { certificates: file(CERT_FILE, &tls.cert_file)?, key: file(KEY_FILE, &tls.key_file)? })
    }

    fn fingerprint(&self) -> Fingerprint {
        let part = |bytes: &[u8]| Sha256::digest(bytes);
        Sha256::new().chain_update(part(&self.certificates)).chain_update(part(&self.key)).finalize().into()
    }

    fn certified(&self, tls: &Tls, provider: &CryptoProvider) -> Result<CertifiedKey, Unusable> {
        let certificates = |message| Unusable { key: CERT_FILE, message };
        let key = |message| Unusable { key: KEY_FILE, message };
        let (cert_file, key_file) = (&tls.cert_file, &tls.key_file);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificates)
            .collect::<Result<_, _>>()
            .map_err(|error| certificates(format!("{cert_file} is no PEM file: {error}")))?;
        if chain.is_empty() {
            let expected = "expected PEM, with \"-----BEGIN CERTIFICATE-----\"";
            return Err(certificates(format!("{cert_file} holds no certificate; {expected}")));
        }
        // What is wrong with a key is told without a word of it.
        let private = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| {
            let expected = "expected PEM, with \"-----BEGIN PRIVATE KEY-----\" and not encrypted";
            key(format!("{key_file} holds no private key; {expected}"))
        })?;
        CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                key(format!("the private key in {key_file} does not belong to the certificate in {cert_file}"))
            }
            rustls::Error::InvalidCertificate(error) => {
                certificates(format!("{cert_file} begins with a certificate that cannot be used: {error:?}"))
            }
            _ => key(format!("the private key in {key_file} is damaged, or of a kind that TLS does not use")),
        })
    }
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.message)
    }
}

impl std::error::Error for Unusable {}

impl From<Unusable> for io::Error {
    fn from(unusable: Unusable) -> Self {
        Self::other(unusable)
    }
}
