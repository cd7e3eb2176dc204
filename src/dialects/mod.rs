//! Dialects: how clients on plain WebSockets say what Socket.IO clients say.
//!
//! A dialect is data and pure functions: it reads a frame as the events that a
//! Socket.IO client would send, and writes events, answers and errors as frames.
//! One file each; nothing here knows connections, sessions or rooms.

mod apier;
mod dexter;
mod dialect;
mod frame;
mod generic;
mod gym;
mod intraday;
#[cfg(test)]
mod properties;
mod workmatrix;

pub use apier::Apier;
pub use dexter::Dexter;
pub use dialect::{Asked, Dialect, Ending, Request, Visitor};
pub use frame::grouped;
pub use generic::{Generic, Shape};
pub use gym::Gym;
pub use intraday::Intraday;
pub use workmatrix::WorkMatrix;
