//! The vocabulary every other crate speaks: who a node is, where it is found in the mesh,
//! what a path costs, what time it is, and why a packet was dropped.
//!
//! Nothing here does IO or reads a clock. Values that come from outside are checked once, on
//! the way into these types, so that the layers above may rely on them.

mod address;
mod budget;
mod class;
mod drops;
mod identity;
mod interface;
mod label;
mod metric;
mod network;
mod path;
mod rate;
mod rng;
mod signing;
mod time;
mod uri;

pub use address::MeshAddr;
pub use budget::Budget;
pub use class::Class;
pub use drops::{DropReason, Drops};
pub use identity::{Identity, NodeId, NodeIdError};
pub use interface::InterfaceId;
pub use label::{Label, LabelError};
pub use metric::{Metric, Rank, Seqno};
pub use network::NetworkId;
pub use path::{CarrierKind, PathAddr};
pub use rate::{Rate, RateError};
pub use rng::Rng;
pub use signing::{Domain, Signature, verify};
pub use time::{Instant, UnixMicros};
pub use uri::{PeerUri, UriError};
