//! The users of a cluster in the book of one node: what the others have, and what was announced by any of them.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::user::Elsewhere;
use super::{Book, Whom};
use crate::presence::status::Status;

/// Users are told of in so many parts, so that none is large and only what was missed is told again.
pub(in crate::presence) const PARTS: usize = 16;

/// The sockets of one user on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::presence) struct Row {
    pub(in crate::presence) whom: Whom,
    /// The strongest of them.
    pub(in crate::presence) status: Status,
    pub(in crate::presence) sockets: u32,
    /// What was announced last of the user, as far as the node knows.
    pub(in crate::presence) told: Status,
}

/// The part that a user is in.
pub(in crate::presence) fn part_of((organization, user): &Whom) -> usize {
    let mut hash = crc32fast::Hasher::new();
    hash.update(organization.as_str().as_bytes());
    hash.update(user.as_str().as_bytes());
    hash.finalize() as usize % PARTS
}

impl Book {
    /// What this node has of a user.
    pub(in crate::presence) fn row(&self, whom: &Whom) -> Row {
        let user = self.organizations.get(&whom.0).and_then(|users| users.get(&whom.1));
        let (status, sockets, told) =
            user.map_or((Status::Offline, 0, Status::Offline), |user| (user.own(), user.count(), user.told));
        Row { whom: whom.clone(), status, sockets, told }
    }

    /// What this node has of all users of a part, and what it knows as announced.
    pub(in crate::presence) fn rows(&self, part: usize) -> Vec<Row> {
        let all =
            self.organizations.iter().flat_map(|(organization, users)| users.iter().map(move |it| (organization, it)));
        let told = all.filter(|(_, (_, user))| user.count() > 0 || user.told != Status::Offline);
        let whom = told.map(|(organization, (id, _))| (organization.clone(), id.clone()));
        whom.filter(|whom| part_of(whom) == part).map(|whom| self.row(&whom)).collect()
    }

    /// Another node says what it has of a user now; whether something is due earlier than before.
    pub(in crate::presence) fn learn(&mut self, peer: u32, row: &Row, now: i64) -> bool {
        let Row { whom, status, sockets, .. } = row;
        let user = self.organizations.get(&whom.0).and_then(|users| users.get(&whom.1));
        let known = user.and_then(|user| user.elsewhere.iter().find(|elsewhere| elsewhere.peer == peer));
        if known.map_or((Status::Offline, 0), |known| (known.status, known.sockets)) == (*status, *sockets) {
            return false;
        }
        self.alter(whom, now, |user| {
            let place = user.elsewhere.iter().position(|elsewhere| elsewhere.peer == peer);
            let before = place.map_or(0, |place| user.elsewhere.swap_remove(place).sockets);
            if *sockets > 0 {
                user.elsewhere.push(Elsewhere { peer, status: *status, sockets: *sockets });
            }
            *sockets < before
        })
    }

    /// Another node says what it has of all users of a part, and so none of others. What it knows as announced counts
    /// where this node has heard nothing, being new.
    pub(in crate::presence) fn learn_part(&mut self, peer: u32, part: usize, rows: &[Row], now: i64) -> bool {
        let named: HashSet<&Whom> = rows.iter().map(|row| &row.whom).collect();
        let lost = self.of(peer, |whom| part_of(whom) == part && !named.contains(whom));
        let is_sooner = self.lose(peer, lost, now);
        rows.iter().fold(is_sooner, |sooner, row| {
            let adopted = self.revise(&row.whom, now, |user, grace_ms| {
                if user.heard.is_none() && !user.is_missed {
                    user.told = row.told;
                }
                user.due_by(now, grace_ms)
            });
            adopted | self.learn(peer, row, now) | sooner
        })
    }

    /// Another node is gone, and with it all its sockets.
    pub(in crate::presence) fn forget(&mut self, peer: u32, now: i64) -> bool {
        let lost = self.of(peer, |_| true);
        self.lose(peer, lost, now)
    }

    /// The log brings an announcement; whether it says what the last one said, and whether something is due earlier.
    pub(in crate::presence) fn heard(&mut self, whom: &Whom, status: Status, now: i64) -> (bool, bool) {
        let mut repeats = false;
        let sooner = self.revise(whom, now, |user, grace_ms| {
            repeats = user.heard.replace(status) == Some(status);
            (user.told, user.is_missed) = (status, false);
            user.due_by(now, grace_ms)
        });
        (repeats, sooner)
    }

    /// Announcements were missed: what was heard last says nothing any more, and where this node does not `announce`
    /// itself, what is overdue counts as announced.
    pub(in crate::presence) fn missed_some(&mut self, announces: bool, now: i64) {
        for user in self.organizations.values_mut().flat_map(|users| users.values_mut()) {
            user.heard = None;
        }
        while !announces && self.due(now, usize::MAX, |_| false).is_some() {}
    }

    fn lose(&mut self, peer: u32, lost: Vec<Whom>, now: i64) -> bool {
        lost.into_iter().fold(false, |sooner, whom| {
            self.alter(&whom, now, |user| {
                user.elsewhere.retain(|elsewhere| elsewhere.peer != peer);
                true
            }) | sooner
        })
    }

    /// The users of whom another node has sockets.
    fn of(&self, peer: u32, is_one: impl Fn(&Whom) -> bool) -> Vec<Whom> {
        let mut found = Vec::new();
        for (organization, users) in &self.organizations {
            let there = users.iter().filter(|(_, user)| user.elsewhere.iter().any(|elsewhere| elsewhere.peer == peer));
            found.extend(there.map(|(id, _)| (organization.clone(), id.clone())).filter(|whom| is_one(whom)));
        }
        found
    }
}
