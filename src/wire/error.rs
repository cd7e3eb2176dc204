//! What a client or a caller is told when something is refused.
//!
//! The code is one of the contract's ten; the message says which value is
//! wrong and what to do. The causes of an internal error are logged where they
//! are handled and never sent.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::now_iso;

/// Longest reason that is given, in characters.
const MAX_REASON: usize = 200;

/// The contract's ten error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// Who the client is could not be established.
    AuthFailed,
    /// The client or caller may not do this.
    Unauthorized,
    /// The message is not what the contract asks for.
    InvalidMessage,
    /// The message is larger than the limit.
    MessageTooLarge,
    /// Too many messages.
    RateLimitExceeded,
    /// A subscription could not be made.
    SubscriptionFailed,
    /// There is no such room, connection or message, or the socket is not in it.
    RoomNotFound,
    /// The room holds as many sockets as it may.
    RoomFull,
    /// The server or the organization holds as many connections as it may.
    ConnectionLimit,
    /// The server's own fault.
    InternalError,
}

impl Code {
    /// The code as it is written on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthFailed => "AUTH_FAILED",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::InvalidMessage => "INVALID_MESSAGE",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::RateLimitExceeded => "RATE_LIMIT_EXCEEDED",
            Self::SubscriptionFailed => "SUBSCRIPTION_FAILED",
            Self::RoomNotFound => "ROOM_NOT_FOUND",
            Self::RoomFull => "ROOM_FULL",
            Self::ConnectionLimit => "CONNECTION_LIMIT",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }
}

