//! Sessions between identities: associations, epochs, paths, adjacencies and the reliable control
//! channel, as one machine without IO (protocol A2, A3, A5).
//!
//! # What a session is made of
//! Two things that other designs call "session" are kept apart here, since mixing them up either
//! loses state on a rekey or keeps state across a restart:
//!
//! * the **association**: both sides still know each other. It is named by a random number from
//!   each side; streams and bindings live as long as both numbers stay.
//! * its **epochs**: one keypair each, made by a Noise handshake, renewed every two minutes. Both
//!   sides send on the epoch with the highest generation that they know the other to have.
//! * the **adjacency**: while a validated direct path exists, routing may speak, under a number
//!   that is never used twice within an association.
//!
//! ```text
//!            ┌──────────────────────── association (own id, peer's id) ───────────────────────┐
//!            │ epochs: current ─ previous        streams: 0 routing  1 documents  2 requests  │
//!            │ paths: in use ─ validated ─ candidates ─ dead       adjacency: number or none  │
//!            └─────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! Links and end-to-end sessions are the same machine. Keys are bound to identities, not to paths:
//! if the direct path dies the session goes on over relays, and comes back.
//!
//! # Who does what
//! The fast path seals and opens user packets by itself, with the handles of [`KeyTable`]. It brings
//! here what it cannot decide: handshakes, records of kinds 0 to 3, and [`Notice`]s. The machine
//! answers with events, datagrams and a changed table. It knows nothing of routing, MTU search or
//! liveness; the node tells it that a path is dead or that another one is better.
//!
//! # What holds whatever a peer or stranger does
//! * Nothing changes on the responder until the first record opens: a replayed or forged HS1 costs
//!   one slot for ten seconds.
//! * A source address counts only after a round trip through it.
//! * Every table, buffer and queue has a named bound, and strangers without mac1 get no answer.
//! * No clock is trusted: stamps only order, and a stale one is told the newest.

mod adjacency;
mod arq;
mod association;
mod config;
mod epoch;
mod error;
mod event;
mod handshake;
mod indexes;
mod info;
mod keys;
mod lives;
mod paths;
mod ratelimit;
mod sessions;
mod shared;
mod stamps;
mod timers;
mod window;

pub use config::{Accept, Config};
pub use error::SendError;
pub use event::{Arrival, AttemptFailure, CloseReason, Event, Notice, Receipt, Target, To, Transmit};
pub use info::{PathInfo, SessionInfo};
pub use keys::{
    KeyTable, MAX_LANES, OpenEpoch, Opened, OpenedFrag, OpenedRouted, SealEpoch, SealLane, SessionView,
    Traffic, TrafficCounts,
};
pub use sessions::Sessions;
pub use sinew_wire::segment::StreamClass;
