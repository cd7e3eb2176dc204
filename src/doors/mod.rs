//! Doors: bytes in and out, over one port.
//!
//! A door checks who knocks, turns a request into a call of a session or the
//! hub, and an outcome into a response. A door never reaches a socket itself.

mod client_bundle;
mod demo;
mod draining;
mod elsewhere;
mod handshake;
mod headers;
mod http;
mod ingress;
mod intakes;
mod origin;
mod plain;
mod polling;
mod router;
mod socketio;
mod state;
mod upgrade;

pub use demo::run as run_demo;
pub use elsewhere::Neighbours;
pub use http::answer_others;
pub use ingress::run as run_ingress;
pub use plain::{PlainDoor, plain_doors};
pub use router::{node_router, plain_router, router};
pub use socketio::Engine;
pub use state::{Doors, Hop, Peer, Scheme};