/// A refusal, one variant a cause.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WireError {
    /// A credential field is missing or empty.
    #[error("{0} is missing; authenticate needs user_id and organization_id")]
    CredentialMissing(&'static str),
    /// A credential field is not what it has to be.
    #[error("{field} {why}")]
    CredentialInvalid {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A token does not hold, for this reason.
    #[error("the token is not valid: {0}")]
    TokenInvalid(String),
    /// There is no token, and only a token tells who a client is.
    #[error(
        "a token is missing; give it in `authenticate` or in the handshake: auth {{token}}, ?token= or Authorization: \
         Bearer"
    )]
    TokenMissing,
    /// The client says to be somebody else than its token does.
    #[error("{0} is not that of the token; leave it away, or get another token")]
    TokenContradicted(&'static str),
    /// The token of a socket that is there is over.
    #[error("the token has expired; send `authenticate` with a new one within {} ms", .0.as_millis())]
    TokenExpired(Duration),
    /// A token came where none can be checked.
    #[error("this server checks no tokens; set auth.jwt")]
    NoTokens,
    /// A socket tried to become somebody else.
    #[error("this socket is already authenticated as somebody else; open another connection")]
    IdentityMismatch,
    /// The handshake of a namespace carried no credentials.
    #[error("namespace {0:?} needs credentials in the handshake: auth {{token}} or {{user_id, organization_id}}")]
    NamespaceNeedsCredentials(String),
    /// The socket did not authenticate in time.
    #[error("not authenticated within {} ms; send `authenticate` after connecting", .0.as_millis())]
    AuthenticationTimeout(Duration),
    /// An event that needs an identity came without one.
    #[error("{0:?} needs an authenticated socket; send `authenticate` first")]
    NotAuthenticated(String),
    /// A visitor whom nobody knows tried to send something.
    #[error("{0:?} is not for anonymous sockets; say who you are")]
    Anonymous(String),
    /// The event is for somebody with a role that the sender has not.
    #[error("{0:?} is for those with another role")]
    RoleMissing(String),
    /// The scope belongs to another organization, or lies outside the claims.
    #[error("this socket may not use {0}")]
    OutsideClaims(String),
    /// There is no such namespace.
    #[error("there is no namespace {0:?}")]
    UnknownNamespace(String),
    /// There is no such channel.
    #[error("unknown channel {0:?}; see the events in docs/contract.md or declare it under [[events.custom]]")]
    UnknownChannel(String),
    /// There is no such event.
    #[error("unknown event {0:?}; see the events in docs/contract.md or declare it under [[events.custom]]")]
    UnknownEvent(String),
    /// A frame of a plain WebSocket cannot be read, for this reason.
    #[error("{0}")]
    Frame(String),
    /// The payload is not what the contract asks for.
    #[error("{what}: {why}")]
    Malformed {
        /// Which value.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What the event asks for is declined, in the words of who decides.
    #[error("{0}")]
    Declined(String),
    /// The service that decides about an event has not answered.
    #[error("{0:?} was not taken: its service does not answer; try again later")]
    ServiceDown(String),
    /// The service that decides about an event is asked too much.
    #[error("{0:?} was not taken: too many are waiting for an answer; try again later")]
    ServiceBusy(String),
    /// Binary data where JSON is expected.
    #[error("{0:?} carries binary data; send JSON")]
    Binary(String),
    /// A publication that names nobody.
    #[error("no target: give target.organization_id, or organization_id in data")]
    NoTarget,
    /// The message is over the limit.
    #[error("the message has {size} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Size of the message in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too many messages in a second.
    #[error("more than {0} messages a second; slow down")]
    RateLimited(u32),
    /// Too many bytes in a second.
    #[error("more than {0} bytes a second; slow down")]
    TooManyBytes(u32),
    /// Too many events of this socket wait for their turn.
    #[error("{0} events of this socket are waiting; slow down")]
    QueueFull(usize),
    /// The socket holds as many subscriptions as it may.
    #[error("this socket holds {0} subscriptions, the most allowed; unsubscribe first")]
    TooManySubscriptions(usize),
    /// The socket is not subscribed to what it wants to leave.
    #[error("not subscribed to {0}")]
    NotSubscribed(String),
    /// The room is full.
    #[error("room {room:?} holds {limit} sockets, the most allowed")]
    RoomFull {
        /// Name of the room.
        room: String,
        /// Sockets it may hold.
        limit: usize,
    },
    /// The server is full.
    #[error("the server holds {0} connections, the most allowed; try again later")]
    ServerFull(usize),
    /// The organization is full.
    #[error("the organization holds {0} connections, the most allowed; close one first")]
    OrganizationFull(usize),
    /// The user is connected as often as it may be.
    #[error("the user holds {0} connections, the most allowed; close one first")]
    UserFull(usize),
    /// Too many are connecting.
    #[error("too many are connecting; try again in a moment")]
    Crowded,
    /// The connection is in as many namespaces as it may be.
    #[error("this connection is in {0} namespaces, the most allowed; leave one first")]
    TooManyNamespaces(usize),
    /// The server is stopping.
    #[error("the server is stopping; reconnect")]
    Stopping,
    /// Nobody knows whether a publication was kept, since there was no answer; the server's log says why.
    #[error("the message may not have been stored and sent; try again later, with an Idempotency-Key for once at most")]
    StoreAway,
    /// A publication could not be kept; the server's log says why.
    #[error("the message could not be stored, and was not sent; try again later")]
    NotStored,
    /// The server's own fault.
    #[error("internal error")]
    Internal,
}

impl WireError {
    /// A malformed value: which one, and what is wrong with it.
    pub fn malformed(what: impl Into<String>, why: &impl ToString) -> Self {
        // What a client sent comes back in the reason, and it may have sent a lot.
        Self::Malformed { what: what.into(), why: why.to_string().chars().take(MAX_REASON).collect() }
    }

    /// A refusal in somebody else's words.
    pub fn declined(why: &str) -> Self {
        Self::Declined(why.chars().take(MAX_REASON).collect())
    }

    /// The contract's code for this refusal.
    pub fn code(&self) -> Code {
        match self {
            Self::CredentialMissing(_)
            | Self::CredentialInvalid { .. }
            | Self::IdentityMismatch
            | Self::TokenInvalid(_)
            | Self::TokenMissing
            | Self::TokenContradicted(_)
            | Self::TokenExpired(_)
            | Self::NoTokens
            | Self::NamespaceNeedsCredentials(_)
            | Self::AuthenticationTimeout(_) => Code::AuthFailed,
            Self::NotAuthenticated(_) | Self::Anonymous(_) | Self::RoleMissing(_) | Self::OutsideClaims(_) => {
                Code::Unauthorized
            }
            Self::UnknownChannel(_)
            | Self::UnknownEvent(_)
            | Self::UnknownNamespace(_)
            | Self::Frame(_)
            | Self::Malformed { .. }
            | Self::Declined(_)
            | Self::Binary(_)
            | Self::NoTarget => Code::InvalidMessage,
            Self::TooLarge { .. } => Code::MessageTooLarge,
            Self::RateLimited(_) | Self::TooManyBytes(_) | Self::QueueFull(_) => Code::RateLimitExceeded,
            Self::TooManySubscriptions(_) => Code::SubscriptionFailed,
            Self::NotSubscribed(_) => Code::RoomNotFound,
            Self::RoomFull { .. } => Code::RoomFull,
            Self::ServerFull(_)
            | Self::OrganizationFull(_)
            | Self::UserFull(_)
            | Self::Crowded
            | Self::TooManyNamespaces(_) => Code::ConnectionLimit,
            Self::ServiceDown(_)
            | Self::ServiceBusy(_)
            | Self::Stopping
            | Self::StoreAway
            | Self::NotStored
            | Self::Internal => Code::InternalError,
        }
    }

    /// The payload of the `error` event: `{code, message, timestamp}`.
    pub fn event(&self) -> Value {
        json!({ "code": self.code(), "message": self.to_string(), "timestamp": now_iso() })
    }

    /// The text of a refused CONNECT: the code, then the message.
    pub fn connect_error(&self) -> String {
        format!("{}: {self}", self.code().as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_spelt_as_the_contract_does() {
        for code in [
            Code::AuthFailed,
            Code::Unauthorized,
            Code::InvalidMessage,
            Code::MessageTooLarge,
            Code::RateLimitExceeded,
            Code::SubscriptionFailed,
            Code::RoomNotFound,
            Code::RoomFull,
            Code::ConnectionLimit,
            Code::InternalError,
        ] {
            assert_eq!(json!(code), code.as_str());
        }
    }

    #[test]
    fn an_error_event_carries_code_message_and_time() {
        let event = WireError::UnknownChannel("kpis".into()).event();
        assert_eq!(event["code"], "INVALID_MESSAGE");
        assert!(event["message"].as_str().expect("text").contains("kpis"));
        assert!(event["timestamp"].as_str().expect("text").ends_with('Z'));
        assert!(WireError::ServerFull(1).connect_error().starts_with("CONNECTION_LIMIT: "));
    }
}
