//! The adapter of one namespace: its rooms, and the recipients in them.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use socketioxide::adapter::Emitter;
use socketioxide::socket::Sid;
use socketioxide_core::Value;
use socketioxide_core::adapter::{BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::directory::Directory;
use super::recipient::Recipient;
use super::rooms::Rooms;
use crate::events::Catalogue;

/// A namespace: its rooms, and the way to its sockets on polling.
pub struct RoomAdapter {
    local: CoreLocalAdapter<Emitter>,
    rooms: RwLock<Rooms>,
    /// The variants that the last large entry was sent in, as bits.
    wanted: AtomicU64,
    directory: Arc<Directory>,
}

impl RoomAdapter {
    /// Path of the namespace.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// The directory it is in.
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Every event and channel there is.
    pub(super) fn catalogue(&self) -> &Catalogue {
        self.directory.catalogue()
    }

    /// The variants that the last large entry was sent in, as bits.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// A variant of a large entry was wanted, or not.
    pub(super) fn want(&self, bit: u64, wanted: bool) {
        if wanted {
            self.wanted.fetch_or(bit, Ordering::Relaxed);
        } else {
            self.wanted.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// The rooms, to look something up.
    pub(super) fn rooms(&self) -> RwLockReadGuard<'_, Rooms> {
        self.rooms.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a recipient from the rooms it is in to others, and says which it is in then.
    pub(super) fn move_between(
        &self,
        recipient: &Arc<Recipient>,
        before: Vec<Arc<str>>,
        after: &[String],
    ) -> Box<[Arc<str>]> {
        let mut rooms = self.rooms.write().unwrap_or_else(PoisonError::into_inner);
        let (stay, go): (Vec<_>, Vec<_>) =
            before.into_iter().partition(|room| after.iter().any(|name| **name == **room));
        for room in go {
            rooms.leave(recipient, &room);
        }
        let now = after.iter().map(|name| match stay.iter().find(|room| ***room == **name) {
            Some(room) => room.clone(),
            None => rooms.join(recipient, name),
        });
        now.collect()
    }

    /// Tells one socket that it is disconnected; it stays until its transport closes, since what it has
    /// already sent would otherwise count as a fault.
    pub fn disconnect(&self, sid: Sid) {
        self.send(sid, Packet::disconnect(self.namespace().to_owned()));
    }

    /// Sends an event of this name to one socket, behind everything that waits for it; false if its queue is full.
    pub fn mark(&self, sid: Sid, name: &str) -> bool {
        let arguments = Value::Str(serde_json::json!([name]).to_string().into(), None);
        self.send(sid, Packet::event(self.namespace().to_owned(), arguments))
    }

    /// Sends a packet to one socket; false if its queue is full.
    pub(super) fn send(&self, sid: Sid, packet: Packet) -> bool {
        self.local.broadcast(packet, BroadcastOptions::new(sid)).is_ok()
    }
}

impl CoreAdapter<Emitter> for RoomAdapter {
    type Error = Infallible;
    type State = Arc<Directory>;
    type AckStream = <Emitter as SocketEmitter>::AckStream;
    type InitRes = ();

    fn new(directory: &Self::State, local: CoreLocalAdapter<Emitter>) -> Self {
        Self { local, rooms: RwLock::default(), wanted: AtomicU64::new(0), directory: directory.clone() }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) {
        let directory = self.directory.clone();
        directory.mount(self, on_success);
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        options: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<Self::AckStream, Self::Error> {
        Ok(self.local.broadcast_with_ack(packet, options, timeout).0)
    }

    fn get_local(&self) -> &CoreLocalAdapter<Emitter> {
        &self.local
    }
}

impl DefinedAdapter for RoomAdapter {}

impl std::fmt::Debug for RoomAdapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomAdapter").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}
