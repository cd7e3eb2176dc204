//! The record of a run while it goes on: what clients and publishers write down, and how far they are.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::history::{Event, History, Life, List, Loss, Member, Place, Publication, Room};
use crate::cli::bench::clock::Clock;

/// What everybody writes to; all of a run is on one thread.
pub(super) struct Record {
    /// The clock that times are counted on.
    pub(super) clock: Clock,
    members: Vec<RefCell<Diary>>,
    publications: RefCell<Vec<Publication>>,
    lives: RefCell<Vec<Life>>,
    losses: RefCell<Vec<Loss>>,
}

/// What one client writes down.
#[derive(Debug)]
pub(super) struct Diary {
    member: Member,
    is_online: bool,
    last: Option<Place>,
}

impl Record {
    /// A record of clients that subscribe to these rooms.
    pub(super) fn new(clock: Clock, rooms: &[Room]) -> Rc<Self> {
        let member = |(client, room): (usize, &Room)| Member { client, room: *room, lists: Vec::new() };
        let diary = |member| RefCell::new(Diary { member, is_online: false, last: None });
        Rc::new(Self {
            clock,
            members: rooms.iter().enumerate().map(member).map(diary).collect(),
            publications: RefCell::default(),
            lives: RefCell::default(),
            losses: RefCell::default(),
        })
    }

    /// What a client subscribes to.
    pub(super) fn room(&self, client: usize) -> Room {
        self.diary(client, |diary| diary.member.room)
    }

    /// A client is let in, on a session that goes on or on a new one.
    pub(super) fn connected(&self, client: usize, recovered: bool) {
        let began = self.clock.now();
        self.diary(client, |diary| {
            if !recovered {
                diary.member.lists.push(List { began, ..List::default() });
            }
        });
    }

    /// The client's subscription begins behind this place.
    pub(super) fn subscribed(&self, client: usize, since: Place) {
        self.diary(client, |diary| {
            if let Some(list) = diary.member.lists.last_mut() {
                list.since.get_or_insert(since);
            }
            // Before the first event of a subscription it has what lies in front of it.
            diary.last = diary.last.max(Some(since));
        });
    }

    /// The client is subscribed and connected, or it is not.
    pub(super) fn online(&self, client: usize, is_online: bool) {
        self.diary(client, |diary| diary.is_online = is_online);
    }

    /// A client has received something.
    pub(super) fn received(&self, client: usize, event: Event, place: Place) {
        self.diary(client, |diary| {
            if let Some(list) = diary.member.lists.last_mut() {
                list.received.push((event, place));
            }
            diary.last = diary.last.max(Some(place));
        });
    }

    /// Something is about to be published; what it is called is for [`acknowledged`](Self::acknowledged).
    pub(super) fn published(&self, event: Event, room: Room) -> usize {
        let mut publications = self.publications.borrow_mut();
        publications.push(Publication { event, room, acknowledged: None });
        publications.len() - 1
    }

    /// It was answered with 200.
    pub(super) fn acknowledged(&self, publication: usize, place: Place) {
        self.publications.borrow_mut()[publication].acknowledged = Some((place, self.clock.now()));
    }

    /// Redis has lost something just now, which some node could not read since a time, if there was one.
    pub(super) fn lost(&self, unread_since: Option<u64>) {
        let at = self.clock.now();
        let unread_since = unread_since.unwrap_or(at);
        self.losses.borrow_mut().push(Loss { at, unread_since, until: u64::MAX });
    }

    /// Everybody is back, so nothing that happens from now on is because of what was lost.
    pub(super) fn settled(&self) {
        let now = self.clock.now();
        self.losses.borrow_mut().iter_mut().for_each(|loss| loss.until = loss.until.min(now));
    }

    /// The place that a position means: `<epoch>.<offset>`, with `.<form>` in frames.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn place(&self, position: &str) -> Result<Place> {
        let mut parts = position.split('.');
        let (name, offset) = (parts.next().unwrap_or_default(), parts.next().and_then(|offset| offset.parse().ok()));
        let offset = offset.with_context(|| format!("{position:?} is no position"))?;
        let mut lives = self.lives.borrow_mut();
        let known = lives.iter().position(|life| life.name == name);
        let life = known.unwrap_or_else(|| {
            lives.push(Life { name: name.to_owned(), seen: self.clock.now() });
            lives.len() - 1
        });
        Ok(Place { life, offset })
    }

    /// How many publications were answered with 200, out of how many.
    pub(super) fn answered(&self) -> (usize, usize) {
        let publications = self.publications.borrow();
        (publications.iter().filter(|sent| sent.acknowledged.is_some()).count(), publications.len())
    }

    /// How many deliveries there were, how many sessions went on, and how many began anew.
    pub(super) fn sessions(&self) -> (usize, usize) {
        let mut sum = (0, 0);
        for client in 0..self.members.len() {
            self.diary(client, |diary| {
                sum.0 += diary.member.lists.iter().map(|list| list.received.len()).sum::<usize>();
                sum.1 += diary.member.lists.len().saturating_sub(1);
            });
        }
        sum
    }

    /// The clients that are not connected, or have not come as far as what was answered.
    pub(super) fn behind(&self) -> Vec<String> {
        let publications = self.publications.borrow();
        let mut behind = Vec::new();
        for client in 0..self.members.len() {
            self.diary(client, |diary| {
                let heard = publications.iter().filter(|sent| diary.member.room.hears(sent.room));
                let newest = heard.filter_map(|sent| Some((sent.acknowledged?.0, sent.event))).max();
                if !diary.is_online {
                    behind.push(format!("client {client} is not connected"));
                } else if let Some((place, event)) = newest.filter(|(place, _)| diary.last < Some(*place)) {
                    let at = format!("{}.{}", self.lives.borrow()[place.life].name, place.offset);
                    behind.push(format!("client {client} has not received {event}, at {at}"));
                }
            });
        }
        behind
    }

    /// How many clients of an organization are connected.
    pub(super) fn online_in(&self, organization: usize) -> usize {
        let is_one = |diary: &mut Diary| diary.is_online && diary.member.room.organization == organization;
        (0..self.members.len()).filter(|client| self.diary(*client, is_one)).count()
    }

    /// All that was written down.
    pub(super) fn history(&self) -> History {
        History {
            publications: self.publications.borrow().clone(),
            members: (0..self.members.len()).map(|client| self.diary(client, |diary| diary.member.clone())).collect(),
            lives: self.lives.borrow().clone(),
            losses: self.losses.borrow().clone(),
        }
    }

    fn diary<T>(&self, client: usize, then: impl FnOnce(&mut Diary) -> T) -> T {
        then(&mut self.members[client].borrow_mut())
    }
}
