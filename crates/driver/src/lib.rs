//! The async shell around the node: sockets, TUN, timers and the control API, in one task.
//!
//! The node (`sinew-node`) decides everything and does no IO; this crate does the IO and decides
//! nothing. [`run`] sets up the host, feeds the node until a signal comes, and undoes what it did.

mod api;
mod attach;
mod codel;
mod command;
mod confine;
mod dialling;
mod error;
mod finding;
mod gateway;
mod host_resolver;
mod ingress;
mod interfaces;
mod metrics;
mod names;
mod network;
mod networks;
mod offload;
mod operate;
mod outlet;
mod persist;
mod portmap;
mod publications;
mod reach;
mod remembered;
mod selftest;
mod setup;
mod shell;
mod signals;
mod size;
mod socket_queue;
mod sockets;
mod tenants;
mod twins;
mod view;
mod wait;
mod workloads;

pub use error::RunError;
pub use setup::{Start, run};
