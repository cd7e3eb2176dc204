//! The secret that all nodes of a cluster know and nobody else: what one says to another carries a proof of it.
//!
//! The first node makes it, and it lives in Redis. A Redis that was emptied gets it back from whoever is first, and a
//! secret that another one has replaced still counts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hmac::{Hmac, Mac};
use redis::RedisError;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use crate::redis::Redis;
use crate::wire::{from_hex, random_letters, to_hex};

/// Letters of a secret: 32 of 36 kinds are more than 160 bits.
const LETTERS: usize = 32;

/// Bytes of a proof: HMAC-SHA256, RFC 2104.
const PROOF: usize = 32;

/// What the nodes of one cluster know.
pub struct SharedSecret {
    redis: Arc<Redis>,
    known: Mutex<Known>,
}

/// Empty ones are not known.
#[derive(Default)]
struct Known {
    current: String,
    /// The one that was current before.
    former: String,
}

impl SharedSecret {
    /// Learns the secret, or makes it, and from then on looks now and then whether it is another one.
    pub async fn start(
        config: &config::Cluster,
        redis: &Arc<Redis>,
        tasks: &TaskTracker,
        stopping: &CancellationToken,
    ) -> Arc<Self> {
        let secret = Arc::new(Self { redis: redis.clone(), known: Mutex::default() });
        secret.look_or_warn().await;
        tasks.spawn(secret.clone().keep(Duration::from_millis(config.node_timeout_ms), stopping.clone()));
        secret
    }

    /// A proof that whoever says something knows the secret; none while it is not known.
    pub fn prove(&self, said: &str) -> Option<String> {
        self.lock().prove(said)
    }

    /// Whether a proof is one of what was said.
    pub fn is_proven(&self, said: &str, proof: &str) -> bool {
        self.lock().is_proven(said, proof)
    }

    async fn keep(self: Arc<Self>, every: Duration, stopping: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = stopping.cancelled() => return,
            }
            // A server that is away is told of by others.
            self.look().await.ok();
        }
    }

    async fn look_or_warn(&self) {
        if let Err(error) = self.look().await {
            tracing::warn!(%error, "what other nodes pass on is refused until the secret of the cluster can be read");
        }
    }

    /// Reads the secret; who finds none leaves its own.
    async fn look(&self) -> Result<(), RedisError> {
        let current = self.lock().current.clone();
        let offered = if current.is_empty() { random_letters(LETTERS) } else { current };
        let mut offer = redis::cmd("SET");
        offer.arg(self.redis.keys.of(0, "secret")).arg(&offered).arg("NX").arg("GET");
        let found: Option<String> = self.redis.server_of(0).query(&offer).await?;
        self.lock().learn(found.unwrap_or(offered));
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn prove(&self, said: &str) -> Option<String> {
        (!self.current.is_empty()).then(|| to_hex(&mac(&self.current, said).finalize().into_bytes()))
    }

    fn is_proven(&self, said: &str, proof: &str) -> bool {
        let Some(proof) = from_hex::<PROOF>(proof) else { return false };
        let secrets = [&self.current, &self.former];
        secrets.into_iter().any(|secret| !secret.is_empty() && mac(secret, said).verify_slice(&proof).is_ok())
    }

    fn learn(&mut self, secret: String) {
        if self.current != secret {
            self.former = std::mem::replace(&mut self.current, secret);
        }
    }
}

fn mac(secret: &str, said: &str) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length").chain_update(said)
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(secrets: &[&str]) -> Known {
        let mut known = Known::default();
        secrets.iter().for_each(|secret| known.learn((*secret).to_owned()));
        known
    }

    #[test]
    fn a_proof_is_of_what_was_said_by_who_knows() {
        let (one, other) = (knowing(&["a"]), knowing(&["a", "b"]));
        let proof = one.prove("this").expect("a proof");
        assert!(one.is_proven("this", &proof));
        assert!(!one.is_proven("that", &proof) && !knowing(&["c"]).is_proven("this", &proof));
        assert!(other.is_proven("this", &proof), "the former secret still counts");
        assert!(!knowing(&["a", "b", "c"]).is_proven("this", &proof), "for one change");
        let proof = other.prove("this").expect("a proof");
        assert!(!one.is_proven("this", &proof), "it is of the new secret");
    }

    #[test]
    fn who_knows_nothing_proves_and_believes_nothing() {
        let nobody = Known::default();
        assert_eq!(nobody.prove("this"), None);
        let empty = to_hex(&mac("", "this").finalize().into_bytes());
        for proof in ["", &empty, "xx"] {
            assert!(!nobody.is_proven("this", proof) && !knowing(&["a"]).is_proven("this", proof));
        }
    }
}
