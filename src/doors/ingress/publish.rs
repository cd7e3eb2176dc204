//! The tasks that read, and the way that both publish.

use std::sync::Arc;

use super::{emitter, stream};
use crate::auth::Deed;
use crate::doors::state::Doors;
use crate::log::Draft;
use crate::wire::WireError;

/// Begins to publish what comes through Redis, as far as the configuration says so, until the server stops.
pub fn run(doors: &Arc<Doors>) {
    let Some(redis) = doors.cluster.redis() else { return };
    if doors.config.cluster.ingress {
        doors.plane.spawn(stream::run(doors.clone(), redis.clone()));
    }
    if doors.config.cluster.emitter {
        doors.plane.spawn(emitter::run(doors.clone(), redis.clone()));
    }
}

/// Publishes for whoever may write to Redis.
///
/// # Errors
/// If it cannot be stored, or the server stops.
pub(super) async fn publish(doors: &Doors, who: &str, draft: Draft) -> Result<(), WireError> {
    let (event, scope) = (draft.event.name.clone(), draft.audience.scope().cloned());
    let published = doors.hub.publish(draft).await?;
    Deed {
        who,
        action: "publish",
        event: Some(&event),
        message_id: Some(&published.message_id),
        ..Deed::at(scope.as_ref())
    }
    .done();
    Ok(())
}
