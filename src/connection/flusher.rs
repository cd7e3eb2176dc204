//! Flushers: a few tasks that write what waits for all connections.
//!
//! A connection that would block leaves its flusher, and comes back when the
//! kernel can take more; one that stays blocked too long is cut.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::connection::Connection;
use super::plane::Plane;

/// Connections written to before other tasks get their turn.
const CHUNK: usize = 32;

/// The connections that one task has to write to.
#[derive(Debug, Default)]
pub(super) struct Flusher {
    list: Mutex<Vec<Arc<Connection>>>,
    added: Notify,
}

impl Flusher {
    /// Has a connection written to; whoever calls holds its right to be scheduled.
    pub(super) fn add(&self, connection: Arc<Connection>) {
        let first = {
            let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
            list.push(connection);
            list.len() == 1
        };
        if first {
            self.added.notify_one();
        }
    }

    fn take(&self, into: &mut Vec<Arc<Connection>>) {
        std::mem::swap(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner), into);
    }
}

/// Writes until `stopping` is cancelled.
pub(super) async fn run(flusher: Arc<Flusher>, stopping: CancellationToken) {
    let mut connections = Vec::new();
    loop {
        tokio::select! {
            () = flusher.added.notified() => {}
            () = stopping.cancelled() => return,
        }
        flusher.take(&mut connections);
        for (index, connection) in connections.drain(..).enumerate() {
            connection.flush();
            if index % CHUNK == CHUNK - 1 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Cuts readers that take nothing for too long, until `stopping` is cancelled.
pub(super) async fn watch(plane: Arc<Plane>, stopping: CancellationToken) {
    let timeout = plane.settings.write_stall_timeout;
    let mut tick = tokio::time::interval((timeout / 8).clamp(Duration::from_millis(10), Duration::from_secs(1)));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopping.cancelled() => return plane.lock_blocked().clear(),
        }
        let blocked: Vec<_> = plane.lock_blocked().values().cloned().collect();
        for connection in blocked.into_iter().filter(|connection| connection.stalled_for(timeout)) {
            plane.counters.stalled();
            connection.cut();
        }
    }
}
