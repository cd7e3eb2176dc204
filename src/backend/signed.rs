//! Signed POSTs of JSON, over connections that are kept.
//!
//! `X-Tiercast-Timestamp` is the time in seconds since the epoch, and
//! `X-Tiercast-Signature` is `sha256=` and the HMAC-SHA256 in hexadecimal of the
//! timestamp, a dot and the body (RFC 2104).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::config::Secret;
use crate::wire::{now_ms, to_hex};

/// Why a call did not succeed.
#[derive(Debug, Error)]
pub enum CallError {
    /// The certificates of the system cannot be used.
    #[error("no service can be called: {0}")]
    Client(#[source] reqwest::Error),
    /// The service could not be reached, or not in time.
    #[error("the service cannot be reached: {0}")]
    Unreachable(#[source] reqwest::Error),
    /// It answered with something else than success.
    #[error("the service answered with status {0}")]
    Refused(u16),
    /// Nobody is called any more, since the server stops.
    #[error("the server stops and calls nobody any more")]
    Closed,
    /// Its answer is too large to be read.
    #[error("the service answered with more than {MAX_ANSWER} bytes")]
    TooLarge,
}

/// Largest answer that is read.
const MAX_ANSWER: usize = 1_048_576;

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Vec<u8>,
}

/// Calls the services of one operator.
#[derive(Debug, Clone)]
pub struct Backend {
    /// None once nobody is to be called any more; shared, so that its connections end then.
    client: Arc<RwLock<Option<reqwest::Client>>>,
    timeout: Duration,
}

impl Backend {
    /// A caller whose calls may take so long.
    ///
    /// # Errors
    /// If the certificates of the system cannot be used.
    pub fn new(timeout: Duration) -> Result<Self, CallError> {
        let client = reqwest::Client::builder()
            .user_agent("tiercast")
            // What is signed is meant for the address that was configured.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(CallError::Client)?;
        Ok(Self { client: Arc::new(RwLock::new(Some(client))), timeout })
    }

    /// The same caller, over the same connections, whose calls may take so long.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        Self { client: self.client.clone(), timeout }
    }

    /// Calls nobody any more, and lets go of the connections.
    pub fn close(&self) {
        self.client.write().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Sends JSON, signed unless the secret is empty.
    ///
    /// # Errors
    /// If there is no answer with a 2xx status in time.
    pub async fn post(&self, url: &str, secret: &Secret, body: String) -> Result<(), CallError> {
        let answer = self.send(url, secret, body).await?;
        if answer.status().is_success() { Ok(()) } else { Err(CallError::Refused(answer.status().as_u16())) }
    }

    /// The same, and reads the answer, whatever its status.
    ///
    /// # Errors
    /// If there is no whole answer in time, or it is too large.
    pub async fn ask(&self, url: &str, secret: &Secret, body: String) -> Result<Answer, CallError> {
        let mut answer = self.send(url, secret, body).await?;
        let (status, mut body) = (answer.status().as_u16(), Vec::new());
        while let Some(chunk) = answer.chunk().await.map_err(unanswered)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(CallError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    async fn send(&self, url: &str, secret: &Secret, body: String) -> Result<reqwest::Response, CallError> {
        let client = self.client.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(CallError::Closed)?;
        let mut request = client.post(url).timeout(self.timeout).header("content-type", "application/json");
        if !secret.reveal().is_empty() {
            let timestamp = now_ms() / 1_000;
            request = request
                .header("x-tiercast-timestamp", timestamp)
                .header("x-tiercast-signature", signature(secret.reveal(), timestamp, &body));
        }
        request.body(body).send().await.map_err(unanswered)
    }
}

/// The address of a service may hold a password.
fn unanswered(error: reqwest::Error) -> CallError {
    CallError::Unreachable(error.without_url())
}

fn signature(secret: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key of any length will do");
    mac.update(format!("{timestamp}.{body}").as_bytes());
    format!("sha256={}", to_hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_what_openssl_makes_of_it() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expected = "sha256=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        assert_eq!(signature("secret", 1_700_000_000, r#"{"a":1}"#), expected);
    }
}
