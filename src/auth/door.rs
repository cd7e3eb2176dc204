//! Who comes in by a plain door: its organization, and how its clients say who they are.

use super::authenticator::Authenticator;
use super::claims::Claims;
use super::identity::{Bearer, Credentials, Identity};
use crate::config::DoorIdentity;
use crate::events::ChannelMask;
use crate::rooms::{Id, Scope};
use crate::wire::{WireError, random_letters};

/// The systems whose clients come by plain doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum System {
    /// Socket.IO's events in plain JSON.
    Intraday,
    /// WorkMatrix.
    WorkMatrix,
    /// Dexter.
    Dexter,
    /// AV-Gym.
    Gym,
    /// API/er.
    Apier,
    /// One that the configuration describes.
    Generic,
}

/// What a plain door says of everybody who comes in by it.
#[derive(Debug)]
pub struct Door {
    /// The system it is for.
    pub system: System,
    /// The organization its sockets belong to; none if they say so themselves.
    pub organization: Option<Id>,
    /// How its clients say who they are.
    pub identity: DoorIdentity,
    /// What a client without a valid token may subscribe to; none if such a client may not come in.
    pub anonymous_channels: Option<Vec<String>>,
    /// The channels that its clients receive without having asked.
    pub unasked: ChannelMask,
    /// Whether the first `subscribe` ends that for all channels, and not only for its own.
    pub until_first: bool,
    /// Who checks tokens, and says who clients are where the door does not.
    pub authenticator: Authenticator,
}

impl Door {
    /// Who the credentials say a client is; none if it still has to say.
    ///
    /// # Errors
    /// If what they say does not hold.
    pub fn identify(&self, credentials: &Credentials) -> Result<Option<Identity>, WireError> {
        let Some(organization) = &self.organization else {
            return self.authenticator.identify(credentials);
        };
        match self.identity {
            DoorIdentity::Anonymous => Ok(Some(self.anonymous(organization))),
            DoorIdentity::Declared if credentials.is_empty() => Ok(None),
            DoorIdentity::Declared => credentials.declared(organization).map(Some),
            DoorIdentity::Token => self.by_token(organization, credentials),
        }
    }

    /// Waits until the key of a token has been looked for, if tokens are asked for and that key is new.
    pub async fn look_for_key(&self, bearer: &Bearer) {
        if self.identity == DoorIdentity::Token {
            self.authenticator.look_for_key(bearer).await;
        }
    }

    fn by_token(&self, organization: &Id, credentials: &Credentials) -> Result<Option<Identity>, WireError> {
        let anonymous = || self.anonymous_channels.is_some().then(|| self.anonymous(organization));
        let Some(token) = credentials.token()? else { return Ok(anonymous()) };
        match self.authenticator.by_token(token, credentials, Some(organization)) {
            Ok(identity) => Ok(Some(identity)),
            Err(error) => anonymous().map(Some).ok_or(error),
        }
    }

    /// What a client lacks that has named nobody.
    pub fn lacks(&self) -> WireError {
        match self.identity {
            DoorIdentity::Token => WireError::TokenMissing,
            DoorIdentity::Declared | DoorIdentity::Anonymous => WireError::CredentialMissing("user_id"),
        }
    }

    /// A visitor whom nobody else is.
    fn anonymous(&self, organization: &Id) -> Identity {
        let user = Id::parse(&format!("anonymous:{}", random_letters(16))).expect("letters are an id");
        Identity {
            user,
            organization: organization.clone(),
            session_id: None,
            claims: Claims::new(vec![Scope::organization(organization.clone())]),
            channels: Some(self.anonymous_channels.clone().unwrap_or_default()),
            anonymous: true,
            proof: None,
        }
    }
}
