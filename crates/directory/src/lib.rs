//! Who is where, and whom to link with.
//!
//! ```text
//!  LAN ─────────┐
//!  directory ───┤ records   ┌────────┐  candidates  ┌──────────┐ dial, drop
//!  neighbours ──┼──────────▶│  Book  │─────────────▶│ Peering  │────────────▶ node
//!  last run ────┘  checked  └────────┘   outcomes   └──────────┘◀──────────── links
//! ```
//! [`record`] makes and judges signed node records, [`book`] remembers a bounded number of nodes with
//! where each was heard of and what came of dialling it, and [`peering`] keeps a number of links to
//! diverse nodes out of what the book has. What is heard is only ever a hint where to knock: who
//! answers proves itself in the handshake, so a liar can waste a few packets and no more.

pub mod book;
pub mod peering;
pub mod record;

pub use book::{Book, Known, Source};
pub use peering::{Order, Peering, PeeringConfig, View};
pub use record::{Checked, Clockwork, Own, Refusal, Refusals};
