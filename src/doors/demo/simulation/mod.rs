//! The demo's call centre: queues, people and alerts that are made up but behave.
//!
//! Pure: a simulation turns the time of one step into that step's events, and
//! one seed always tells one story. Nothing here publishes or waits.

mod alerts;
mod figures;
mod kpis;
mod notices;
mod numbers;
mod people;
mod queues;
mod rules;
mod simulation;
mod step;

pub(super) use simulation::Simulation;
