//! The server that is flooded: its configuration, its key, and the tokens of everybody.

use anyhow::{Context, Result};
use serde_json::json;
use tiercast::auth::hash_key;

use super::{api::Api, args::Args};
use crate::cli::{Failure, bench::requests, key::fresh_key};

/// Organization of the honest clients.
pub(super) const HONEST: &str = "org_honest";
/// Organization of those attackers that have a token.
pub(super) const HOSTILE: &str = "org_hostile";
/// Organization of those of them that are sent events, and do not read.
pub(super) const DEAF: &str = "org_deaf";
/// Paths of the plain doors.
pub(super) const PLAIN_PATHS: [&str; 5] = ["/", "/ws/{client_id}", "/ws/checkins", "/events/ws", "/ws"];

/// Tokens of the attackers.
pub(super) struct Tokens {
    /// Of most of them.
    pub(super) hostile: String,
    /// Of those that are sent events.
    pub(super) deaf: String,
}

/// What all who take part need to get in.
pub(super) struct Secrets {
    /// The key of the HTTP API, which may do everything.
    pub(super) key: String,
    /// What tokens are signed with.
    secret: String,
}

impl Secrets {
    /// New ones.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(super) fn fresh() -> Result<Self, Failure> {
        Ok(Self { key: fresh_key()?, secret: fresh_key()? })
    }

    /// The configuration of a server on the internet with all doors open: room for everybody who comes, so that the
    /// flood meets more than a full house, and times that are short enough for a run.
    pub(super) fn config(&self, args: &Args) -> String {
        let Self { key, secret } = self;
        let (total, organization) = (args.clients + args.hostile + 500, args.clients + 50);
        let hash = hash_key(key);
        format!(
            "\
[server]
header_timeout_ms = 5000

[auth]
mode = \"jwt\"
auth_timeout_ms = 5000

[auth.jwt]
secret = \"{secret}\"

[limits]
max_connections_total = {total}
max_connections_per_org = {organization}
max_connects_per_second = 500
room_max_size = {organization}
room_cleanup_interval_ms = 1000
connect_timeout_ms = 5000

[heartbeat]
ping_interval_ms = 5000
ping_timeout_ms = 10000

[outbox]
soft_limit_bytes = 262144
hard_limit_bytes = 1048576
write_stall_timeout_ms = 5000

[recovery]
max_disconnection_ms = 10000

[presence]
grace_ms = 1000

[doors.workmatrix]
enabled = true
organization = \"workmatrix\"
identity = \"token\"

[doors.dexter]
enabled = true
organization = \"dexter\"
anonymous_channels = [\"issues\", \"alerts\"]

[doors.gym]
enabled = true
organization = \"gym\"

[doors.apier]
enabled = true
organization = \"apier\"

[[api.keys]]
name = \"flood\"
hash = \"{hash}\"
rights = [\"publish\", \"read\", \"admin\"]

[logging]
level = \"error\"
log_connection_events = false
log_subscription_events = false
audit = false
"
        )
    }
}

/// The token of a user.
///
/// # Errors
/// If the server makes none.
pub(super) async fn token(api: &Api, user: &str, organization: &str) -> Result<String> {
    let asked = json!({ "user_id": user, "organization_id": organization });
    let made = api.post("/api/ws/token", &asked).await.context("cannot get a token")?;
    Ok(made["token"].as_str().context("the server made no token")?.to_owned())
}

/// The tokens of so many honest clients.
///
/// # Errors
/// If the server makes none.
pub(super) async fn tokens(api: &Api, clients: usize) -> Result<Vec<String>> {
    let mut tokens = Vec::with_capacity(clients);
    for index in 0..clients {
        tokens.push(token(api, &requests::user(index), HONEST).await?);
    }
    Ok(tokens)
}
