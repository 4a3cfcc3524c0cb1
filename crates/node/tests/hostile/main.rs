//! Attacks on a whole node, one rule at a time (protocol 08, findings).
//!
//! ```text
//!   node 0 ── node 1 …        real nodes
//!     │
//!   puppet 0 ── puppet 1 …    sessions whose every record the test writes by hand
//! ```
//! A puppet has a key, handshakes honestly and is then free to say what no honest node says. The
//! first is a neighbour of node 0; the others live behind it, and it is their relay.

#[path = "../common/mod.rs"]
mod common;
mod puppet;

mod direct;
mod links;
mod metadata;
mod neighbours;
mod packets;
mod paths;
mod relays;
mod reports;
mod requests;
mod sizes;
mod strangers;
