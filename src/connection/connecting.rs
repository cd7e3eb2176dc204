//! CONNECTs: one at a time, and answered each time.
//!
//! socketioxide ignores a CONNECT that comes while it still connects the socket,
//! and takes an event that comes before for a fault: what a client sends behind
//! a CONNECT waits until its socket is let in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Waker;
use std::time::Duration;

use serde_json::json;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::frame::{close_code, text_frame};
use super::outbox::State;
use crate::dialects::{Asked, Dialect};
use crate::wire::{Code, WireError, packet};

/// The body of a refused CONNECT.
#[derive(serde::Deserialize)]
struct Reason {
    message: String,
}

/// A CONNECT that is not answered after this is handed on again.
const OVERDUE: Duration = Duration::from_millis(500);

/// CONNECTs that wait for their answer, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Reminders {
    due: Mutex<VecDeque<Reminder>>,
    added: Notify,
}

#[derive(Debug)]
struct Reminder {
    at: Instant,
    connection: Weak<Connection>,
    turn: u64,
}

impl Reminders {
    fn add(&self, connection: &Arc<Connection>, turn: u64) {
        let reminder = Reminder { at: Instant::now() + OVERDUE, connection: Arc::downgrade(connection), turn };
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.push_back(reminder);
        if due.len() == 1 {
            self.added.notify_one();
        }
    }

    /// The reminder whose time has come, or the time until the next one.
    fn next(&self) -> Result<Reminder, Option<Instant>> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let at = due.front().map(|reminder| reminder.at);
        due.pop_front_if(|reminder| reminder.at <= Instant::now()).ok_or(at)
    }

    /// Has unanswered CONNECTs handed on again, until `stopping` is cancelled.
    pub(super) async fn run(&self, stopping: CancellationToken) {
        loop {
            let wait = async {
                match self.next() {
                    Ok(reminder) => return Some(reminder),
                    Err(Some(at)) => tokio::time::sleep_until(at).await,
                    Err(None) => self.added.notified().await,
                }
                None
            };
            let reminder = tokio::select! {
                reminder = wait => reminder,
                () = stopping.cancelled() => return,
            };
            let Some(Reminder { connection, turn, .. }) = reminder else { continue };
            if let Some(connection) = connection.upgrade()
                && connection.lock().remind(turn)
            {
                self.add(&connection, turn);
            }
        }
    }
}

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
                    packet::connect(head.namespace, &member.admission)
                }
                _ => reply.to_owned(),
            };
            match (head, self.plain()) {
                (Some(head), None) => outbox.reply(head.namespace, text_frame(&rewritten)),
                (Some(head), Some(_)) => _ = outbox.open(head.namespace),
                (None, None) => outbox.push_control(text_frame(&rewritten)),
                (None, Some(_)) => {}
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

    /// The socket of a namespace is in its rooms: its client may hear that it is connected.
    pub fn entered(self: &Arc<Self>, namespace: &str) {
        if self.queue(|outbox| outbox.entered(namespace)) {
            self.flush();
        }
        self.progress.notify_waiters();
    }

    /// Waits until every socket is in its rooms, so that a poll may tell its client that it is connected.
    pub async fn all_entered(&self) {
        let entered = async {
            loop {
                let progress = self.progress.notified();
                if self.is_dismissed() || !self.lock().is_entering() {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(OVERDUE, entered).await.ok();
    }

    /// The socket of a CONNECT is let in, or refused: what the client sent behind it may follow.
    pub fn let_in(&self) {
        self.lock().let_in();
        self.progress.notify_waiters();
    }

    /// Waits until the socket of a CONNECT that came by polling is let in or refused; false if that takes longer
    /// than `patience`, so that the CONNECT is to be handed on again.
    pub(super) async fn connected(&self, patience: Duration) -> bool {
        let connected = async {
            loop {
                let progress = self.progress.notified();
                if !self.lock().is_connecting() {
                    return;
                }
                progress.await;
            }
        };
        tokio::time::timeout(patience, connected).await.is_ok()
    }

    /// A CONNECT that came by polling is handed to Engine.IO; its answer waits for a poll.
    pub(super) fn begin_connect_polled(&self) {
        self.lock().begin_connect_polled();
    }

    /// The refusal of a CONNECT goes out.
    pub fn send_connect_error(self: &Arc<Self>, refusal: &str) {
        if let Some(plain) = self.plain() {
            return self.turn_away(&*plain.dialect, refusal);
        }
        let mine = self.queue(|outbox| {
            outbox.push_control(text_frame(refusal));
            outbox.end_connect();
        });
        if mine {
            self.flush();
        }
    }

    /// The same to a client that does not speak Socket.IO, which has nothing else to ask for.
    fn turn_away(self: &Arc<Self>, dialect: &dyn Dialect, refusal: &str) {
        let reason = refusal.strip_prefix("44").and_then(|body| serde_json::from_str::<Reason>(body).ok());
        let reason = reason.map_or_else(|| WireError::Internal.connect_error(), |reason| reason.message);
        let (code, message) = reason.split_once(": ").unwrap_or(("INTERNAL_ERROR", &reason));
        let failure = json!({ "success": false, "code": code, "message": message });
        let asked = Asked { what: "connect".into(), detail: None };
        let frames = dialect.refuse(Some(&asked), &failure);
        self.queue(|outbox| {
            frames.iter().for_each(|frame| outbox.push_control(text_frame(frame)));
            outbox.end_connect();
            outbox.corked = true;
        });
        // Who may not come in shall not try again and again; who finds no room may.
        if code == Code::AuthFailed.as_str() || code == Code::Unauthorized.as_str() {
            self.begin_dismissal();
        }
        self.finish(close_code::NORMAL);
    }

    /// A CONNECT is handed to Engine.IO: what follows it waits for the answer.
    ///
    /// socketioxide ignores one that comes while it still marks the socket as connecting, which it does for a
    /// moment longer than anybody outside can tell: an unanswered one is handed on again.
    pub fn begin_connect(self: &Arc<Self>) {
        let turn = self.lock().begin_connect();
        self.plane.reminders.add(self, turn);
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
