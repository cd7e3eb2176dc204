//! Clients that name themselves in their URL: each id belongs to one of them at a time.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::connection::Connection;
use crate::rooms::Id;

/// Whose an id is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    /// The user; none for a visitor whom nobody knows.
    pub(super) user: Option<Id>,
    /// The machine.
    pub(super) address: IpAddr,
}

/// Ids that are in use.
#[derive(Debug, Default)]
pub(in crate::doors) struct Clients {
    by_id: Mutex<HashMap<String, Holder>>,
}

#[derive(Debug)]
struct Holder {
    owner: Owner,
    connection: Weak<Connection>,
}

impl Clients {
    /// Whether an id is free, or the owner's already.
    pub(super) fn may_take(&self, id: &str, owner: &Owner) -> bool {
        self.lock().get(id).is_none_or(|holder| holder.owner == *owner || holder.is_gone())
    }

    /// Gives an id to a connection; one of the same owner that had it is cut, since its client has come again. False
    /// if somebody else has it by now.
    pub(super) fn take(&self, id: &str, owner: Owner, connection: &Arc<Connection>) -> bool {
        let mut by_id = self.lock();
        if by_id.len() == by_id.capacity() {
            by_id.retain(|_, holder| !holder.is_gone());
        }
        let before = match by_id.get(id) {
            Some(holder) if holder.is_gone() => None,
            Some(holder) if holder.owner != owner => return false,
            Some(holder) => holder.connection.upgrade(),
            None => None,
        };
        by_id.insert(id.to_owned(), Holder { owner, connection: Arc::downgrade(connection) });
        drop(by_id);
        if let Some(before) = before {
            before.cut();
        }
        true
    }

    /// The public id of the socket that a client has.
    pub(in crate::doors) fn socket_of(&self, id: &str) -> Option<String> {
        let connection = self.lock().get(id).filter(|holder| !holder.is_gone())?.connection.upgrade()?;
        connection.public_id("/").map(|id| id.to_string())
    }

    /// Every client with a socket, in the order of their ids, and whether it is known who it is.
    pub(in crate::doors) fn all(&self) -> Vec<(String, bool)> {
        let by_id = self.lock();
        let present = by_id.iter().filter(|(_, holder)| !holder.is_gone());
        let mut all: Vec<_> = present.map(|(id, holder)| (id.clone(), holder.owner.user.is_some())).collect();
        all.sort_unstable();
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Holder>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holder {
    /// Whether the connection has ended, or its socket has left.
    fn is_gone(&self) -> bool {
        self.connection.upgrade().is_none_or(|connection| connection.has_ended())
    }
}
