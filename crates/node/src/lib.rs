//! The whole node as one machine without IO.
//!
//! ```text
//!            handle_tun ─┐                          ┌─▶ poll_transmit
//!      handle_datagrams ─┼─▶ worker ──reports──▶ control ─▶ poll_event
//!        handle_timeout ─┘     ▲  (fast path)       │  ├─▶ poll_tun
//!                              └── FIB, keys, links ┘  └─▶ poll_timeout
//! ```
//!
//! [`Node`] composes the mechanisms: sessions (who we talk to and with which keys), routing
//! (which way), forwarding (what becomes of one packet) and path (what is known of one link).
//! None of them knows the others; they meet here, as values carried from one to the next. The
//! daemon and the simulator drive this very type, the one with sockets and a clock, the other with
//! a seed and virtual time.
//!
//! The fast path (`worker`) is kept apart from the control side on purpose: it reads published
//! snapshots and hands every miss over as a report, so that it can run on threads of its own.

mod config;
mod control;
mod counts;
mod dial;
mod direct;
mod event;
mod finding;
mod held;
mod inspect;
mod link;
mod links;
mod members;
mod neighbours;
mod networks;
mod node;
mod probe;
mod searches;
mod spacing;
mod status;
mod uplinks;
mod ways;
mod worker;

/// Private networks: the documents' machine, which a node drives, and the values it speaks in.
pub use sinew_overlay as overlay;

pub use config::{Config, Limits, PeerConfig, UdpSocket};
pub use counts::{Counts, HandshakeResult, Handshakes};
pub use dial::{Answer, CandidateStatus};
pub use direct::{Attempt, Endpoints, Meeting, Outcome, ReachStatus};
pub use event::{Event, PingAnswer, TraceHop};
pub use finding::FindingStatus;
pub use networks::Interface;
pub use node::Node;
pub use probe::Asked;
/// Node records, and the rules of automatic links.
pub use sinew_directory as directory;
pub use sinew_forwarding::offload::Offloads;
pub use sinew_forwarding::{InboundPolicy, Ports, Rule, Service};
pub use sinew_path::View;
pub use sinew_path::punch::{is_place, is_private};
pub use sinew_routing::{ChainKey, ChainValue, Origin, SharedMemo, Verifier};
/// Routing messages, as [`Counts`] has them.
pub use sinew_routing::{Count as MessageCount, Counts as MessageCounts, MessageKind};
pub use sinew_session::Accept;
pub use sinew_wire::punch::Mapping;
pub use status::{LinkState, PeerStatus, RouteStatus, SessionStatus, Status};
pub use ways::{Way, Ways};
pub use worker::Transmit;
