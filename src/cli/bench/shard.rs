//! A thread that runs its share of the clients, and what they count together.
//!
//! Everything of a shard stays on its thread, so counting takes no lock. What
//! others want to see while it runs is in [`Progress`].

use std::{
    cell::RefCell,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc as replies,
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use tokio::{
    runtime,
    sync::{mpsc, watch},
    task::{LocalSet, spawn_local},
};

use super::{
    args::{Form, Kind, Transport},
    client::Client,
    clock::Clock,
    pace::{Pace, Place},
    percentiles::histogram,
    target::Target,
};

const SCRATCH: usize = 64 * 1024;
/// Clients of the run that inflate what they receive.
const SAMPLED: usize = 16;

/// What all clients of a run have in common.
#[derive(Debug)]
pub(super) struct Plan {
    /// The server.
    pub(super) targets: Vec<Target>,
    /// The clock that times are counted on.
    pub(super) clock: Clock,
    /// What clients speak.
    pub(super) client: Kind,
    /// How they connect.
    pub(super) transport: Transport,
    /// Forms they ask for.
    pub(super) form: Form,
    /// Whether they offer permessage-deflate.
    pub(super) deflate: bool,
    /// Organization they belong to.
    pub(super) organization: String,
    /// What proves who each of them is; none where that is not asked for.
    pub(super) tokens: Vec<String>,
    /// How many there are.
    pub(super) clients: usize,
    /// How many of them stop reading.
    pub(super) stalled: usize,
    /// How many may connect in a second.
    pub(super) connect_rate: f64,
    /// How many shards there are; client `i` lives in shard `i % shards`.
    pub(super) shards: usize,
}

/// What can be seen of a shard while it runs.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Clients that have subscribed.
    pub(super) ready: AtomicUsize,
    /// Clients that could not, or whose connection has ended since.
    pub(super) ended: AtomicUsize,
    /// Frames received.
    pub(super) frames: AtomicU64,
    /// When the last of them was.
    pub(super) last: AtomicU64,
    /// What ended the first of those that ended.
    pub(super) error: Mutex<Option<String>>,
}

/// What a shard counts.
#[derive(Debug, Clone)]
pub(super) struct Tally {
    /// Frames received.
    pub(super) frames: u64,
    /// Bytes received, frame heads included.
    pub(super) bytes: u64,
    /// From sending an event to reading it.
    pub(super) latency: Histogram<u64>,
    /// From connecting to being subscribed.
    pub(super) connect: Histogram<u64>,
    /// Frames of each client of this shard.
    pub(super) received: Vec<u64>,
    /// Events of clients that were not answered until they were repeated.
    pub(super) unanswered: u64,
    /// Stalled clients that the server has cut.
    pub(super) stalled_cut: u64,
}

/// The inside of a shard, as its clients see it.
pub(super) struct Shard {
    /// What the clients are to do.
    pub(super) plan: Arc<Plan>,
    /// What they have counted.
    pub(super) tally: RefCell<Tally>,
    /// The read buffer of whichever client reads.
    pub(super) scratch: RefCell<Box<[u8]>>,
    /// The inflated message of whichever client inflates.
    pub(super) inflated: RefCell<Vec<u8>>,
    /// Turns true when stalled clients may read again.
    pub(super) release: watch::Receiver<bool>,
    progress: Arc<Progress>,
}

/// The outside of a shard.
pub(super) struct Handle {
    /// What can be seen while it runs.
    pub(super) progress: Arc<Progress>,
    commands: mpsc::UnboundedSender<Command>,
    release: watch::Sender<bool>,
    thread: JoinHandle<Result<()>>,
}

enum Command {
    Connect,
    Reset,
    Tell(replies::Sender<Tally>),
}

impl Plan {
    /// The server of a client.
    pub(super) fn target_of(&self, index: usize) -> &Target {
        &self.targets[index % self.targets.len()]
    }

    /// Whether that client stops reading once it has subscribed; they are spread evenly.
    pub(super) fn stalls(&self, index: usize) -> bool {
        index * self.stalled / self.clients != (index + 1) * self.stalled / self.clients
    }

    /// Whether that client inflates what it receives; they are spread evenly.
    pub(super) fn is_sampled(&self, index: usize) -> bool {
        index.is_multiple_of((self.clients / SAMPLED).max(1))
    }
}

