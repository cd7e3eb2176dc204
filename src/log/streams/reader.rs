//! Waiting for Redis on a thread that may wait.
//!
//! The answers come in on a thread of their own, so that nobody waits for a
//! thread that waits for it.

use std::pin::Pin;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread that asks for those who may wait.
#[derive(Debug)]
pub(super) struct Reader {
    jobs: UnboundedSender<Job>,
    timeout: Duration,
}

impl Reader {
    /// A thread of its own, until this is dropped; nobody waits longer than `timeout`.
    pub(super) fn start(timeout: Duration) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (jobs, mut queue) = unbounded_channel::<Job>();
        let work = move || {
            runtime.block_on(async {
                while let Some(job) = queue.recv().await {
                    tokio::spawn(job);
                }
            });
        };
        std::thread::Builder::new().name("redis-reader".into()).spawn(work)?;
        Ok(Self { jobs, timeout })
    }

    /// What comes of asking; none if it takes too long.
    pub(super) fn wait<T: Send + 'static>(&self, asking: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (answer, answered) = mpsc::channel();
        let job = async move {
            answer.send(asking.await).ok();
        };
        self.jobs.send(Box::pin(job)).ok()?;
        answered.recv_timeout(self.timeout).ok()
    }
}
