//! Who is here: every namespace and every recipient of the server.

use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::adapter::RoomAdapter;
use super::recipient::Recipient;
use crate::rooms::{Id, parse_namespace};
use crate::wire::{PublicId, now_ms};

/// The directory of one server.
#[derive(Debug, Default)]
pub struct Directory {
    namespaces: RwLock<Namespaces>,
    recipients: RwLock<HashMap<PublicId, Arc<Recipient>>>,
    /// What is known of each room; those without members until the next clean-up.
    occupied: Mutex<HashMap<String, Room>>,
    /// Held while a namespace becomes known to us and to socketioxide, so that both always know the same one.
    mounting: Mutex<()>,
    /// Smallest message that is compressed; none if nothing is.
    compress_from: Option<usize>,
    /// Makes hashes that nobody outside can foresee.
    keys: RandomState,
}

/// A room, in all namespaces together.
#[derive(Debug)]
struct Room {
    created_at_ms: i64,
    members: usize,
}

impl Room {
    /// A room with its first member.
    fn new() -> Self {
        Self { created_at_ms: now_ms(), members: 1 }
    }
}

#[derive(Debug, Default)]
struct Namespaces {
    by_path: HashMap<String, Arc<RoomAdapter>>,
    /// Those of the tree, by the organization they belong to.
    by_organization: HashMap<Id, Vec<Arc<RoomAdapter>>>,
}

impl Directory {
    /// An empty directory; messages of so many bytes and more are compressed for who takes that.
    pub fn new(compress_from: Option<usize>) -> Self {
        Self { compress_from, ..Self::default() }
    }

    pub(super) fn keys(&self) -> &RandomState {
        &self.keys
    }

    pub(super) fn compress_from(&self) -> Option<usize> {
        self.compress_from
    }

    /// A namespace comes to be; `publish` makes it known to socketioxide.
    pub(super) fn mount(&self, adapter: Arc<RoomAdapter>, publish: impl FnOnce()) {
        let _mounting = self.mounting.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(scope) = parse_namespace(adapter.namespace()) {
                let siblings = namespaces.by_organization.entry(scope.organization).or_default();
                siblings.retain(|sibling| sibling.namespace() != adapter.namespace());
                siblings.push(adapter.clone());
            }
            namespaces.by_path.insert(adapter.namespace().to_owned(), adapter);
        }
        publish();
    }

    /// A namespace is gone.
    pub fn unmount(&self, adapter: &Arc<RoomAdapter>) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        if namespaces.by_path.get(adapter.namespace()).is_some_and(|present| Arc::ptr_eq(present, adapter)) {
            namespaces.by_path.remove(adapter.namespace());
        }
        let Some(scope) = parse_namespace(adapter.namespace()) else { return };
        if let Some(siblings) = namespaces.by_organization.get_mut(&scope.organization) {
            siblings.retain(|sibling| !Arc::ptr_eq(sibling, adapter));
            if siblings.is_empty() {
                namespaces.by_organization.remove(&scope.organization);
            }
        }
    }

    /// The rooms of a namespace.
    pub fn namespace(&self, path: &str) -> Option<Arc<RoomAdapter>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).by_path.get(path).cloned()
    }

    /// How many namespaces there are beside the main one.
    pub fn dynamic_namespaces(&self) -> usize {
        self.namespaces
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_path
            .keys()
            .filter(|path| *path != "/")
            .count()
    }

    /// A socket is let in.
    pub fn insert(&self, recipient: Arc<Recipient>) {
        recipient.rooms.insert(recipient.clone());
        self.recipients.write().unwrap_or_else(PoisonError::into_inner).insert(recipient.id.clone(), recipient);
    }

    /// A socket is gone.
    pub fn remove(&self, recipient: &Recipient) {
        recipient.rooms.remove(recipient);
        self.recipients.write().unwrap_or_else(PoisonError::into_inner).remove(&recipient.id);
    }

    /// The socket with this public id.
    pub fn recipient(&self, id: &str) -> Option<Arc<Recipient>> {
        self.recipients.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Every socket.
    pub fn recipients(&self) -> Vec<Arc<Recipient>> {
        self.recipients.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The main namespace and those of an organization.
    pub(super) fn namespaces_of(&self, organization: &Id) -> Vec<Arc<RoomAdapter>> {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let theirs = namespaces.by_organization.get(organization).into_iter().flatten();
        namespaces.by_path.get("/").into_iter().chain(theirs).cloned().collect()
    }

    /// How many sockets are in a room, in all namespaces of its organization.
    pub fn count(&self, room: &str) -> usize {
        self.lock_rooms().get(room).map_or(0, |room| room.members)
    }

    /// Rooms get a member.
    pub(super) fn occupy(&self, rooms: &[String]) {
        let mut occupied = self.lock_rooms();
        for room in rooms {
            match occupied.get_mut(room) {
                Some(room) if room.members > 0 => room.members += 1,
                Some(room) => *room = Room::new(),
                None => {
                    occupied.insert(room.clone(), Room::new());
                }
            }
        }
    }

    /// Rooms lose a member.
    pub(super) fn vacate(&self, rooms: &[String]) {
        let mut occupied = self.lock_rooms();
        for room in rooms {
            if let Some(room) = occupied.get_mut(room) {
                room.members = room.members.saturating_sub(1);
            }
        }
    }

    /// When a room came to be, in milliseconds since the epoch.
    pub fn created_at_ms(&self, room: &str) -> Option<i64> {
        self.lock_rooms().get(room).map(|room| room.created_at_ms)
    }

    /// Forgets rooms without members, and says how many there were.
    pub fn clean(&self) -> usize {
        let mut rooms = self.lock_rooms();
        let before = rooms.len();
        rooms.retain(|_, room| room.members > 0);
        before - rooms.len()
    }

    fn lock_rooms(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.occupied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every listed room with the public ids of its members.
    pub fn rooms(&self) -> BTreeMap<String, Vec<PublicId>> {
        let mut rooms: BTreeMap<String, Vec<PublicId>> = BTreeMap::new();
        for recipient in self.recipients() {
            for room in recipient.listed_rooms() {
                rooms.entry(room).or_default().push(recipient.id.clone());
            }
        }
        rooms
    }
}
