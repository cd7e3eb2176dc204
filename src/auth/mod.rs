//! Who a client or a caller is, and what they may touch.
//!
//! Nothing here knows a socket or a route: it turns credentials into an
//! [`Identity`] or a [`Caller`], or says why not.

mod audit;
mod authenticator;
mod claims;
mod development;
mod door;
mod identity;
mod jwt;
mod key_set;
mod keys;
mod mint;
mod renew;
mod revocations;
mod shared_revocations;
mod signatures;

pub use audit::{AUDIT, Deed};
pub use authenticator::Authenticator;
pub use claims::Claims;
pub use development::{Request, unmet};
pub use door::{Door, System};
pub use identity::{Bearer, Credentials, Identity, Proof};
pub use jwt::{Proven, Tokens};
pub use key_set::{KeyFault, key_faults};
pub use keys::{ApiKeys, Caller, Denied, KEYLESS, Reach, hash_key};
pub use mint::{Grant, MintError, Minted};
pub use renew::RenewError;
pub use revocations::{Revocation, Revocations, Revoked};
pub use shared_revocations::{Reading, SharedRevocations};
