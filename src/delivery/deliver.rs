//! The delivery rule: which sockets an entry reaches, each of them once.

use std::collections::HashMap;
use std::sync::Arc;

use super::adapter::RoomAdapter;
use super::directory::Directory;
use super::interest::Interest;
use super::recipient::Recipient;
use super::rendered::{Rendered, forget_unused};
use crate::connection::Handover;
use crate::events::Catalogue;
use crate::log::{Audience, Draft, Entry, Explanation, Targets};
use crate::rooms::{Id, Scope, channel_room, implicit_room, namespace_of, scope_room, user_room};
use crate::wire::{Forms, PublicId};

/// What came of a delivery.
#[derive(Debug, Default)]
pub struct Delivered {
    /// Sockets of this node that the entry was handed to.
    pub recipients: usize,
    /// Socket and user of each, if that was asked for.
    pub reached: Vec<(PublicId, Option<Id>)>,
    /// Users whose sockets could not take it, likewise.
    pub refused: Vec<Id>,
    /// Why to those, if the publisher asks.
    pub explanation: Option<Explanation>,
}

/// Hands an entry to every socket it is for, and lists them if that is asked for. `delivery` is a number that no other
/// delivery has; an entry for everyone reaches those that `mine` says belong to its shard.
pub fn deliver(
    directory: &Directory,
    entry: &Entry,
    delivery: u64,
    listed: bool,
    mine: impl Fn(Option<&Id>) -> bool,
) -> Delivered {
    let explanation = entry.draft.explains.then(Explanation::default);
    let (handover, delivered) = (Handover::default(), Delivered { explanation, ..Delivered::default() });
    let mut round = Round { entry, delivery, listed, directory, handover, delivered };
    match &entry.draft.audience {
        Audience::Everyone => {
            let belongs = |recipient: &Arc<Recipient>| {
                mine(recipient.interest().identity.as_ref().map(|(organization, _)| organization))
            };
            let recipients: Vec<_> = directory.recipients().into_iter().filter(belongs).collect();
            round.each(&recipients, |_| true);
        }
        Audience::Scope { scope, targets: None } => round.scope(scope),
        Audience::Scope { scope, targets: Some(targets) } => round.targets(scope, targets),
    }
    forget_unused(directory, entry);
    if let Some(explanation) = &mut round.delivered.explanation {
        (explanation.conflated, explanation.dropped) = (round.handover.conflated, round.handover.dropped);
    }
    round.delivered
}

/// Names of the rooms whose members an entry is for; none if it is for everyone.
pub fn rooms_of(draft: &Draft, catalogue: &Catalogue) -> Vec<String> {
    match &draft.audience {
        Audience::Everyone => Vec::new(),
        Audience::Scope { scope, targets: None } => {
            let outer = scope.containing();
            let channels = || catalogue.names(draft.channels);
            let rooms = outer.iter().flat_map(|outer| channels().map(|channel| channel_room(channel, outer)));
            draft.event.down.then(|| scope_room(scope)).into_iter().chain(rooms).collect()
        }
        Audience::Scope { scope, targets: Some(targets) } => {
            let users = targets.users.iter().map(|user| user_room(&scope.organization, user));
            users.chain(targets.rooms.iter().cloned()).collect()
        }
    }
}

/// A room whose members an entry may be for.
struct Room {
    name: String,
    /// Whether it is for all of them that filter nothing out.
    decides: bool,
}

/// One entry on its way.
struct Round<'a> {
    entry: &'a Entry,
    delivery: u64,
    listed: bool,
    directory: &'a Directory,
    handover: Handover,
    delivered: Delivered,
}

