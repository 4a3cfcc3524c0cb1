//! Loop-free distance-vector routing with signed origins and a provable metric, without IO.
mod admission;
mod budget;
mod chain;
mod clock;
mod config;
mod destination;
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
mod verifier;
#[cfg(test)]
mod explorer;
#[cfg(test)]
mod puppet;
#[cfg(test)]
mod world;

pub use chain::{ChainKey, ChainValue};
pub use config::{BAD_PAUSE, BATCH, Config, DEFAULT_K, EXPIRY, REFRESH, Significance};
pub use error::Misbehaviour;
pub use event::{Advertisement, Event, RouteChange, RouteView};
pub use router::Router;
pub use stats::{Count, Counts, MessageKind, Stats};
pub use verifier::{DirectVerifier, Origin, SharedMemo, Verifier};
