//! Draining: a server that is to stop says so, lets nobody new in, and sends its clients away little by little.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::CancellationToken;

/// How far a server is with it.
#[derive(Debug, Default)]
pub(super) struct Draining {
    begun: CancellationToken,
    refuses: AtomicBool,
}

impl Draining {
    /// It begins; false if it had begun before.
    pub(super) fn begin(&self) -> bool {
        let begins = !self.has_begun();
        self.begun.cancel();
        begins
    }

    pub(super) fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Waits until it begins.
    pub(super) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// From now on handshakes are refused.
    pub(super) fn refuse(&self) {
        self.refuses.store(true, Ordering::SeqCst);
    }

    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::SeqCst)
    }
}
