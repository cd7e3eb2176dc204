//! Waiting for what is due next, of those who announce things at their time.

use std::time::Duration;

use tokio::sync::Notify;

/// Waits until a time, in milliseconds on the clock that says it is `now`, or until something is due `sooner`; for ever
/// if nothing is due.
pub async fn until(at: Option<i64>, now: i64, sooner: &Notify) {
    let deadline = async {
        match at.map(|at| u64::try_from(at.saturating_sub(now)).unwrap_or_default()) {
            Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = deadline => {}
        () = sooner.notified() => {}
    }
}
