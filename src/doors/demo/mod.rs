//! The demo: a live dashboard at `/`, and data that is made up for it.

mod feed;
mod page;
mod simulation;

pub use feed::run;
pub(super) use page::routes;
