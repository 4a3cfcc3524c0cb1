//! Short requests, the messages of control class 2: adjacencies and trace (protocol A3, A5).
//!
//! A tag byte and a body. A tag of a later version comes out as [`Request::Other`], so that it
//! can be counted and passed over rather than end the association.

use sinew_types::{MeshAddr, Signature};

use crate::Malformed;
use crate::codec::{Put, Reader};

const ADJ_OPEN: u8 = 1;
const ADJ_ACK: u8 = 2;
const ADJ_CLOSE: u8 = 3;
const TRACE: u8 = 4;
const TRACE_REPLY: u8 = 5;
const WHO_IS: u8 = 6;
const WHO_IS_REPLY: u8 = 7;

/// Longest name in a trace reply, bytes of UTF-8.
pub const NAME_MAX: usize = 64;

/// One request or answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Proposes to be neighbours under this number.
    AdjOpen {
        /// The number.
        adj: u8,
    },
    /// Agrees.
    AdjAck {
        /// The number agreed on.
        adj: u8,
    },
    /// Ends the adjacency.
    AdjClose {
        /// The number that is closed.
        adj: u8,
    },
    /// Asks the session's other end to name itself and its next hop.
    Trace {
        /// Names the question.
        id: u64,
        /// To be signed, so that an old answer is worth nothing.
        nonce: [u8; 16],
        /// Whereto the next hop is asked for.
        target: MeshAddr,
    },
    /// Answers [`Request::Trace`].
    TraceReply(Box<TraceReply>),
    /// Asks which node has an address: a stub keeps no table, and a handshake needs the key.
    WhoIs {
        /// The address.
        addr: MeshAddr,
    },
    /// Answers [`Request::WhoIs`]. Needs no signature: the address is a hash of the key.
    WhoIsReply {
        /// The key.
        node: [u8; 32],
    },
    /// A request of a later version.
    Other {
        /// Its tag.
        tag: u8,
        /// Its body.
        body: Vec<u8>,
    },
}

impl Request {
    /// Reads a whole message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(message);
        let request = match r.u8()? {
            ADJ_OPEN => Self::AdjOpen { adj: r.u8()? },
            ADJ_ACK => Self::AdjAck { adj: r.u8()? },
            ADJ_CLOSE => Self::AdjClose { adj: r.u8()? },
            TRACE => Self::Trace { id: r.u64()?, nonce: r.array()?, target: r.addr()? },
            TRACE_REPLY => Self::TraceReply(Box::new(TraceReply::read(&mut r)?)),
            WHO_IS => Self::WhoIs { addr: r.addr()? },
            WHO_IS_REPLY => Self::WhoIsReply { node: r.array()? },
            tag => return Ok(Self::Other { tag, body: r.rest().to_vec() }),
        };
        r.finish().map(|()| request)
    }

    /// Appends a whole message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::AdjOpen { adj } => out.u8(ADJ_OPEN).u8(*adj),
            Self::AdjAck { adj } => out.u8(ADJ_ACK).u8(*adj),
            Self::AdjClose { adj } => out.u8(ADJ_CLOSE).u8(*adj),
            Self::Trace { id, nonce, target } => out.u8(TRACE).u64(*id).bytes(nonce).addr(target),
            Self::TraceReply(reply) => reply.write(out.u8(TRACE_REPLY)),
            Self::WhoIs { addr } => out.u8(WHO_IS).addr(addr),
            Self::WhoIsReply { node } => out.u8(WHO_IS_REPLY).bytes(node),
            Self::Other { tag, body } => out.u8(*tag).bytes(body),
        };
    }
}

/// A hop names itself, and says how it would go on. All of it is that hop's claim; the signature
/// proves only that the claim is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceReply {
    /// Of the question.
    pub id: u64,
    /// Who answers.
    pub node: [u8; 32],
    /// What it calls itself; no control characters, at most [`NAME_MAX`] bytes.
    pub name: String,
    /// Its next hop toward the target; `None` at the target or without a route.
    pub next_hop: Option<[u8; 32]>,
    /// Round trip to the next hop, microseconds.
    pub next_rtt_us: u32,
    /// Carrier to the next hop, by number.
    pub next_carrier: u8,
    /// Inner MTU toward the next hop.
    pub next_mtu: u16,
    /// Over [`Self::signed_bytes`], domain `TRACE`.
    pub signature: Signature,
}

impl TraceReply {
    /// What the hop signs: the question's nonce and everything it answers.
    pub fn signed_bytes(&self, nonce: &[u8; 16]) -> Vec<u8> {
        let mut out = nonce.to_vec();
        self.write_claims(&mut out);
        out
    }

    fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        self.write_claims(out).bytes(&self.signature)
    }

    fn write_claims<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let name = clip(&self.name);
        let out = out.u64(self.id).bytes(&self.node).u8(name.len() as u8).bytes(name.as_bytes());
        let out = out.u8(u8::from(self.next_hop.is_some())).bytes(&self.next_hop.unwrap_or_default());
        out.u32(self.next_rtt_us).u8(self.next_carrier).u16(self.next_mtu)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (id, node) = (r.u64()?, r.array()?);
        let len = usize::from(r.u8()?);
        let name = core::str::from_utf8(r.bytes(len)?).map_err(|_| Malformed)?;
        // The name ends on somebody's terminal: no escape sequences.
        if len > NAME_MAX || name.chars().any(char::is_control) {
            return Err(Malformed);
        }
        let next_hop = match (r.u8()?, r.array::<32>()?) {
            (0, none) if none == [0; 32] => None,
            (1, node) => Some(node),
            _ => return Err(Malformed),
        };
        Ok(Self {
            id,
            node,
            name: name.to_owned(),
            next_hop,
            next_rtt_us: r.u32()?,
            next_carrier: r.u8()?,
            next_mtu: r.u16()?,
            signature: r.array()?,
        })
    }
}

/// The longest front of `name` that fits.
fn clip(name: &str) -> &str {
    let end = (0..=NAME_MAX.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}
