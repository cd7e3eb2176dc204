//! One run of the mode without a name, from the first client to the report.

use std::{
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;

use super::{
    args::LoadArgs,
    clock::Clock,
    process::{self, Process},
    progress,
    publisher::{Job, Published},
    report::{Connect, Delivery, Load, Publish, Report, Server},
    save::save,
    shard::{Handle, Plan, Tally},
    target::Target,
};
use crate::cli::Failure;

/// How often the run looks at what has come in.
const TICK: Duration = Duration::from_millis(5);
/// How often it looks at the server's memory.
const MEMORY_TICK: Duration = Duration::from_millis(100);
/// A run in which nothing has come in for so long has lost what is missing.
const SILENCE: Duration = Duration::from_secs(5);
/// Lets the server finish what connecting has left to do.
const SETTLE: Duration = Duration::from_millis(500);

/// Runs `tiercast bench` without a mode.
///
/// # Errors
/// If the flags contradict each other, the server cannot be reached or refuses, or its process cannot be read.
pub(super) fn run(args: &LoadArgs) -> Result<(), Failure> {
    args.check()?;
    let report = Run::new(args)?.complete()?;
    report.print(&mut io::stdout().lock())?;
    args.json.as_deref().map_or(Ok(()), |path| save(&report, path))?;
    Ok(())
}

/// A run that is under way.
struct Run<'a> {
    args: &'a LoadArgs,
    targets: Vec<Target>,
    clock: Clock,
    shards: Vec<Handle>,
    memory: Memory,
}

/// The servers' processes, and the memory it had at the stages of a run.
struct Memory {
    servers: Vec<Process>,
    before: u64,
    connected: u64,
    peak: u64,
}

/// What the measured events took.
struct Measured {
    published: Published,
    ended: u64,
    cpu: Cpu,
}

/// CPU times so far, or of a while, and how long that was.
struct Cpu {
    wall: Duration,
    server: Option<Duration>,
    tool: Duration,
    all: Duration,
}

impl<'a> Run<'a> {
    fn new(args: &'a LoadArgs) -> Result<Self> {
        let targets: Vec<Target> = args.url.iter().map(|url| Target::parse(url)).collect::<Result<_>>()?;
        process::ensure_open_files(args.clients, args.transport.connections())?;
        let servers = args.pid.iter().map(|pid| Process::with_pid(*pid)).collect::<Result<_>>()?;
        let clock = Clock::start();
        let plan = Arc::new(Plan {
            targets: targets.clone(),
            clock,
            client: args.client,
            transport: args.transport,
            form: args.form,
            deflate: args.deflate,
            organization: args.organization.clone(),
            tokens: Vec::new(),
            clients: args.clients,
            stalled: args.stalled,
            connect_rate: args.connect_rate,
            shards: args.threads.min(args.clients),
        });
        let shards = (0..plan.shards).map(|number| Handle::start(Arc::clone(&plan), number)).collect::<Result<_>>()?;
        Ok(Self { args, targets, clock, shards, memory: Memory::new(servers)? })
    }

    fn complete(mut self) -> Result<Report> {
        let cpu = self.memory.cpu()?;
        let seconds = self.connect()?;
        thread::sleep(SETTLE);
        let connect_cpu = cpu.zip(self.memory.cpu()?).map(|(before, after)| after - before);
        self.idle();
        self.memory.all_connected()?;
        let measured = if self.args.measured_events() > 0 { Some(self.measure()?) } else { None };
        let rss_after = self.memory.look()?;
        let ended = self.ended();
        let tally = self.tally()?;
        let report = Report {
            load: Load::from(self.args),
            connect: Connect { seconds, ms: (&tally.connect).into(), unanswered: tally.unanswered },
            publish: measured.as_ref().map(|measured| self.publish_report(measured)),
            delivery: measured.as_ref().map(|measured| self.delivery_report(measured, &tally, ended)),
            server: connect_cpu.map(|cpu| self.server_report(cpu, measured.as_ref(), &tally, rss_after)),
            tool_cpu_us_per_delivery: measured.as_ref().map(|measured| self.each_us(measured.cpu.tool, &tally)),
            other_cores: measured.as_ref().and_then(|measured| measured.cpu.others()),
            first_error: self.first_error(),
        };
        self.shards.into_iter().try_for_each(Handle::stop)?;
        Ok(report)
    }

