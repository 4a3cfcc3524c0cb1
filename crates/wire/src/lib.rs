//! Every byte format the program speaks or hears, and nothing else: no state, no IO, no clock.
//!
//! A format is a plain value with `parse` (checks everything the layout promises, once) and
//! `emit` (the only spelling of that value). Layers above never index into bytes that came from
//! outside. Integers of our own formats are little-endian; IP, TCP, UDP and ICMP keep network
//! order. The numbers and layouts are those of protocol A2 (handshakes), A4 (records),
//! A5 (control), A7 (documents of private networks) and A11 (publishing).
//!
//! Reserved fields in clear headers must be zero, since nothing vouches for them and a packet
//! has one shape or none; reserved fields inside sealed handshake payloads are ignored, so that
//! a later version may use them.

mod codec;

pub mod checksum;
pub mod directory;
pub mod document;
pub mod error;
pub mod frag;
pub mod handshake;
pub mod icmp;
pub mod ingress;
pub mod ip;
pub mod probe;
pub mod punch;
pub mod record;
pub mod request;
pub mod routed;
pub mod routing;
pub mod segment;
pub mod stream;
pub mod sync;
pub mod tcp;
pub mod ticket;
pub mod udp;
pub mod virtio;

use sinew_types::DropReason;

/// The bytes are not of the shape they claim: too short, too long, or with a value the format
/// does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the declared shape")]
pub struct Malformed;

impl From<Malformed> for DropReason {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
