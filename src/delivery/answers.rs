//! What only one socket is told: the server's own events, answers, and refusals.

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use socketioxide_core::packet::Packet;

use super::recipient::Recipient;
use super::rendered::{text_of, told_in};
use crate::dialects::Asked;
use crate::events::EventSpec;
use crate::rooms::Scope;
use crate::wire::packet::{self, Admission};
use crate::wire::{Code, WireError, message};

/// How an event of a client is answered.
#[derive(Debug, Clone)]
pub enum AnswerTo {
    /// By a Socket.IO ack.
    Ack(i64),
    /// By frames of the client's dialect.
    Frame(Asked),
}

fn value(payload: &impl Serialize) -> Value {
    serde_json::to_value(payload).expect("our own payloads are always JSON")
}

impl Recipient {
    /// Sends an event of our own, such as `connected`; false if the socket cannot take it.
    pub fn emit(&self, event: &str, payload: &impl Serialize) -> bool {
        if let Some(plain) = self.connection.plain() {
            return self.write_frames(&plain.dialect.notice(plain.visitor(), event, &value(payload)));
        }
        self.write(&packet::event(self.namespace(), None, &message::plain(event, payload)))
    }

    /// Sends it an event of the catalogue that is no entry, in the forms it wants, as of a time in milliseconds since the
    /// epoch.
    pub fn tell(&self, event: &EventSpec, scope: &Scope, payload: &RawValue, at_ms: i64) {
        if let Some(plain) = self.connection.plain() {
            self.write_frames(told_in(&*plain.dialect, event, scope, payload, at_ms).as_slice());
            return;
        }
        let forms = self.interest().forms;
        for form in forms.list() {
            self.write(&text_of(event, scope, payload, at_ms, *form, self.namespace()));
        }
    }

    /// Answers an event; false if the socket cannot take it.
    pub fn answer(&self, to: &AnswerTo, payload: &impl Serialize) -> bool {
        match (to, self.connection.plain()) {
            (AnswerTo::Ack(id), _) => {
                let body = serde_json::to_string(payload).expect("our own payloads are always JSON");
                self.write(&packet::ack(self.namespace(), *id, &body))
            }
            (AnswerTo::Frame(asked), Some(plain)) => self.write_frames(&plain.dialect.answer(asked, &value(payload))),
            (AnswerTo::Frame(_), None) => false,
        }
    }

    /// Refuses an event: in the failing ack, if its sender waits for one, and as the event `error`.
    pub fn refuse_event(&self, to: Option<&AnswerTo>, error: &WireError, failure: &Value) {
        if let Some(plain) = self.connection.plain() {
            let asked = to.and_then(|to| if let AnswerTo::Frame(asked) = to { Some(asked) } else { None });
            self.write_frames(&plain.dialect.refuse(asked, failure));
            return;
        }
        if let Some(to) = to {
            self.answer(to, failure);
        }
        // A flood is answered once a message, not twice.
        if to.is_none() || error.code() != Code::RateLimitExceeded {
            self.emit("error", &error.event());
        }
    }

    /// Sends the CONNECT reply of a socket that socketioxide has let in before.
    pub fn confirm(&self, admission: &Admission) {
        if self.connection.is_direct() {
            return self.connection.send_connect(&packet::connect(self.namespace(), admission));
        }
        let body = socketioxide_core::Value::Str(admission.body().into(), None);
        self.rooms.send(self.sid, Packet::connect(self.namespace().to_owned(), Some(body)));
    }

    /// Tells the client that another of its CONNECTs is refused.
    pub fn relay_refusal(&self, namespace: &str, reason: &str) {
        self.rooms.send(self.sid, Packet::connect_error(namespace.to_owned(), reason));
    }

    /// Refuses to let the socket in again.
    pub fn refuse(&self, reason: &str) {
        if self.connection.is_direct() {
            return self.connection.send_connect_error(&packet::connect_error(self.namespace(), reason));
        }
        self.rooms.send(self.sid, Packet::connect_error(self.namespace().to_owned(), reason));
    }

    fn write_frames(&self, frames: &[String]) -> bool {
        for frame in frames {
            self.connection.answer(self.namespace(), self.connection.frame_for(frame));
        }
        true
    }

    fn write(&self, text: &str) -> bool {
        self.while_polling(|| self.send_packet(text)).unwrap_or_else(|| {
            self.connection.answer(self.namespace(), self.connection.frame_for(text));
            true
        })
    }
}
