//! Bodies of requests and answers; field names are those of the outside interface.
//!
//! Durations are in milliseconds (`*_ms`), sizes in bytes, rates in bytes per second. A value
//! that is not known is `null`; its key is always there. Node ids are 52 base32 characters,
//! addresses IPv6 text.

mod config;
mod graph;
mod peers;
mod probe;
mod routes;
mod sessions;
mod status;

pub use config::{LoadedConfig, Reload};
pub use graph::{Graph, GraphLink, GraphNode, LinkKind};
pub use peers::{Direction, Peer, PeerAdd, PeerChanged, PeerRemove, PeerState, Peers};
pub use probe::{PingProbe, PingRequest, PingSummary, Trace, TraceHop, TraceRequest};
pub use routes::{Route, RouteAnswer, RouteOrigin, RouteQuery, Routes, RoutesShow};
pub use sessions::{DropCount, Drops, Session, Sessions};
pub use status::{Health, Key, Listener, Offload, Severity, Status};

#[cfg(test)]
mod tests;
