//! Tokens: JSON Web Tokens that say who a client is.

use crate::auth::Identity;
use crate::rooms::Id;
use crate::wire::WireError;

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens;

impl Tokens {
    /// Whom a token is for, within an organization if one is given.
    ///
    /// # Errors
    /// Why the token does not hold.
    pub fn identify(&self, _token: &str, _organization: Option<&Id>) -> Result<Identity, WireError> {
        Err(WireError::NoTokens)
    }
}
