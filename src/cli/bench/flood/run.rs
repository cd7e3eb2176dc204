//! One run, from the server's start to its stop.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use tokio::runtime::{self, Runtime};

use super::{
    api::Api,
    args::Args,
    honest::{Honest, Phase},
    hostile::{Crowd, Tallies},
    level::Level,
    report::{Load, Memory, Report},
    setup::{self, DEAF, HOSTILE, Secrets, Tokens},
};
use crate::cli::{
    Failure,
    bench::{
        clock::Clock,
        process::{self, Process},
        progress,
        save::save,
        server::{Server, Settings},
        target::Target,
    },
};

/// Bytes of what those attackers are sent that do not read.
const SIZE: usize = 4_096;
/// Most connections and files that an attacker holds.
const FILES_EACH: u64 = 4;
/// How often it is looked whether everything is back.
const TICK: Duration = Duration::from_millis(250);

/// Runs `tiercast bench flood`.
///
/// # Errors
/// If the flags contradict each other, the server does not start or stop, or the flood does more than it may.
pub(in crate::cli::bench) fn run(args: &Args) -> Result<(), Failure> {
    args.check()?;
    process::ensure_open_files(args.clients + args.hostile, FILES_EACH)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let report = complete(args, &runtime)?;
    report.print(&mut io::stdout().lock())?;
    args.json.as_deref().map_or(Ok(()), |path| save(&report, path))?;
    Ok(report.verdict()?)
}

fn complete(args: &Args, runtime: &Runtime) -> Result<Report, Failure> {
    let (clock, secrets) = (Clock::start(), Secrets::fresh()?);
    let mut server = Server::new(args.server.as_deref(), Settings::Text(&secrets.config(args)))?;
    runtime.block_on(server.start(clock))?;
    let target = Target::parse(&format!("http://{}", server.address))?;
    let process = Process::with_pid(server.pid().context("the server has ended")?)?;
    let api = Api::new(&target, &secrets.key);
    let tokens = runtime.block_on(setup::tokens(&api, args.clients))?;
    let token = |user, organization| runtime.block_on(setup::token(&api, user, organization));
    let attackers = Tokens { hostile: token("hostile", HOSTILE)?, deaf: token("deaf", DEAF)? };

    let mut honest = Honest::connect(args, &target, &secrets.key, tokens, clock)?;
    honest.receive("warming up", args.events().div_ceil(4), &process)?;
    let calm = honest.receive("calm", args.events(), &process)?;
    let start = runtime.block_on(Level::look(&api, &process))?;
    let (flood, tallies, unread) = flood(args, &target, attackers, &mut honest, clock, &process)?;
    let (end, back_ms) = settle(args, runtime, &api, &process, &start)?;
    let after = honest.receive("afterwards", args.events().div_ceil(2), &process)?;
    let first_error = honest.first_error();
    honest.stop()?;
    runtime.block_on(server.stop(clock))?;
    Ok(Report {
        load: Load::from(args),
        memory: Memory::new(&start, &flood, &end),
        calm,
        flood,
        after,
        hostile: tallies,
        unread,
        start,
        end,
        back_ms,
        first_error,
    })
}

/// What the honest clients get while the others attack, what these do, and how much of theirs is not read.
fn flood(
    args: &Args,
    target: &Target,
    tokens: Tokens,
    honest: &mut Honest,
    clock: Clock,
    process: &Process,
) -> Result<(Phase, Tallies, u64)> {
    // Something that is not read.
    let bait = honest.job(DEAF, SIZE, u64::MAX).start(clock)?;
    let crowd = Crowd::start(args, target, tokens)?;
    let phase = honest.receive("flood", args.events(), process);
    let tallies = crowd.stop()?;
    bait.stop();
    let unread = bait.join()?.reached;
    Ok((phase?, tallies, unread))
}

/// Waits until the server is back at its start level, and says when that was; none if it is not in time.
fn settle(args: &Args, runtime: &Runtime, api: &Api, process: &Process, start: &Level) -> Result<(Level, Option<u64>)> {
    let spinner = progress::spinner("waiting until everything is back".to_owned());
    let began = Instant::now();
    loop {
        let level = runtime.block_on(Level::look(api, process))?;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let is_back = level.beyond(start, args.kept_rss_mb * 1024).is_empty();
        if is_back || took > args.settle_ms {
            spinner.finish_and_clear();
            return Ok((level, is_back.then_some(took)));
        }
        std::thread::sleep(TICK);
    }
}
