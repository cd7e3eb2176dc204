//! All clients of a run, on their threads, and what is waited for.

use std::{
    collections::HashSet,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::LocalSet,
    time,
};

use super::{
    expected::Expected,
    ledger::Ledger,
    publisher::Publisher,
    shard::{Account, Message, Order, Plan, Shard},
};
use crate::cli::bench::progress;

/// How long clients may take to connect when nothing moves.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The outside of all shards.
pub(super) struct Crew {
    clients: usize,
    shards: Vec<Handle>,
    messages: mpsc::UnboundedReceiver<Message>,
    cutting: watch::Sender<bool>,
}

struct Handle {
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<Result<Account>>,
}

impl Crew {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system has none left.
    pub(super) fn start(plan: Plan, ledger: &Arc<Ledger>) -> Result<Self> {
        let (sender, messages) = mpsc::unbounded_channel();
        let (cutting, seen) = watch::channel(false);
        let (clients, plan) = (plan.clients, Arc::new(plan));
        let start = |number| {
            let (plan, ledger, sender, seen) = (plan.clone(), ledger.clone(), sender.clone(), seen.clone());
            let (orders, inbox) = mpsc::unbounded_channel();
            let thread = thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
                let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
                let shard = std::rc::Rc::new(Shard::new(plan, ledger, sender, seen));
                Ok(LocalSet::new().block_on(&runtime, shard.obey(number, inbox)))
            })?;
            Ok(Handle { orders, thread })
        };
        let shards = (0..plan.shards).map(start).collect::<Result<_>>()?;
        Ok(Self { clients, shards, messages, cutting })
    }

    /// Connects all clients and publishes the first event to them: one that has read none has no position, and could
    /// not recover.
    ///
    /// # Errors
    /// If a client cannot connect, or does not get the event in time.
    pub(super) async fn open(&mut self, publisher: &mut Publisher, within: Duration) -> Result<()> {
        self.connect().await?;
        publisher.one().await?;
        let told = self.collect(&publisher.published().expected, within).await;
        ensure!(told, "not every client got the first event, though nothing had been broken yet");
        Ok(())
    }

    /// Waits until all clients have subscribed.
    async fn connect(&mut self) -> Result<()> {
        let bar = progress::bar("connecting", self.clients as u64);
        self.order(|| Order::Connect);
        // One that has lost its connection meanwhile says so twice.
        let mut ready = HashSet::new();
        while ready.len() < self.clients {
            let connected = ready.len();
            match time::timeout(CONNECT_TIMEOUT, self.messages.recv()).await {
                Ok(Some(Message::Ready { index, .. })) => {
                    ready.insert(index);
                    bar.set_position(ready.len() as u64);
                }
                Ok(Some(Message::GaveUp(error))) => {
                    bail!("{connected} of {} clients had connected when one failed: {error}", self.clients)
                }
                Ok(Some(Message::Complete) | None) => bail!("a thread of clients has stopped"),
                Err(_) => bail!("{connected} of {} clients had connected when nothing moved any more", self.clients),
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Lets connections be cut from now on, if they are to be.
    pub(super) fn begin_cutting(&self) {
        self.cutting.send_replace(true);
    }

    /// Waits until every client has got what it should have got, and says whether that came to be in time.
    pub(super) async fn collect(&mut self, expected: &Expected, within: Duration) -> bool {
        let expected = Arc::new(expected.clone());
        let mut left = self.shards.len();
        self.order(|| Order::Collect(expected.clone()));
        let completed = async {
            while left > 0 {
                match self.messages.recv().await {
                    Some(Message::Complete) => left -= 1,
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        time::timeout(within, completed).await.unwrap_or(false)
    }

    /// Waits until every client has come back since then, and says when each of those did that did so in time.
    pub(super) async fn back(&mut self, since: u64, within: Duration) -> Vec<u64> {
        let bar = progress::bar("coming back", self.clients as u64);
        let mut back = vec![None; self.clients];
        let deadline = Instant::now() + within;
        let mut left = self.clients;
        while left > 0 {
            match time::timeout_at(deadline.into(), self.messages.recv()).await {
                Ok(Some(Message::Ready { index, at })) if at >= since => {
                    if back[index].replace(at).is_none() {
                        left -= 1;
                        bar.inc(1);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        bar.finish_and_clear();
        let mut times: Vec<u64> = back.into_iter().flatten().collect();
        times.sort_unstable();
        times
    }

    /// Ends all clients and asks what they have seen.
    ///
    /// # Errors
    /// If a thread has panicked.
    pub(super) fn stop(self) -> Result<Account> {
        let stop = |Handle { orders, thread }: Handle| {
            drop(orders);
            thread.join().map_err(|_| anyhow!("a thread of clients panicked"))?
        };
        let mut accounts = self.shards.into_iter().map(stop).collect::<Result<Vec<_>>>()?.into_iter();
        let mut sum = accounts.next().context("there are no clients")?;
        for account in accounts {
            sum.witnesses.extend(account.witnesses);
            sum.times.latency.add(&account.times.latency)?;
            sum.times.replay.add(&account.times.replay)?;
            sum.first_error = sum.first_error.or(account.first_error);
        }
        Ok(sum)
    }

    fn order(&self, order: impl Fn() -> Order) {
        for shard in &self.shards {
            // Fails only if the thread has stopped, which `stop` reports.
            let _ = shard.orders.send(order());
        }
    }
}
