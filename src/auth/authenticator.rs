//! Who clients are: at their word, or by their tokens (`auth.mode`).

use std::sync::Arc;

use super::identity::{Bearer, Credentials, Identity, Proof};
use super::jwt::{Proven, Tokens};
use super::revocations::Revocations;
use crate::config::{Auth, AuthMode};
use crate::rooms::Id;
use crate::wire::{WireError, now_ms};

/// The end of the year 9999, after which times cannot be written.
const LATEST_MS: i64 = 253_402_300_799_000;

/// How clients say who they are.
#[derive(Debug, Clone)]
pub struct Authenticator {
    mode: AuthMode,
    tokens: Option<Arc<Tokens>>,
    leeway_ms: i64,
    revocations: Arc<Revocations>,
}

impl Authenticator {
    /// As the configuration has it, with who checks tokens.
    pub fn new(config: &Auth, tokens: Option<Arc<Tokens>>, revocations: &Arc<Revocations>) -> Self {
        let leeway_ms = i64::try_from(config.jwt.leeway_ms).unwrap_or(i64::MAX);
        Self { mode: config.mode, tokens, leeway_ms, revocations: revocations.clone() }
    }

    /// Whether clients are taken at their word.
    pub fn believes(&self) -> bool {
        self.mode == AuthMode::Trusted
    }

    /// Who checks tokens.
    ///
    /// # Errors
    /// If nobody does.
    pub fn tokens(&self) -> Result<&Arc<Tokens>, WireError> {
        self.tokens.as_ref().ok_or(WireError::NoTokens)
    }

    /// Waits until the key of a token has been looked for, if that key is new.
    pub async fn look_for_key(&self, bearer: &Bearer) {
        if let Some(tokens) = &self.tokens {
            tokens.look_for_key(bearer.reveal()).await;
        }
    }

    /// Whether the key of a client's token is not known yet, and is being looked for.
    pub fn awaits_key(&self, credentials: &Credentials) -> bool {
        let token = credentials.token().ok().flatten();
        self.mode == AuthMode::Jwt
            && self.tokens.as_ref().zip(token).is_some_and(|(tokens, token)| tokens.awaits_key(token))
    }

    /// Who the credentials say a client is; none if it still has to say.
    ///
    /// # Errors
    /// If what they say does not hold.
    pub fn identify(&self, credentials: &Credentials) -> Result<Option<Identity>, WireError> {
        match self.mode {
            AuthMode::Trusted if credentials.is_empty() => Ok(None),
            AuthMode::Trusted => credentials.trusted().map(Some),
            AuthMode::Jwt => match credentials.token()? {
                Some(token) => self.by_token(token, credentials, None).map(Some),
                None if credentials.is_empty() => Ok(None),
                None => Err(WireError::TokenMissing),
            },
        }
    }

    /// Whom a token is for, within an organization if one is given, and in agreement with what else is said.
    ///
    /// # Errors
    /// If the token does not hold, or is for somebody else.
    pub(super) fn by_token(
        &self,
        token: &str,
        credentials: &Credentials,
        organization: Option<&Id>,
    ) -> Result<Identity, WireError> {
        let identity = self.bearer(token, organization)?;
        // Clients of a door that has an organization name users and organizations of their own.
        if organization.is_none() {
            credentials.check(&identity)?;
        }
        Ok(Identity { session_id: credentials.session_id()?, ..identity })
    }

    /// Whom a token is for that holds and is not revoked, within an organization if one is given.
    ///
    /// # Errors
    /// Why the token does not hold.
    pub fn bearer(&self, token: &str, organization: Option<&Id>) -> Result<Identity, WireError> {
        let Proven { identity, expires_at_ms, token_id, issued_at_ms, roles } =
            self.tokens()?.identify(token, organization)?;
        let expires_at_ms = expires_at_ms.saturating_add(self.leeway_ms).min(LATEST_MS);
        let proof = Some(Proof { expires_at_ms, issued_at_ms, token_id, roles });
        let identity = Identity { proof, ..identity };
        self.check(&identity)?;
        Ok(identity)
    }

    /// Whether an identity still holds that was proven before.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check(&self, identity: &Identity) -> Result<(), WireError> {
        let refused = |why: &str| Err(WireError::TokenInvalid(why.into()));
        match &identity.proof {
            // Before the server was started anew, clients may have been taken at their word.
            None if !self.believes() && !identity.anonymous => Err(WireError::TokenMissing),
            Some(proof) if proof.expires_at_ms <= now_ms() => refused("it has expired; get a new one"),
            Some(_) if self.revocations.refuse(identity) => refused("it was revoked; get a new one"),
            _ => Ok(()),
        }
    }

    /// What a client lacks that has named nobody.
    pub fn lacks(&self) -> WireError {
        match self.mode {
            AuthMode::Trusted => WireError::CredentialMissing("organization_id"),
            AuthMode::Jwt => WireError::TokenMissing,
        }
    }
}
