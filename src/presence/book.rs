//! The book of presence: who is there with which status, and what is to be announced when.
//!
//! Pure: it is told what happens and what time it is. A status that falls
//! because a socket has left is announced only after the grace period, so that
//! a reconnection is not seen; everything else is announced at once. The users of
//! a cluster are in the book of each of its nodes: see `book/nodes.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use self::user::User;
use super::gone::Gone;
use super::status::Status;
use crate::rooms::Id;

/// Organization and user.
pub(super) type Whom = (Id, Id);

/// What happens to a socket of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It enters with a status.
    Enter(Status),
    /// It changes its status, from one to the other.
    Switch(Status, Status),
    /// It leaves, having had a status.
    Leave(Status),
}

/// A user as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) user: Id,
    pub(super) status: Status,
    /// When it was last there, which is now if it is there.
    pub(super) seen_at_ms: i64,
    pub(super) sockets: u32,
}

/// The users of a server, or of all nodes as far as one knows.
#[derive(Debug)]
pub(super) struct Book {
    grace_ms: i64,
    organizations: HashMap<Id, BTreeMap<Id, User>>,
    /// When a status has to be announced that is not the one announced last.
    due: BTreeSet<(i64, Whom)>,
    gone: Gone,
}

impl Book {
    /// Nobody is there yet. Who leaves has so long to come back, and so many who are gone are remembered.
    pub(super) fn new(grace_ms: i64, remembered: usize) -> Self {
        Self { grace_ms, organizations: HashMap::new(), due: BTreeSet::new(), gone: Gone::new(remembered) }
    }

    /// Something happens to a socket of a user; whether something is due earlier than before.
    pub(super) fn change(&mut self, whom: &Whom, change: Change, now: i64) -> bool {
        let (from, to) = match change {
            Change::Enter(to) => (None, Some(to)),
            Change::Switch(from, to) => (Some(from), Some(to)),
            Change::Leave(from) => (Some(from), None),
        };
        self.alter(whom, now, |user| {
            if let Some(from) = from {
                user.sockets[from as usize] -= 1;
            }
            if let Some(to) = to {
                user.sockets[to as usize] += 1;
            }
            to.is_none()
        })
    }

    /// The sockets of a user are altered, by what says whether some have left; whether something is due earlier than before.
    fn alter(&mut self, whom: &Whom, now: i64, alter: impl FnOnce(&mut User) -> bool) -> bool {
        self.revise(whom, now, |user, grace_ms| {
            let before = user.status();
            let leaves = alter(user);
            let after = user.status();
            if before != Status::Offline && after == Status::Offline {
                user.seen_at_ms = now;
            }
            match after == user.told {
                true => user.due.filter(|_| user.is_missed),
                false if leaves && after < user.told => Some(now.saturating_add(grace_ms)),
                false => Some(now),
            }
        })
    }

    /// A user is revised, by what says when another status is to be announced; whether something is due earlier.
    fn revise(&mut self, whom: &Whom, now: i64, revise: impl FnOnce(&mut User, i64) -> Option<i64>) -> bool {
        let (organization, id) = whom;
        let users = self.organizations.entry(organization.clone()).or_default();
        let is_known = users.contains_key(id);
        let user = users.entry(id.clone()).or_insert_with(|| User::new(now));
        if is_known && user.is_gone() {
            self.gone.remove(whom, user.seen_at_ms);
        }
        let due = revise(user, self.grace_ms);
        let wakes_at = self.due.first().map(|(at, _)| *at);
        if let Some(at) = std::mem::replace(&mut user.due, due) {
            self.due.remove(&(at, whom.clone()));
        }
        let (is_gone, seen_at_ms) = (user.is_gone(), user.seen_at_ms);
        if let Some(at) = due {
            self.due.insert((at, whom.clone()));
        }
        if is_gone {
            self.remember(whom, seen_at_ms);
        }
        due.is_some_and(|at| wakes_at.is_none_or(|wakes_at| at < wakes_at))
    }

