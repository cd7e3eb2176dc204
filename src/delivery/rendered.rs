//! An entry as it is written to the sockets of one namespace, each form built once.

use std::cell::{Cell, OnceCell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::value::{RawValue, to_raw_value};
use smallvec::SmallVec;

use super::directory::Directory;
use super::recipient::Recipient;
use crate::connection::{IN_LINE, Kind, Outgoing, Plain, deflated_text_frame, text_frame};
use crate::dialects::Dialect;
use crate::events::EventSpec;
use crate::log::{Draft, Entry, Prepared};
use crate::rooms::{Id, Scope};
use crate::wire::message::{Envelope, enveloped, named};
use crate::wire::{Form, Forms, fresh_message_id, iso, packet};

/// Entries from this many bytes of payload are prepared by their publisher.
const LARGE: usize = 1_024;

/// The frames of an entry in one shape, as they are or compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Variant {
    pub(super) shape: Shape,
    pub(super) deflated: bool,
}

/// How an entry is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As Socket.IO packets; `positioned` says whether each ends with its position.
    Packets { forms: Forms, positioned: bool },
    /// As a frame of the dialect with this number.
    Plain(u8),
}

impl Variant {
    /// How many there are of packets; those of dialects follow.
    const OF_PACKETS: usize = 12;

    fn index(self) -> usize {
        let shape = match self.shape {
            Shape::Packets { forms, positioned } => {
                let forms = match forms {
                    Forms::Named => 0,
                    Forms::Envelope => 4,
                    Forms::Both => 8,
                };
                forms + 2 * usize::from(positioned)
            }
            Shape::Plain(number) => Self::OF_PACKETS + 2 * usize::from(number),
        };
        shape + usize::from(self.deflated)
    }

    fn all(dialects: u8) -> impl Iterator<Item = Self> {
        let forms = [Forms::Named, Forms::Envelope, Forms::Both];
        let packets =
            forms.into_iter().flat_map(|forms| [false, true].map(|positioned| Shape::Packets { forms, positioned }));
        let shapes = packets.chain((0..dialects).map(Shape::Plain));
        shapes.flat_map(|shape| [false, true].map(|deflated| Self { shape, deflated }))
    }

    /// Its bit in a set of variants.
    pub(super) fn bit(self) -> u64 {
        1 << self.index()
    }
}

/// A frame of a dialect, if it knows the event.
type Frame = OnceCell<Option<Outgoing>>;

/// Type and content of an entry in a batch, shared by all batches.
pub(super) type Content = Arc<(String, String)>;

/// The content in some words, if they can say the event.
type Said = (Words, Option<Content>);

/// How the content of an entry is written in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    Payload,
    Envelope,
    Plain(u8),
}

/// Whether an entry is prepared before it is sequenced.
pub fn is_large(draft: &Draft) -> bool {
    draft.payload.get().len() >= LARGE
}

/// Builds the frames of an entry that its sockets will probably want, as they wanted those of the entry before it:
/// the sequencer then has nothing to build and nothing to compress.
pub fn prepare(directory: &Directory, entry: &Entry) -> Vec<Prepared> {
    let namespaces = match entry.draft.audience.scope() {
        Some(scope) => directory.namespaces_of(&scope.organization),
        None => directory.namespaces(),
    };
    let mut prepared = Vec::new();
    for adapter in namespaces {
        let rendered = Rendered::new(entry, adapter.namespace(), directory);
        let wanted = adapter.wanted();
        let dialects = directory.dialects().len() as u8;
        for variant in Variant::all(dialects).filter(|variant| wanted & variant.bit() != 0) {
            let Some(built) = rendered.build(variant) else { continue };
            prepared.push(Prepared::new(adapter.namespace(), variant.bit(), built.frames));
        }
    }
    prepared
}

/// What an entry is the value of for a socket, as a key, if a newer value may replace it.
pub fn value_of(entry: &Entry, recipient: &Recipient) -> Option<NonZeroU64> {
    kind_of(entry, recipient.namespace(), recipient.directory().keys()).conflation
}

/// What an entry is about for a socket, as a key.
pub fn entity_of(entry: &Entry, recipient: &Recipient) -> u64 {
    kind_of(entry, recipient.namespace(), recipient.directory().keys()).entity
}

/// What was prepared of an entry and nobody wanted is not prepared of the next one.
pub(super) fn forget_unused(directory: &Directory, entry: &Entry) {
    for prepared in entry.take_prepared().iter().filter(|prepared| !prepared.is_used()) {
        if let Some(adapter) = directory.namespace(&prepared.namespace) {
            adapter.want(prepared.variant, false);
        }
    }
}

