//! The HTTP calls of the systems behind the plain doors: thin, over the one way to publish.

mod apier;
mod dexter;
mod gym;
mod intake;
mod metrics;
mod workmatrix;

pub(super) use intake::routes;
