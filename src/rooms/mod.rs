//! Rooms: from ids and scopes to the names of rooms and namespaces, and back.
//!
//! Pure functions; nothing here awaits, locks or reads the config. The session
//! decides *whether* a socket may join, delivery *who* is in a room; this
//! module only says *which* room.

mod id;
mod name;
mod namespace;
mod scope;

pub use id::{Id, IdError};
pub use name::{RoomName, channel_room, implicit_room, scope_room, user_room};
pub use namespace::{NAMESPACE_PATTERNS, namespace_of, parse_namespace};
pub use scope::{Scope, ScopeFields};
