//! Where keys come from, and what is wrong there.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::jwks::{self, Secrets};
use super::key::Key;
use super::pem;
use crate::config::{Jwt, JwtAlgorithm};

/// Most bytes of a file or an answer.
const MAX_BYTES: usize = 1_048_576;

const SECRET: &str = "auth.jwt.secret";

/// What was found at a source.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) keys: Vec<Key>,
    /// Why others cannot be used.
    pub(super) skipped: Vec<String>,
}

/// What is wrong with the keys of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct KeyFault {
    /// The key of the configuration.
    pub key: &'static str,
    /// What is wrong, and with which file.
    pub why: String,
}

/// A file or a URL with keys, and those that were found there last. It may hold secrets, so it is never printed.
pub(super) struct Source {
    /// The key of the configuration that names it.
    pub(super) key: &'static str,
    place: Place,
    format: Format,
    /// What was there last.
    last: Option<Result<Vec<u8>, String>>,
    /// Why that cannot be used; keys that were found before still hold.
    pub(super) fault: Option<String>,
    pub(super) keys: Vec<Key>,
}

enum Place {
    File(PathBuf),
    Url(reqwest::Client, String),
}

#[derive(Clone, Copy)]
enum Format {
    Pem,
    Jwks(Secrets),
}

/// Everything that is wrong with the files of keys, and whether an algorithm lacks a key that they should have.
pub fn key_faults(config: &Jwt) -> Vec<KeyFault> {
    let (secret, files, mut faults) = local(config);
    // What is wrong without looking into files is told by the configuration itself.
    faults.retain(|fault| fault.key != SECRET);
    if files.is_empty() || !faults.is_empty() || !config.jwks_url.is_empty() {
        return faults;
    }
    let keys = || secret.iter().chain(files.iter().flat_map(|file| &file.keys));
    let should_have = |algorithm: &JwtAlgorithm| !algorithm.is_hmac() || !config.jwks_file.is_empty();
    let lacks = |algorithm: &JwtAlgorithm| !keys().any(|key| key.verifies((*algorithm).into()));
    let lacking = config.algorithms.iter().filter(|algorithm| should_have(algorithm) && lacks(algorithm));
    let names: Vec<_> = lacking.map(|algorithm| algorithm.name()).collect();
    if !names.is_empty() {
        let why = format!("there is no key that verifies {}", names.join(" or "));
        faults.push(KeyFault { key: "auth.jwt.algorithms", why });
    }
    faults
}

/// The secret and the files, each with its keys.
pub(super) fn local(config: &Jwt) -> (Option<Key>, Vec<Source>, Vec<KeyFault>) {
    let mut faults = Vec::new();
    let secret = config.secret.reveal();
    let secret = (!secret.is_empty()).then(|| Key::secret(secret.as_bytes())).transpose();
    let secret = secret.unwrap_or_else(|why| {
        faults.push(KeyFault { key: SECRET, why });
        None
    });
    let files = [
        ("auth.jwt.public_key_file", &config.public_key_file, Format::Pem),
        ("auth.jwt.jwks_file", &config.jwks_file, Format::Jwks(Secrets::Allowed)),
    ];
    let mut sources = Vec::new();
    for (key, path, format) in files.into_iter().filter(|(_, path, _)| !path.is_empty()) {
        let mut source = Source::new(key, Place::File(path.into()), format);
        source.take(read_file(Path::new(path)), config);
        match source.fault {
            Some(why) => faults.push(KeyFault { key, why: format!("{path:?}: {why}") }),
            None => sources.push(source),
        }
    }
    (secret, sources, faults)
}

/// The URL, if there is one; nothing has been fetched yet.
pub(super) fn remote(config: &Jwt) -> Result<Option<Source>, KeyFault> {
    if config.jwks_url.is_empty() {
        return Ok(None);
    }
    let key = "auth.jwt.jwks_url";
    let client = reqwest::Client::builder()
        .user_agent(concat!("tiercast/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_millis(config.jwks_timeout_ms))
        // Who may vouch for keys is who was configured.
        .redirect(reqwest::redirect::Policy::none())
        // Until the next time the other side has hung up long since.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| KeyFault { key, why: format!("nothing can be fetched: {error}") })?;
    Ok(Some(Source::new(key, Place::Url(client, config.jwks_url.clone()), Format::Jwks(Secrets::Refused))))
}

impl Source {
    fn new(key: &'static str, place: Place, format: Format) -> Self {
        Self { key, place, format, last: None, fault: None, keys: Vec::new() }
    }

    /// Looks what is there, and says whether it is anything new: other keys, or a fault.
    pub(super) async fn refresh(&mut self, config: &Jwt) -> bool {
        let text = match &self.place {
            Place::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path));
                read.await.unwrap_or_else(|error| Err(error.to_string()))
            }
            Place::Url(client, url) => fetch(client, url).await,
        };
        self.take(text, config)
    }

    fn take(&mut self, text: Result<Vec<u8>, String>, config: &Jwt) -> bool {
        if self.last.as_ref() == Some(&text) {
            return false;
        }
        let found = text.as_ref().map_err(Clone::clone).and_then(|text| match self.format {
            Format::Pem => pem::read(text),
            Format::Jwks(secrets) => jwks::read(text, secrets),
        });
        self.last = Some(text);
        match found.and_then(|found| self.usable(found, config)) {
            Ok(keys) => (self.keys, self.fault) = (keys, None),
            Err(why) => self.fault = Some(why),
        }
        true
    }

    fn usable(&self, found: Found, config: &Jwt) -> Result<Vec<Key>, String> {
        let Found { keys, skipped } = found;
        if let Some(first) = skipped.first() {
            tracing::warn!(key = self.key, skipped = skipped.len(), %first, "some keys cannot be used");
        }
        if keys.is_empty() {
            let first = skipped.first().map_or("it has none", String::as_str);
            return Err(format!("there is no key that can be used: {first}"));
        }
        let is_accepted = |key: &Key| config.algorithms.iter().any(|algorithm| key.verifies((*algorithm).into()));
        if !keys.iter().any(is_accepted) {
            return Err("none of its keys verifies any of auth.jwt.algorithms".into());
        }
        Ok(keys)
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        // Something else may never end, or never begin.
        if !fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let mut text = Vec::new();
        File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() > MAX_BYTES { Err(too_large()) } else { Ok(text) }
}

async fn fetch(client: &reqwest::Client, url: &str) -> Result<Vec<u8>, String> {
    // The URL may hold what is not for a log.
    let unanswered = |error: reqwest::Error| format!("it does not answer: {}", chain(&error.without_url()));
    let mut answer = client.get(url).header("accept", "application/json").send().await.map_err(unanswered)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(format!("it answers with status {}", answer.status().as_u16()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
        if text.len() + chunk.len() > MAX_BYTES {
            return Err(too_large());
        }
        text.extend_from_slice(&chunk);
    }
    Ok(text)
}

fn too_large() -> String {
    format!("it has more than {MAX_BYTES} bytes")
}

/// What an error says, and what its causes do.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
