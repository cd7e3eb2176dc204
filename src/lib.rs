//! Tiercast: a standalone Socket.IO-compatible real-time server for operations
//! dashboards.
//!
//! # Layout
//!
//! Arrows point down: `server -> doors -> session -> presence -> hub ->
//! delivery -> connection`, over services that answer and a vocabulary that does no I/O.
//! `ARCHITECTURE.md` walks through it; `tests/layering.rs` holds it.

pub mod server;

pub mod doors;
pub mod session;

pub mod presence;

pub mod hub;

pub mod connection;
pub mod delivery;
pub mod log;

pub mod auth;
pub mod backend;
pub mod limits;
pub mod register;
pub mod stats;

pub mod cluster;
pub mod config;
pub mod dialects;
pub mod events;
pub mod redis;
pub mod rooms;
pub mod wire;
