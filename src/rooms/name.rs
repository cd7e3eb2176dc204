//! Names of rooms: `{channel}:org:{o}[:dept:{d}][:queue:{q}]` and its kin.

use std::fmt;

use super::id::Id;
use super::scope::Scope;

/// The room of a channel at a scope: `kpi:org:o:dept:d`.
pub fn channel_room(channel: &str, scope: &Scope) -> String {
    let mut name = String::with_capacity(64);
    name.push_str(channel);
    name.push(':');
    scope.join_onto(&mut name, ':');
    name
}

/// The room of a scope: `org:o:queue:q`.
pub fn scope_room(scope: &Scope) -> String {
    scope.joined(':')
}

/// The room of a user's sockets: `user:o:u`.
pub fn user_room(organization: &Id, user: &Id) -> String {
    format!("user:{}:{}", organization.encoded(), user.encoded())
}

/// The unlisted room of sockets that receive a scope's events without having asked: `implicit:org:o`.
pub fn implicit_room(scope: &Scope) -> String {
    channel_room("implicit", scope)
}

/// What a room's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoomName {
    /// A channel at a scope.
    Channel(String, Scope),
    /// A scope.
    Scope(Scope),
    /// A user of an organization.
    User(Id, Id),
}

impl RoomName {
    /// Reads a room's name; unlisted rooms and names that are not canonical are none.
    pub fn parse(name: &str) -> Option<Self> {
        let (first, rest) = name.split_once(':')?;
        match first {
            "org" => Scope::split(name, ':').map(Self::Scope),
            "user" => {
                let (organization, user) = rest.split_once(':')?;
                Some(Self::User(Id::decode(organization)?, Id::decode(user)?))
            }
            "implicit" | "" => None,
            channel => Scope::split(rest, ':').map(|scope| Self::Channel(channel.to_owned(), scope)),
        }
    }

    /// The organization whose room it is.
    pub fn organization(&self) -> &Id {
        match self {
            Self::Channel(_, scope) | Self::Scope(scope) => &scope.organization,
            Self::User(organization, _) => organization,
        }
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&match self {
            Self::Channel(channel, scope) => channel_room(channel, scope),
            Self::Scope(scope) => scope_room(scope),
            Self::User(organization, user) => user_room(organization, user),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_as_what_they_were() {
        let id = |text: &str| Id::parse(text).expect("an id");
        let scope = Scope { organization: id("a:b"), department: Some(id("d")), queue: Some(id("q/1")) };
        let room = channel_room("kpi", &scope);
        assert_eq!(room, "kpi:org:a%3Ab:dept:d:queue:q%2F1");
        assert_eq!(RoomName::parse(&room), Some(RoomName::Channel("kpi".into(), scope.clone())));
        assert_eq!(RoomName::parse(&scope_room(&scope)), Some(RoomName::Scope(scope)));
        assert_eq!(RoomName::parse(&user_room(&id("o"), &id("u:1"))), Some(RoomName::User(id("o"), id("u:1"))));
    }

    #[test]
    fn forged_and_unlisted_names_are_none() {
        for name in
            ["org:a:dept:b:dept:c", "org:a:queue:q:dept:d", "implicit:org:a", "org:", "kpi", "user:a:b:c", ":org:a"]
        {
            assert_eq!(RoomName::parse(name), None, "{name}");
        }
    }
}