impl Round<'_> {
    fn scope(&mut self, scope: &Scope) {
        let directory = self.directory;
        let draft = &self.entry.draft;
        if draft.event.down {
            let rooms = [Room { name: scope_room(scope), decides: draft.channels == draft.event.channels }];
            for adapter in directory.namespaces_of(&scope.organization) {
                self.room(&adapter, &rooms, |interest| interest.listens(draft));
            }
        }
        let containing = scope.containing();
        let mut rooms: Vec<Room> = Vec::with_capacity(containing.len() * 3);
        for outer in &containing {
            let channels = directory.catalogue().names(draft.channels);
            rooms.extend(channels.map(|channel| Room { name: channel_room(channel, outer), decides: true }));
            rooms.push(Room { name: implicit_room(outer), decides: false });
        }
        // A socket's subscriptions lie within its namespace's scope, so only namespaces that contain the entry's can match.
        let main = directory.namespace("/");
        let others = containing.iter().filter_map(|outer| directory.namespace(&namespace_of(outer)));
        for adapter in main.into_iter().chain(others) {
            self.room(&adapter, &rooms, |interest| interest.wants(draft.channels, scope, &draft.facts));
        }
    }

    fn targets(&mut self, scope: &Scope, targets: &Targets) {
        let directory = self.directory;
        let belongs = |interest: &Interest| interest.belongs_to(scope);
        let users = targets.users.iter().map(|user| user_room(&scope.organization, user));
        let listed = targets.rooms.iter().filter(|room| !room.starts_with("implicit:")).cloned();
        let rooms: Vec<Room> = users.chain(listed).map(|name| Room { name, decides: false }).collect();
        let mut named: Vec<Arc<Recipient>> = Vec::new();
        for id in targets.sockets.iter().chain(&targets.rooms) {
            named.extend(directory.recipient(id));
        }
        for adapter in directory.namespaces_of(&scope.organization) {
            self.room(&adapter, &rooms, belongs);
        }
        self.each(&named, belongs);
    }

    /// Recipients of any namespaces, with the entry rendered once for each namespace.
    fn each(&mut self, recipients: &[Arc<Recipient>], wants: impl Fn(&Interest) -> bool) {
        let mut rendered: HashMap<&str, Rendered<'_>> = HashMap::new();
        for recipient in recipients {
            let namespace = recipient.namespace();
            let rendered =
                rendered.entry(namespace).or_insert_with(|| Rendered::new(self.entry, namespace, self.directory));
            self.offer(rendered, recipient, &wants);
        }
    }

    fn room(&mut self, adapter: &Arc<RoomAdapter>, rooms: &[Room], wants: impl Fn(&Interest) -> bool) {
        let rendered = Rendered::new(self.entry, adapter.namespace(), self.directory);
        let draft = &self.entry.draft;
        let simple = !self.listed && !draft.explains && draft.except.is_empty();
        for room in rooms {
            if let Some(explanation) = &mut self.delivered.explanation
                && let members @ 1.. = adapter.rooms().count(&room.name)
            {
                explanation.rooms.insert((adapter.namespace().to_owned(), room.name.clone()), members);
            }
            let decides = room.decides && simple;
            let mut others = Vec::new();
            adapter.rooms().each(&room.name, |recipient| match recipient.unfiltered() {
                // What it wants need not be looked at, which in a large room is most of the work.
                Some(forms) if decides => self.pass(&rendered, recipient, forms),
                _ => others.push(recipient.clone()),
            });
            for recipient in others {
                self.offer(&rendered, &recipient, &wants);
            }
        }
    }

    fn pass(&mut self, rendered: &Rendered<'_>, recipient: &Recipient, forms: Forms) {
        if recipient.knows_rendered(rendered)
            && recipient.mark(self.delivery)
            && recipient.send(rendered, forms, &mut self.handover)
        {
            self.delivered.recipients += 1;
        }
    }

    fn offer(&mut self, rendered: &Rendered<'_>, recipient: &Recipient, wants: impl Fn(&Interest) -> bool) {
        let draft = &self.entry.draft;
        let interest = recipient.interest();
        if !wants(&interest) || !recipient.knows_rendered(rendered) {
            if let Some(explanation) = &mut self.delivered.explanation {
                explanation.filtered.insert(recipient.id.to_string());
            }
            return;
        }
        if !recipient.mark(self.delivery) {
            return;
        }
        let forms = interest.forms;
        let user = self.listed.then(|| interest.lasting_user().cloned());
        drop(interest);
        if draft.except.iter().any(|id| id == recipient.id.as_str()) {
            if let Some(explanation) = &mut self.delivered.explanation {
                explanation.excepted.insert(recipient.id.to_string());
            }
            return;
        }
        if !recipient.send(rendered, forms, &mut self.handover) {
            self.delivered.refused.extend(user.flatten());
            return;
        }
        if let Some(explanation) = &mut self.delivered.explanation {
            explanation.filtered.remove(recipient.id.as_str());
        }
        self.delivered.recipients += 1;
        if let Some(user) = user {
            self.delivered.reached.push((recipient.id.clone(), user));
        }
    }
}
