//! CONNECTs: one at a time, and answered each time.
//!
//! socketioxide ignores a CONNECT that comes while it still connects the socket,
//! and takes an event that comes before for a fault: what a client sends behind
//! a CONNECT waits until its socket is let in.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::connection::Connection;
use super::frame::text_frame;
use super::outbox::State;
use crate::wire::packet;

/// A CONNECT that is not answered after this is handed on again.
const OVERDUE: Duration = Duration::from_millis(500);

impl Connection {
    /// A CONNECT reply goes out: it carries our public id, and what was kept back for its namespace follows.
    pub fn send_connect(self: &Arc<Self>, reply: &str) {
        let head = reply.get(1..).and_then(packet::parse);
        let mine = self.queue(|outbox| {
            let member =
                head.and_then(|head| outbox.members.iter().find(|member| *member.namespace == *head.namespace));
            let known = member.is_some();
            let rewritten = match (head, member) {
                (Some(head), Some(member)) if !head.body.is_empty() => {
                    packet::connect(head.namespace, member.id.as_str())
                }
                _ => reply.to_owned(),
            };
            outbox.push_control(text_frame(&rewritten));
            if let Some(head) = head {
                outbox.open(head.namespace);
            }
            outbox.answer_connect();
            // Without a member nobody will say that the socket is let in.
            if !known {
                outbox.end_connect();
            }
        });
        if mine {
            self.flush();
        }
    }

    /// The socket of a CONNECT is let in: what the client sent behind it may follow.
    ///
    /// From a task of its own: socketioxide marks the socket as connecting until the caller has returned,
    /// and ignores a CONNECT before that.
    pub fn let_in(self: &Arc<Self>) {
        let (connection, turn) = (self.clone(), self.lock().turn());
        self.plane.tasks.spawn(async move {
            tokio::task::yield_now().await;
            connection.lock().let_in(turn);
        });
    }

    /// The refusal of a CONNECT goes out.
    pub fn send_connect_error(self: &Arc<Self>, refusal: &str) {
        let mine = self.queue(|outbox| {
            outbox.push_control(text_frame(refusal));
            outbox.end_connect();
        });
        if mine {
            self.flush();
        }
    }

    /// A CONNECT is handed to Engine.IO: what follows it waits for the answer.
    ///
    /// socketioxide ignores one that comes while it still marks the socket as connecting, which it does for a
    /// moment longer than anybody outside can tell: an unanswered one is handed on again.
    pub fn begin_connect(self: &Arc<Self>) {
        let turn = {
            let mut outbox = self.lock();
            outbox.begin_connect();
            outbox.turn()
        };
        let connection = Arc::downgrade(self);
        self.plane.tasks.spawn(async move {
            loop {
                tokio::time::sleep(OVERDUE).await;
                let Some(connection) = connection.upgrade() else { return };
                if !connection.lock().remind(turn) {
                    return;
                }
            }
        });
    }

    /// Whether the last CONNECT is to be handed on again.
    pub(super) fn take_repeat(&self) -> bool {
        self.lock().take_repeat()
    }

    /// Whether what follows a CONNECT has to wait.
    pub(super) fn is_connecting(&self) -> bool {
        self.lock().is_connecting()
    }

    /// Remembers the reader before it waits; false if it has nothing to wait for: `held` says that it waits
    /// for a CONNECT, else it waits for the client.
    pub(super) fn park(&self, reader: &Waker, held: bool) -> bool {
        let mut outbox = self.lock();
        if outbox.state == State::Closed || (held && !outbox.is_connecting()) {
            return false;
        }
        if outbox.reader.as_ref().is_none_or(|present| !present.will_wake(reader)) {
            outbox.reader = Some(reader.clone());
        }
        true
    }
}