/// The texts and frames of an entry, built on first need.
#[derive(Debug)]
pub(super) struct Rendered<'a> {
    entry: &'a Entry,
    namespace: &'a str,
    directory: &'a Directory,
    texts: [OnceCell<String>; 4],
    frames: [OnceCell<Outgoing>; Variant::OF_PACKETS],
    /// Frames of dialects; none where a dialect does not know the event.
    plain: OnceCell<Box<[Frame]>>,
    /// Dialects that were asked whether they know the event, and those of them that do, a bit each.
    known: Cell<(u32, u32)>,
    contents: RefCell<SmallVec<[Said; 1]>>,
    kind: Kind,
}

impl<'a> Rendered<'a> {
    pub(super) fn new(entry: &'a Entry, namespace: &'a str, directory: &'a Directory) -> Self {
        Self {
            entry,
            namespace,
            directory,
            texts: Default::default(),
            frames: Default::default(),
            plain: OnceCell::new(),
            known: Cell::new((0, 0)),
            contents: RefCell::default(),
            kind: kind_of(entry, namespace, directory.keys()),
        }
    }

    /// Offset of the entry.
    pub(super) fn offset(&self) -> u64 {
        self.entry.position.offset
    }

    /// The Engine.IO message of a form, with its position or without.
    pub(super) fn text(&self, form: Form, positioned: bool) -> &str {
        let cell = &self.texts[2 * form as usize + usize::from(positioned)];
        cell.get_or_init(|| {
            let position = positioned.then(|| self.entry.position.of_frame(form));
            match form {
                Form::Named => self.build_named(position.as_deref()),
                Form::Envelope => self.build_envelope(position.as_deref()),
            }
        })
    }

    /// The WebSocket frames of the forms, next to each other; for connections that take compressed messages the
    /// large ones are compressed, once for all.
    pub(super) fn packets(&self, forms: Forms, positioned: bool, deflated: bool) -> &Outgoing {
        let variant = Variant { shape: Shape::Packets { forms, positioned }, deflated };
        self.frames[variant.index()].get_or_init(|| self.first(variant).expect("packets can say every event"))
    }

    /// The frame of a dialect, likewise; none if it does not know the event.
    pub(super) fn frame(&self, dialect: u8, deflated: bool) -> Option<&Outgoing> {
        let variant = Variant { shape: Shape::Plain(dialect), deflated };
        let none = || (0..2 * self.directory.dialects().len()).map(|_| OnceCell::new()).collect();
        let frame = self.plain.get_or_init(none).get(variant.index() - Variant::OF_PACKETS)?;
        frame.get_or_init(|| self.first(variant)).as_ref()
    }

    /// Whether clients of a dialect know the event.
    pub(super) fn is_known_to(&self, dialect: u8) -> bool {
        let (asked, known) = self.known.get();
        let bit = 1 << dialect;
        if asked & bit != 0 {
            return known & bit != 0;
        }
        let knows = |dialect: &Arc<dyn Dialect>| dialect.knows(&self.entry.draft.event.name);
        let is_known = self.directory.dialects().get(usize::from(dialect)).is_some_and(knows);
        self.known.set((asked | bit, if is_known { known | bit } else { known }));
        is_known
    }

    /// Type and content of the entry in a batch; none if the dialect does not know the event.
    pub(super) fn content(&self, plain: Option<&Plain>, forms: Forms) -> Option<Content> {
        let words = match plain {
            Some(plain) => Words::Plain(plain.number),
            None if forms == Forms::Envelope => Words::Envelope,
            None => Words::Payload,
        };
        let mut contents = self.contents.borrow_mut();
        if let Some((_, content)) = contents.iter().find(|(known, _)| *known == words) {
            return content.clone();
        }
        let name = || self.entry.draft.event.name.to_string();
        let content = match plain {
            Some(plain) => with_envelope(self.entry, |envelope| plain.dialect.part(envelope)),
            None if words == Words::Envelope => Some((name(), envelope(self.entry).get().to_owned())),
            None => Some((name(), self.entry.draft.payload.get().to_owned())),
        };
        contents.push((words, content.map(Arc::new)));
        contents.last().and_then(|(_, content)| content.clone())
    }

    /// Where the entry is, as the last of its frames says.
    pub(super) fn position(&self) -> String {
        self.entry.position.of_frame(Form::Envelope)
    }

    /// What was prepared by the publisher, or else is built now.
    fn first(&self, variant: Variant) -> Option<Outgoing> {
        if let Some(frames) = self.entry.prepared(self.namespace, variant.bit()) {
            return Some(Outgoing { frames, kind: self.kind });
        }
        if is_large(&self.entry.draft)
            && let Some(adapter) = self.directory.namespace(self.namespace)
        {
            adapter.want(variant.bit(), true);
        }
        self.build(variant)
    }

