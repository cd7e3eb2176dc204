//! The kinds of attack.

use clap::ValueEnum;
use serde::Serialize;

use super::{attacker::Attacker, connects, drips, frames, idlers, members, polls, strangers, tally::End};

/// A kind of attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The head of a request, byte by byte, without an end.
    HeadDrip,
    /// The body of a POST on polling, byte by byte.
    PollBodyDrip,
    /// The body of a POST to the HTTP API, byte by byte.
    ApiBodyDrip,
    /// The upgrade to a plain door, byte by byte.
    UpgradeDrip,
    /// Sessions on polling, opened one after another, that never CONNECT.
    HalfOpenPolling,
    /// WebSockets that never CONNECT.
    HalfOpenWebsocket,
    /// Sockets that CONNECT and never authenticate.
    Silent,
    /// CONNECTs for ever new namespaces.
    Namespaces,
    /// CONNECTs for the main namespace, again and again.
    Reconnects,
    /// Subscriptions and their ends, of a user of another organization.
    Subscriptions,
    /// Acknowledgements that nobody asked for, as events and as packets.
    Acks,
    /// Frames over every limit.
    Oversized,
    /// Small compressed messages that are large ones.
    Bombs,
    /// Frames against the protocol, and text that is no UTF-8.
    InvalidFrames,
    /// Binary events whose attachments never come.
    Placeholders,
    /// Polls whose answers are not read.
    UnreadPolls,
    /// Many polls of one session at once.
    ManyPolls,
    /// Subscribers that read nothing, and ask for answers.
    Deaf,
    /// Connections that come and go.
    Churn,
    /// Tokens that are none.
    Tokens,
    /// API keys that are none.
    Keys,
}

impl Kind {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// Whether it is an attack not to read what one is sent.
    pub(crate) fn reads_nothing(self) -> bool {
        matches!(self, Self::Deaf | Self::UnreadPolls)
    }

    /// Its name, as it is typed.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Attacks on one connection, until that ends.
    pub(super) async fn attack(self, attacker: &Attacker) -> Result<(), End> {
        match self {
            Self::HeadDrip => drips::head(attacker).await,
            Self::PollBodyDrip => drips::poll_body(attacker).await,
            Self::ApiBodyDrip => drips::api_body(attacker).await,
            Self::UpgradeDrip => drips::upgrade(attacker).await,
            Self::HalfOpenPolling => idlers::polling(attacker).await,
            Self::HalfOpenWebsocket => idlers::websocket(attacker).await,
            Self::Silent => idlers::silent(attacker).await,
            Self::Namespaces => connects::namespaces(attacker).await,
            Self::Reconnects => connects::again(attacker).await,
            Self::Subscriptions => members::subscriptions(attacker).await,
            Self::Acks => members::acks(attacker).await,
            Self::Oversized => frames::oversized(attacker).await,
            Self::Bombs => frames::bombs(attacker).await,
            Self::InvalidFrames => frames::invalid(attacker).await,
            Self::Placeholders => frames::placeholders(attacker).await,
            Self::UnreadPolls => polls::unread(attacker).await,
            Self::ManyPolls => polls::many(attacker).await,
            Self::Deaf => members::deaf(attacker).await,
            Self::Churn => strangers::churn(attacker).await,
            Self::Tokens => strangers::tokens(attacker).await,
            Self::Keys => strangers::keys(attacker).await,
        }
    }
}
