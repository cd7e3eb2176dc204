//! The rooms of one namespace: who is in which, and since when each room is there.

use std::collections::HashMap;
use std::sync::Arc;

use super::recipient::Recipient;
use crate::wire::now_ms;

/// Rooms by name; one without members is gone.
#[derive(Debug, Default)]
pub(super) struct Rooms(HashMap<Arc<str>, Room>);

#[derive(Debug)]
struct Room {
    created_at_ms: i64,
    members: Members,
}

/// A user's room has one member as a rule, which needs no map.
#[derive(Debug)]
enum Members {
    One(Arc<Recipient>),
    /// By the address of the recipient, which is its own while it is a member.
    Many(HashMap<usize, Arc<Recipient>>),
}

impl Rooms {
    /// Puts a recipient into a room; the room's name, which all its members share.
    pub(super) fn join(&mut self, recipient: &Arc<Recipient>, room: &str) -> Arc<str> {
        if let Some((name, _)) = self.0.get_key_value(room) {
            let name = name.clone();
            if let Some(room) = self.0.get_mut(&name) {
                room.members.insert(recipient);
            }
            return name;
        }
        let name: Arc<str> = room.into();
        let room = Room { created_at_ms: now_ms(), members: Members::One(recipient.clone()) };
        self.0.insert(name.clone(), room);
        name
    }

    pub(super) fn leave(&mut self, recipient: &Arc<Recipient>, room: &str) {
        if self.0.get_mut(room).is_some_and(|room| !room.members.remove(recipient)) {
            self.0.remove(room);
        }
    }

    /// Every member of a room; `visit` must not look at what a recipient wants, which is locked first.
    pub(super) fn each(&self, room: &str, visit: impl FnMut(&Arc<Recipient>)) {
        match self.0.get(room).map(|room| &room.members) {
            None => {}
            Some(Members::One(recipient)) => std::iter::once(recipient).for_each(visit),
            Some(Members::Many(members)) => members.values().for_each(visit),
        }
    }

    pub(super) fn count(&self, room: &str) -> usize {
        match self.0.get(room).map(|room| &room.members) {
            None => 0,
            Some(Members::One(_)) => 1,
            Some(Members::Many(members)) => members.len(),
        }
    }

    /// When a room came to be, in milliseconds since the epoch.
    pub(super) fn created_at_ms(&self, room: &str) -> Option<i64> {
        self.0.get(room).map(|room| room.created_at_ms)
    }
}

impl Members {
    fn insert(&mut self, recipient: &Arc<Recipient>) {
        match self {
            Self::One(present) if Arc::ptr_eq(present, recipient) => {}
            Self::One(present) => {
                let both = [present.clone(), recipient.clone()];
                *self = Self::Many(both.into_iter().map(|member| (address(&member), member)).collect());
            }
            Self::Many(members) => {
                members.insert(address(recipient), recipient.clone());
            }
        }
    }

    /// Takes a member out; false if none is left.
    fn remove(&mut self, recipient: &Arc<Recipient>) -> bool {
        match self {
            Self::One(present) => !Arc::ptr_eq(present, recipient),
            Self::Many(members) => {
                members.remove(&address(recipient));
                if members.capacity() > 4 * members.len() + 16 {
                    members.shrink_to_fit();
                }
                !members.is_empty()
            }
        }
    }
}

fn address(recipient: &Arc<Recipient>) -> usize {
    Arc::as_ptr(recipient) as usize
}
