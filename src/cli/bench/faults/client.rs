//! One client's life: it connects, loses its connection, comes back.

use std::{cell::RefCell, future::pending, rc::Rc, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    select,
    time::{self, Instant},
};

use super::{
    backoff::Backoff,
    conversation::{Conversation, Dismissed, Step},
    link::Link,
    shard::{Cuts, Message, Shard},
    witness::Witness,
};
use crate::cli::bench::{pace::Place, random::Random};

/// A client that comes back as stock clients do.
pub(super) struct Client {
    shard: Rc<Shard>,
    index: usize,
    witness: Rc<RefCell<Witness>>,
    conversation: Conversation,
    backoff: Backoff,
    random: Random,
    /// Whether its first cut is still to come.
    is_whole: bool,
}

/// The tool has cut the connection.
struct Cut;

impl Client {
    /// A client that has yet to connect.
    pub(super) fn new(shard: Rc<Shard>, index: usize, witness: Rc<RefCell<Witness>>) -> Self {
        Self {
            conversation: Conversation::new(shard.clone(), index, witness.clone()),
            shard,
            index,
            witness,
            backoff: Backoff::default(),
            random: Random::of_client(index),
            is_whole: true,
        }
    }

    /// Lives until the run ends, or there is no coming back; `place` is given back once it is subscribed.
    pub(super) async fn live(mut self, place: Place) {
        let mut place = Some(place);
        loop {
            self.conversation.begin();
            let ended = self.connection(&mut place).await;
            self.conversation.end();
            let wait = match ended {
                Ok(Cut) => self.shard.plan.cuts.map_or(Duration::ZERO, |cuts| cuts.offline),
                Err(error) => {
                    self.shard.note(self.index, &error);
                    if error.is::<Dismissed>() || !self.conversation.has_been_ready() {
                        self.shard.tell(Message::GaveUp(format!("client {}: {error:#}", self.index)));
                        return;
                    }
                    self.backoff.delay(&mut self.random)
                }
            };
            time::sleep(wait).await;
        }
    }

    /// One connection, from the attempt to the end.
    async fn connection(&mut self, place: &mut Option<Place>) -> Result<Cut> {
        let ended = self.attend(place).await;
        if ended.is_err() {
            let connections = &mut self.witness.borrow_mut().connections;
            let connected = !matches!(self.conversation.step(), Step::Opening | Step::Connecting);
            *if connected { &mut connections.lost } else { &mut connections.refused } += 1;
        }
        ended
    }

    async fn attend(&mut self, place: &mut Option<Place>) -> Result<Cut> {
        let mut link = Link::open(self.shard.clone(), &mut self.conversation).await?;
        let mut cut = std::pin::pin!(self.next_cut());
        let mut deadline = Instant::now() + self.conversation.patience();
        loop {
            let before = self.conversation.step();
            select! {
                biased;
                () = cut.as_mut() => {
                    link.cut();
                    return Ok(Cut);
                }
                read = time::timeout_at(deadline, link.read(&mut self.conversation)) => {
                    read.with_context(|| format!("the server said nothing while the client was {before:?}"))??;
                }
            }
            link.reply().await?;
            let step = self.conversation.step();
            if before == Step::Opening && step != before {
                self.backoff.reset();
            }
            if step == Step::Ready {
                place.take();
            }
            deadline = Instant::now() + self.conversation.patience();
        }
    }

    /// Waits until this connection is to be cut.
    fn next_cut(&mut self) -> impl Future<Output = ()> + use<> {
        let (cuts, mut cutting) = (self.shard.plan.cuts, self.shard.cutting.clone());
        let wait = cuts.map(|Cuts { every, .. }| match self.is_whole {
            true => self.random.between(Duration::ZERO, every),
            false => self.random.between(every * 2 / 3, every * 4 / 3),
        });
        self.is_whole = false;
        async move {
            let Some(wait) = wait else { return pending().await };
            if cutting.wait_for(|cutting| *cutting).await.is_err() {
                return pending().await;
            }
            time::sleep(wait).await;
        }
    }
}
