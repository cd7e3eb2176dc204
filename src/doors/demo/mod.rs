//! The demo: a live dashboard at `/`, and data that is made up for it.

mod data;
mod feed;
mod page;

pub use feed::run;
pub(super) use page::routes;
