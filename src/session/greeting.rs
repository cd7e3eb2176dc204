//! What a system's clients are told as soon as it is known who they are.

use super::session::Session;
use crate::auth::System;
use crate::rooms::Scope;
use crate::wire::now_ms;

/// Greets a socket that is let in and identified: WorkMatrix' users with their last activity, AV-Gym's with the
/// figures of the day.
pub(super) fn greet(session: &Session) {
    let (Some(door), Some(identity), Some(sessions)) = (session.door(), session.identity(), session.sessions()) else {
        return;
    };
    let services = &sessions.services;
    match door.system {
        System::WorkMatrix => {
            let last = services.hub.last_activity(&identity.organization, &identity.user);
            if let (Some((payload, at_ms)), Some(event)) = (last, services.hub.catalogue.event("activity_update")) {
                session.recipient.tell(event, &Scope::organization(identity.organization), &payload, at_ms);
            }
        }
        System::Gym => {
            session.recipient.emit("initial_stats", &services.register.statistics(now_ms()).json());
        }
        System::Intraday | System::Dexter | System::Apier | System::Generic => {}
    }
}
