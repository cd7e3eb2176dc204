//! The shards of the shared log that this node follows: those it has sockets in, and those it is asked about.
//!
//! What comes to a shard that is followed is read at once. The others are read in steps, and up to their end before
//! anybody relies on what is known of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::timeout;

use super::publish::Hub;
use crate::rooms::Id;

/// The time between two readings of a shard that is not followed, which doubles while nothing comes, and the longest:
/// short enough that nothing is dropped meanwhile which was not read.
pub(super) const STEP: Duration = Duration::from_millis(100);
pub(super) const LONGEST_STEP: Duration = Duration::from_millis(400);

/// How long a shard is followed after the last who needed it.
const LINGER: Duration = Duration::from_secs(10);

/// The shards of one node.
#[derive(Debug)]
pub(super) struct Following {
    /// None where this node alone appends, so that there is nothing to read.
    shards: Vec<watch::Sender<State>>,
    /// How long anybody waits for what is there to be read.
    patience: Duration,
}

#[derive(Debug, Default)]
struct State {
    followers: usize,
    /// Until when it is followed without any.
    until: Option<Instant>,
    /// Whether everything is read, as far as is known, and what comes is read at once.
    is_current: bool,
    /// How often whoever reads has looked, and the last look that was followed by reading to the end.
    looks: u64,
    read: u64,
    /// The last look that somebody waits for.
    wanted: u64,
}

impl State {
    fn is_followed(&self) -> bool {
        self.followers > 0 || self.until.is_some_and(|until| Instant::now() < until)
    }
}

/// Has a shard followed as long as it is held, and a while longer.
#[derive(Debug)]
pub struct Follower {
    shard: Option<watch::Sender<State>>,
    /// The look after which what there was has to be read.
    after: u64,
}

impl Follower {
    /// Whether all is read that was there when following began.
    pub fn is_current(&self) -> bool {
        self.shard.as_ref().is_none_or(|shard| shard.borrow().read >= self.after)
    }

    async fn current(&self) {
        if let Some(shard) = &self.shard {
            shard.subscribe().wait_for(|state| state.read >= self.after).await.ok();
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(shard) = &self.shard {
            shard.send_if_modified(|state| {
                state.followers -= 1;
                if state.followers == 0 {
                    state.until = Some(Instant::now() + LINGER);
                }
                false
            });
        }
    }
}

impl Following {
    /// So many shards that nobody follows yet; nobody waits longer for one of them than `patience`.
    pub(super) fn new(shards: usize, patience: Duration) -> Self {
        Self { shards: (0..shards).map(|_| watch::Sender::default()).collect(), patience }
    }

    /// Has a shard followed from now on.
    pub(super) fn follow(&self, shard: usize) -> Follower {
        let mut after = 0;
        let shard = self.shards.get(shard);
        if let Some(shard) = shard {
            shard.send_if_modified(|state| {
                state.followers += 1;
                // What is being read at this moment may not have all.
                if !state.is_current {
                    after = state.looks + 1;
                    state.wanted = after;
                }
                state.followers == 1
            });
        }
        Follower { shard: shard.cloned(), after }
    }

    /// Whoever reads a shard is about to look: whether somebody follows it, and whether all that was there has been read.
    pub(super) fn look(&self, shard: usize) -> (bool, bool) {
        let (mut is_followed, mut is_current) = (true, true);
        self.shards[shard].send_if_modified(|state| {
            is_followed = state.is_followed();
            state.looks += 1;
            state.is_current &= is_followed;
            is_current = state.is_current;
            false
        });
        (is_followed, is_current)
    }

    /// All that was there at the last look, which found the shard followed, has been read.
    pub(super) fn has_read(&self, shard: usize) {
        self.shards[shard].send_if_modified(|state| {
            state.read = state.looks;
            // Whoever came meanwhile needs another reading, which must not wait in Redis.
            !std::mem::replace(&mut state.is_current, state.looks >= state.wanted)
        });
    }

    /// Nobody can say whether all that was there has been read.
    pub(super) fn falls_behind(&self, shard: usize) {
        self.shards[shard].send_if_modified(|state| {
            state.is_current = false;
            false
        });
    }

