//! Who answers the questions of other nodes, by kind.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Answers a question; none if it cannot be read.
type Handler = Arc<dyn Fn(&[u8]) -> Option<Answering> + Send + Sync>;

/// An answer on its way.
pub(super) type Answering = Pin<Box<dyn Future<Output = Vec<u8>> + Send>>;

/// Those who answer.
#[derive(Default)]
pub(super) struct Handlers {
    by_kind: RwLock<HashMap<&'static str, Handler>>,
}

impl Handlers {
    pub(super) fn add<Q, A, F, Answered>(&self, kind: &'static str, answer: F)
    where
        Q: DeserializeOwned,
        A: Serialize,
        F: Fn(Q) -> Answered + Send + Sync + 'static,
        Answered: Future<Output = A> + Send + 'static,
    {
        let handler = move |body: &[u8]| -> Option<Answering> {
            let answering = answer(serde_json::from_slice(body).ok()?);
            Some(Box::pin(async move { serde_json::to_vec(&answering.await).unwrap_or_default() }))
        };
        self.by_kind.write().unwrap_or_else(PoisonError::into_inner).insert(kind, Arc::new(handler));
    }

    /// An answer to a question; none if nobody understands it.
    pub(super) fn answer(&self, kind: &str, body: &[u8]) -> Option<Answering> {
        let handler = self.by_kind.read().unwrap_or_else(PoisonError::into_inner).get(kind).cloned();
        handler?(body)
    }

    /// Lets go of everything that answers.
    pub(super) fn clear(&self) {
        self.by_kind.write().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl std::fmt::Debug for Handlers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handlers")
    }
}
