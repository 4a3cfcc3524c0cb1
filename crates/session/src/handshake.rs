//! Handshakes: attempts of ours ([`initiator`]) and the gate for those of others ([`responder`]).

pub(crate) mod gate;
pub(crate) mod initiator;
pub(crate) mod responder;

use sinew_types::Instant;
use sinew_wire::handshake::HS1_LEN;

pub(crate) use gate::Gate;
pub(crate) use initiator::Attempt;

use crate::event::Arrival;

/// The only version of the session layer.
pub(crate) const VERSION: u8 = 1;

/// An HS1 whose answer waits because our own may be on its way to the same end (protocol A2).
#[derive(Debug)]
pub(crate) struct Delayed {
    pub(crate) until: Instant,
    pub(crate) message: [u8; HS1_LEN],
    pub(crate) from: Arrival,
    pub(crate) inside: bool,
}
