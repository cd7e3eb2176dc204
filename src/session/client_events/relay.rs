//! `relay`: an event of a client is published, within what its sender may use.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::dispatch::{Case, Work};
use crate::config::RelayTo;
use crate::hub::{Publication, Target};
use crate::rooms::ScopeFields;
use crate::wire::{WireError, read_object, with_field};

/// Publishes an event under this name, to everybody meant but the socket that it came from.
pub(super) fn relay(mut case: Case, to: RelayTo, name: &str) -> Result<Work, WireError> {
    let mut target = own_scope(&case)?;
    match to {
        // What is no object has no field that could say otherwise.
        RelayTo::Organization => case.argument = signed(&case).unwrap_or(case.argument),
        RelayTo::User => {
            #[derive(Deserialize)]
            struct Payload {
                user_id: String,
            }
            let Payload { user_id } = read_object(&case.name, case.argument.get())?;
            target.user_ids = Some(vec![user_id]);
            case.argument = signed(&case)?;
        }
        RelayTo::Room => {
            #[derive(Deserialize)]
            struct Payload {
                room: String,
            }
            let Payload { room } = read_object(&case.name, case.argument.get())?;
            if !case.reply.session.recipient.listed_rooms().iter().any(|listed| **listed == *room) {
                return Err(WireError::OutsideClaims(format!("room {:?}", room.chars().take(64).collect::<String>())));
            }
            target.rooms = Some(vec![room]);
            case.argument = signed(&case)?;
        }
    }
    publish(case, target, name)
}

/// The part of the organization that the sender speaks to, without its socket.
pub(super) fn own_scope(case: &Case) -> Result<Target, WireError> {
    let session = &case.reply.session;
    let claims = session.recipient.interest().claims.clone();
    let [scope] = claims.scopes() else {
        let several = "this event, since its claims are several scopes and an event goes to one";
        return Err(WireError::OutsideClaims(several.to_owned()));
    };
    Ok(Target { scope: scope.into(), except_socket_ids: vec![session.recipient.id.to_string()], ..Target::default() })
}

/// Publishes an event as it is, and then answers.
pub(super) fn publish(case: Case, target: Target, name: &str) -> Result<Work, WireError> {
    let Case { sessions, argument, reply, .. } = case;
    let hub = sessions.services.hub.clone();
    let draft = hub.draft(Publication { target, ..Publication::new(name, argument, ScopeFields::default()) })?;
    Ok(Box::pin(async move {
        match hub.publish(draft).await {
            Ok(published) => reply.done(&json!({ "success": true, "message_id": published.message_id })),
            Err(error) => reply.refused(&error),
        }
    }))
}

/// The payload with who sent it, whatever the client says of that.
fn signed(case: &Case) -> Result<Box<RawValue>, WireError> {
    let from = json!({ "user_id": case.identity.user, "socket_id": case.reply.session.recipient.id });
    with_field(case.argument.get(), "from", &from).ok_or_else(|| WireError::malformed(&case.name, &"must be an object"))
}
