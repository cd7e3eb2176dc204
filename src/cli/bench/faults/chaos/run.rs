//! One run of a schedule: the cluster, its clients and publishers, one fault after another, and what came of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;
use tokio::signal::{
    ctrl_c,
    unix::{SignalKind, signal},
};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::Instant;

use super::args::ChaosArgs;
use super::check::{Finding, check};
use super::client::{Client, World};
use super::cluster::Cluster;
use super::fault::Step;
use super::history::Room;
use super::publisher::Publisher;
use super::record::Record;
use super::settle::Settler;
use crate::cli::bench::{clock::Clock, progress};

const SCRATCH: usize = 64 * 1024;
/// Organizations that clients are of.
pub(super) const ORGANIZATIONS: usize = 3;
const DEPARTMENTS: usize = 2;
/// Of so many clients one is on polling.
const POLLING: usize = 10;

/// What came of a run.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    /// Publications that were answered with 200,
    pub(super) answered: usize,
    /// of so many.
    pub(super) published: usize,
    /// Events that clients received.
    pub(super) deliveries: usize,
    /// Sessions that began anew.
    pub(super) new_sessions: usize,
    /// How long everybody took after each fault to be back with everything, in milliseconds.
    pub(super) settled_ms: Vec<u64>,
    /// What must not be.
    pub(super) findings: Vec<Finding>,
}

/// Runs a schedule; nothing of it is left behind.
///
/// # Errors
/// If the cluster does not start, or cannot be broken, or the tool is told to stop.
pub(super) fn run(args: &ChaosArgs, seed: u64, schedule: &[Step]) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let until_stopped = async {
        // Whoever is killed leaves the processes of the cluster behind; one that ends takes them along.
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = complete(args, seed, schedule) => outcome,
            _ = ctrl_c() => bail!("it was interrupted"),
            _ = terminated.recv() => bail!("it was told to stop"),
        }
    };
    LocalSet::new().block_on(&runtime, until_stopped)
}

async fn complete(args: &ChaosArgs, seed: u64, schedule: &[Step]) -> Result<Outcome> {
    let clock = Clock::start();
    let clients: Vec<Room> = (0..args.clients).map(room_of).collect();
    let record = Record::new(clock, &clients);
    let mut cluster = Cluster::start(args.nodes, &record).await?;
    let world = Rc::new(World {
        doors: cluster.doors()?,
        record: record.clone(),
        scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
        ends: RefCell::default(),
    });
    for index in 0..args.clients {
        spawn_local(Client::new(&world, index, index % POLLING == 1, seed).live());
    }
    let rooms: Rc<Vec<Room>> = Rc::new((0..ORGANIZATIONS * (1 + DEPARTMENTS)).map(room_of).collect());
    // Before it is broken it has to be whole.
    let mut settler = Settler::new(&world, &rooms, args.publishers, seed);
    let within = Duration::from_secs_f64(args.settle_seconds);
    let mut findings = settler.settle("the start", within).await;
    let (stop, stopped) = watch::channel(false);
    let mut publishing = JoinSet::new();
    for index in 0..args.publishers {
        publishing.spawn_local(Publisher::new(&world, &rooms, index, seed).work(args.rate, stopped.clone()));
    }
    let mut settled_ms = Vec::new();
    let spinner = progress::spinner(String::new());
    for (number, step) in schedule.iter().enumerate() {
        if !findings.is_empty() {
            break;
        }
        spinner.set_message(format!("fault {} of {}: {step}", number + 1, schedule.len()));
        let lasting = Duration::from_secs_f64(args.seconds_per_fault);
        cluster.suffer(*step, lasting, &record).await?;
        spinner.set_message(format!("fault {} of {}: back from {step}", number + 1, schedule.len()));
        let began = Instant::now();
        let late = settler.settle(&step.to_string(), within).await;
        settled_ms.push(began.elapsed().as_millis() as u64);
        findings.extend(late);
        record.settled();
    }
    spinner.finish_and_clear();
    stop.send_replace(true);
    while publishing.join_next().await.is_some() {}
    if findings.is_empty() {
        findings = settler.settle("the end", within).await;
    }
    let history = record.history();
    findings.extend(check(&history));
    if args.verbose {
        tell(&world, &cluster);
    }
    let ((answered, published), (deliveries, new_sessions)) = (record.answered(), record.sessions());
    Ok(Outcome { answered, published, deliveries, new_sessions, settled_ms, findings })
}

/// The rooms of all, one after another: of each organization the whole, and each of its departments.
fn room_of(number: usize) -> Room {
    let department = number / ORGANIZATIONS % (1 + DEPARTMENTS);
    Room { organization: number % ORGANIZATIONS, department: department.checked_sub(1) }
}

fn tell(world: &World, cluster: &Cluster) {
    for end in world.ends.borrow().iter() {
        eprintln!("{end}");
    }
    for (number, log) in cluster.logs().iter().enumerate() {
        eprintln!("=== node {number} ===\n{log}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_clients_of_every_room() {
        let rooms: std::collections::HashSet<Room> = (0..9).map(room_of).collect();
        assert_eq!(rooms.len(), ORGANIZATIONS * (1 + DEPARTMENTS));
        assert!((0..ORGANIZATIONS).all(|number| room_of(number).department.is_none()));
    }
}
