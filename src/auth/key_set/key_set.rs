//! The keys that there are just now, and which of them may have signed a token.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::Algorithm;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::key::Key;

/// Most keys that are tried for one token.
const MAX_TRIED: usize = 16;

/// The keys of a server; they change while it runs.
#[derive(Debug)]
pub(in crate::auth) struct KeySet {
    /// Replaced as a whole.
    keys: RwLock<Arc<[Key]>>,
    /// None if nobody fetches keys that are missed.
    fetching: Option<Fetching>,
}

#[derive(Debug)]
struct Fetching {
    /// Wakes who does it.
    missed: Notify,
    /// From when on it may be done; changes whenever it has been.
    next: watch::Sender<Instant>,
}

impl KeySet {
    /// An empty set whose missing keys can be fetched, or not.
    pub(super) fn new(fetches: bool) -> Self {
        let fetching = || Fetching { missed: Notify::new(), next: watch::Sender::new(Instant::now()) };
        Self { keys: RwLock::default(), fetching: fetches.then(fetching) }
    }

    /// Comes when a token has named a key that is not there, if that can be fetched.
    pub(super) async fn missed(&self) {
        match &self.fetching {
            Some(fetching) => fetching.missed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Keys have been fetched, or not; that may be done again from this moment on.
    pub(super) fn fetched(&self, next: Instant) {
        if let Some(fetching) = &self.fetching {
            fetching.next.send_replace(next);
        }
    }

    /// Waits until a key has been looked for, if it is not known and may be fetched just now.
    pub(in crate::auth) async fn look_for(&self, id: &str, longest: Duration) {
        let Some(fetching) = self.fetching.as_ref().filter(|_| !is_known(&self.keys(), id)) else { return };
        let mut next = fetching.next.subscribe();
        if *next.borrow_and_update() <= Instant::now() {
            fetching.missed.notify_one();
            // What is there then is looked at by whoever waits.
            let _ = timeout(longest, next.changed()).await;
        }
    }

    /// Whether a key is not known, and is fetched just now or will be at once.
    pub(in crate::auth) fn may_come(&self, id: &str) -> bool {
        let is_due = |fetching: &Fetching| *fetching.next.borrow() <= Instant::now();
        self.fetching.as_ref().is_some_and(is_due) && !is_known(&self.keys(), id)
    }

    fn keys(&self) -> Arc<[Key]> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn replace(&self, keys: Vec<Key>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    /// Tries the keys that may have signed a token until one has: the one that it names, those without a name if none
    /// is called so, and all that verify its algorithm if it names none.
    ///
    /// `attempt` returns nothing where the signature is not that of the key.
    ///
    /// # Errors
    /// Why no key has, or what `attempt` says.
    pub(in crate::auth) fn try_keys<T>(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        attempt: impl Fn(&Key) -> Result<Option<T>, String>,
    ) -> Result<T, String> {
        let keys = self.keys();
        let is_known = id.is_some_and(|id| is_known(&keys, id));
        let is_named = |key: &&Key| match id {
            Some(id) if is_known => key.id.as_deref() == Some(id),
            Some(_) => key.id.is_none(),
            None => true,
        };
        let mut tried = 0;
        for key in keys.iter().filter(is_named).filter(|key| key.verifies(algorithm)).take(MAX_TRIED) {
            tried += 1;
            if let Some(proof) = attempt(key)? {
                return Ok(proof);
            }
        }
        if let Some(fetching) = self.fetching.as_ref().filter(|_| id.is_some() && !is_known) {
            fetching.missed.notify_one();
        }
        Err(match id {
            _ if keys.is_empty() => "the keys that tokens are checked with are not there yet; try again later",
            Some(_) if !is_known && (tried == 0 || self.fetching.is_some()) => "its kid names no key that is known",
            _ if tried > 0 => "its signature does not match",
            Some(_) => "its algorithm is none of its key's",
            None => "there is no key for its algorithm",
        }
        .into())
    }
}

fn is_known(keys: &[Key], id: &str) -> bool {
    keys.iter().any(|key| key.id.as_deref() == Some(id))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::auth::key_set::key::Curve;

    fn secret(id: Option<&str>, byte: u8) -> Key {
        let mut key = Key::secret(&[byte; 32]).expect("a key");
        key.id = id.map(str::to_owned);
        key
    }

    /// First bytes of the keys that are tried when none has signed, and what is said then.
    fn tried(set: &KeySet, algorithm: Algorithm, id: Option<&str>) -> (Vec<u8>, String) {
        let tried = RefCell::new(Vec::new());
        let refused = set.try_keys(algorithm, id, |key| {
            tried.borrow_mut().push(key.material.try_get_as_bytes().expect("bytes")[0]);
            Ok(None::<()>)
        });
        (tried.into_inner(), refused.expect_err("refused"))
    }

    fn set(keys: Vec<Key>) -> KeySet {
        let set = KeySet::new(keys.is_empty());
        set.replace(keys);
        set
    }

    #[test]
    fn a_token_names_its_key_or_has_all_that_fit() {
        let ec = Key::ec(Curve::P256, &[4; 65]).expect("a key");
        let keys = set(vec![secret(Some("a"), 1), secret(Some("b"), 2), secret(Some("b"), 3), secret(None, 5), ec]);
        let told = |id, tries: &[u8], why: &str| {
            assert_eq!(tried(&keys, Algorithm::HS256, id), (tries.to_vec(), why.to_owned()), "{id:?}");
        };
        told(Some("a"), &[1], "its signature does not match");
        told(Some("b"), &[2, 3], "its signature does not match");
        told(Some("c"), &[5], "its signature does not match");
        told(None, &[1, 2, 3, 5], "its signature does not match");
        assert_eq!(tried(&keys, Algorithm::ES256, None).0, [4]);
        assert_eq!(tried(&keys, Algorithm::ES256, Some("a")), (vec![], "its algorithm is none of its key's".into()));
        assert_eq!(tried(&keys, Algorithm::EdDSA, None), (vec![], "there is no key for its algorithm".into()));
        assert_eq!(tried(&keys, Algorithm::EdDSA, Some("c")).1, "its kid names no key that is known");
        let empty = set(Vec::new());
        assert!(tried(&empty, Algorithm::HS256, Some("a")).1.contains("not there yet"));
    }

    #[test]
    fn a_token_costs_no_more_than_sixteen_tries() {
        let many = set(vec![secret(Some("same"), 1); 100]);
        assert_eq!(tried(&many, Algorithm::HS256, None).0.len(), MAX_TRIED);
        assert_eq!(tried(&many, Algorithm::HS256, Some("same")).0.len(), MAX_TRIED);
    }

    #[test]
    fn the_first_key_that_fits_ends_the_search() {
        let keys = set(vec![secret(None, 1), secret(None, 2), secret(None, 3)]);
        let found = keys.try_keys(Algorithm::HS256, None, |key| {
            let first = key.material.try_get_as_bytes().expect("bytes")[0];
            assert!(first < 3);
            Ok((first == 2).then_some(first))
        });
        assert_eq!(found, Ok(2));
        assert_eq!(keys.try_keys::<()>(Algorithm::HS256, None, |_| Err("why".into())), Err("why".into()));
    }

    #[tokio::test]
    async fn only_a_key_that_is_named_and_unknown_is_missed() {
        let keys = KeySet::new(true);
        keys.replace(vec![secret(Some("a"), 1), secret(None, 2)]);
        let is_missed = async || tokio::time::timeout(std::time::Duration::ZERO, keys.missed()).await.is_ok();
        for id in [None, Some("a")] {
            tried(&keys, Algorithm::HS256, id);
            assert!(!is_missed().await, "{id:?}");
        }
        assert_eq!(tried(&keys, Algorithm::HS256, Some("b")).1, "its kid names no key that is known");
        assert!(is_missed().await);
    }
}
