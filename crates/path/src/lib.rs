//! What is known of one path: does it still answer, what does it cost, how large may a packet be; and
//! how one is found where there is none.
//!
//! Small machines, all sans-IO: the node feeds them what happened and when, and asks what to do
//! next. One value of each per path:
//! - [`Liveness`] turns silence into probes, and unanswered probes into a verdict;
//! - [`Quality`] turns probe round trips into a damped routing cost;
//! - [`Search`] finds the largest datagram the path carries, and notices when it shrinks;
//! - [`Upkeep`] learns how long it may rest before a translator forgets it.
//!
//! One per node:
//! - [`Reflexive`] gathers where others see us, and what that tells of the translator in between;
//! - [`punch`] has the rules of looking for a direct path to somebody behind one;
//! - [`scatter`] those of the search with many ports, where nothing less can find it.

mod liveness;
mod mtu;
pub mod punch;
mod quality;
mod reflexive;
pub mod scatter;
mod upkeep;

pub use liveness::{Action, Liveness};
pub use mtu::{BASE_PAYLOAD, Search, Shape, inner_mtu};
pub use quality::{Quality, UNKNOWN_COST};
pub use reflexive::{Reflexive, View};
pub use upkeep::Upkeep;
