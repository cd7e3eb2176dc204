//! A thread that runs its share of the clients.
//!
//! Everything of a shard stays on its thread. It ends when nobody is left to
//! give it orders, and hands over what its clients have seen.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hdrhistogram::Histogram;
use tokio::{
    sync::{mpsc, watch},
    task::spawn_local,
};

use super::{args::Common, client::Client, expected::Expected, ledger::Ledger, witness::Witness};
use crate::cli::bench::{clock::Clock, pace::Pace, payload::Stamp, percentiles::histogram, target::Target};

const SCRATCH: usize = 64 * 1024;

/// What all clients of a run have in common.
#[derive(Debug)]
pub(super) struct Plan {
    /// The server.
    pub(super) target: Target,
    /// The clock that times are counted on.
    pub(super) clock: Clock,
    /// Organization they belong to.
    pub(super) organization: String,
    /// How many there are.
    pub(super) clients: usize,
    /// How many may connect in a second.
    pub(super) connect_rate: f64,
    /// How many shards there are; client `i` lives in shard `i % shards`.
    pub(super) shards: usize,
    /// When their connections are cut, if they are.
    pub(super) cuts: Option<Cuts>,
}

/// How connections are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cuts {
    /// Mean time between two of one client.
    pub(super) every: Duration,
    /// How long it stays away.
    pub(super) offline: Duration,
}

/// What a shard is told to do.
pub(super) enum Order {
    /// Connect its clients.
    Connect,
    /// Report when they have got all of this.
    Collect(Arc<Expected>),
}

/// What a shard reports.
#[derive(Debug)]
pub(super) enum Message {
    /// A client is connected and subscribed, and since when.
    Ready { index: usize, at: u64 },
    /// A client has given up, and why.
    GaveUp(String),
    /// All clients of a shard have got what was to be collected.
    Complete,
}

/// Times of a shard's clients.
#[derive(Debug)]
pub(super) struct Times {
    /// From publishing a live event to receiving it.
    pub(super) latency: Histogram<u64>,
    /// From a CONNECT reply to the last missed event.
    pub(super) replay: Histogram<u64>,
}

/// What is left of a shard.
#[derive(Debug)]
pub(super) struct Account {
    /// What each of its clients has seen.
    pub(super) witnesses: Vec<Witness>,
    /// Times of all of them.
    pub(super) times: Times,
    /// What ended the first connection or attempt that the tool did not end.
    pub(super) first_error: Option<String>,
}

/// A shard, as its clients see it.
pub(super) struct Shard {
    /// What the clients are to do.
    pub(super) plan: Arc<Plan>,
    /// What was published.
    pub(super) ledger: Arc<Ledger>,
    /// The read buffer of whichever client reads.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// Turns true when connections may be cut.
    pub(super) cutting: watch::Receiver<bool>,
    messages: mpsc::UnboundedSender<Message>,
    times: RefCell<Times>,
    first_error: RefCell<Option<String>>,
    expected: RefCell<Arc<Expected>>,
    incomplete: Cell<usize>,
}

impl Plan {
    /// The plan of so many clients.
    pub(super) fn new(args: &Common, clients: usize, target: Target, clock: Clock, cuts: Option<Cuts>) -> Self {
        let (organization, shards) = (args.organization.clone(), args.threads.min(clients));
        Self { target, clock, organization, clients, connect_rate: args.connect_rate, shards, cuts }
    }
}

impl Shard {
    /// A shard whose clients have yet to connect.
    pub(super) fn new(
        plan: Arc<Plan>,
        ledger: Arc<Ledger>,
        messages: mpsc::UnboundedSender<Message>,
        cutting: watch::Receiver<bool>,
    ) -> Self {
        Self {
            plan,
            ledger,
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            cutting,
            messages,
            times: RefCell::new(Times { latency: histogram(), replay: histogram() }),
            first_error: RefCell::default(),
            expected: RefCell::default(),
            incomplete: Cell::new(0),
        }
    }

    /// Does what it is told, as shard `number`, until nobody is left who tells it something.
    pub(super) async fn obey(self: Rc<Self>, number: usize, mut orders: mpsc::UnboundedReceiver<Order>) -> Account {
        let mine = (number..self.plan.clients).step_by(self.plan.shards);
        let witnesses: Vec<_> = mine.clone().map(|index| Rc::new(RefCell::new(Witness::of_client(index)))).collect();
        while let Some(order) = orders.recv().await {
            match order {
                Order::Connect => {
                    let clients = mine.clone().zip(&witnesses);
                    let clients = clients.map(|(index, witness)| Client::new(self.clone(), index, witness.clone()));
                    drop(spawn_local(connect(clients.collect(), self.plan.connect_rate / self.plan.shards as f64)));
                }
                Order::Collect(expected) => self.collect(&witnesses, expected),
            }
        }
        let times = self.times.replace(Times { latency: histogram(), replay: histogram() });
        Account {
            witnesses: witnesses.iter().map(|witness| witness.take()).collect(),
            times,
            first_error: self.first_error.take(),
        }
    }

    /// Takes an event that a client has received.
    pub(super) fn take(&self, witness: &RefCell<Witness>, stamp: Stamp, now: u64) {
        let mut witness = witness.borrow_mut();
        if !self.ledger.has_begun(stamp.sequence) {
            witness.foreign += 1;
            return;
        }
        let arrival = witness.take(stamp.sequence, stamp.sent, now);
        if let Some(latency) = arrival.latency {
            self.times.borrow_mut().latency.saturating_record(latency);
        }
        if let Some(replayed) = arrival.replayed {
            self.times.borrow_mut().replay.saturating_record(replayed);
        }
        if arrival.is_new && self.expected.borrow().has(stamp.sequence) && witness.settle() {
            self.incomplete.update(|clients| clients - 1);
            self.tell_if_complete();
        }
    }

    /// Reports something.
    pub(super) fn tell(&self, message: Message) {
        // Fails only when nobody waits for it any more.
        let _ = self.messages.send(message);
    }

    /// Keeps what went wrong first.
    pub(super) fn note(&self, index: usize, error: &anyhow::Error) {
        self.first_error.borrow_mut().get_or_insert_with(|| format!("client {index}: {error:#}"));
    }

    fn collect(&self, witnesses: &[Rc<RefCell<Witness>>], expected: Arc<Expected>) {
        let incomplete = witnesses.iter().filter(|witness| witness.borrow_mut().expect(&expected)).count();
        self.incomplete.set(incomplete);
        self.expected.replace(expected);
        self.tell_if_complete();
    }

    fn tell_if_complete(&self) {
        if self.incomplete.get() == 0 {
            self.tell(Message::Complete);
        }
    }
}

async fn connect(clients: Vec<Client>, per_second: f64) {
    let mut pace = Pace::new(per_second);
    for client in clients {
        let place = pace.next().await;
        spawn_local(client.live(place));
    }
}
