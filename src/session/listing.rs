//! Sessions as operators see them.

use std::sync::Arc;

use serde::Serialize;

use super::session::Session;
use super::sessions::Sessions;
use crate::delivery::Subscription;
use crate::rooms::Id;
use crate::wire::{PublicId, iso};

/// One socket in a listing.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionView {
    /// Its public id.
    pub socket_id: PublicId,
    /// Its user, once authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Id>,
    /// Its organization, once authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Id>,
    /// The department that its namespace stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub department_id: Option<Id>,
    /// The client's own id of its session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Path of its namespace.
    pub namespace: String,
    /// `polling` or `websocket`.
    pub transport: &'static str,
    /// Always `connected`: one that is not is not listed.
    pub status: &'static str,
    /// The rooms of its subscriptions.
    pub subscriptions: Vec<String>,
    /// All its rooms.
    #[serde(skip)]
    pub rooms: Vec<Arc<str>>,
    /// When it was let in.
    pub connected_at: String,
    /// When it last said something.
    pub last_activity_at: String,
    /// Address of the client.
    pub ip_address: String,
    /// What the client says it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// Entries it was sent.
    pub messages_sent: u64,
}

impl Sessions {
    /// Every socket, in the order of their ids.
    pub fn connections(&self) -> Vec<ConnectionView> {
        let mut views: Vec<_> = self.all().iter().map(|session| view(session)).collect();
        views.sort_by(|a, b| a.socket_id.as_str().cmp(b.socket_id.as_str()));
        views
    }

    /// One socket.
    pub fn connection(&self, id: &str) -> Option<ConnectionView> {
        self.get(id).map(|session| view(&session))
    }
}

fn view(session: &Session) -> ConnectionView {
    let recipient = &session.recipient;
    let identity = session.identity();
    let peer = recipient.connection.peer();
    let interest = recipient.interest().clone();
    let rooms = |held: &Subscription| session.sessions().map(|all| held.rooms(&all.services.hub.catalogue));
    ConnectionView {
        socket_id: recipient.id.clone(),
        status: "connected",
        session_id: identity.as_ref().and_then(|identity| identity.session_id.clone()),
        organization_id: identity.as_ref().map(|identity| identity.organization.clone()),
        user_id: identity.map(|identity| identity.user),
        department_id: session.scope.as_ref().and_then(|scope| scope.department.clone()),
        namespace: recipient.namespace().to_owned(),
        transport: recipient.connection.transport(),
        subscriptions: interest.subscriptions.iter().filter_map(rooms).flatten().collect(),
        rooms: recipient.listed_rooms(),
        connected_at: iso(session.opened_at_ms),
        last_activity_at: iso(session.active_at_ms()),
        ip_address: peer.address.ip().to_canonical().to_string(),
        user_agent: peer.user_agent.as_deref().map(str::to_owned),
        messages_sent: recipient.sent(),
    }
}
