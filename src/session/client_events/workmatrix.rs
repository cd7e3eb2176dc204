//! What WorkMatrix's agents and frontends send: for the other sockets of the same user.

use serde_json::json;

use super::dispatch::{Case, Work};
use super::relay::{own_scope, publish};
use crate::hub::{Publication, Target};
use crate::rooms::ScopeFields;
use crate::wire::WireError;

/// What a frontend that begins to watch is sent.
const ACTIVITY: &str = "activity_update";

/// Publishes what an agent tells to the other sockets of its user, as it is.
pub(super) fn relay_to_own(case: Case) -> Result<Work, WireError> {
    let user_ids = Some(vec![case.identity.user.to_string()]);
    let target = Target { user_ids, ..own_scope(&case)? };
    let name = case.name.clone();
    publish(case, target, &name)
}

/// Answers, and sends the user's last activity to all sockets of the user.
pub(super) fn start_monitoring(case: Case) -> Work {
    Box::pin(async move {
        case.reply.done(&json!({ "success": true }));
        let hub = &case.sessions.services.hub;
        let Some((payload, _)) = hub.last_activity(&case.identity.organization, &case.identity.user) else { return };
        let published = async {
            let user_ids = Some(vec![case.identity.user.to_string()]);
            let target = Target { user_ids, except_socket_ids: Vec::new(), ..own_scope(&case)? };
            let publication = Publication { target, ..Publication::new(ACTIVITY, payload, ScopeFields::default()) };
            hub.publish(hub.draft(publication)?).await
        };
        if let Err(error) = published.await {
            tracing::warn!(%error, "a user's last activity was not sent");
        }
    })
}
