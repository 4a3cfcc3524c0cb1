//! Sessions between identities: associations, epochs, paths, adjacencies and the reliable control
//! channel, as one machine without IO (protocol A2, A3, A5).

mod config;
mod error;
mod event;
mod keys;
mod sessions;
mod window;

pub use config::{Accept, Config};
pub use error::SendError;
pub use event::{Arrival, AttemptFailure, CloseReason, Event, Notice, Receipt, Target, To, Transmit};
pub use keys::{
    KeyTable, MAX_LANES, OpenEpoch, Opened, OpenedFrag, OpenedRouted, SealEpoch, SealLane, SessionView,
    Traffic, TrafficCounts,
};
pub use sessions::{PathInfo, SessionInfo, Sessions};
pub use sinew_wire::segment::StreamClass;
