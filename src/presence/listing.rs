//! Users as backend services see them.

use serde::Serialize;

use super::book::Shown;
use super::presence::Presence;
use super::status::Status;
use crate::events::ChannelMask;
use crate::rooms::{Id, user_room};
use crate::wire::{WireError, iso};

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
#[derive(Debug, Clone, Serialize)]
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

impl Presence {
    /// The users of an organization.
    ///
    /// # Errors
    /// If the channel is not known.
    pub fn list(&self, organization: &Id, filter: &Filter<'_>) -> Result<Listing, WireError> {
        let audience = |name: &str| {
            let unknown = || WireError::UnknownChannel(name.chars().take(64).collect());
            self.hub.catalogue.audience_of(name).ok_or_else(unknown)
        };
        let channel = filter.channel.map(audience).transpose()?;
        let mut found = self.lock().all(organization, self.now());
        found.retain(|shown| {
            filter.user.is_none_or(|user| user == shown.user.as_str())
                && (shown.status != Status::Offline || filter.with_offline || filter.user.is_some())
                && channel.is_none_or(|channel| self.receives(organization, &shown.user, channel))
        });
        let total = found.len();
        if let Some(after) = filter.after {
            found.retain(|shown| shown.user.as_str() > after);
        }
        let more = found.len() > filter.limit;
        found.truncate(filter.limit);
        let users = found.into_iter().map(|shown| self.view(organization, shown)).collect();
        Ok(Listing { users, total, more })
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
