//! Connections: one Engine.IO session each, and the bytes of its WebSocket.
//!
//! A WebSocket's TCP stream is ours, and so is the TLS on it. socketioxide gets an [`EngineStream`] over
//! it, which never blocks: what goes out, its frames and our own, waits in the
//! outbox and is written by a flusher. What comes in is checked frame by frame
//! before socketioxide sees it. Nothing here knows sessions or rooms.

mod attachments;
mod closing;
mod connecting;
mod connection;
mod deflate;
mod flusher;
mod frame;
mod inbound;
mod inspect;
mod journal;
mod lanes;
mod outbox;
mod payload;
mod peer;
mod plane;
mod posted;
mod probe;
mod queues;
mod reader;
mod stream;
mod tls;
mod transport;
mod writer;

pub use connection::{Connection, Handle};
pub use deflate::negotiate;
pub use flusher::Handover;
pub use frame::{deflated_text_frame, text_frame};
pub use journal::{Journal, Read};
pub use lanes::{IN_LINE, Kind, Lost, Outgoing};
pub use payload::{Format, measured};
pub use peer::{EngineIo, Peer, Plain};
pub use plane::{EngineControl, Intake, Plane, Settings};
pub use posted::Posted;
pub use probe::Prober;
pub use reader::FrameReader;
pub use stream::EngineStream;
pub use transport::Transport;
