//! Draining: clients are sent away in even steps, so that the other nodes do not get all of them at once.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::start::Server;
use crate::connection::Connection;
use crate::doors::Doors;

/// Steps that come closer to each other are one.
const STEP: Duration = Duration::from_millis(10);

/// How often the log tells how many are left, over the whole time.
const REPORTS: usize = 10;

impl Server {
    /// Begins to drain: the server is not ready any more, and its clients are sent away over `server.drain_ms`. A
    /// second call does nothing.
    pub fn drain(&self) {
        self.doors.drain();
    }

    /// Waits until everybody has been sent away, whatever began that.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }
}

/// Drains once that begins, and then cancels `drained`; a server that stops meanwhile does the rest itself.
pub(super) async fn run(doors: Arc<Doors>, drained: CancellationToken) {
    let draining = async {
        doors.draining().await;
        let server = &doors.config.server;
        let (notice, over) = (Duration::from_millis(server.drain_notice_ms), Duration::from_millis(server.drain_ms));
        tracing::info!(left = doors.left(), notice_ms = server.drain_notice_ms, over_ms = server.drain_ms, "draining");
        tokio::time::sleep(notice).await;
        doors.refuse();
        // Without a time it is the stop that sends everybody away at once, and tells them.
        if !over.is_zero() {
            send_away(&doors, over).await;
        }
        tracing::info!(left = doors.left(), "drained");
        drained.cancel();
    };
    tokio::select! {
        () = draining => {}
        () = doors.stopped() => {}
    }
}

/// Sends everybody away who is there, the oldest first, then those whose sessions live on other nodes.
async fn send_away(doors: &Doors, over: Duration) {
    let connections: Vec<Weak<Connection>> = doors.sessions.by_age();
    let total = connections.len() + doors.tunnels();
    let mut connections = connections.into_iter();
    let (begun, mut gone, mut reported) = (Instant::now(), 0, 0);
    while gone < total {
        tokio::time::sleep_until((begun + time_of(gone + 1, total, over)).into()).await;
        let due = due(begun.elapsed() + STEP, total, over);
        for _ in gone..due {
            match connections.next() {
                Some(connection) => doors.sessions.send_away(&connection),
                None => doors.close_tunnel(),
            }
        }
        gone = due;
        let tenth = gone * REPORTS / total;
        if std::mem::replace(&mut reported, tenth) != tenth && gone < total {
            tracing::info!(left = doors.left(), "draining");
        }
    }
}

/// When the last of so many goes.
fn time_of(number: usize, total: usize, over: Duration) -> Duration {
    over.mul_f64(number as f64 / total as f64)
}

/// How many have to be gone by then.
fn due(elapsed: Duration, total: usize, over: Duration) -> usize {
    let share = (elapsed.as_secs_f64() / over.as_secs_f64()).min(1.0);
    // What was waited for is due, whatever the division makes of it.
    ((total as f64 * share + 1e-6) as usize).min(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_go_in_each_part_of_the_time() {
        let over = Duration::from_secs(60);
        for total in [1, 3, 7, 600, 50_000] {
            assert_eq!(due(Duration::ZERO, total, over), 0);
            for number in 1..=total {
                assert!(due(time_of(number, total, over), total, over) >= number, "{number} of {total}");
            }
            let by = |tenth: u32| due(over * tenth / 10, total, over);
            for tenth in 1..=10 {
                let gone = by(tenth) - by(tenth - 1);
                assert!(gone.abs_diff(total / 10) <= 1, "{gone} of {total} in a tenth");
            }
            assert_eq!((by(10), by(20)), (total, total));
        }
    }
}
