//! Everything that goes through the wire: one file per family of behaviours.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    unreachable_pub,
    reason = "a test stops at the first surprise, and nothing here is anyone's API"
)]

mod abuse;
mod acks;
mod api_keys;
mod audit;
mod authenticate;
mod backlog;
mod bad_input;
mod batch;
mod bench;
mod chaos;
mod cli;
mod client_events;
mod cluster;
mod cluster_api;
mod cluster_limits;
mod cluster_presence;
mod cluster_sessions;
mod delivery;
mod drain;
mod escalation;
mod explain;
mod filters;
mod following;
mod forms;
mod freshness;
mod headers;
mod history;
mod http_api;
mod idempotency;
mod implicit;
mod ingress;
mod jwt;
mod kit;
mod limits;
mod local;
mod moving;
mod namespaces;
mod offline;
mod order;
mod origins;
mod passing_on;
mod payloads;
mod plain;
mod presence;
mod property;
mod proxies;
mod rates;
mod recovery;
mod redis_kit;
mod restart;
mod shared_log;
mod shutdown;
mod since;
mod smuggling;
mod stall;
mod subscribe;
mod tenants;
mod theft;
mod tls;
mod tokens;
mod unkept;
mod upgrade;