    /// When the next status has to be announced.
    pub(super) fn wakes_at(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// What is to be announced now, of so many users at most, where somebody listens; none if nothing is due. It
    /// counts as announced then, also where nobody listens.
    pub(super) fn due(
        &mut self,
        now: i64,
        most: usize,
        is_listened_to: impl Fn(&Id) -> bool,
    ) -> Option<Vec<(Id, Shown)>> {
        self.wakes_at().filter(|at| *at <= now)?;
        let mut found = Vec::new();
        for _ in 0..most {
            if self.wakes_at().is_none_or(|at| at > now) {
                break;
            }
            let Some((_, whom)) = self.due.pop_first() else { break };
            let (organization, id) = &whom;
            let users = self.organizations.get_mut(organization);
            let Some(user) = users.and_then(|users| users.get_mut(id)) else { continue };
            (user.due, user.told, user.is_missed) = (None, user.status(), false);
            let shown = user.shown(id, user.told, now);
            if is_listened_to(organization) {
                found.push((organization.clone(), shown));
            }
            if user.is_gone() {
                let seen_at_ms = user.seen_at_ms;
                self.remember(&whom, seen_at_ms);
            }
        }
        Some(found)
    }

    /// A user could not be announced: its status at that time is due, unless another is before.
    pub(super) fn missed(&mut self, organization: &Id, shown: &Shown, at: i64) {
        let whom = (organization.clone(), shown.user.clone());
        let users = self.organizations.entry(organization.clone()).or_default();
        // Who was gone may be forgotten by now.
        let user = users.entry(shown.user.clone()).or_insert_with(|| User::new(shown.seen_at_ms));
        if user.is_gone() {
            self.gone.remove(&whom, user.seen_at_ms);
        }
        user.is_missed = true;
        self.due.insert((*user.due.get_or_insert(at), whom));
    }

    /// Users behind one, by id, as it was announced last: those who are there, and those who are gone since a time.
    pub(super) fn announced(
        &self,
        organization: &Id,
        after: Option<&Id>,
        gone_since_ms: Option<i64>,
        now: i64,
    ) -> impl Iterator<Item = Shown> {
        let users = self.behind(organization, after).filter(move |(_, user)| {
            user.told != Status::Offline || gone_since_ms.is_some_and(|since| user.seen_at_ms >= since)
        });
        users.map(move |(id, user)| user.shown(id, user.told, now))
    }

    /// A user with its sockets of this node, as it is now but for what waits for the grace period; none that only
    /// others have.
    pub(super) fn user(&self, organization: &Id, id: &Id, now: i64) -> Option<Shown> {
        let user = self.organizations.get(organization)?.get(id)?;
        Some(user.shown(id, user.visible(now)?, now))
    }

    /// The same of the users behind one, by id.
    pub(super) fn users(
        &self,
        organization: &Id,
        after: Option<&Id>,
        with_offline: bool,
        now: i64,
    ) -> impl Iterator<Item = Shown> {
        let users = self.behind(organization, after).filter_map(move |(id, user)| Some((id, user, user.visible(now)?)));
        let listed = users.filter(move |(_, _, status)| with_offline || *status != Status::Offline);
        listed.map(move |(id, user, status)| user.shown(id, status, now))
    }

    /// How many they are altogether.
    pub(super) fn count(&self, organization: &Id, with_offline: bool, now: i64) -> usize {
        let statuses = self.behind(organization, None).filter_map(|(_, user)| user.visible(now));
        statuses.filter(|status| with_offline || *status != Status::Offline).count()
    }

    fn behind(&self, organization: &Id, after: Option<&Id>) -> impl Iterator<Item = (&Id, &User)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let users = self.organizations.get(organization).into_iter();
        users.flat_map(move |users| users.range::<Id, _>((from, Bound::Unbounded)))
    }

    /// A user is gone, and for now remembered.
    fn remember(&mut self, whom: &Whom, seen_at_ms: i64) {
        let Some((organization, user)) = self.gone.add(whom, seen_at_ms) else { return };
        let Some(users) = self.organizations.get_mut(&organization) else { return };
        users.remove(&user);
        if users.is_empty() {
            self.organizations.remove(&organization);
        }
    }
}

mod nodes;
mod user;

pub(super) use self::nodes::{PARTS, Row, part_of};

#[cfg(test)]
mod tests;
