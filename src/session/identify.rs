//! A socket becomes somebody, or proves anew who it is.

use super::session::{Session, State};
use super::sessions::{Services, Sessions};
use crate::auth::{Claims, Identity};
use crate::config::Implicit;
use crate::delivery::Interest;
use crate::events::ChannelMask;
use crate::hub::Owed;
use crate::stats::Refusal;
use crate::wire::{Forms, WireError};

/// What becomes of a socket that says who it is.
#[derive(Debug, Default)]
pub(super) struct Identified {
    /// What waited for its user.
    pub(super) owed: Option<Owed>,
    /// The subscriptions that it has lost, since its claims do not cover them any more, by their ids.
    pub(super) left: Vec<Box<str>>,
}

impl Session {
    /// Makes the socket somebody: takes a seat, joins rooms, begins to receive. With the interest of an earlier
    /// session it is subscribed as that was. Who proves anew who it is has from now on the claims of the new token.
    /// With `forms` nothing that it receives as who it is comes in others.
    ///
    /// # Errors
    /// If it already is somebody else, or the organization is full.
    pub(super) fn identify(
        &self,
        identity: &Identity,
        earlier: Option<Interest>,
        forms: Option<Forms>,
    ) -> Result<Identified, WireError> {
        let sessions = self.sessions().ok_or(WireError::Stopping)?;
        let identified = self.become_somebody(&sessions, identity.clone(), earlier, forms)?;
        self.changed();
        // Whoever revokes looks for sockets only after the revocation holds: one of both has noticed.
        if sessions.services.revocations.refuse(identity) {
            sessions.dismiss_connection(&self.recipient.connection);
            return Err(WireError::TokenInvalid("it was revoked; get a new one".into()));
        }
        Ok(identified)
    }

    fn become_somebody(
        &self,
        sessions: &Sessions,
        identity: Identity,
        earlier: Option<Interest>,
        forms: Option<Forms>,
    ) -> Result<Identified, WireError> {
        let mut state = self.lock();
        if state.exited {
            return Err(WireError::Stopping);
        }
        // A visitor may still say who it is; its place is taken already.
        let visitor = state.identity.as_ref().filter(|present| present.anonymous).is_some();
        if let Some(present) = &state.identity {
            let same = present.user == identity.user || (visitor && identity.anonymous);
            if same && present.organization == identity.organization {
                let left = self.renew(sessions, &mut state, identity, forms);
                return Ok(Identified { left, ..Identified::default() });
            }
            if !visitor || present.organization != identity.organization {
                return Err(WireError::IdentityMismatch);
            }
        }
        self.take_seats(sessions, &identity, visitor)?;
        let implicit = self.implicit(sessions, &identity);
        let allowed = self.allowed(sessions, &identity);
        let join = |owed, since| {
            self.recipient.change(|interest| {
                interest.identity = Some((identity.organization.clone(), identity.user.clone()));
                interest.anonymous = identity.anonymous;
                interest.claims = self.claims_of(&identity);
                interest.implicit = self.left_of(sessions, implicit, interest);
                interest.since = since;
                interest.owed = owed;
                if let Some(earlier) = earlier {
                    interest.subscribe_again(earlier, allowed);
                }
                interest.forms = forms.unwrap_or(interest.forms);
            });
        };
        let owed = if state.entered {
            sessions.services.hub.arrive(&self.recipient, &identity.organization, &identity.user, join)
        } else {
            join(Vec::new(), sessions.services.hub.delivered_to(&identity.organization));
            None
        };
        state.follower = Some(sessions.services.hub.follow(Some(&identity.organization)));
        self.know(sessions, &mut state, identity);
        state.attend(sessions);
        Ok(Identified { owed, ..Identified::default() })
    }

    /// Takes the seats of an organization and of a user; a visitor who says who it is has the first already.
    fn take_seats(&self, sessions: &Sessions, identity: &Identity, visitor: bool) -> Result<(), WireError> {
        let Services { seats, users, counters, .. } = &sessions.services;
        let connection = &self.recipient.connection;
        let Identity { user, organization, anonymous, .. } = identity;
        if !visitor && !seats.take(organization, connection.key()) {
            counters.refused(Refusal::OrganizationConnections);
            return Err(WireError::OrganizationFull(seats.limit()));
        }
        if !anonymous && !users.take(&(organization.clone(), user.clone()), connection.key()) {
            if !visitor {
                seats.release(organization, connection.key());
            }
            counters.refused(Refusal::UserConnections);
            return Err(WireError::UserFull(users.limit()));
        }
        connection.settle_in();
        Ok(())
    }

    /// Gives a socket the claims of a new token for who it is; the subscriptions that these do not cover are left.
    fn renew(&self, sessions: &Sessions, state: &mut State, identity: Identity, forms: Option<Forms>) -> Vec<Box<str>> {
        let allowed = self.allowed(sessions, &identity);
        let left = self.recipient.change(|interest| {
            interest.forms = forms.unwrap_or(interest.forms);
            // What a client says of itself is no more than what it said before.
            identity.proof.as_ref()?;
            interest.claims = self.claims_of(&identity);
            Some(interest.narrow(allowed))
        });
        let Some(left) = left else { return Vec::new() };
        let before = state.identity.take().and_then(|before| before.session_id);
        self.know(sessions, state, Identity { session_id: identity.session_id.clone().or(before), ..identity });
        left
    }

    /// Remembers who the socket is, and for how long that holds.
    fn know(&self, sessions: &Sessions, state: &mut State, identity: Identity) {
        if let Some(expiry) = state.expiry.take() {
            sessions.expiries.forget(&expiry);
        }
        state.expiry =
            identity.proof.as_ref().map(|proof| sessions.expiries.add(proof.expires_at_ms, &self.recipient.id));
        state.identity = Some(identity);
    }

    /// What an identity may receive in the socket's namespace.
    fn claims_of(&self, identity: &Identity) -> Claims {
        match &self.scope {
            Some(scope) => identity.claims.within(scope),
            None => identity.claims.clone(),
        }
    }

    /// The channels that the socket receives without having asked.
    fn implicit(&self, sessions: &Sessions, identity: &Identity) -> ChannelMask {
        let catalogue = &sessions.services.hub.catalogue;
        let unasked = match (self.door(), self.scope.is_some(), sessions.config().subscriptions.implicit) {
            (Some(door), ..) => door.unasked,
            (_, true, _) | (_, _, Implicit::None) => ChannelMask::NONE,
            _ => catalogue.implicit(),
        };
        self.allowed(sessions, identity).map_or(unasked, |allowed| unasked.common(allowed))
    }

    /// The channels that an identity may subscribe to; none is all of them.
    fn allowed(&self, sessions: &Sessions, identity: &Identity) -> Option<ChannelMask> {
        let catalogue = &sessions.services.hub.catalogue;
        let named = identity.channels.as_ref()?.iter().filter_map(|name| catalogue.channel(name));
        Some(named.fold(ChannelMask::NONE, ChannelMask::with))
    }

    /// What is left of an implicit subscription beside the socket's own: a visitor may have some before it says who it is.
    fn left_of(&self, sessions: &Sessions, implicit: ChannelMask, interest: &Interest) -> ChannelMask {
        let asked = interest.subscriptions.iter().fold(ChannelMask::NONE, |mask, one| mask.with(one.channels));
        match self.implicit_until(sessions) {
            _ if asked.is_empty() => implicit,
            Implicit::PerChannel => implicit.without(sessions.services.hub.catalogue.replaced_by(asked)),
            Implicit::UntilFirst | Implicit::None => ChannelMask::NONE,
        }
    }
}
