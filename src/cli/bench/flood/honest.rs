//! The honest clients, and what they get in a while.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{args::Args, setup::HONEST};
use crate::cli::bench::{
    args::{Form, Kind, Transport},
    clock::Clock,
    percentiles::Percentiles,
    process::Process,
    progress,
    publisher::Job,
    shard::{Handle, Plan},
    target::Target,
};

/// Bytes of an event's payload.
const SIZE: usize = 260;
/// Clients that connect in a second.
const CONNECT_RATE: f64 = 300.0;
/// How often it is looked at what has come in.
const TICK: Duration = Duration::from_millis(20);
/// How often it is looked at the server's memory.
const MEMORY_TICK: Duration = Duration::from_millis(200);
/// What has not come after so long is lost.
const SILENCE: Duration = Duration::from_secs(5);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// The honest clients, on a thread of their own, and their publisher.
pub(super) struct Honest {
    shard: Handle,
    clients: u64,
    rate: f64,
    target: Target,
    key: String,
    clock: Clock,
    /// Number of the next event.
    next: u64,
}

/// What a while brought.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Phase {
    /// Events that were published.
    pub(super) events: u64,
    /// Clients times events.
    pub(super) expected: u64,
    /// Those that came.
    pub(super) received: u64,
    /// Clients that did not get every event.
    pub(super) clients_with_losses: u64,
    /// Clients that got one twice.
    pub(super) clients_with_extras: u64,
    /// Clients whose connection had ended by then.
    pub(super) clients_ended: u64,
    /// From publishing to receiving.
    pub(super) latency_ms: Percentiles,
    /// From publishing to the answer.
    pub(super) answer_ms: Percentiles,
    /// Cores that the server used,
    pub(super) server_cores: f64,
    /// the tool with all its clients,
    pub(super) tool_cores: f64,
    /// and all others.
    pub(super) other_cores: f64,
    /// The server's memory, looked at five times a second.
    pub(super) rss_kb: Vec<u64>,
}

impl Honest {
    /// Connects them and waits until all have subscribed.
    ///
    /// # Errors
    /// If one of them cannot.
    pub(super) fn connect(args: &Args, target: &Target, key: &str, tokens: Vec<String>, clock: Clock) -> Result<Self> {
        let plan = Plan {
            targets: vec![target.clone()],
            clock,
            client: Kind::Socketio,
            transport: Transport::Websocket,
            form: Form::Named,
            deflate: false,
            organization: HONEST.to_owned(),
            tokens,
            clients: args.clients,
            stalled: 0,
            connect_rate: CONNECT_RATE,
            shards: 1,
        };
        let honest = Self {
            shard: Handle::start(Arc::new(plan), 0)?,
            clients: args.clients as u64,
            rate: args.rate,
            target: target.clone(),
            key: key.to_owned(),
            clock,
            next: 0,
        };
        let bar = progress::bar("connecting", honest.clients);
        let began = Instant::now();
        honest.shard.connect();
        loop {
            let ready = honest.shard.progress.ready.load(Ordering::Relaxed) as u64;
            bar.set_position(ready);
            if let Some(error) = honest.first_error() {
                bail!("{ready} of {} clients had connected when one failed: {error}", honest.clients);
            }
            if ready == honest.clients {
                bar.finish_and_clear();
                return Ok(honest);
            }
            ensure!(began.elapsed() < CONNECT_TIMEOUT, "{ready} of {} clients could connect", honest.clients);
            thread::sleep(TICK);
        }
    }

    /// Publishes so many events and waits until they have come in or nothing comes any more.
    ///
    /// # Errors
    /// If publishing fails, or the server's process ends.
    pub(super) fn receive(&mut self, what: &'static str, events: u64, server: &Process) -> Result<Phase> {
        self.shard.reset();
        // The answer proves that the reset has been carried out.
        self.shard.tally()?;
        let expected = events * self.clients;
        let bar = progress::bar(what, expected);
        let cpu = Cpu::now(server)?;
        let publishing = self.job(HONEST, SIZE, events).start(self.clock)?;
        self.next += events;
        let (mut frames, mut heard) = (0, Instant::now());
        let (mut rss_kb, mut looked) = (vec![server.rss_kb()?], Instant::now());
        while frames < expected && heard.elapsed() < SILENCE {
            thread::sleep(TICK);
            let now = self.shard.progress.frames.load(Ordering::Relaxed);
            if now != frames || !publishing.is_finished() {
                (frames, heard) = (now, Instant::now());
            }
            bar.set_position(frames);
            if looked.elapsed() > MEMORY_TICK {
                looked = Instant::now();
                rss_kb.push(server.rss_kb()?);
            }
        }
        let used = Cpu::now(server)?.since(&cpu);
        bar.finish_and_clear();
        let published = publishing.join()?;
        let tally = self.shard.tally()?;
        let of =
            |wanted: fn(u64, u64) -> bool| tally.received.iter().filter(|got| wanted(**got, events)).count() as u64;
        Ok(Phase {
            events,
            expected,
            received: tally.frames,
            clients_with_losses: of(|got, events| got < events),
            clients_with_extras: of(|got, events| got > events),
            clients_ended: self.shard.progress.ended.load(Ordering::Relaxed) as u64,
            latency_ms: (&tally.latency as &Histogram<u64>).into(),
            answer_ms: (&published.answers).into(),
            server_cores: used.server,
            tool_cores: used.tool,
            other_cores: used.other,
            rss_kb,
        })
    }

    /// A publisher to some organization at the rate of the honest one.
    pub(super) fn job(&self, organization: &str, size: usize, events: u64) -> Job {
        Job {
            targets: vec![self.target.clone()],
            organization: organization.to_owned(),
            api_key: Some(self.key.clone()),
            size,
            first: self.next,
            events,
            rate: Some(self.rate),
            publishers: 1,
        }
    }

    /// What ended the first of them that has ended.
    pub(super) fn first_error(&self) -> Option<String> {
        self.shard.progress.error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends them.
    ///
    /// # Errors
    /// If their thread has panicked.
    pub(super) fn stop(self) -> Result<()> {
        self.shard.stop()
    }
}

/// CPU time so far, in seconds, or of a while, in cores.
struct Cpu {
    at: Instant,
    server: f64,
    tool: f64,
    other: f64,
}

impl Cpu {
    fn now(server: &Process) -> Result<Self> {
        let (server, tool) = (server.cpu()?.as_secs_f64(), Process::own().cpu()?.as_secs_f64());
        let other = Process::all_cpu()?.as_secs_f64() - server - tool;
        Ok(Self { at: Instant::now(), server, tool, other })
    }

    fn since(&self, before: &Self) -> Self {
        let seconds = (self.at - before.at).as_secs_f64().max(1e-3);
        let cores = |of: fn(&Self) -> f64| ((of(self) - of(before)) / seconds).max(0.0);
        Self {
            at: self.at,
            server: cores(|cpu| cpu.server),
            tool: cores(|cpu| cpu.tool),
            other: cores(|cpu| cpu.other),
        }
    }
}
