//! What other services publish through Redis, without HTTP: the ingress stream, and `@socket.io/redis-emitter`.

mod emitted;
mod emitter;
mod payload;
mod publish;
mod queue;
mod stream;

pub use publish::run;
