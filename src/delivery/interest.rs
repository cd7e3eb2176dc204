//! What one socket wants: its subscriptions, and what it receives without asking.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::auth::Claims;
use crate::events::{Catalogue, ChannelMask, Facts, Filters};
use crate::log::{Audience, Draft};
use crate::rooms::{Id, RoomName, Scope, channel_room, implicit_room, scope_room, user_room};
use crate::wire::{Forms, PublicId};

/// One subscription of a socket.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its id.
    pub id: Box<str>,
    /// The channels it is to.
    pub channels: ChannelMask,
    /// Its scope.
    pub scope: Scope,
    /// What it lets pass.
    pub filters: Option<Box<Filters>>,
    /// Offset after which it holds: what is older was not missed.
    pub since: u64,
    /// Offset after which its socket has been told everything: earlier than `since` if it asked for what it missed.
    pub told: u64,
}

impl Subscription {
    /// The rooms that stand for it.
    pub fn rooms(&self, catalogue: &Catalogue) -> Vec<String> {
        catalogue.names(self.channels).map(|name| channel_room(name, &self.scope)).collect()
    }
}

/// What a socket wants.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The forms it wants events in.
    pub forms: Forms,
    /// Organization and user, once it is authenticated.
    pub identity: Option<(Id, Id)>,
    /// Whether that is a visitor, who will never be back.
    pub anonymous: bool,
    /// What it may receive.
    pub claims: Claims,
    /// The channels it receives without having asked.
    pub implicit: ChannelMask,
    /// What it asked for.
    pub subscriptions: Vec<Subscription>,
    /// Offset after which it is somebody.
    pub since: u64,
    /// Offsets up to there that waited for its user.
    pub owed: Vec<u64>,
    /// How long its events are collected into one frame, in milliseconds; 0 is not at all.
    pub batch_ms: u64,
}

impl Interest {
    /// The interest of a socket that nobody knows yet.
    pub fn none(forms: Forms) -> Self {
        Self {
            forms,
            identity: None,
            anonymous: false,
            claims: Claims::new(Vec::new()),
            implicit: ChannelMask::NONE,
            subscriptions: Vec::new(),
            since: 0,
            owed: Vec::new(),
            batch_ms: 0,
        }
    }

    /// The user, if that one can be waited for.
    pub(super) fn lasting_user(&self) -> Option<&Id> {
        self.identity.as_ref().filter(|_| !self.anonymous).map(|(_, user)| user)
    }

    /// Takes over the subscriptions of an earlier session, as far as the claims still cover them and their channels
    /// are `allowed`; none is all of them.
    pub fn subscribe_again(&mut self, earlier: Self, allowed: Option<ChannelMask>) {
        let covered =
            |subscription: &Subscription| self.claims.narrow(&subscription.scope) == [subscription.scope.clone()];
        let since = self.since;
        let again = earlier.subscriptions.into_iter().filter(covered);
        let again = again.map(|subscription| Subscription {
            since,
            told: since,
            channels: allowed.map_or(subscription.channels, |allowed| subscription.channels.common(allowed)),
            ..subscription
        });
        self.subscriptions = again.filter(|subscription| !subscription.channels.is_empty()).collect();
        self.implicit = self.implicit.common(earlier.implicit);
    }

    /// Leaves what the claims do not cover any more, and the channels that are not `allowed`; the ids of the
    /// subscriptions that have lost something.
    pub fn narrow(&mut self, allowed: Option<ChannelMask>) -> Vec<Box<str>> {
        let mut lost = Vec::new();
        for subscription in &mut self.subscriptions {
            let left = match self.claims.contain(&subscription.scope) {
                true => allowed.map_or(subscription.channels, |allowed| subscription.channels.common(allowed)),
                false => ChannelMask::NONE,
            };
            if left != subscription.channels && !lost.contains(&subscription.id) {
                lost.push(subscription.id.clone());
            }
            subscription.channels = left;
        }
        self.subscriptions.retain(|subscription| !subscription.channels.is_empty());
        self.implicit = allowed.map_or(self.implicit, |allowed| self.implicit.common(allowed));
        lost
    }

    /// The same socket, if it wanted nothing but these.
    pub fn only(&self, subscriptions: Vec<Subscription>) -> Self {
        let (identity, claims) = (self.identity.clone(), self.claims.clone());
        Self { identity, claims, subscriptions, since: self.since, ..Self::none(self.forms) }
    }

    /// Whether the socket receives an entry that is on these channels at a scope.
    pub fn wants(&self, channels: ChannelMask, scope: &Scope, facts: &Facts) -> bool {
        (self.implicit.meets(channels) && self.claims.contain(scope))
            || self.subscriptions.iter().any(|subscription| {
                subscription.channels.meets(channels)
                    && subscription.scope.contains(scope)
                    && subscription.filters.as_ref().is_none_or(|filters| filters.pass(facts))
            })
    }

    /// Whether an entry that goes down reaches the socket: every one, unless its publisher named channels.
    pub(super) fn listens(&self, draft: &Draft) -> bool {
        draft.channels == draft.event.channels || self.listens_to(draft.channels)
    }

    /// Whether a system event for these channels at a scope reaches the socket.
    pub fn hears(&self, channels: ChannelMask, scope: &Scope, facts: &Facts) -> bool {
        self.wants(channels, scope, facts) || (self.listens_to(channels) && self.is_inside(scope))
    }

