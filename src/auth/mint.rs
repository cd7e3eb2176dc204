//! Tokens of the server's own making, for backends that ask for them.

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Map, Value, json};

use super::jwt::Tokens;
use crate::rooms::Id;
use crate::wire::{now_ms, random_letters};

/// What a token is to say; a list that is none means all, and one of roles that is empty none.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The user.
    pub user: Id,
    /// The organization.
    pub organization: Id,
    /// Departments that it may receive from.
    pub departments: Option<Vec<Id>>,
    /// Queues that it may receive from, within the departments if there are any.
    pub queues: Option<Vec<Id>>,
    /// Channels that it may subscribe to.
    pub channels: Option<Vec<String>>,
    /// Its roles.
    pub roles: Vec<String>,
    /// How long the token is to hold; cut to whole seconds.
    pub lifetime: Duration,
}

/// A token that was made.
#[derive(Clone)]
pub struct Minted {
    /// The token itself, which is a secret of its bearer.
    pub token: String,
    /// Its id (`jti`).
    pub token_id: String,
    /// When it expires (`exp`), in milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Why no token is made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// There is nothing to sign with.
    #[error(
        "this server signs no tokens; set auth.jwt.secret, and one of HS256, HS384 and HS512 in auth.jwt.algorithms"
    )]
    NoSecret,
    /// It would be refused by whoever checks it.
    #[error("auth.jwt.required_claims asks for the claim {0:?}, which tokens of this server do not have")]
    Incomplete(String),
    /// The library could not write it.
    #[error("the token could not be signed")]
    Unsigned,
}

impl Tokens {
    /// Makes a token that this server accepts, signed with the secret by the first HMAC algorithm of the config.
    ///
    /// # Errors
    /// If there is no secret or no such algorithm, or tokens have to have claims that are not made here.
    pub fn mint(&self, grant: &Grant) -> Result<Minted, MintError> {
        self.signed(self.granted(grant), random_letters(20), grant.lifetime)
    }

    /// Signs claims, with an id and for a time from now on.
    pub(super) fn signed(
        &self,
        mut claims: Map<String, Value>,
        token_id: String,
        lifetime: Duration,
    ) -> Result<Minted, MintError> {
        let secret = self.config.secret.reveal();
        let hmac = self.config.algorithms.iter().find(|algorithm| algorithm.is_hmac());
        let algorithm = hmac.filter(|_| !secret.is_empty()).ok_or(MintError::NoSecret)?;
        let now = now_ms();
        let expires_at = (now / 1_000).saturating_add_unsigned(lifetime.as_secs()).min(i64::MAX / 1_000);
        claims.extend([
            // To the millisecond, so that one made right behind a revocation is not taken for an earlier one.
            ("iat".to_owned(), json!(now as f64 / 1_000.0)),
            ("exp".to_owned(), json!(expires_at)),
            ("jti".to_owned(), json!(token_id)),
        ]);
        if let Some(name) = self.config.required_claims.iter().find(|name| !claims.contains_key(*name)) {
            return Err(MintError::Incomplete(name.clone()));
        }
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new((*algorithm).into()), &claims, &key).map_err(|_| MintError::Unsigned)?;
        Ok(Minted { token, token_id, expires_at_ms: expires_at * 1_000 })
    }

    /// The claims of a grant under their configured names, and whom tokens are from and for.
    fn granted(&self, grant: &Grant) -> Map<String, Value> {
        let names = &self.config.claims;
        let texts =
            |ids: &Option<Vec<Id>>| ids.as_ref().map(|ids| json!(ids.iter().map(Id::as_str).collect::<Vec<_>>()));
        let set = |text: &str| (!text.is_empty()).then(|| json!(text));
        let claims = [
            (names.user_id.as_str(), Some(json!(grant.user.as_str()))),
            (&names.organization_id, Some(json!(grant.organization.as_str()))),
            (&names.departments, texts(&grant.departments)),
            (&names.queues, texts(&grant.queues)),
            (&names.channels, grant.channels.as_ref().map(|channels| json!(channels))),
            (&names.roles, (!grant.roles.is_empty()).then(|| json!(grant.roles))),
            ("iss", set(&self.config.issuer)),
            ("aud", set(&self.config.audience)),
        ];
        claims.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::auth::Proven;
    use crate::config::{Jwt, JwtAlgorithm, Secret};
    use crate::wire::WireError;

    pub(in crate::auth) fn grant() -> Grant {
        let id = |text: &str| Id::parse(text).expect("an id");
        Grant {
            user: id("u"),
            organization: id("o"),
            departments: Some(vec![id("d")]),
            queues: None,
            channels: Some(vec!["kpi".into()]),
            roles: vec!["supervisor".into()],
            lifetime: Duration::from_secs(60),
        }
    }

    fn config() -> Jwt {
        Jwt {
            secret: Secret::from("a secret of at least thirty-two bytes".to_owned()),
            algorithms: vec![JwtAlgorithm::Hs384, JwtAlgorithm::Hs256],
            issuer: "https://id.test".into(),
            audience: "tiercast".into(),
            ..Jwt::default()
        }
    }

    #[test]
    fn a_minted_token_proves_what_was_granted() {
        let mut config = config();
        config.claims.user_id = "user".into();
        config.required_claims = ["jti", "iat", "iss"].map(String::from).to_vec();
        let tokens = Tokens::new(&config).expect("a secret");
        let (first, second) = (tokens.mint(&grant()).expect("a token"), tokens.mint(&grant()).expect("a token"));
        assert_ne!(first.token_id, second.token_id);
        let Proven { identity, expires_at_ms, token_id, issued_at_ms, roles } =
            tokens.identify(&first.token, None).expect("a proof");
        assert_eq!((identity.user.as_str(), identity.organization.as_str()), ("u", "o"));
        assert_eq!(identity.claims.scopes().len(), 1);
        assert_eq!(identity.claims.scopes()[0].department.as_ref().map(Id::as_str), Some("d"));
        assert!(identity.may_use("kpi") && !identity.may_use("alerts"));
        assert_eq!((roles, token_id), (vec!["supervisor".to_owned()], Some(first.token_id)));
        assert_eq!(expires_at_ms, first.expires_at_ms);
        assert!((59_000..=60_000).contains(&(expires_at_ms - issued_at_ms.expect("a time"))));
    }

    #[test]
    fn the_token_of_one_server_is_none_of_another() {
        let minted = Tokens::new(&config()).expect("a secret").mint(&grant()).expect("a token");
        let other = Jwt { secret: Secret::from("another secret of thirty-two bytes".to_owned()), ..config() };
        let refused = Tokens::new(&other).expect("a secret").identify(&minted.token, None).expect_err("refused");
        assert_eq!(refused, WireError::TokenInvalid("its signature does not match".into()));
    }

    #[test]
    fn a_token_that_would_be_refused_is_not_made() {
        let tokens = Tokens::new(&Jwt { required_claims: vec!["email".into()], ..config() }).expect("a secret");
        assert_eq!(tokens.mint(&grant()).err(), Some(MintError::Incomplete("email".into())));
    }

    #[test]
    fn a_list_that_is_not_granted_is_everything() {
        let tokens = Tokens::new(&config()).expect("a secret");
        let all = Grant { departments: None, channels: None, roles: Vec::new(), ..grant() };
        let minted = tokens.mint(&all).expect("a token");
        let proven = tokens.identify(&minted.token, None).expect("a proof");
        assert!(proven.identity.may_use("alerts") && proven.roles.is_empty());
        assert_eq!(proven.identity.claims.scopes()[0].department, None);
    }
}
