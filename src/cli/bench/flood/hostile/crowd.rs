//! All attackers, on a thread of their own that gives way to everybody else.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, thread, time::Duration};

use anyhow::{Result, anyhow};
use rustix::process::{getpriority_process, setpriority_process};
use tokio::{
    runtime,
    sync::oneshot,
    task::{LocalSet, spawn_local},
};

use super::{attacker::Attacker, tally::Tallies};
use crate::cli::bench::{
    flood::{args::Args, setup::Tokens},
    target::Target,
};

const SCRATCH: usize = 64 * 1024;
/// How much less a thread of attackers is served than others: real ones would have machines of their own.
const NICE: i32 = 10;

/// What all attackers have in common.
pub(in crate::cli::bench::flood) struct Scene {
    /// The server.
    pub(super) target: Target,
    /// Their tokens.
    pub(super) tokens: Tokens,
    /// How many kinds of them there are.
    pub(super) kinds: usize,
    /// Time between two acts of one attacker.
    pub(super) pace: Duration,
    /// What they have done.
    pub(super) tallies: RefCell<Tallies>,
    /// The compressed messages that were asked for, by size: making one costs far more than sending it.
    pub(super) bombs: RefCell<BTreeMap<usize, Rc<[u8]>>>,
    /// The read buffer of whoever reads.
    pub(super) scratch: RefCell<Box<[u8]>>,
}

/// Attackers at work.
pub(in crate::cli::bench::flood) struct Crowd {
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<Result<Tallies>>,
}

impl Crowd {
    /// Lets them loose.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub(in crate::cli::bench::flood) fn start(args: &Args, target: &Target, tokens: Tokens) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (args, target) = (args.clone(), target.clone());
        let thread = thread::Builder::new().name("attackers".to_owned()).spawn(move || {
            // On Linux the priority is that of the thread.
            let nice = getpriority_process(None).unwrap_or(0);
            setpriority_process(None, nice + NICE).ok();
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let scene = Rc::new(Scene {
                target,
                tokens,
                kinds: args.kinds().len(),
                pace: args.pace(),
                tallies: RefCell::default(),
                bombs: RefCell::default(),
                scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            });
            Ok(LocalSet::new().block_on(&runtime, attack(args, scene, stopped)))
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends them and closes their connections; what became of their attacks.
    ///
    /// # Errors
    /// If their thread has panicked.
    pub(in crate::cli::bench::flood) fn stop(self) -> Result<Tallies> {
        // Fails only if the thread has ended, which joining tells.
        self.stop.send(()).ok();
        self.thread.join().map_err(|_| anyhow!("the attackers' thread panicked"))?
    }
}

async fn attack(args: Args, scene: Rc<Scene>, stopped: oneshot::Receiver<()>) -> Tallies {
    let kinds = args.kinds();
    for number in 0..args.hostile {
        let kind = kinds[number % kinds.len()];
        scene.tallies.borrow_mut().entry(kind).or_default().clients += 1;
        let source = args.source(number / kinds.len());
        spawn_local(Attacker::new(kind, number, scene.clone(), source).live());
    }
    // Ends either way.
    stopped.await.ok();
    scene.tallies.take()
}