    /// Whether the socket receives any of these channels, at whatever scope.
    pub fn listens_to(&self, channels: ChannelMask) -> bool {
        self.implicit.meets(channels)
            || self.subscriptions.iter().any(|subscription| subscription.channels.meets(channels))
    }

    /// Whether the socket is inside a scope, as in the scope's room.
    fn is_inside(&self, scope: &Scope) -> bool {
        let asked = self.subscriptions.iter().map(|subscription| &subscription.scope);
        let is_own = |(organization, _): &(Id, Id)| Scope::organization(organization.clone()) == *scope;
        self.identity.as_ref().is_some_and(is_own)
            || self.claims.scopes().iter().chain(asked).any(|own| scope.contains(own))
    }

    /// What it wanted at an offset; the same if nothing has been added since.
    pub(super) fn at(&self, offset: u64) -> Cow<'_, Self> {
        if self.since < offset && self.subscriptions.iter().all(|subscription| subscription.since < offset) {
            return Cow::Borrowed(self);
        }
        let mut then = self.clone();
        then.subscriptions.retain(|subscription| subscription.since < offset);
        if self.since >= offset {
            (then.identity, then.implicit) = (None, ChannelMask::NONE);
        }
        Cow::Owned(then)
    }

    /// What it wanted of an offset, counting what it has asked for later and was told; the same if that is all of it.
    pub(super) fn told_of(&self, offset: u64) -> Cow<'_, Self> {
        if self.since < offset && self.subscriptions.iter().all(|subscription| subscription.told < offset) {
            return Cow::Borrowed(self);
        }
        let mut then = self.clone();
        then.subscriptions.retain(|subscription| subscription.told < offset);
        if self.since >= offset {
            then.implicit = ChannelMask::NONE;
            then.identity = then.identity.filter(|_| !then.subscriptions.is_empty());
        }
        Cow::Owned(then)
    }

    /// Whether an entry is for a socket that wants this, by the rule that [`deliver()`](super::deliver()) follows from
    /// the rooms' side.
    pub fn is_reached_by(&self, draft: &Draft, id: &PublicId, catalogue: &Catalogue) -> bool {
        let rooms = OnceCell::new();
        let is_in =
            |room: &str| rooms.get_or_init(|| self.rooms(catalogue)).binary_search_by(|own| (**own).cmp(room)).is_ok();
        let reached = match &draft.audience {
            Audience::Everyone => true,
            Audience::Scope { scope, targets: None } => {
                let own = |organization: &Id| *organization == scope.organization;
                self.identity.as_ref().is_some_and(|(organization, _)| own(organization))
                    && (self.wants(draft.channels, scope, &draft.facts)
                        || (draft.event.down && self.listens(draft) && self.is_inside(scope)))
            }
            Audience::Scope { scope, targets: Some(targets) } => {
                let named = |ids: &[String]| ids.iter().any(|other| other == id.as_str());
                let user = self.identity.as_ref().map(|(_, user)| user);
                self.belongs_to(scope)
                    && (named(&targets.sockets)
                        || named(&targets.rooms)
                        || targets.users.iter().any(|other| Some(other) == user)
                        || targets.rooms.iter().any(|room| !room.starts_with("implicit:") && is_in(room)))
            }
        };
        reached && !draft.except.iter().any(|other| other == id.as_str())
    }

    /// Whether the socket belongs to a scope, so that an entry which names it there may reach it.
    pub(super) fn belongs_to(&self, scope: &Scope) -> bool {
        self.identity.as_ref().is_some_and(|(organization, _)| *organization == scope.organization)
            && self.claims.overlap(scope)
    }

    /// Every room the socket has to be in.
    pub(super) fn rooms(&self, catalogue: &Catalogue) -> Vec<String> {
        let Some((organization, user)) = &self.identity else { return Vec::new() };
        let mut rooms = vec![scope_room(&Scope::organization(organization.clone())), user_room(organization, user)];
        let asked = self.subscriptions.iter().map(|subscription| &subscription.scope);
        for scope in self.claims.scopes().iter().chain(asked) {
            rooms.extend(scope.containing().iter().map(scope_room));
        }
        if !self.implicit.is_empty() {
            rooms.extend(self.claims.scopes().iter().map(implicit_room));
        }
        rooms.extend(self.subscriptions.iter().flat_map(|subscription| subscription.rooms(catalogue)));
        rooms.sort_unstable();
        rooms.dedup();
        rooms
    }
}

/// Whether the members of a room receive an entry because they are in it.
pub fn reaches(draft: &Draft, room: &RoomName, catalogue: &Catalogue) -> bool {
    let (scope, targets) = match &draft.audience {
        Audience::Everyone => return true,
        Audience::Scope { scope, targets } => (scope, targets.as_ref()),
    };
    if scope.organization != *room.organization() {
        return false;
    }
    if let Some(targets) = targets {
        let user = matches!(room, RoomName::User(_, user) if targets.users.contains(user));
        return user || targets.rooms.contains(&room.to_string());
    }
    let down = |at: &Scope| draft.event.down && draft.channels == draft.event.channels && scope.contains(at);
    match room {
        RoomName::Channel(channel, at) => {
            let channel = catalogue.channel(channel);
            channel.is_some_and(|channel| channel.meets(draft.channels) && at.contains(scope)) || down(at)
        }
        RoomName::Scope(at) => down(at),
        RoomName::User(organization, _) => down(&Scope::organization(organization.clone())),
    }
}
