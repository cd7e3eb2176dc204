//! How much the server holds: what it says of itself, and what the operating system says of its process.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::api::Api;
use crate::cli::bench::process::Process;

/// How much a server holds at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Level {
    /// Connections, by the count of its seats.
    pub(super) connections: u64,
    /// Sockets.
    pub(super) sockets: u64,
    /// Rooms with members.
    pub(super) rooms: u64,
    /// Open files of its process.
    pub(super) open_files: u64,
    /// Threads of its process.
    pub(super) threads: u64,
    /// Resident memory of its process.
    pub(super) rss_kb: u64,
}

impl Level {
    /// Looks.
    ///
    /// # Errors
    /// If the server does not answer, or has ended.
    pub(super) async fn look(api: &Api, process: &Process) -> Result<Self> {
        // Looked at first: the connections of the calls below are files too.
        let (open_files, threads, rss_kb) = (process.open_files()?, process.threads()?, process.rss_kb()?);
        let stats = api.get("/api/ws/stats").await?;
        let count = |value: &Value| value.as_u64().context("the server's count is no number");
        let connections = count(&stats["stats"]["total_connections"])?;
        let sockets = count(&api.get("/api/ws/connections?limit=1").await?["total_count"])?;
        let rooms = count(&api.get("/api/ws/rooms").await?["total_count"])?;
        Ok(Self { connections, sockets, rooms, open_files, threads, rss_kb })
    }

    /// What is more than at the start, in words; memory may be more by `kept_kb`.
    pub(super) fn beyond(&self, start: &Self, kept_kb: u64) -> Vec<String> {
        let counts = [
            ("connections", self.connections, start.connections),
            ("sockets", self.sockets, start.sockets),
            ("rooms", self.rooms, start.rooms),
            ("open files", self.open_files, start.open_files),
            ("threads", self.threads, start.threads),
            ("kB of memory", self.rss_kb, start.rss_kb + kept_kb),
        ];
        let more = counts.into_iter().filter(|(_, now, most)| now > most);
        more.map(|(what, now, most)| format!("{now} {what} instead of {most}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_is_named() {
        let start = Level { connections: 5, sockets: 5, rooms: 2, open_files: 20, threads: 4, rss_kb: 10_000 };
        assert!(start.beyond(&start, 0).is_empty());
        let end = Level { connections: 6, rss_kb: 10_100, ..start };
        assert_eq!(end.beyond(&start, 100), ["6 connections instead of 5"]);
        assert_eq!(end.beyond(&start, 99).len(), 2);
    }
}