    fn build(&self, variant: Variant) -> Option<Outgoing> {
        let least = self.directory.compress_from().filter(|_| variant.deflated);
        let build = |text: &str| match least {
            Some(least) if text.len() >= least => deflated_text_frame(text),
            _ => text_frame(text),
        };
        let frames = match variant.shape {
            Shape::Packets { forms, positioned } => match forms.list() {
                [form] => build(self.text(*form, positioned)),
                list => list.iter().flat_map(|form| build(self.text(*form, positioned))).collect(),
            },
            Shape::Plain(number) => {
                let dialect = self.directory.dialects().get(usize::from(number))?;
                build(&with_envelope(self.entry, |envelope| dialect.event(envelope))?)
            }
        };
        Some(Outgoing { frames, kind: self.kind })
    }

    fn build_named(&self, position: Option<&str>) -> String {
        let draft = &self.entry.draft;
        // A stock client gives its handler every argument, and one that acknowledges expects the answer second.
        let position = position.filter(|_| draft.ack.is_none());
        let id = draft.ack.map(|(id, _)| id);
        packet::event(self.namespace, id, &named(&draft.event.name, &draft.payload, position))
    }

    fn build_envelope(&self, position: Option<&str>) -> String {
        packet::event(self.namespace, None, &enveloped(&envelope(self.entry), position))
    }
}

/// The envelope of an entry: what its payload does not say of it.
pub fn envelope(entry: &Entry) -> Box<RawValue> {
    with_envelope(entry, |envelope| to_raw_value(envelope).expect("an envelope is always JSON"))
}

/// Does something with the envelope of an entry.
pub(super) fn with_envelope<T>(entry: &Entry, then: impl FnOnce(&Envelope<'_>) -> T) -> T {
    let draft = &entry.draft;
    let scope = draft.audience.scope();
    then(&Envelope {
        message_id: &draft.message_id,
        event: &draft.event.name,
        data: &draft.payload,
        timestamp: &iso(draft.published_at_ms),
        organization_id: scope.map(|scope| scope.organization.as_str()),
        department_id: scope.and_then(|scope| scope.department.as_ref()).map(Id::as_str),
        queue_name: scope.and_then(|scope| scope.queue.as_ref()).map(Id::as_str),
        priority: draft.priority.as_str(),
        requires_ack: draft.ack.map(|_| true),
        ack_timeout_ms: draft.ack.map(|(_, timeout)| timeout),
        position: Some(&entry.position.to_string()),
    })
}

/// The envelope of an event that is no entry and so has no position.
fn with_told<T>(
    event: &EventSpec,
    scope: &Scope,
    payload: &RawValue,
    at_ms: i64,
    then: impl FnOnce(&Envelope<'_>) -> T,
) -> T {
    then(&Envelope {
        message_id: &fresh_message_id(),
        event: &event.name,
        data: payload,
        timestamp: &iso(at_ms),
        organization_id: Some(scope.organization.as_str()),
        department_id: scope.department.as_ref().map(Id::as_str),
        queue_name: scope.queue.as_ref().map(Id::as_str),
        priority: event.priority.as_str(),
        requires_ack: None,
        ack_timeout_ms: None,
        position: None,
    })
}

/// The frame, in a dialect, of an event that is no entry.
pub(super) fn told_in(
    dialect: &dyn Dialect,
    event: &EventSpec,
    scope: &Scope,
    payload: &RawValue,
    at_ms: i64,
) -> Option<String> {
    with_told(event, scope, payload, at_ms, |envelope| dialect.event(envelope))
}

/// The Engine.IO message, in one form, of an event that is no entry and so has no position.
pub(super) fn text_of(
    event: &EventSpec,
    scope: &Scope,
    payload: &RawValue,
    at_ms: i64,
    form: Form,
    namespace: &str,
) -> String {
    if form == Form::Named {
        return packet::event(namespace, None, &named(&event.name, payload, None));
    }
    let envelope =
        with_told(event, scope, payload, at_ms, |told| to_raw_value(told).expect("an envelope is always JSON"));
    packet::event(namespace, None, &enveloped(&envelope, None))
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
    // That one says that everything stays in order.
    let entity = if entity == IN_LINE { IN_LINE + 1 } else { entity };
    let conflation = || keys.hash_one((namespace, &draft.event.name, scope, &value)) | 1;
    Kind {
        offset: entry.position.offset,
        event: draft.event.number,
        priority: draft.priority,
        requires_ack: draft.ack.is_some(),
        entity,
        conflation: (draft.event.conflated && draft.ack.is_none()).then(conflation).and_then(NonZeroU64::new),
    }
}
