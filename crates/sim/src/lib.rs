//! A seeded network of real nodes under virtual time, with faults and checkers.
//!
//! A run is drawn from four words ([`Params`]): seed, number of hosts, topology, faults. Faults
//! happen while checkers look at every event (see `check`); then the network is left in peace,
//! and every connected pair must be able to talk within [`SETTLE_BOUND`]. A run that fails prints
//! the command that repeats it, datagram for datagram:
//!
//! ```text
//! cargo run --release -p sinew-sim --bin sinew-sim -- --seed 7 --nodes 50 --topology ring --faults all
//! ```
//! What the simulator pretends is small and said where it is pretended: `link` (a datagram's
//! fate), `streams` (connections), `host` (clocks, crashes), `traffic` and `workloads` (programs),
//! `networks` (operators, disks), `nat` (translators). Everything
//! else is the node that the daemon runs, handshakes and encryption included; only checks of
//! origin signatures and metric chains are shared among hosts, for they are pure functions.

mod attack;
mod check;
mod drive;
mod explain;
mod fault;
mod finding;
mod host;
mod liar;
mod link;
mod nat;
mod networks;
mod params;
mod queue;
mod scenario;
mod streams;
mod topology;
mod traffic;
mod underlay;
mod workloads;
mod world;

pub use attack::Attack;
pub use check::Violation;
pub use fault::{Fault, Faults, WallClock};
pub use finding::Finding;
pub use host::Host;
pub use liar::Lie;
pub use link::{Direction, Fate, Link};
pub use nat::{Depends, NatKind, Ports, Realms};
pub use params::{Params, Plan};
pub use scenario::{Failure, SETTLE_BOUND, Summary, run, run_logged};
pub use topology::{Edge, Topology};
pub use traffic::{Apps, Exchange};
pub use underlay::Counts;
pub use workloads::{Call, Workload, Workloads};
pub use world::{Log, World};
