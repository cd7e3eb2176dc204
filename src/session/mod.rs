//! Sessions: the life of a socket in a namespace, from its CONNECT to its exit.
//!
//! Whoever passes `Sessions::admit` has a session; its events are handled one
//! after another, in the order sent; whatever ends the socket ends in
//! `Session::exit`. A session decides what its socket may do, and never touches
//! bytes.

mod ack;
mod admit;
mod authenticate;
mod changes;
mod client_events;
mod codec;
mod deadlines;
mod elsewhere;
mod event;
mod expiries;
mod greeting;
mod identify;
mod listing;
mod message;
mod namespaces;
mod ping;
mod presence;
mod queue;
mod records;
mod recover;
mod revoke;
mod saved;
mod session;
mod sessions;
mod shared;
mod sharing;
mod subscribe;
mod unsubscribe;

pub use admit::Reception;
pub use client_events::ClientEvents;
pub use listing::ConnectionView;
pub use sessions::{Services, Sessions, saved_at};
