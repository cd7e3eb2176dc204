//! Stopping: clients are told, what is under way ends, and clients come back elsewhere.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::start::Server;
use crate::hub::{MAX_TARGETS, Publication, Target};
use crate::rooms::{Id, ScopeFields};
use crate::session::saved_at;

/// How long tasks have to end when the grace period is used up.
pub(super) const LAST: Duration = Duration::from_millis(500);

impl Server {
    /// Stops within the grace period: nobody new is let in, `system:maintenance` goes out, transports
    /// close without a Socket.IO DISCONNECT so that clients reconnect by themselves, every task ends.
    pub async fn stop(self) {
        let grace = Duration::from_millis(self.doors.config.server.shutdown_grace_ms);
        let begun = Instant::now();
        self.doors.stop();
        if tokio::time::timeout(grace, self.send_away()).await.is_err() {
            tracing::warn!("the grace period is over before everything has ended");
        }
        self.closing.cancel();
        self.doors.close_tunnels();
        for connection in self.doors.polling_connections() {
            connection.cut();
        }
        self.stopping.cancel();
        self.tasks.close();
        if tokio::time::timeout(grace.saturating_sub(begun.elapsed()).max(LAST), self.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = self.tasks.len(), "some tasks did not end");
        }
        self.doors.sessions.end_all();
        if let Some(path) = saved_at(&self.doors.config) {
            self.doors.sessions.save(&path);
        }
        self.doors.sessions.share_all().await;
        self.register.save();
        self.doors.hub.close();
        if let Some(redis) = self.doors.cluster.redis() {
            redis.close().await;
        }
    }

    async fn send_away(&self) {
        self.announce().await;
        self.doors.sessions.retire_all();
        // Clients on polling still have to fetch what waits for them, so the listener stays until then.
        self.doors.sessions.emptied().await;
    }

    async fn announce(&self) {
        let hub = &self.doors.hub;
        let Ok(payload) = to_raw_value(&json!({ "message": "Server shutting down" })) else { return };
        let publication = || Publication::new("system:maintenance", payload.clone(), ScopeFields::default());
        let publications = match self.doors.cluster.redis() {
            None => vec![publication()],
            // What everybody hears would be heard on the nodes that stay.
            Some(_) => self.own_targets().map(|target| Publication { target, ..publication() }).collect(),
        };
        let telling = publications.into_iter().map(async |publication| {
            let mut draft = hub.draft(publication)?;
            // Whoever comes back to the next process need not hear of it.
            draft.fleeting = true;
            hub.publish(draft).await
        });
        if let Some(error) = join_all(telling).await.into_iter().find_map(Result::err) {
            tracing::warn!(%error, "clients could not be told");
        }
    }

    /// The sockets of this node, by organization.
    fn own_targets(&self) -> impl Iterator<Item = Target> {
        let mut sockets: HashMap<Id, Vec<String>> = HashMap::new();
        for recipient in self.doors.directory.recipients() {
            if let Some((organization, _)) = &recipient.interest().identity {
                sockets.entry(organization.clone()).or_default().push(recipient.id.as_str().to_owned());
            }
        }
        sockets.into_iter().flat_map(|(organization, sockets)| {
            let scope =
                ScopeFields { organization_id: Some(organization.as_str().to_owned()), ..ScopeFields::default() };
            let target = move |ids: &[String]| Target {
                scope: scope.clone(),
                socket_ids: Some(ids.to_vec()),
                ..Target::default()
            };
            sockets.chunks(MAX_TARGETS).map(target).collect::<Vec<_>>()
        })
    }
}
