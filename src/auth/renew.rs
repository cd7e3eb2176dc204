//! Tokens of the server's own making, exchanged for later ones.

use std::time::Duration;

use serde_json::{Value, json};

use super::jwt::{Tokens, header};
use super::mint::{MintError, Minted};
use crate::wire::{WireError, now_ms};

/// The claim that tells when the first of a row of tokens was issued, as `iat` does.
const FIRST_ISSUED: &str = "first_iat";

/// Why a token is not exchanged.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RenewError {
    /// It does not hold, or cannot be exchanged.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// No token is made.
    #[error(transparent)]
    Unmade(#[from] MintError),
}

impl Tokens {
    /// A later token for the bearer of one that this server has made and that holds: with the same claims and the same
    /// id, so that a revocation ends the whole row.
    ///
    /// # Errors
    /// If the token does not hold, was made by somebody else, or its row is too old.
    pub fn renew(&self, token: &str) -> Result<Minted, RenewError> {
        let refused = |why: &str| RenewError::Refused(WireError::TokenInvalid(why.into()));
        self.identify(token, None)?;
        if !header(token).is_some_and(|header| header.alg.starts_with("HS")) {
            return Err(refused("it was made by somebody else, who renews it"));
        }
        let mut claims = self.checked(token).map_err(WireError::TokenInvalid)?;
        let first = claims.get(FIRST_ISSUED).or_else(|| claims.get("iat")).and_then(Value::as_f64);
        let first = first.ok_or_else(|| refused("it does not say when it was issued (iat)"))?;
        let limit = Duration::from_millis(self.config.refresh_ttl_ms).as_secs_f64();
        if now_ms() as f64 / 1_000.0 >= first + limit {
            return Err(refused("it was renewed for as long as it may be; log in again"));
        }
        let token_id =
            claims.get("jti").and_then(Value::as_str).ok_or_else(|| refused("it has no id (jti)"))?.to_owned();
        claims.insert(FIRST_ISSUED.into(), json!(first));
        Ok(self.signed(claims, token_id, Duration::from_millis(self.config.token_ttl_ms))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::mint::tests::grant;
    use crate::config::{Jwt, Secret};

    fn tokens(refresh_ttl_ms: u64) -> std::sync::Arc<Tokens> {
        let secret = Secret::from("a secret of at least thirty-two bytes".to_owned());
        Tokens::new(&Jwt { secret, refresh_ttl_ms, ..Jwt::default() }).expect("a secret")
    }

    #[test]
    fn a_later_token_proves_the_same_for_longer_under_the_same_id() {
        let tokens = tokens(60_000);
        let first = tokens.mint(&grant()).expect("a token");
        let later = tokens.renew(&first.token).expect("a later one");
        let (before, after) = (tokens.identify(&first.token, None), tokens.identify(&later.token, None));
        let (before, after) = (before.expect("a proof"), after.expect("a proof"));
        assert_eq!((&before.identity, &before.roles), (&after.identity, &after.roles));
        assert_eq!(before.token_id, after.token_id);
        assert!(after.expires_at_ms > before.expires_at_ms);
        assert!(tokens.renew(&later.token).is_ok());
    }

    #[test]
    fn a_row_of_tokens_ends() {
        let first = tokens(0).mint(&grant()).expect("a token");
        let error = tokens(0).renew(&first.token).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("log in again")));
        assert!(matches!(tokens(60_000).renew("a.b.c"), Err(RenewError::Refused(_))));
    }
}
