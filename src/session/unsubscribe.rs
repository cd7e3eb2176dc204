//! `unsubscribe`: a socket leaves channels, a subscription, or everything.

use serde::Deserialize;
use serde_json::{Value, json};

use super::session::Session;
use super::sessions::Sessions;
use super::subscribe;
use crate::delivery::Interest;
use crate::events::{Catalogue, ChannelMask};
use crate::rooms::{Scope, ScopeFields};
use crate::wire::{WireError, read_object};

#[derive(Default, Deserialize)]
#[serde(default)]
struct Request {
    channels: Option<Vec<String>>,
    subscription_id: Option<String>,
    /// With a department or a queue, only what was asked for at exactly that scope.
    department_id: Option<String>,
    queue_name: Option<String>,
}

/// Answers `{success}`; neither field means everything, the implicit subscription too.
pub(super) fn handle(session: &Session, argument: &str) -> Result<Option<Value>, WireError> {
    let sessions = session.sessions().ok_or(WireError::Stopping)?;
    session.as_identified("unsubscribe", |identity| {
        let request: Request =
            if argument == "null" { Request::default() } else { read_object("unsubscribe", argument)? };
        let channels = request.channels.as_ref().map(|names| subscribe::channels(&sessions, names)).transpose()?;
        let (department_id, queue_name) = (request.department_id.clone(), request.queue_name.clone());
        let scope = ScopeFields { organization_id: None, department_id, queue_name };
        let scope = scope.resolve(Some(&identity.organization));
        let scope = scope.map_err(|(field, error)| WireError::malformed(field, &error))?;
        let scope = Some(scope).filter(|scope| scope.department.is_some() || scope.queue.is_some());
        session.recipient.change(|interest| leave(interest, &sessions, &request, channels, scope.as_ref()))
    })?;
    session.changed();
    if sessions.config().logging.log_subscription_events {
        tracing::info!(socket_id = %session.recipient.id, "unsubscribed");
    }
    Ok(Some(json!({ "success": true })))
}

fn leave(
    interest: &mut Interest,
    sessions: &Sessions,
    request: &Request,
    channels: Option<ChannelMask>,
    scope: Option<&Scope>,
) -> Result<(), WireError> {
    let catalogue = &sessions.services.hub.catalogue;
    let before = (interest.subscriptions.len(), interest.implicit);
    let mut changed = false;
    match (channels, &request.subscription_id) {
        (None, None) if scope.is_none() => {
            changed = before.0 > 0 || !before.1.is_empty();
            interest.subscriptions.clear();
            interest.implicit = ChannelMask::NONE;
        }
        (channels, subscription) => {
            for held in &mut interest.subscriptions {
                let another_scope = scope.is_some_and(|scope| *scope != held.scope);
                if another_scope || subscription.as_ref().is_some_and(|id| **id != *held.id) {
                    continue;
                }
                let gone = channels.map_or(held.channels, |channels| covered(catalogue, channels));
                changed |= held.channels.meets(gone);
                held.channels = held.channels.without(gone);
            }
            interest.subscriptions.retain(|subscription| !subscription.channels.is_empty());
            if let (Some(channels), None, None) = (channels, subscription, scope) {
                let gone = catalogue.replaced_by(channels);
                changed |= interest.implicit.meets(gone);
                interest.implicit = interest.implicit.without(gone);
            }
        }
    }
    if changed { Ok(()) } else { Err(WireError::NotSubscribed(described(request))) }
}

/// Leaving `all` leaves every channel.
fn covered(catalogue: &Catalogue, channels: ChannelMask) -> ChannelMask {
    catalogue.replaced_by(channels).with(channels)
}

fn described(request: &Request) -> String {
    match (&request.channels, &request.subscription_id) {
        (_, Some(id)) => format!("subscription {:?}", id.chars().take(64).collect::<String>()),
        (Some(channels), None) => format!("{channels:?}"),
        (None, None) => "anything".into(),
    }
}
