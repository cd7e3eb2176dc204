//! `relay`: an event of a client is published, within what its sender may use.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::dispatch::{Case, Work};
use crate::auth::Deed;
use crate::config::RelayTo;
use crate::hub::{Publication, Published, Target};
use crate::log::Draft;
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
pub(super) fn publish(mut case: Case, target: Target, name: &str) -> Result<Work, WireError> {
    let argument = std::mem::take(&mut case.argument);
    let hub = &case.sessions.services.hub;
    let draft = hub.draft(Publication { target, ..Publication::new(name, argument, ScopeFields::default()) })?;
    Ok(Box::pin(async move {
        match publish_draft(&case, draft).await {
            Ok(published) => case.reply.done(&json!({ "success": true, "message_id": published.message_id })),
            Err(error) => case.reply.refused(&error),
        }
    }))
}

/// Publishes what a client has caused, with its line in the audit log.
pub(super) async fn publish_draft(case: &Case, draft: Draft) -> Result<Published, WireError> {
    let (event, scope) = (draft.event.name.clone(), draft.audience.scope().cloned());
    let published = case.sessions.services.hub.publish(draft).await?;
    Deed {
        who: case.identity.user.as_str(),
        action: "publish",
        event: Some(&event),
        message_id: Some(&published.message_id),
        socket_id: Some(case.reply.session.recipient.id.as_str()),
        ..Deed::at(scope.as_ref())
    }
    .done();
    Ok(published)
}

/// The payload with who sent it, whatever the client says of that.
fn signed(case: &Case) -> Result<Box<RawValue>, WireError> {
    let from = json!({ "user_id": case.identity.user, "socket_id": case.reply.session.recipient.id });
    with_field(case.argument.get(), "from", &from).ok_or_else(|| WireError::malformed(&case.name, &"must be an object"))
}
