//! Identities of clients.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::claims::Claims;
use crate::rooms::{Id, Scope};
use crate::wire::{Forms, WireError};

/// Longest id that a client gives its session.
const MAX_SESSION_ID: usize = 128;

/// Who a client is, once that is established.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The user.
    pub user: Id,
    /// The organization.
    pub organization: Id,
    /// The client's own id of its session, if it gave one.
    pub session_id: Option<String>,
    /// What the user may receive.
    pub claims: Claims,
    /// The channels the user may subscribe to; none is all of them.
    #[serde(default)]
    pub channels: Option<Vec<String>>,
    /// Whether nobody knows who it is: such a visitor only reads, and is not remembered.
    #[serde(default)]
    pub anonymous: bool,
    /// What its token says besides; none if there was no token.
    #[serde(default)]
    pub proof: Option<Proof>,
}

/// What a token says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// When it is over, the leeway included, in milliseconds since the epoch.
    pub expires_at_ms: i64,
    /// When it was issued, in the same; none if it does not say.
    pub issued_at_ms: Option<i64>,
    /// Its id (`jti`), by which it alone can be revoked.
    pub token_id: Option<String>,
    /// What its bearer may do besides, as rules of the configuration name it.
    pub roles: Vec<String>,
}

impl Identity {
    /// Whether it has one of these roles.
    pub fn has_role(&self, roles: &[String]) -> bool {
        self.proof.as_ref().is_some_and(|proof| proof.roles.iter().any(|role| roles.contains(role)))
    }

    /// Whether the user may subscribe to a channel.
    pub fn may_use(&self, channel: &str) -> bool {
        self.channels.as_ref().is_none_or(|channels| channels.iter().any(|allowed| allowed == channel))
    }
}

/// A token on its way to being checked, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer(Box<str>);

impl Bearer {
    /// The token in a header's or a query's text; none if it is empty.
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(text.into()))
    }

    /// The text, to be checked.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(***)")
    }
}

/// What a client says of itself, in `authenticate` or in the handshake.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Credentials {
    user_id: Value,
    organization_id: Value,
    session_id: Value,
    token: Value,
    forms: Value,
    channels: Value,
    pid: Value,
    offset: Value,
}

impl fmt::Debug for Credentials {
    /// They hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads credentials; what is not an object holds none.
    ///
    /// # Errors
    /// If the text is not JSON.
    pub fn read(json: &str) -> Result<Self, WireError> {
        if !json.trim_start().starts_with('{') {
            return Ok(Self::default());
        }
        serde_json::from_str(json).map_err(|error| WireError::malformed("authenticate", &error))
    }

    /// The same with the token that the handshake carried, if they have none of their own.
    pub fn or_token(mut self, bearer: Option<&Bearer>) -> Self {
        if let (true, Some(bearer)) = (matches!(&self.token, Value::Null), bearer) {
            self.token = bearer.reveal().into();
        }
        self
    }

    /// The secret of the session that the client takes up again, and the position it has read up to, as the client
    /// gives them; a client that has read nothing gives none.
    pub fn resumed(&self) -> Option<(&str, Option<&str>)> {
        let offset = match &self.offset {
            Value::Null => None,
            offset => Some(offset.as_str()?),
        };
        Some((self.pid.as_str()?, offset))
    }

    /// Whether the client names nobody.
    pub fn is_empty(&self) -> bool {
        self.user_id.is_null() && self.organization_id.is_null()
    }

    /// The forms the client asks for.
    ///
    /// # Errors
    /// If they are none of the three.
    pub fn forms(&self) -> Result<Option<Forms>, WireError> {
        match &self.forms {
            Value::Null => Ok(None),
            value => value
                .as_str()
                .and_then(Forms::parse)
                .map(Some)
                .ok_or_else(|| WireError::malformed("forms", &"must be \"named\", \"envelope\" or \"both\"")),
        }
    }

    /// The channels the client asks for in the handshake of a namespace; `all` if it does not say.
    ///
    /// # Errors
    /// If they are not a list of names.
    pub fn channels(&self) -> Result<Vec<String>, WireError> {
        match &self.channels {
            Value::Null => Ok(vec!["all".into()]),
            value => serde_json::from_value(value.clone()).map_err(|error| WireError::malformed("channels", &error)),
        }
    }