    /// Connects all clients and says how long that took.
    fn connect(&self) -> Result<f64> {
        let bar = progress::bar("connecting", self.args.clients as u64);
        let began = Instant::now();
        self.shards.iter().for_each(Handle::connect);
        loop {
            let ready: usize = self.shards.iter().map(|shard| shard.progress.ready.load(Ordering::Relaxed)).sum();
            bar.set_position(ready as u64);
            if let Some(error) = self.first_error() {
                bail!("{ready} of {} clients had connected when one failed: {error}", self.args.clients);
            }
            if ready == self.args.clients {
                bar.finish_and_clear();
                return Ok(began.elapsed().as_secs_f64());
            }
            thread::sleep(TICK);
        }
    }

    fn idle(&self) {
        let Some(seconds) = self.args.idle else { return };
        let spinner = progress::spinner(format!("idle for {seconds} s"));
        thread::sleep(Duration::from_secs_f64(seconds));
        spinner.finish_and_clear();
    }

    /// Publishes the warm-up and then what is measured.
    fn measure(&mut self) -> Result<Measured> {
        if self.args.warmup > 0 {
            let job = Job { rate: None, ..Job::new(self.args, &self.targets, 0, self.args.warmup) };
            self.deliver("warming up", job)?;
            thread::sleep(SETTLE);
        }
        self.shards.iter().for_each(Handle::reset);
        // The answer proves that the reset has been carried out.
        self.tally()?;
        let before = self.cpu()?;
        let job = Job::new(self.args, &self.targets, self.args.warmup, self.args.measured_events());
        let (published, ended) = self.deliver("measuring", job)?;
        let measured = Measured { published, ended, cpu: self.cpu()?.since(&before) };
        self.release();
        Ok(measured)
    }

    /// Publishes and waits until everything has come in or nothing comes any more; says when the last frame came.
    fn deliver(&mut self, what: &'static str, job: Job) -> Result<(Published, u64)> {
        let before = self.frames();
        let expected = job.events * self.readers() * self.args.form.frames();
        let bar = progress::bar(what, expected);
        let publishing = job.start(self.clock)?;
        let (mut frames, mut heard, mut looked) = (0, Instant::now(), Instant::now());
        while frames < expected && heard.elapsed() < SILENCE {
            thread::sleep(TICK);
            let now = self.frames() - before;
            if now != frames || !publishing.is_finished() {
                (frames, heard) = (now, Instant::now());
            }
            bar.set_position(frames);
            if looked.elapsed() > MEMORY_TICK {
                looked = Instant::now();
                self.memory.look()?;
            }
            if self.ended() == self.args.clients as u64 {
                publishing.stop();
                break;
            }
        }
        bar.finish_and_clear();
        let published = publishing.join()?;
        let last = self.shards.iter().map(|shard| shard.progress.last.load(Ordering::Relaxed)).max();
        Ok((published, last.unwrap_or_default()))
    }

    /// Lets the stalled clients read again and waits until they know whether they were cut.
    fn release(&self) {
        if self.args.stalled > 0 {
            self.shards.iter().for_each(Handle::release);
            thread::sleep(Duration::from_secs(3));
        }
    }

    fn cpu(&self) -> Result<Cpu> {
        let (server, tool, all) = (self.memory.cpu()?, Process::own().cpu()?, Process::all_cpu()?);
        Ok(Cpu { wall: Duration::from_nanos(self.clock.now()), server, tool, all })
    }

    fn readers(&self) -> u64 {
        (self.args.clients - self.args.stalled) as u64
    }

    fn frames(&self) -> u64 {
        self.shards.iter().map(|shard| shard.progress.frames.load(Ordering::Relaxed)).sum()
    }

    fn ended(&self) -> u64 {
        self.shards.iter().map(|shard| shard.progress.ended.load(Ordering::Relaxed) as u64).sum()
    }

    fn first_error(&self) -> Option<String> {
        let error = |shard: &Handle| shard.progress.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.shards.iter().find_map(error)
    }

