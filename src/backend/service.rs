//! A service that answers: asked only so often at once, and left alone while it fails.

use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::breaker::Breaker;
use super::signed::{Answer, Backend, CallError};
use crate::config::Secret;

/// One service of the operator's, for one purpose.
#[derive(Debug)]
pub struct Service {
    backend: Backend,
    url: String,
    secret: Secret,
    calls: Semaphore,
    breaker: Breaker,
}

/// How a service is asked.
#[derive(Debug, Clone)]
pub struct ServiceSettings {
    /// Where it is.
    pub url: String,
    /// What calls are signed with; not at all if it is empty.
    pub secret: Secret,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Calls that may be under way at once.
    pub max_concurrent: usize,
    /// How long it is left alone after five failures in a row.
    pub retry: Duration,
}

/// Why a service has not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// As many calls as may be are under way.
    #[error("as many calls as may be are under way")]
    Busy,
    /// It failed again and again, and is left alone for a while.
    #[error("the service is left alone, since it failed again and again")]
    Open,
    /// It could not be asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It answered that it cannot.
    #[error("the service answered with status {0}")]
    Failed(u16),
}

impl Service {
    /// A service that is asked over the connections of a caller.
    pub fn new(backend: &Backend, settings: ServiceSettings) -> Self {
        let ServiceSettings { url, secret, timeout, max_concurrent, retry } = settings;
        Self {
            backend: backend.with_timeout(timeout),
            url,
            secret,
            calls: Semaphore::new(max_concurrent),
            breaker: Breaker::new(retry),
        }
    }

    /// Asks it.
    ///
    /// # Errors
    /// If it could not be asked, did not answer in time, or answered with a 5xx status.
    pub async fn ask(&self, body: String) -> Result<Answer, AskError> {
        let _call = self.calls.try_acquire().map_err(|_| AskError::Busy)?;
        let pass = self.breaker.pass(Instant::now()).ok_or(AskError::Open)?;
        let answer = self.backend.ask(&self.url, &self.secret, body).await;
        match &answer {
            Ok(answer) if answer.status >= 500 => {
                pass.failed(Instant::now());
                Err(AskError::Failed(answer.status))
            }
            Err(CallError::Unreachable(_)) => {
                pass.failed(Instant::now());
                answer.map_err(Into::into)
            }
            _ => {
                pass.succeeded();
                answer.map_err(Into::into)
            }
        }
    }
}