    /// Waits for the next step of a shard, or until somebody follows it.
    pub(super) async fn step(&self, shard: usize, step: Duration) {
        timeout(step, self.shards[shard].subscribe().wait_for(State::is_followed)).await.ok();
    }
}

impl Hub {
    /// Has the shard of an organization followed from now on.
    pub fn follow(&self, organization: Option<&Id>) -> Follower {
        self.following.follow(self.log.shard_of(organization))
    }

    /// Has the shard of an organization followed, as soon as this node has delivered all that is there by now. While
    /// Redis is away nobody waits: more cannot be known.
    pub async fn up_to_date(&self, organization: Option<&Id>) -> Follower {
        self.bring_up_to_date(self.log.shard_of(organization)).await
    }

    /// Whether nothing has to be read that [`up_to_date`](Self::up_to_date) would wait for; if it has, it is on its way.
    pub fn is_up_to_date(&self, organization: Option<&Id>) -> bool {
        self.follow(organization).is_current() || !self.log.is_there(self.log.shard_of(organization))
    }

    /// [`up_to_date`](Self::up_to_date) for all shards.
    pub async fn all_up_to_date(&self) -> Vec<Follower> {
        join_all((0..self.log.shards()).map(|shard| self.bring_up_to_date(shard))).await
    }

    async fn bring_up_to_date(&self, shard: usize) -> Follower {
        let follower = self.following.follow(shard);
        if self.log.is_shared() && self.log.is_there(shard) {
            let delivering = async {
                follower.current().await;
                self.delivered_up_to(shard, self.log.head(shard).offset).await;
            };
            timeout(self.following.patience, delivering).await.ok();
        }
        follower
    }

    /// Leads from when it knows everything on, whenever the cluster has this node lead, until the server stops.
    pub(super) async fn lead(self: Arc<Self>, mut elected: watch::Receiver<bool>) {
        let leading = async {
            while elected.wait_for(|is_elected| *is_elected).await.is_ok() {
                let leading = async {
                    let _followers = self.all_up_to_date().await;
                    self.leading.send_replace(true);
                    std::future::pending::<()>().await;
                };
                tokio::select! {
                    () = leading => {}
                    _ = elected.wait_for(|is_elected| !*is_elected) => {}
                }
                self.leading.send_replace(false);
            }
        };
        tokio::select! {
            () = leading => {}
            () = self.stopping.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_shard_is_current_once_it_is_read_to_its_end_behind_the_first_follower() {
        let following = Following::new(2, Duration::from_secs(1));
        assert_eq!(following.look(1), (false, false));
        let follower = following.follow(1);
        // The reading under way began before, so its end says nothing.
        assert!(!follower.is_current());
        assert_eq!(following.look(1), (true, false));
        following.has_read(1);
        assert!(follower.is_current() && following.follow(1).is_current() && !following.follow(0).is_current());
        assert_eq!(following.look(1), (true, true));
        // Redis did not answer: who followed before knows as much as before, and who comes has to wait.
        following.falls_behind(1);
        let late = following.follow(1);
        assert!(follower.is_current() && !late.is_current());
        following.has_read(1);
        assert!(!late.is_current(), "that reading began before");
        {
            let mut waits = std::pin::pin!(late.current());
            assert_eq!(waits.as_mut().now_or_never(), None);
            assert_eq!(following.look(1), (true, false));
            following.has_read(1);
            assert_eq!(waits.now_or_never(), Some(()));
        }
        assert_eq!(following.look(1), (true, true));
        drop(late);
        drop(follower);
        // Whoever comes back soon finds it as it was.
        assert_eq!(following.look(1), (true, true));
        following.shards[1].send_modify(|state| state.until = Some(Instant::now()));
        assert_eq!(following.look(1), (false, false));
        assert!(!following.follow(1).is_current());
    }

    #[tokio::test]
    async fn a_step_ends_when_somebody_follows() {
        let following = Following::new(1, Duration::from_secs(1));
        assert_eq!(following.step(0, STEP).now_or_never(), None);
        let mut step = std::pin::pin!(following.step(0, STEP));
        assert_eq!(step.as_mut().now_or_never(), None);
        let _follower = following.follow(0);
        assert_eq!(step.now_or_never(), Some(()));
    }

    #[test]
    fn who_appends_alone_has_nothing_to_wait_for() {
        assert!(Following::new(0, Duration::ZERO).follow(3).is_current());
    }
}
