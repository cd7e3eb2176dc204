//! An entry as it is written to the sockets of one namespace, each form built once.

use std::cell::OnceCell;

use bytes::Bytes;

use crate::connection::{deflated_text_frame, text_frame};
use crate::log::Entry;
use crate::wire::message::{Envelope, enveloped, named};
use crate::wire::{Form, Forms, iso, packet};

/// The texts and frames of an entry, built on first need.
#[derive(Debug)]
pub(super) struct Rendered<'a> {
    entry: &'a Entry,
    namespace: &'a str,
    texts: [OnceCell<String>; 2],
    frames: [OnceCell<Bytes>; 3],
    deflated: [OnceCell<Bytes>; 3],
    /// Smallest text that is compressed; none if nothing is.
    compress_from: Option<usize>,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(entry: &'a Entry, namespace: &'a str, compress_from: Option<usize>) -> Self {
        Self {
            entry,
            namespace,
            texts: Default::default(),
            frames: Default::default(),
            deflated: Default::default(),
            compress_from,
        }
    }

    /// The Engine.IO message of a form.
    pub(super) fn text(&self, form: Form) -> &str {
        let (cell, build): (_, fn(&Self) -> String) = match form {
            Form::Named => (&self.texts[0], Self::build_named),
            Form::Envelope => (&self.texts[1], Self::build_envelope),
        };
        cell.get_or_init(|| build(self))
    }

    /// The WebSocket frames of the forms, next to each other.
    pub(super) fn frame(&self, forms: Forms) -> &Bytes {
        self.frames[index(forms)].get_or_init(|| self.build_frames(forms, |_| false))
    }

    /// The same for connections that take compressed messages: large ones are compressed, once for all.
    pub(super) fn deflated(&self, forms: Forms) -> &Bytes {
        let large = |text: &str| self.compress_from.is_some_and(|least| text.len() >= least);
        if !forms.list().iter().any(|form| large(self.text(*form))) {
            return self.frame(forms);
        }
        self.deflated[index(forms)].get_or_init(|| self.build_frames(forms, large))
    }

    fn build_frames(&self, forms: Forms, deflate: impl Fn(&str) -> bool) -> Bytes {
        let build = |text: &str| if deflate(text) { deflated_text_frame(text) } else { text_frame(text) };
        match forms.list() {
            [form] => build(self.text(*form)),
            list => list.iter().flat_map(|form| build(self.text(*form))).collect(),
        }
    }

    fn build_named(&self) -> String {
        let draft = &self.entry.draft;
        packet::event(self.namespace, draft.ack.map(|(id, _)| id), &named(&draft.event.name, &draft.payload))
    }

    fn build_envelope(&self) -> String {
        let draft = &self.entry.draft;
        let scope = draft.audience.scope();
        let envelope = Envelope {
            message_id: &draft.message_id,
            event: &draft.event.name,
            data: &draft.payload,
            timestamp: &iso(draft.published_at_ms),
            organization_id: scope.map(|scope| scope.organization.as_str()),
            department_id: scope.and_then(|scope| scope.department.as_ref()).map(|id| id.as_str()),
            queue_name: scope.and_then(|scope| scope.queue.as_ref()).map(|id| id.as_str()),
            priority: draft.priority.as_str(),
            requires_ack: draft.ack.map(|_| true),
            ack_timeout_ms: draft.ack.map(|(_, timeout)| timeout),
            position: &self.entry.position.to_string(),
        };
        packet::event(self.namespace, None, &enveloped(&envelope))
    }
}

fn index(forms: Forms) -> usize {
    match forms {
        Forms::Named => 0,
        Forms::Envelope => 1,
        Forms::Both => 2,
    }
}