impl Handle {
    /// Starts shard `number`.
    pub(super) fn start(plan: Arc<Plan>, number: usize) -> Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (release, released) = watch::channel(false);
        let progress = Arc::new(Progress::default());
        let shared = Arc::clone(&progress);
        let thread = thread::Builder::new().name(format!("clients-{number}")).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let shard = Rc::new(Shard::new(plan, shared, released));
            LocalSet::new().block_on(&runtime, obey(shard, number, inbox));
            Ok(())
        })?;
        Ok(Self { progress, commands, release, thread })
    }

    /// Lets its clients connect.
    pub(super) fn connect(&self) {
        self.send(Command::Connect);
    }

    /// Lets it forget what was delivered so far.
    pub(super) fn reset(&self) {
        self.send(Command::Reset);
    }

    /// Lets its stalled clients read again.
    pub(super) fn release(&self) {
        self.release.send_replace(true);
    }

    /// Asks what it has counted.
    pub(super) fn tally(&self) -> Result<Tally> {
        let (tell, told) = replies::channel();
        self.send(Command::Tell(tell));
        told.recv().context("a thread of clients has stopped")
    }

    /// Ends its clients and waits for it.
    pub(super) fn stop(self) -> Result<()> {
        drop(self.commands);
        self.thread.join().map_err(|_| anyhow::anyhow!("a thread of clients panicked"))?
    }

    fn send(&self, command: Command) {
        // Fails only if the thread has stopped, which `tally` reports.
        let _ = self.commands.send(command);
    }
}

impl Shard {
    /// A shard whose clients have yet to connect.
    pub(super) fn new(plan: Arc<Plan>, progress: Arc<Progress>, release: watch::Receiver<bool>) -> Self {
        let mine = plan.clients.div_ceil(plan.shards);
        Self {
            plan,
            tally: RefCell::new(Tally::new(mine)),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            inflated: RefCell::new(Vec::new()),
            release,
            progress,
        }
    }

    /// Frames counted so far.
    pub(super) fn frames(&self) -> u64 {
        self.tally.borrow().frames
    }

    /// Counts one frame of a client, and how long it took if that is known.
    pub(super) fn count_frame(&self, index: usize, latency: Option<u64>) {
        let mut tally = self.tally.borrow_mut();
        tally.frames += 1;
        tally.received[index / self.plan.shards] += 1;
        if let Some(latency) = latency {
            tally.latency.saturating_record(latency);
        }
    }

    /// Counts a read; `before` is how many frames had been counted before it.
    pub(super) fn count_read(&self, before: u64, bytes: usize, now: u64) {
        let mut tally = self.tally.borrow_mut();
        let frames = tally.frames - before;
        if frames > 0 {
            tally.bytes += bytes as u64;
            self.progress.last.store(now, Ordering::Relaxed);
            self.progress.frames.fetch_add(frames, Ordering::Relaxed);
        }
    }

    /// Connects the shard's clients, no faster than the plan allows.
    async fn connect(self: Rc<Self>, number: usize) {
        let mut pace = Pace::new(self.plan.connect_rate / self.plan.shards as f64);
        for index in (number..self.plan.clients).step_by(self.plan.shards) {
            let place = pace.next().await;
            spawn_local(Rc::clone(&self).live(index, place));
        }
    }

    /// One client's life.
    async fn live(self: Rc<Self>, index: usize, place: Place) {
        let began = self.plan.clock.now();
        let ended = match Client::connect(&self, index).await {
            Ok(client) => {
                self.tally.borrow_mut().connect.saturating_record(self.plan.clock.now() - began);
                self.progress.ready.fetch_add(1, Ordering::Relaxed);
                drop(place);
                client.stay().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            let mut first = self.progress.error.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| format!("client {index}: {error:#}"));
            drop(first);
            self.progress.ended.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Tally {
    fn new(clients: usize) -> Self {
        Self {
            frames: 0,
            bytes: 0,
            latency: histogram(),
            connect: histogram(),
            received: vec![0; clients],
            unanswered: 0,
            stalled_cut: 0,
        }
    }

    /// Forgets what was delivered, not how the clients connected.
    fn reset(&mut self) {
        self.frames = 0;
        self.bytes = 0;
        self.latency.reset();
        self.received.fill(0);
    }
}

async fn obey(shard: Rc<Shard>, number: usize, mut inbox: mpsc::UnboundedReceiver<Command>) {
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Connect => drop(spawn_local(Rc::clone(&shard).connect(number))),
            Command::Reset => {
                shard.tally.borrow_mut().reset();
                shard.progress.frames.store(0, Ordering::Relaxed);
            }
            Command::Tell(tell) => drop(tell.send(shard.tally.borrow().clone())),
        }
    }
}
