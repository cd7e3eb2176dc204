//! Who is here: every namespace and every recipient of the server.

use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::adapter::RoomAdapter;
use super::batcher::Batches;
use super::recipient::Recipient;
use crate::dialects::Dialect;
use crate::events::Catalogue;
use crate::rooms::{Id, RoomName, namespace_of, parse_namespace};
use crate::wire::PublicId;

/// The directory of one server.
#[derive(Debug)]
pub struct Directory {
    namespaces: RwLock<Namespaces>,
    recipients: RwLock<HashMap<PublicId, Arc<Recipient>>>,
    /// Held while a namespace becomes known to us and to socketioxide, so that both always know the same one.
    mounting: Mutex<()>,
    catalogue: Arc<Catalogue>,
    /// Smallest message that is compressed; none if nothing is.
    compress_from: Option<usize>,
    /// What plain doors speak.
    dialects: Vec<Arc<dyn Dialect>>,
    batches: Batches,
    /// Makes hashes that nobody outside can foresee.
    keys: RandomState,
}

#[derive(Debug, Default)]
struct Namespaces {
    by_path: HashMap<String, Arc<RoomAdapter>>,
    /// Those of the tree, by the organization they belong to.
    by_organization: HashMap<Id, Vec<Arc<RoomAdapter>>>,
}

impl Directory {
    /// An empty directory; messages of so many bytes and more are compressed for who takes that.
    pub fn new(catalogue: Arc<Catalogue>, compress_from: Option<usize>, dialects: Vec<Arc<dyn Dialect>>) -> Self {
        Self {
            namespaces: RwLock::default(),
            recipients: RwLock::default(),
            mounting: Mutex::default(),
            catalogue,
            compress_from,
            dialects,
            batches: Batches::default(),
            keys: RandomState::new(),
        }
    }

    /// Every event and channel there is.
    pub(super) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Batches that sockets share.
    pub(super) fn batches(&self) -> &Batches {
        &self.batches
    }

    /// What plain doors speak, by number.
    pub(super) fn dialects(&self) -> &[Arc<dyn Dialect>] {
        &self.dialects
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

    /// Every namespace.
    pub(super) fn namespaces(&self) -> Vec<Arc<RoomAdapter>> {
        self.namespaces.read().unwrap_or_else(PoisonError::into_inner).by_path.values().cloned().collect()
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
        recipient.enter();
        self.recipients.write().unwrap_or_else(PoisonError::into_inner).insert(recipient.id.clone(), recipient);
    }

    /// A socket is gone.
    pub fn remove(&self, recipient: &Arc<Recipient>) {
        recipient.leave();
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
        self.adapters_of(room).iter().map(|adapter| adapter.rooms().count(room)).sum()
    }

    /// The sockets in a room, in all namespaces of its organization.
    pub fn members(&self, room: &str) -> Vec<Arc<Recipient>> {
        let mut members = Vec::new();
        for adapter in self.adapters_of(room) {
            adapter.rooms().each(room, |recipient| members.push(recipient.clone()));
        }
        members
    }

    /// When a room came to be, in milliseconds since the epoch.
    pub fn created_at_ms(&self, room: &str) -> Option<i64> {
        self.adapters_of(room).iter().filter_map(|adapter| adapter.rooms().created_at_ms(room)).min()
    }

    /// The namespaces that may have members in a room.
    fn adapters_of(&self, room: &str) -> Vec<Arc<RoomAdapter>> {
        match RoomName::parse(room) {
            // What is subscribed to in a namespace lies within its scope, and an organization may have thousands.
            Some(RoomName::Channel(_, scope)) => {
                let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
                let around = scope.containing().into_iter().map(|outer| namespace_of(&outer));
                let paths = std::iter::once("/".to_owned()).chain(around);
                paths.filter_map(|path| namespaces.by_path.get(&path).cloned()).collect()
            }
            Some(name) => self.namespaces_of(name.organization()),
            None => Vec::new(),
        }
    }

    /// Every listed room with the public ids of its members.
    pub fn rooms(&self) -> BTreeMap<Arc<str>, Vec<PublicId>> {
        let mut rooms: BTreeMap<Arc<str>, Vec<PublicId>> = BTreeMap::new();
        for recipient in self.recipients() {
            for room in recipient.listed_rooms() {
                rooms.entry(room).or_default().push(recipient.id.clone());
            }
        }
        rooms
    }
}
