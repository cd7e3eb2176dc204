//! Dialects: how clients on plain WebSockets say what Socket.IO clients say.
//!
//! A dialect is data and pure functions: it reads a frame as the events that a
//! Socket.IO client would send, and writes events, answers and errors as frames.
//! One file each; nothing here knows connections, sessions or rooms.

mod dialect;
mod frame;
mod intraday;

pub use dialect::{Asked, Dialect, Ending, Request, Visitor};
pub use frame::grouped;
pub use intraday::{Intraday, Intraday as Apier, Intraday as Dexter, Intraday as Gym, Intraday as WorkMatrix};
