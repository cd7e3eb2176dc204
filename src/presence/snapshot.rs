//! Tells a socket that begins to listen who is there.
//!
//! It is told what was announced last, while the book is locked: what is
//! announced after that reaches it as an entry, since it is in the room by
//! then. So it misses no change.

use std::sync::Arc;

use super::announce::{CHANNEL, EVENT, payload};
use super::book::Shown;
use super::presence::Presence;
use super::sharing::Sharing;
use crate::delivery::{Interest, Recipient};
use crate::events::Facts;
use crate::rooms::{Id, Scope};
use crate::wire::now_ms;

/// Users that a socket is told at once, so that they do not fill its queue, and altogether.
const PAGE: usize = 100;
const MOST: usize = 1_000;

/// How far a socket has been told.
#[derive(Debug)]
struct Progress {
    organization: Id,
    /// The last user that was looked at.
    after: Option<Id>,
    left: usize,
    /// Those who are gone since then are told too.
    gone_since_ms: Option<i64>,
}

impl Presence {
    /// Tells a socket who is there, if it begins to listen to that by this interest.
    pub fn tell(self: &Arc<Self>, recipient: &Arc<Recipient>, interest: &Interest) {
        self.begin(recipient, interest, None);
    }

    /// Tells a socket that is let in the same; one that takes its session up again is also told who went meanwhile.
    pub fn tell_entered(self: &Arc<Self>, recipient: &Arc<Recipient>, is_back: bool) {
        let listens = Some(recipient.interest()).filter(|interest| self.is_heard_by(interest)).map(|it| it.clone());
        let Some(listens) = listens else { return };
        let gone_since_ms = is_back.then(|| self.now().saturating_sub(self.recoverable_ms));
        self.begin(recipient, &listens, gone_since_ms);
    }

    fn begin(self: &Arc<Self>, recipient: &Arc<Recipient>, interest: &Interest, gone_since_ms: Option<i64>) {
        let Some((organization, _)) = interest.identity.as_ref().filter(|_| self.is_on()) else { return };
        if !self.is_heard_by(interest) {
            return;
        }
        let progress = Progress { organization: organization.clone(), after: None, left: MOST, gone_since_ms };
        let is_informed = self.sharing.as_ref().is_none_or(Sharing::is_informed);
        let left = if is_informed { self.tell_page(recipient, interest, progress) } else { Some(progress) };
        let Some(progress) = left else { return };
        let (presence, recipient, interest) = (self.clone(), recipient.clone(), interest.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = presence.tell_rest(&recipient, &interest, progress) => {}
                () = presence.stopping.cancelled() => {}
            }
        });
    }

    /// Tells the rest, no faster than the client takes it and as long as it listens.
    async fn tell_rest(&self, recipient: &Arc<Recipient>, interest: &Interest, mut progress: Progress) {
        if let Some(sharing) = &self.sharing {
            sharing.informed().await;
        }
        while recipient.connection.caught_up().await
            && self.directory.recipient(recipient.id.as_str()).is_some()
            && self.is_heard_by(&recipient.interest())
        {
            let Some(next) = self.tell_page(recipient, interest, progress) else { return };
            progress = next;
        }
    }

    /// Tells some; what comes next, if anything does.
    fn tell_page(&self, recipient: &Recipient, interest: &Interest, progress: Progress) -> Option<Progress> {
        let event = self.hub.catalogue.event(EVENT)?;
        let Progress { organization, after, left, gone_since_ms } = progress;
        let scope = Scope::organization(organization.clone());
        // Held until it is told: what is announced next must not come before.
        let book = self.lock();
        let users = book.announced(&organization, after.as_ref(), gone_since_ms, self.now());
        let page: Vec<Shown> = users.take(PAGE.min(left)).collect();
        for shown in &page {
            let payload = payload(shown);
            if interest.wants(event.channels, &scope, &Facts::read(payload.get())) {
                recipient.tell(event, &scope, &payload, now_ms());
            }
        }
        let left = left - page.len();
        let after = page.last().filter(|_| page.len() == PAGE && left > 0)?.user.clone();
        Some(Progress { organization, after: Some(after), left, gone_since_ms })
    }

    fn is_heard_by(&self, interest: &Interest) -> bool {
        let channel = self.hub.catalogue.channel(CHANNEL);
        channel.is_some_and(|channel| interest.listens_to(channel))
    }
}
