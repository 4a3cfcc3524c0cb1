//! Probes, the payload of kind 2: path validation, round trips, MTU search (protocol A3).
//!
//! A tag byte and fixed fields; zeros after them pad a probe to the size it is to test.

use crate::Malformed;
use crate::codec::{Put, Reader};

const CHALLENGE: u8 = 1;
const RESPONSE: u8 = 2;
const PING: u8 = 3;
const PONG: u8 = 4;
const MTU_PROBE: u8 = 5;
const MTU_ACK: u8 = 6;

/// One probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Asks whoever is at a new source to prove that it receives there.
    Challenge {
        /// To be sent back.
        token: [u8; 8],
    },
    /// The proof.
    Response {
        /// The challenge's token.
        token: [u8; 8],
    },
    /// Asks for an echo.
    Ping {
        /// Names the probe.
        id: u32,
        /// The asker's clock, microseconds, to be echoed.
        sent_us: u64,
    },
    /// The echo.
    Pong {
        /// Of the ping.
        id: u32,
        /// Of the ping.
        sent_us: u64,
    },
    /// A record of `size` bytes: does it arrive?
    MtuProbe {
        /// Names the probe.
        id: u32,
        /// Length of the whole record.
        size: u16,
    },
    /// It arrived.
    MtuAck {
        /// Of the probe.
        id: u32,
        /// Length that arrived.
        size: u16,
    },
}

impl Probe {
    /// Reads a probe and any zeros after it.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let probe = match r.u8()? {
            CHALLENGE => Self::Challenge { token: r.array()? },
            RESPONSE => Self::Response { token: r.array()? },
            PING => Self::Ping { id: r.u32()?, sent_us: r.u64()? },
            PONG => Self::Pong { id: r.u32()?, sent_us: r.u64()? },
            MTU_PROBE => Self::MtuProbe { id: r.u32()?, size: r.u16()? },
            MTU_ACK => Self::MtuAck { id: r.u32()?, size: r.u16()? },
            _ => return Err(Malformed),
        };
        if r.rest().iter().all(|&byte| byte == 0) { Ok(probe) } else { Err(Malformed) }
    }

    /// Appends the probe without padding.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Challenge { token } => out.u8(CHALLENGE).bytes(&token),
            Self::Response { token } => out.u8(RESPONSE).bytes(&token),
            Self::Ping { id, sent_us } => out.u8(PING).u32(id).u64(sent_us),
            Self::Pong { id, sent_us } => out.u8(PONG).u32(id).u64(sent_us),
            Self::MtuProbe { id, size } => out.u8(MTU_PROBE).u32(id).u16(size),
            Self::MtuAck { id, size } => out.u8(MTU_ACK).u32(id).u16(size),
        };
    }
}
