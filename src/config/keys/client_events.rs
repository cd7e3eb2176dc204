//! `[[client_events]]`: what happens with events that clients send.

use serde::Deserialize;

use super::Secret;

/// `[[client_events]]`: what happens with an event that clients send.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientEvent {
    /// Name of the event.
    pub event: String,
    /// What happens with it.
    pub action: ClientAction,
    /// Roles of the token, one of which is asked for. Defaults to none, which is everybody who is known.
    #[serde(default)]
    pub roles: Option<Vec<String>>,
    /// To whom it is relayed.
    #[serde(default)]
    pub to: Option<RelayTo>,
    /// Name under which it is relayed. Defaults to its own.
    #[serde(default, rename = "as")]
    pub published_as: Option<String>,
    /// URL that it is forwarded to, by POST.
    #[serde(default)]
    pub url: Option<String>,
    /// Secret that such a POST is signed with. Defaults to none.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// How long such a POST may take. Defaults to 5,000.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// Such POSTs that may be under way at once. Defaults to 64.
    #[serde(default)]
    pub max_concurrent: Option<usize>,
    /// How long nothing is forwarded after five failures in a row. Defaults to 10,000.
    #[serde(default)]
    pub retry_ms: Option<u64>,
}

impl ClientEvent {
    /// The name under which it is relayed.
    pub fn published_as(&self) -> &str {
        self.published_as.as_deref().unwrap_or(&self.event)
    }
}

/// What happens with an event that a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAction {
    /// It is published.
    Relay,
    /// A service of the operator's is asked, and answers.
    Forward,
    /// Nothing.
    Drop,
}

/// To whom an event of a client is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayTo {
    /// Everybody of the sender's organization.
    Organization,
    /// The user whom the payload names.
    User,
    /// The room that the payload names, which the sender is in.
    Room,
}
