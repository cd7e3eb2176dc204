//! An entry as it is written to the sockets of one namespace, each form built once.

use std::cell::OnceCell;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;

use super::directory::Directory;
use crate::connection::{Kind, Outgoing, deflated_text_frame, text_frame};
use crate::log::Entry;
use crate::wire::message::{Envelope, enveloped, named};
use crate::wire::{Form, Forms, iso, packet};

/// The texts and frames of an entry, built on first need.
#[derive(Debug)]
pub(super) struct Rendered<'a> {
    entry: &'a Entry,
    namespace: &'a str,
    texts: [OnceCell<String>; 2],
    plain: [OnceCell<Outgoing>; 3],
    deflated: [OnceCell<Outgoing>; 3],
    kind: Kind,
    /// Smallest text that is compressed; none if nothing is.
    compress_from: Option<usize>,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(entry: &'a Entry, namespace: &'a str, directory: &Directory) -> Self {
        Self {
            entry,
            namespace,
            texts: Default::default(),
            plain: Default::default(),
            deflated: Default::default(),
            kind: kind_of(entry, namespace, directory.keys()),
            compress_from: directory.compress_from(),
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
    pub(super) fn plain(&self, forms: Forms) -> &Outgoing {
        self.plain[index(forms)].get_or_init(|| self.build(forms, |_| false))
    }

    /// The same for connections that take compressed messages: large ones are compressed, once for all.
    pub(super) fn deflated(&self, forms: Forms) -> &Outgoing {
        let large = |text: &str| self.compress_from.is_some_and(|least| text.len() >= least);
        if !forms.list().iter().any(|form| large(self.text(*form))) {
            return self.plain(forms);
        }
        self.deflated[index(forms)].get_or_init(|| self.build(forms, large))
    }

    fn build(&self, forms: Forms, deflate: impl Fn(&str) -> bool) -> Outgoing {
        let build = |text: &str| if deflate(text) { deflated_text_frame(text) } else { text_frame(text) };
        let frames = match forms.list() {
            [form] => build(self.text(*form)),
            list => list.iter().flat_map(|form| build(self.text(*form))).collect(),
        };
        Outgoing { frames, kind: self.kind }
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

/// What decides about the order of an entry in an outbox. Its keys are hashes that nobody outside can foresee, so
/// that no two things are made to look the same.
fn kind_of(entry: &Entry, namespace: &str, keys: &RandomState) -> Kind {
    let draft = &entry.draft;
    let (family, value) = draft.event.entity_of(&draft.facts, draft.payload.get());
    let scope = draft.audience.scope();
    // What is told apart by a field is the same thing in whatever scope it is spoken of.
    let entity = match &value {
        Some(value) => keys.hash_one((namespace, family, value)),
        None => keys.hash_one((namespace, family, scope)),
    };
    let conflation = || keys.hash_one((namespace, &draft.event.name, scope, &value)) | 1;
    Kind {
        event: draft.event.number,
        priority: draft.priority,
        requires_ack: draft.ack.is_some(),
        entity,
        conflation: (draft.event.conflated && draft.ack.is_none()).then(conflation).and_then(NonZeroU64::new),
    }
}

fn index(forms: Forms) -> usize {
    match forms {
        Forms::Named => 0,
        Forms::Envelope => 1,
        Forms::Both => 2,
    }
}
