//! The answer to an event of a client, which may be given later.

use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use crate::delivery::AnswerTo;
use crate::session::event;
use crate::session::session::Session;
use crate::wire::WireError;

/// How an event is answered, whoever knows what.
#[derive(Debug)]
pub(in crate::session) struct Reply {
    pub(super) session: Arc<Session>,
    answer_to: Option<AnswerTo>,
    /// What is answered in place of what the rule says: the envelope of a `message` has an answer of its own.
    receipt: Option<Value>,
}

impl Reply {
    /// The answer to an event.
    pub(in crate::session) fn new(session: &Arc<Session>, answer_to: Option<&AnswerTo>) -> Self {
        Self { session: session.clone(), answer_to: answer_to.cloned(), receipt: None }
    }

    /// The answer to an event inside another, which is answered with this when it succeeds.
    pub(in crate::session) fn with_receipt(self, receipt: Value) -> Self {
        Self { receipt: Some(receipt), ..self }
    }

    /// It has succeeded.
    pub(super) fn done(&self, ack: &impl Serialize) {
        match (&self.answer_to, &self.receipt) {
            (None, _) => false,
            (Some(to), None) => self.session.recipient.answer(to, ack),
            (Some(to), Some(receipt)) => self.session.recipient.answer(to, receipt),
        };
    }

    /// It has failed.
    pub(super) fn refused(&self, error: &WireError) {
        event::refuse_later(&self.session, self.answer_to.as_ref(), error);
    }
}
