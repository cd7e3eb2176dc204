//! A flood: thousands of hostile connections while honest clients receive.
//!
//! What counts is what the honest clients notice of it, how much memory the
//! server takes, and whether everything is back at its start level afterwards.
//! [`hostile`] holds what the attackers do, one function each.

mod api;
mod args;
mod honest;
mod hostile;
mod level;
mod report;
mod run;
mod setup;

pub(super) use args::Args;
pub(super) use run::run;
