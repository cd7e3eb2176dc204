//! The audit log: a line for everything that is done to others, and for what is refused.
//!
//! It says who, what, of which organization and with which outcome, and never
//! holds a payload, a key or a token. `[logging] audit` switches the lines by
//! their target.

use tracing::info;

use crate::rooms::{Id, Scope};

/// Target of the lines.
pub const AUDIT: &str = "tiercast::audit";

/// What somebody does; fields that do not apply are left out of the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deed<'a> {
    /// Name of a key, or a user.
    pub who: &'a str,
    /// What: `publish`, `disconnect`, or a method and a route.
    pub action: &'a str,
    /// Address that it comes from.
    pub address: Option<std::net::IpAddr>,
    /// Organization that it is done to; none for all of them.
    pub organization: Option<&'a str>,
    /// Part of the organization.
    pub department: Option<&'a str>,
    /// Part of the organization or department.
    pub queue: Option<&'a str>,
    /// Event that is published.
    pub event: Option<&'a str>,
    /// Message that this makes.
    pub message_id: Option<&'a str>,
    /// User, or id of a token, that it is about.
    pub subject: Option<&'a str>,
    /// Public id of the socket that does it, or that it is done to.
    pub socket_id: Option<&'a str>,
}

impl<'a> Deed<'a> {
    /// A deed at a scope, or at all of them.
    pub fn at(scope: Option<&'a Scope>) -> Self {
        Self {
            organization: scope.map(|scope| scope.organization.as_str()),
            department: scope.and_then(|scope| scope.department.as_ref()).map(Id::as_str),
            queue: scope.and_then(|scope| scope.queue.as_ref()).map(Id::as_str),
            ..Self::default()
        }
    }

    /// It was done.
    pub fn done(&self) {
        self.write("done", None);
    }

    /// It was refused, over HTTP with this status.
    pub fn refused(&self, status: u16) {
        self.write("refused", Some(status));
    }

    fn write(&self, outcome: &'static str, status: Option<u16>) {
        let Self { who, action, address, organization, department, queue, event, message_id, subject, socket_id } =
            *self;
        let address = address.map(tracing::field::display);
        info!(
            target: AUDIT,
            who, action, outcome, status, address, organization, department, queue, event, message_id, subject, socket_id
        );
    }
}
