//! Tunnels: WebSockets whose sessions live on another node.
//!
//! Bytes go through as they come; frames, heartbeats and bounds are the other node's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio_util::sync::CancellationToken;

use crate::connection::Plane;
use crate::limits::Arrival;

/// How long one direction may go on when the other has ended.
const LINGERING: Duration = Duration::from_secs(2);

/// The tunnels of a node, in the order they were dug.
#[derive(Debug, Default)]
pub(in crate::doors) struct Tunnels {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_number: BTreeMap<u64, CancellationToken>,
}

/// The two streams that become one.
pub(super) struct Ends {
    pub(super) client: OnUpgrade,
    pub(super) node: OnUpgrade,
}

impl Tunnels {
    /// Joins two streams when both are handed over.
    pub(super) fn dig(&self, plane: &Plane, ends: Ends, arrival: Option<Arc<Arrival>>) {
        let closed = CancellationToken::new();
        let place = self.enter(closed.clone());
        plane.spawn(async move {
            let _counts = (place, arrival);
            closed.run_until_cancelled(ends.join()).await;
        });
    }

    /// How many there are.
    pub(in crate::doors) fn count(&self) -> usize {
        self.lock().by_number.len()
    }

    /// Closes the oldest, whose client comes back by itself; false if there is none.
    pub(in crate::doors) fn close_oldest(&self) -> bool {
        let oldest = self.lock().by_number.pop_first();
        oldest.map(|(_, closed)| closed.cancel()).is_some()
    }

    /// Closes all of them.
    pub(in crate::doors) fn close(&self) {
        while self.close_oldest() {}
    }

    fn enter(&self, closed: CancellationToken) -> Place {
        let mut open = self.lock();
        let number = open.next;
        open.next += 1;
        open.by_number.insert(number, closed);
        Place { open: self.open.clone(), number }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A tunnel counts until this is dropped.
struct Place {
    open: Arc<Mutex<Open>>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).by_number.remove(&self.number);
    }
}

impl Ends {
    async fn join(self) {
        let (Ok(client), Ok(node)) = tokio::join!(self.client, self.node) else { return };
        let (from_client, to_client) = split(TokioIo::new(client));
        let (from_node, to_node) = split(TokioIo::new(node));
        let up = pass(from_client, to_node);
        let down = pass(from_node, to_client);
        let (mut up, mut down) = (std::pin::pin!(up), std::pin::pin!(down));
        // Whoever is not there any more does not end its direction either.
        tokio::select! {
            () = &mut up => { tokio::time::timeout(LINGERING, down).await.ok(); }
            () = &mut down => { tokio::time::timeout(LINGERING, up).await.ok(); }
        }
    }
}

/// Passes everything on, and then that nothing more comes.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    copy(&mut from, &mut to).await.ok();
    to.shutdown().await.ok();
}
