//! The statuses of a socket, and so of its user.

use serde::{Deserialize, Serialize};

use crate::wire::WireError;

/// A status, from the weakest to the strongest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not there, or so it is to look.
    Offline,
    /// There, but not at it.
    Away,
    /// There, as every socket is that says nothing else.
    #[default]
    Online,
    /// There, and not to be disturbed.
    Busy,
}

impl Status {
    /// All of them, from the strongest to the weakest.
    pub(super) const STRONGEST_FIRST: [Self; 4] = [Self::Busy, Self::Online, Self::Away, Self::Offline];

    /// The status of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn parse(name: &str) -> Result<Self, WireError> {
        match name {
            "online" => Ok(Self::Online),
            "away" => Ok(Self::Away),
            "busy" => Ok(Self::Busy),
            "offline" => Ok(Self::Offline),
            other => {
                let why = format!("must be \"online\", \"away\", \"busy\" or \"offline\", and is {other:?}");
                Err(WireError::malformed("status", &why))
            }
        }
    }
}
