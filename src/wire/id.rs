//! Ids that the server makes: of sockets, messages and subscriptions.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::now_ms;

const LETTERS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Our own id of a socket, the only one that others ever see.
///
/// 20 letters and digits from the system's random source. The Engine.IO
/// session id is a credential and is never published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PublicId(Arc<str>);

impl PublicId {
    /// An id that nobody can guess.
    pub fn fresh() -> Self {
        Self(random_letters(20).into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for PublicId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret by which a client takes its session up again: 20 letters and digits.
///
/// It is a credential, so it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Pid(Arc<str>);

impl Pid {
    /// A secret that nobody can guess.
    pub fn fresh() -> Self {
        Self(random_letters(20).into())
    }

    /// The secret a client has sent.
    pub fn of(text: &str) -> Self {
        Self(text.into())
    }

    /// The secret as text, for its own client only.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pid")
    }
}

/// A message id: `msg_<ms>_<9 letters>`.
pub fn fresh_message_id() -> String {
    format!("msg_{}_{}", now_ms(), random_letters(9))
}

/// A subscription id: `sub_<ms>_<9 letters>`.
pub fn fresh_subscription_id() -> String {
    format!("sub_{}_{}", now_ms(), random_letters(9))
}

/// As many random lower-case letters and digits as asked for.
pub fn random_letters(count: usize) -> String {
    let mut bytes = vec![0u8; count * 2];
    getrandom::fill(&mut bytes).expect("the system has a random source");
    bytes
        .chunks_exact(2)
        .map(|pair| LETTERS[usize::from(u16::from_le_bytes([pair[0], pair[1]])) % LETTERS.len()] as char)
        .collect()
}
