//! The vocabulary of the wire: error codes, ids, forms, times and Socket.IO packets.
//!
//! Everything a client or a caller can see by name is spelt here, once.
//! Pure functions and plain types; `docs/contract.md` is the text they follow.

mod error;
mod forms;
mod hex;
mod id;
pub mod message;
mod object;
pub mod packet;
mod time;

pub use error::{Code, WireError};
pub use forms::{Form, Forms};
pub use hex::{from_hex, to_hex};
pub use id::{Pid, PublicId, fresh_message_id, fresh_subscription_id, random_letters};
pub use object::{fields_in_order, nested_object, read_object, with_default, with_field};
pub use time::{iso, now_iso, now_ms};
