//! The keys that tokens are checked with: a secret, files, and a URL.
//!
//! `source.rs` is where keys come from and `refresh.rs` when; `jwks.rs` and
//! `pem.rs` read what is there. A key knows which algorithms it verifies,
//! so that none is ever used for what it was not made for.

mod jwks;
mod key;
mod key_set;
mod pem;
mod refresh;
mod source;

pub(super) use key_set::KeySet;
pub(super) use refresh::Refresher;
pub use source::{KeyFault, key_faults};