    /// The identity of a client that is taken at its word.
    ///
    /// # Errors
    /// Names the credential that is missing or malformed.
    pub fn trusted(&self) -> Result<Identity, WireError> {
        let organization = id("organization_id", &self.organization_id)?;
        self.declared(&organization)
    }

    /// The same, in an organization that is known.
    ///
    /// # Errors
    /// Names the credential that is missing or malformed.
    pub fn declared(&self, organization: &Id) -> Result<Identity, WireError> {
        Ok(Identity {
            user: id("user_id", &self.user_id)?,
            claims: Claims::new(vec![Scope::organization(organization.clone())]),
            organization: organization.clone(),
            session_id: self.session_id()?,
            channels: None,
            anonymous: false,
            proof: None,
        })
    }

    /// Whether what they name, if they name anybody, is this identity.
    ///
    /// # Errors
    /// Names the credential that is malformed, or is somebody else's.
    pub fn check(&self, identity: &Identity) -> Result<(), WireError> {
        let same = |field, value: &Value, own: &Id| match value {
            Value::Null => Ok(()),
            // Some frontends send an empty text for what they do not know.
            Value::String(text) if text.is_empty() => Ok(()),
            value if id(field, value)? == *own => Ok(()),
            _ => Err(WireError::TokenContradicted(field)),
        };
        same("user_id", &self.user_id, &identity.user)?;
        same("organization_id", &self.organization_id, &identity.organization)
    }

    /// The token, if there is one.
    ///
    /// # Errors
    /// If it is not text.
    pub fn token(&self) -> Result<Option<&str>, WireError> {
        match &self.token {
            Value::Null => Ok(None),
            Value::String(token) => Ok(Some(token.as_str()).filter(|token| !token.is_empty())),
            _ => Err(WireError::CredentialInvalid { field: "token", why: "must be text".into() }),
        }
    }

    /// The client's own id of its session.
    ///
    /// # Errors
    /// If it is too long.
    pub fn session_id(&self) -> Result<Option<String>, WireError> {
        session_id(&self.session_id)
    }
}

/// The client's own id of its session; what is not text is none.
fn session_id(value: &Value) -> Result<Option<String>, WireError> {
    let Some(text) = value.as_str() else { return Ok(None) };
    if text.len() > MAX_SESSION_ID {
        let why = format!("must be at most {MAX_SESSION_ID} bytes");
        return Err(WireError::CredentialInvalid { field: "session_id", why });
    }
    Ok(Some(text.to_owned()))
}

fn id(field: &'static str, value: &Value) -> Result<Id, WireError> {
    let text = match value {
        Value::String(text) if !text.is_empty() => text,
        Value::String(_) | Value::Null => return Err(WireError::CredentialMissing(field)),
        _ => return Err(WireError::CredentialInvalid { field, why: "must be text".into() }),
    };
    Id::parse(text).map_err(|error| WireError::CredentialInvalid { field, why: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_taken_at_their_word_or_refused_by_name() {
        let identity = Credentials::read(r#"{"user_id":"7","organization_id":"o"}"#).and_then(|c| c.trusted());
        assert_eq!(identity.map(|identity| identity.user.to_string()), Ok("7".into()));
        let refused = |json: &str| Credentials::read(json).and_then(|c| c.trusted()).expect_err("refused");
        assert_eq!(refused("{}"), WireError::CredentialMissing("organization_id"));
        assert_eq!(refused(r#"{"organization_id":"o"}"#), WireError::CredentialMissing("user_id"));
        assert_eq!(refused(r#"{"organization_id":"o","user_id":""}"#), WireError::CredentialMissing("user_id"));
        for json in [r#"{"organization_id":[1],"user_id":"u"}"#, r#"{"organization_id":"o","user_id":7}"#] {
            assert!(matches!(refused(json), WireError::CredentialInvalid { .. }));
        }
        assert!(Credentials::read("null").is_ok_and(|c| c.is_empty()));
    }
}
