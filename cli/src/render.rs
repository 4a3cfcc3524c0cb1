//! Answers as text for people: pure functions from the API's objects.

pub(crate) mod gateway;
pub(crate) mod graph;
pub(crate) mod network;
pub(crate) mod publish;
mod reach;
mod status;
mod svg;
mod table;
mod tables;
mod units;
pub(crate) mod workload;

pub(crate) use reach::{diagnosis, netcheck, why};
pub(crate) use status::status;
pub(crate) use svg::svg;
pub(crate) use tables::{
    changes, drops, hops, key, peer_changed, peers, probe, route_answer, routes, sessions, summary,
};
pub(crate) use units::{age, printable};
