//! What is typed, and the contradictions in it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::ValueEnum;
use serde::Serialize;

use super::payload;

/// Flags of `tiercast bench` without a mode.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct LoadArgs {
    /// Server to measure; a path in it is that of the door. Several are nodes of one cluster, over which clients and
    /// publishers are spread.
    #[arg(long, default_value = "http://127.0.0.1:5000/ws/", value_name = "URL", value_delimiter = ',')]
    pub url: Vec<String>,
    /// Clients to connect.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub clients: usize,
    /// Events to publish [default: 200, or 0 with --idle].
    #[arg(long, value_name = "N")]
    pub events: Option<u64>,
    /// Events to publish first, without measuring them.
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub warmup: u64,
    /// Events a second, over all publishers [default: back to back].
    #[arg(long, value_name = "N")]
    pub rate: Option<f64>,
    /// Bytes of an event's payload.
    #[arg(long, default_value_t = 260, value_name = "BYTES")]
    pub size: usize,
    /// What clients speak.
    #[arg(long, value_enum, default_value_t)]
    pub client: Kind,
    /// Forms of the events that Socket.IO clients ask for; plain ones have one.
    #[arg(long, value_enum, default_value_t = Form::Named)]
    pub form: Form,
    /// Offer permessage-deflate, as browsers do.
    #[arg(long)]
    pub deflate: bool,
    /// How clients connect.
    #[arg(long, value_enum, default_value_t = Transport::Websocket)]
    pub transport: Transport,
    /// Publishers that share the events, each on a connection of its own.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub publishers: usize,
    /// Clients to connect in a second; the events wait until all are there.
    #[arg(long, default_value_t = 1_000.0, value_name = "N")]
    pub connect_rate: f64,
    /// Connect, wait for so long, and report the memory of an idle connection.
    #[arg(long, value_name = "SECONDS")]
    pub idle: Option<f64>,
    /// Clients that stop reading once they have subscribed.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub stalled: usize,
    /// Process of the server, whose CPU time and memory are read; of several the sum.
    #[arg(long, value_name = "PID", value_delimiter = ',')]
    pub pid: Vec<u32>,
    /// Organization to publish to.
    #[arg(long, default_value = "org_bench", value_name = "ID")]
    pub organization: String,
    /// API key to publish with.
    #[arg(long, env = "TIERCAST_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub api_key: Option<String>,
    /// Threads that run the clients.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub threads: usize,
    /// Also write the report as JSON.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What a client speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Socket.IO.
    #[default]
    Socketio,
    /// Plain JSON over a WebSocket, in the dialect of Intraday.
    Plain,
}

impl Kind {
    /// The query of its WebSocket handshake, by which the door tells the kinds apart.
    pub(super) fn query(self) -> &'static str {
        match self {
            Self::Socketio => "?EIO=4&transport=websocket",
            Self::Plain => "",
        }
    }
}

/// Forms of an event that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// The event under its own name.
    Named,
    /// The event as a `message` envelope.
    Envelope,
    /// One frame of each.
    Both,
}

impl Form {
    /// The value of `forms` in `authenticate`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Envelope => "envelope",
            Self::Both => "both",
        }
    }

    /// How many frames one event is.
    pub(super) fn frames(self) -> u64 {
        match self {
            Self::Named | Self::Envelope => 1,
            Self::Both => 2,
        }
    }
}

/// How a client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WebSocket from the start.
    Websocket,
    /// HTTP long polling, without an upgrade.
    Polling,
}

impl Transport {
    /// How many connections one client has.
    pub(super) fn connections(self) -> u64 {
        match self {
            Self::Websocket => 1,
            Self::Polling => 2,
        }
    }
}

impl LoadArgs {
    /// Events to publish and measure.
    pub(super) fn measured_events(&self) -> u64 {
        self.events.unwrap_or(if self.idle.is_some() { 0 } else { 200 })
    }

    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.clients > 0, "--clients must be at least 1");
        ensure!(self.publishers > 0, "--publishers must be at least 1");
        ensure!(self.threads > 0, "--threads must be at least 1");
        ensure!(self.connect_rate > 0.0, "--connect-rate must be above 0");
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "--rate must be above 0");
        ensure!(self.idle.is_none_or(|idle| idle >= 0.0 && idle.is_finite()), "--idle must be 0 or more seconds");
        ensure!(self.stalled < self.clients, "--stalled must leave at least one of --clients reading");
        let least = payload::least_size(&self.organization);
        ensure!(self.size >= least, "--size must be at least {least} bytes for this organization");
        let polling = self.transport == Transport::Polling;
        ensure!(!(polling && self.deflate), "--deflate is an extension of WebSocket; leave it out with polling");
        ensure!(!(polling && self.stalled > 0), "--stalled needs WebSocket: a poll that nobody sends stalls nothing");
        let plain = self.client == Kind::Plain;
        ensure!(!(plain && polling), "--client plain needs WebSocket; leave out --transport polling");
        ensure!(!(plain && self.form != Form::Named), "--form is of Socket.IO clients; leave it out with plain ones");
        Ok(())
    }
}
