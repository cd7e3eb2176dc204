//! Users as backend services see them.

use serde::{Deserialize, Serialize};

use super::book::Shown;
use super::presence::Presence;
use super::status::Status;
use crate::events::ChannelMask;
use crate::rooms::{Id, user_room};
use crate::wire::{WireError, iso};

/// Users that are looked at before others may change the book.
const PORTION: usize = 64;

/// Which users are listed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// This one only.
    pub user: Option<&'a str>,
    /// Those with a socket that receives this channel.
    pub channel: Option<&'a str>,
    /// Those who are offline too; one that is asked for is listed anyway.
    pub with_offline: bool,
    /// Those behind this user.
    pub after: Option<&'a str>,
    /// So many.
    pub limit: usize,
}

/// A page of users.
#[derive(Debug)]
pub struct Listing {
    /// By id.
    pub users: Vec<UserView>,
    /// How many there are on all pages.
    pub total: usize,
    /// Whether more follow.
    pub more: bool,
}

/// One user in a listing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserView {
    /// The user.
    pub user_id: Id,
    /// The strongest status of the user's sockets.
    pub status: Status,
    /// When the user was last there.
    pub last_seen: String,
    /// How many sockets the user has.
    pub sockets: u32,
    /// The channels that they are subscribed to by name.
    pub channels: Vec<String>,
}

impl UserView {
    /// The same user, with the sockets of another node.
    pub fn join(&mut self, other: Self) {
        self.status = self.status.max(other.status);
        self.sockets += other.sockets;
        // The same form makes the later time the greater text.
        self.last_seen = std::mem::take(&mut self.last_seen).max(other.last_seen);
        let new: Vec<String> = other.channels.into_iter().filter(|name| !self.channels.contains(name)).collect();
        self.channels.extend(new);
    }
}

impl Presence {
    /// The users of an organization.
    ///
    /// # Errors
    /// If the channel is not known, or a user is named who cannot be one.
    pub fn list(&self, organization: &Id, filter: &Filter<'_>) -> Result<Listing, WireError> {
        let (mut found, total) = self.find(organization, filter)?;
        let more = found.len() > filter.limit;
        found.truncate(filter.limit);
        let users = found.into_iter().map(|shown| self.view(organization, shown)).collect();
        Ok(Listing { users, total, more })
    }

    /// Only who they are, on all pages.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub fn who(&self, organization: &Id, filter: &Filter<'_>) -> Result<Vec<Id>, WireError> {
        let all = Filter { after: None, limit: usize::MAX - 1, ..*filter };
        Ok(self.find(organization, &all)?.0.into_iter().map(|shown| shown.user).collect())
    }

    /// One more user than a page has, if there are so many, and how many there are on all pages.
    fn find(&self, organization: &Id, filter: &Filter<'_>) -> Result<(Vec<Shown>, usize), WireError> {
        let audience = |name: &str| {
            let unknown = || WireError::UnknownChannel(name.chars().take(64).collect());
            self.hub.catalogue.audience_of(name).ok_or_else(unknown)
        };
        let channel = filter.channel.map(audience).transpose()?;
        let id = |name, text| Id::parse(text).map_err(|error| WireError::malformed(name, &error));
        let user = filter.user.map(|user| id("user_id", user)).transpose()?;
        let after = filter.after.filter(|after| !after.is_empty()).map(|after| id("cursor", after)).transpose()?;
        // One more than there is room for tells that more follow.
        Ok(match (user, channel) {
            (Some(user), channel) => {
                let shown = self.lock().user(organization, &user, self.now());
                let listed =
                    shown.filter(|_| channel.is_none_or(|channel| self.receives(organization, &user, channel)));
                let total = usize::from(listed.is_some());
                (listed.into_iter().filter(|shown| Some(&shown.user) > after.as_ref()).collect(), total)
            }
            (None, None) => {
                let (book, now) = (self.lock(), self.now());
                let users = book.users(organization, after.as_ref(), filter.with_offline, now);
                (users.take(filter.limit + 1).collect(), book.count(organization, filter.with_offline, now))
            }
            (None, Some(channel)) => self.receivers(organization, channel, filter, after.as_ref()),
        })
    }

    /// Some users, as far as they are known.
    pub fn views(&self, organization: &Id, users: &[Id]) -> Vec<UserView> {
        let shown = |user: &Id| self.lock().user(organization, user, self.now());
        users.iter().filter_map(shown).map(|shown| self.view(organization, shown)).collect()
    }

    /// Users who receive any of these channels: one more than a page of those behind one, and how many there are.
    fn receivers(
        &self,
        organization: &Id,
        channels: ChannelMask,
        filter: &Filter<'_>,
        after: Option<&Id>,
    ) -> (Vec<Shown>, usize) {
        let (mut found, mut total, mut last) = (Vec::new(), 0, None::<Id>);
        loop {
            // The book is not locked while the directory is asked.
            let users: Vec<Shown> = {
                let book = self.lock();
                book.users(organization, last.as_ref(), filter.with_offline, self.now()).take(PORTION).collect()
            };
            last = users.last().filter(|_| users.len() == PORTION).map(|shown| shown.user.clone());
            for shown in users {
                if self.receives(organization, &shown.user, channels) {
                    total += 1;
                    if found.len() <= filter.limit && Some(&shown.user) > after {
                        found.push(shown);
                    }
                }
            }
            if last.is_none() {
                return (found, total);
            }
        }
    }

    /// Whether a socket of a user receives any of these channels.
    fn receives(&self, organization: &Id, user: &Id, channels: ChannelMask) -> bool {
        let sockets = self.directory.members(&user_room(organization, user));
        sockets.iter().any(|socket| socket.interest().listens_to(channels))
    }

    fn view(&self, organization: &Id, shown: Shown) -> UserView {
        let sockets = self.directory.members(&user_room(organization, &shown.user));
        let channels = sockets.iter().fold(ChannelMask::NONE, |channels, socket| {
            let interest = socket.interest();
            interest.subscriptions.iter().fold(channels, |channels, subscription| channels.with(subscription.channels))
        });
        UserView {
            status: shown.status,
            last_seen: iso(shown.seen_at_ms),
            sockets: shown.sockets,
            channels: self.hub.catalogue.names(channels).map(str::to_owned).collect(),
            user_id: shown.user,
        }
    }
}
