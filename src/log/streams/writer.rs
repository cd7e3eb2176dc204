//! Appending: what comes while Redis is busy goes to it together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use super::error::StreamError;
use super::shard::{Batch, Shard};

/// Records of a batch, and their bytes.
const MOST: usize = 256;
const MOST_BYTES: usize = 1024 * 1024;

/// The first pause before Redis is asked again, which doubles, and the longest.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A record on its way.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) record: Vec<u8>,
    /// Until when somebody waits; without it as long as it takes.
    pub(super) until: Option<Instant>,
    /// Hears the life and the offset.
    pub(super) done: Option<oneshot::Sender<Result<(u64, u64), StreamError>>>,
    /// Its place among those that wait.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Append {
    fn answer(&mut self, outcome: Result<(u64, u64), StreamError>) {
        if let Some(done) = self.done.take() {
            done.send(outcome).ok();
        }
    }
}

/// Appends what is queued, in order, until `stopping` is cancelled.
pub(super) async fn run(
    shard: Arc<Shard>,
    most_bytes: u64,
    mut queue: UnboundedReceiver<Append>,
    stopping: CancellationToken,
) {
    let most_records = shard.most.load(Ordering::Relaxed);
    let mut mean = 0;
    let mut number = 0;
    let mut queued: Vec<Append> = Vec::new();
    loop {
        if queued.is_empty() {
            tokio::select! {
                _ = queue.recv_many(&mut queued, MOST) => {}
                () = stopping.cancelled() => return,
            }
            if queued.is_empty() {
                return;
            }
        }
        let mut bytes = 0;
        let fits = |append: &&Append| {
            bytes += append.record.len();
            bytes <= MOST_BYTES
        };
        let count = queued.iter().take_while(fits).count().max(1);
        let batch: Vec<Append> = queued.drain(..count).collect();
        let size = batch.iter().map(|append| append.record.len() as u64).sum::<u64>() / count as u64;
        mean = if mean == 0 { size } else { (mean * 15 + size) / 16 };
        shard.most.store(most_records.min(most_bytes / mean.max(1)).max(1), Ordering::Relaxed);
        number += 1;
        tokio::select! {
            () = append(&shard, number, batch) => {}
            () = stopping.cancelled() => return,
        }
    }
}

/// Appends one batch, however often that has to be tried, as long as anybody waits for it.
async fn append(shard: &Shard, number: u64, mut batch: Vec<Append>) {
    let mut pause = PAUSE;
    loop {
        let error = match shard.append(number, batch.iter().map(|append| append.record.as_slice())).await {
            Ok(Batch::There(life, first)) => {
                for (offset, append) in (first..).zip(&mut batch) {
                    append.answer(Ok((life, offset)));
                }
                return;
            }
            Ok(other) => {
                let over = if let Batch::Lost(life) = other { Some(life) } else { None };
                match shard.begin(over).await {
                    Ok(life) => {
                        shard.begins(life);
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        let told = shard.error(&error);
        let is_away = matches!(told, StreamError::Away(_));
        let now = Instant::now();
        for append in &mut batch {
            // It stays in the batch, which Redis knows by its number.
            if !is_away || append.until.is_some_and(|until| until <= now) {
                append.answer(Err(told.clone()));
            }
        }
        if batch.iter().all(|append| append.done.is_none()) {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}
