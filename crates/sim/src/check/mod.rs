//! What must hold at every moment, one checker a file.
//!
//! - `loops`: the next hops toward a destination, over adjacencies that both ends hold, have no
//!   cycle (routing-model S1).
//! - `revisits`: no packet passes a host twice at the same feasibility distance (D9).
//! - `plaintext`: no datagram holds a packet's marker or a mesh address.
//! - `bounds`: tables and queues stay within what they are given.
//! - `drops`: nothing is dropped for a reason that takes an attacker.
//! - `trace`: a hash over every datagram, to compare two runs by.
//!
//! That packets come out unaltered, at the right place and once is checked by
//! [`traffic`](crate::traffic); that pairs can talk again once faults end, by
//! [`scenario`](crate::scenario).

use std::fmt;

use sinew_types::Instant;

pub(crate) mod bounds;
pub(crate) mod drops;
pub(crate) mod loops;
pub(crate) mod plaintext;
pub(crate) mod revisits;
pub(crate) mod trace;

/// Something that must never happen, and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in virtual time.
    pub at: Instant,
    /// Which checker saw it.
    pub check: &'static str,
    /// What happened.
    pub text: String,
}

impl Violation {
    pub(crate) const fn new(at: Instant, check: &'static str, text: String) -> Self {
        Self { at, check, text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:?}, {}: {}", self.at, self.check, self.text)
    }
}
