//! The feed: publishes the simulation, the same way as the HTTP API does.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::to_raw_value;
use tokio_util::sync::CancellationToken;

use super::simulation::Simulation;
use crate::config::DemoDoor;
use crate::hub::{Hub, Publication};
use crate::rooms::ScopeFields;
use crate::wire::{WireError, now_iso, now_ms};

/// Publishes at every interval until `stopping` is cancelled.
pub async fn run(hub: Arc<Hub>, demo: DemoDoor, stopping: CancellationToken) {
    let mut simulation = Simulation::new(now_ms().unsigned_abs(), &demo.organization);
    let mut tick = tokio::time::interval(Duration::from_millis(demo.interval_ms.max(1)));
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stopping.cancelled() => return,
        }
        for (event, payload) in simulation.step(&now_iso()) {
            if let Err(error) = publish(&hub, event, &payload).await {
                tracing::warn!(event, %error, "the demo could not publish");
            }
        }
    }
}

async fn publish(hub: &Arc<Hub>, event: &str, payload: &serde_json::Value) -> Result<(), WireError> {
    let payload = to_raw_value(payload).map_err(|_| WireError::Internal)?;
    let draft = hub.draft(Publication::new(event, payload, ScopeFields::default()))?;
    hub.publish(draft).await.map(|_| ())
}
