//! One user in the book.

use std::cmp::Ordering;

use super::Shown;
use crate::presence::status::Status;
use crate::rooms::Id;

#[derive(Debug)]
pub(super) struct User {
    /// How many sockets of this node have each status.
    pub(super) sockets: [u32; 4],
    /// What other nodes have.
    pub(super) elsewhere: Vec<Elsewhere>,
    /// The status that was announced last.
    pub(super) told: Status,
    /// The status of the last announcement that the shared log has brought.
    pub(super) heard: Option<Status>,
    /// Whether that could not be announced after all, so that something has to be.
    pub(super) is_missed: bool,
    /// When another is to be announced.
    pub(super) due: Option<i64>,
    /// When it was last there, unless it is there.
    pub(super) seen_at_ms: i64,
}

/// The sockets of a user on another node.
#[derive(Debug)]
pub(super) struct Elsewhere {
    pub(super) peer: u32,
    /// The strongest of them.
    pub(super) status: Status,
    pub(super) sockets: u32,
}

impl User {
    pub(super) fn new(now: i64) -> Self {
        Self {
            sockets: [0; 4],
            elsewhere: Vec::new(),
            told: Status::Offline,
            heard: None,
            is_missed: false,
            due: None,
            seen_at_ms: now,
        }
    }

    /// The strongest status of its sockets here.
    pub(super) fn own(&self) -> Status {
        let strongest = Status::STRONGEST_FIRST.into_iter().find(|status| self.sockets[*status as usize] > 0);
        strongest.unwrap_or(Status::Offline)
    }

    /// The strongest status of all its sockets.
    pub(super) fn status(&self) -> Status {
        self.elsewhere.iter().fold(self.own(), |strongest, elsewhere| strongest.max(elsewhere.status))
    }

    /// How many sockets it has here.
    pub(super) fn count(&self) -> u32 {
        self.sockets.iter().sum()
    }

    /// When another status is to be announced than what has been, if this is known by now only. Whoever has sockets of
    /// it may not have said so yet.
    pub(super) fn due_by(&self, now: i64, grace_ms: i64) -> Option<i64> {
        match self.status().cmp(&self.told) {
            Ordering::Equal => self.due.filter(|_| self.is_missed),
            Ordering::Less => self.due.or(Some(now.saturating_add(grace_ms))),
            Ordering::Greater => self.due.or(Some(now)),
        }
    }

    /// Whether it is gone, and everybody knows.
    pub(super) fn is_gone(&self) -> bool {
        self.count() == 0 && self.elsewhere.is_empty() && self.told == Status::Offline && !self.is_missed
    }

    /// The status here that is not hidden by the grace period; none if it is for other nodes to say.
    pub(super) fn visible(&self, now: i64) -> Option<Status> {
        match self.due.is_some_and(|at| at > now) {
            true => Some(self.told),
            false => (self.count() > 0 || self.elsewhere.is_empty()).then(|| self.own()),
        }
    }

    pub(super) fn shown(&self, user: &Id, status: Status, now: i64) -> Shown {
        let seen_at_ms = if self.status() == Status::Offline { self.seen_at_ms } else { now };
        Shown { user: user.clone(), status, seen_at_ms, sockets: self.count() }
    }
}
