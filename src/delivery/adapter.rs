//! The adapter of one namespace: its rooms, and the recipients in them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socketioxide::adapter::Emitter;
use socketioxide::socket::Sid;
use socketioxide_core::Value;
use socketioxide_core::adapter::{BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, SocketEmitter};
use socketioxide_core::packet::Packet;

use super::directory::Directory;
use super::recipient::Recipient;

/// A namespace's rooms.
pub struct RoomAdapter {
    local: CoreLocalAdapter<Emitter>,
    recipients: RwLock<HashMap<Sid, Arc<Recipient>>>,
    directory: Arc<Directory>,
}

impl RoomAdapter {
    /// Path of the namespace.
    pub fn namespace(&self) -> &str {
        self.local.path()
    }

    /// The recipients in a room.
    pub(super) fn members(&self, room: &str) -> Vec<Arc<Recipient>> {
        let mut options = BroadcastOptions::default();
        options.rooms.push(room.to_owned().into());
        let sids = self.local.sockets(options);
        let recipients = self.recipients.read().unwrap_or_else(PoisonError::into_inner);
        sids.iter().filter_map(|sid| recipients.get(sid)).cloned().collect()
    }

    pub(super) fn insert(&self, recipient: Arc<Recipient>) {
        self.recipients.write().unwrap_or_else(PoisonError::into_inner).insert(recipient.sid, recipient);
    }

    /// Takes a recipient out, unless another has taken its place.
    pub(super) fn remove(&self, recipient: &Recipient) {
        let mut recipients = self.recipients.write().unwrap_or_else(PoisonError::into_inner);
        if recipients.get(&recipient.sid).is_some_and(|present| present.id == recipient.id) {
            recipients.remove(&recipient.sid);
            drop(recipients);
            self.directory.vacate(&recipient.interest().rooms());
            self.local.del_all(recipient.sid);
        }
    }

    /// Moves a socket from some rooms to others; both lists are sorted.
    pub(super) fn put(&self, sid: Sid, before: &[String], after: &[String]) {
        let missing = |rooms: &[String], room: &String| rooms.binary_search(room).is_err();
        let gone: Vec<String> = before.iter().filter(|room| missing(after, room)).cloned().collect();
        let new: Vec<String> = after.iter().filter(|room| missing(before, room)).cloned().collect();
        self.directory.occupy(&new);
        self.directory.vacate(&gone);
        self.local.del(sid, gone);
        self.local.add_all(sid, new);
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
        Self { local, recipients: RwLock::default(), directory: directory.clone() }
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
