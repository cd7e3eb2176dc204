//! Who a client or a caller is, and what they may touch.
//!
//! Nothing here knows a socket or a route: it turns credentials into an
//! [`Identity`] or a [`Caller`], or says why not.

mod claims;
mod development;
mod door;
mod identity;
mod jwt;
mod keys;
mod signatures;

pub use claims::Claims;
pub use development::{Request, unmet};
pub use door::{Door, System};
pub use identity::{Credentials, Identity};
pub use jwt::Tokens;
pub use keys::{ApiKeys, Caller, Denied, hash_key};
