//! The two forms of a catalogue event, and which of them a socket wants.

use serde::{Deserialize, Serialize};

/// One way to write an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The Socket.IO event is the event's own name: `42["kpi:update",{…}]`.
    Named,
    /// The Socket.IO event is `message`, and its argument tells the rest: `42["message",{"event":"kpi:update",…}]`.
    Envelope,
}

/// The forms a socket wants every event in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Forms {
    /// Only the event's own name.
    Named,
    /// Only the envelope.
    Envelope,
    /// Both, named first, next to each other.
    #[default]
    Both,
}

impl Forms {
    /// The forms in the order they are written.
    pub fn list(self) -> &'static [Form] {
        match self {
            Self::Named => &[Form::Named],
            Self::Envelope => &[Form::Envelope],
            Self::Both => &[Form::Named, Form::Envelope],
        }
    }

    /// These forms; none if there are none.
    pub fn of(forms: impl IntoIterator<Item = Form>) -> Option<Self> {
        forms.into_iter().fold(None, |sum, form| match (sum, form) {
            (None | Some(Self::Named), Form::Named) => Some(Self::Named),
            (None | Some(Self::Envelope), Form::Envelope) => Some(Self::Envelope),
            _ => Some(Self::Both),
        })
    }

    /// The value of `?forms=` or of the `forms` field, if it is one.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "named" => Some(Self::Named),
            "envelope" => Some(Self::Envelope),
            "both" => Some(Self::Both),
            _ => None,
        }
    }
}
