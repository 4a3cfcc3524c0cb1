//! What is known of one path: does it still answer, what does it cost, how large may a packet be.
//!
//! Three small machines, one value of each per path, all sans-IO: the node feeds them what
//! happened and when, and asks what to do next.
//! - [`Liveness`] turns silence into probes, and unanswered probes into a verdict;
//! - [`Quality`] turns probe round trips into a damped routing cost;
//! - [`Search`] finds the largest datagram the path carries, and notices when it shrinks.

mod liveness;
mod mtu;
mod quality;

pub use liveness::{Action, Liveness};
pub use mtu::{BASE_PAYLOAD, Search, Shape, inner_mtu};
pub use quality::{Quality, UNKNOWN_COST};