    /// What all shards have counted; `received` is only that of clients that read.
    fn tally(&self) -> Result<Tally> {
        let mut tallies = self.shards.iter().map(Handle::tally).collect::<Result<Vec<_>>>()?.into_iter();
        let mut sum = tallies.next().context("there are no shards")?;
        for tally in tallies {
            sum.frames += tally.frames;
            sum.bytes += tally.bytes;
            sum.latency.add(&tally.latency)?;
            sum.connect.add(&tally.connect)?;
            sum.received.extend(tally.received);
            sum.unanswered += tally.unanswered;
            sum.stalled_cut += tally.stalled_cut;
        }
        Ok(sum)
    }

    fn publish_report(&self, measured: &Measured) -> Publish {
        let Published { began, ended, answers, late, .. } = &measured.published;
        Publish {
            per_second: self.args.measured_events() as f64 / seconds(*began, *ended),
            answer_ms: answers.into(),
            late_ms: self.args.rate.map(|_| late.into()),
        }
    }

    fn delivery_report(&self, measured: &Measured, tally: &Tally, ended: u64) -> Delivery {
        let frames = self.args.form.frames();
        let (events, received) = (self.args.measured_events(), tally.frames / frames);
        let seconds = seconds(measured.published.began, measured.ended);
        let complete = tally.received.iter().filter(|count| **count >= events * frames).count() as u64;
        Delivery {
            expected: events * self.readers(),
            received,
            clients_with_losses: self.readers() - complete.min(self.readers()),
            clients_with_extras: tally.received.iter().filter(|count| **count > events * frames).count() as u64,
            clients_ended: ended,
            stalled_cut: tally.stalled_cut,
            seconds,
            per_second: received as f64 / seconds,
            bytes_each: tally.bytes as f64 / received.max(1) as f64,
            latency_ms: (&tally.latency as &Histogram<u64>).into(),
        }
    }

    fn server_report(&self, connect: Duration, measured: Option<&Measured>, tally: &Tally, after: u64) -> Server {
        let Memory { before, connected, peak, .. } = self.memory;
        let clients = self.args.clients as f64;
        Server {
            cpu_us_per_delivery: measured.and_then(|measured| Some(self.each_us(measured.cpu.server?, tally))),
            connect_cpu_ms_each: connect.as_secs_f64() * 1e3 / clients,
            rss_before_kb: before,
            rss_connected_kb: connected,
            rss_kb_per_connection: (connected as f64 - before as f64) / clients,
            rss_peak_kb: peak,
            rss_after_kb: after,
        }
    }

    fn each_us(&self, cpu: Duration, tally: &Tally) -> f64 {
        cpu.as_secs_f64() * 1e6 / (tally.frames / self.args.form.frames()).max(1) as f64
    }
}

impl Cpu {
    /// The time since then.
    fn since(&self, before: &Self) -> Self {
        Self {
            wall: self.wall - before.wall,
            server: self.server.zip(before.server).map(|(after, before)| after - before),
            tool: self.tool - before.tool,
            all: self.all.saturating_sub(before.all),
        }
    }

    /// Cores that others used meanwhile, if the server's share is known.
    fn others(&self) -> Option<f64> {
        let others = self.all.saturating_sub(self.tool).saturating_sub(self.server?);
        Some(others.as_secs_f64() / self.wall.as_secs_f64())
    }
}

impl Memory {
    fn new(servers: Vec<Process>) -> Result<Self> {
        let mut memory = Self { servers, before: 0, connected: 0, peak: 0 };
        memory.before = memory.look()?;
        Ok(memory)
    }

    fn all_connected(&mut self) -> Result<()> {
        self.peak = 0;
        self.connected = self.look()?;
        Ok(())
    }

    fn look(&mut self) -> Result<u64> {
        let each = self.servers.iter().map(Process::rss_kb);
        let rss = each.sum::<Result<u64>>().context("the server's process has ended")?;
        self.peak = self.peak.max(rss);
        Ok(rss)
    }

    fn cpu(&self) -> Result<Option<Duration>> {
        if self.servers.is_empty() {
            return Ok(None);
        }
        let cpu = self.servers.iter().map(Process::cpu).sum::<Result<Duration>>();
        cpu.map(Some).context("the server's process has ended")
    }
}

fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from).max(1) as f64 / 1e9
}
