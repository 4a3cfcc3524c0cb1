//! Loop-free distance-vector routing with signed origins and a provable metric, without IO.
//!
//! # What it computes
//! For every node of the mesh (up to K of them) the neighbour to which packets for it go, on a
//! path of least cost, such that no packet ever runs in a circle: not after the dust has settled
//! but at every instant, whatever is lost, late, restarted or evicted.
//!
//! # How
//! Nodes tell neighbours what they know: "I reach v at seqno s and metric m". Everything rests on
//! one number kept per destination, the **feasibility distance** (FD): the best rank, newer
//! first, then nearer, that this node has had since it last forgot. A neighbour may be selected
//! only if its advertised rank is strictly better than our FD. Then FDs fall strictly along every
//! chain of next hops, and a chain whose numbers fall cannot close (`reselect`). The price is
//! that a node may find nothing feasible although there is a path: then it *asks* for a newer
//! seqno, which only the origin can make, and the answer resets everyone on its way
//! (`requests`).
//!
//! State is **hard**: a change is told once over a reliable, ordered channel and holds until it
//! is taken back or the adjacency closes. A node that loses a route retracts it and keeps the FD
//! as a tombstone until everyone who was told has *processed* the retraction: the neighbour
//! confirms positions in our stream of frames ([`Router::on_processed`]). Nothing is freed by
//! time alone. A closed adjacency takes all its state with it, at either end, at once.
//!
//! # Whom to believe
//! Nobody speaks for another: a destination exists only by a record signed with its own key
//! (`origin`). Nobody claims a shorter path than he heard of: every metric carries a value of a
//! hash chain that the origin began and that can only be continued upwards (`chain`). A claim
//! is verified before anything depends on it (`receive`). What is left to a liar is to drop
//! packets, and to hide the cost of one link.
//!
//! # Saying little
//! There are no queues of messages. Each neighbour has a set of destinations to look at, and the
//! words are found when a frame is built (`transmit`). First words and retractions go at once;
//! changes of metric wait 50 ms for company and are told only if they matter to the whole path; a
//! newer seqno alone is told every ten minutes, or to those who asked.
//!
//! # Reading on
//! `router` has the public face. `selection`, `feasibility` and `admission` are pure
//! choices with their tables of tests. `rules` names what must never be left out; `explorer`
//! (tests) takes each rule out and shows what breaks.

mod admission;
mod chain;
mod clock;
mod config;
mod destination;
mod doubt;
mod error;
mod event;
mod feasibility;
mod neighbour;
mod origin;
mod rank;
mod receive;
mod requests;
mod reselect;
mod router;
mod rules;
mod selection;
mod stats;
mod table;
mod timers;
mod transmit;
mod twins;
mod verifier;

pub use chain::{ChainKey, ChainValue};
pub use config::{BAD_PAUSE, BATCH, Config, DEFAULT_K, EXPIRY, REFRESH, Significance};
pub use error::Misbehaviour;
pub use event::{Advertisement, Event, RouteChange, RouteView};
pub use router::Router;
pub use stats::{Count, Counts, MessageKind, Stats};
pub use verifier::{DirectVerifier, Origin, SharedMemo, Verifier};

#[cfg(test)]
mod tests;
