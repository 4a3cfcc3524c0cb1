//! Short requests, the messages of control class 2: adjacencies, trace, direct paths, and what concerns a
//! private network at the two ends of a session (protocol A3, A5, A7, A10).
//!
//! A tag byte and a body. A tag of a later version comes out as [`Request::Other`], so that it
//! can be counted and passed over rather than end the association.

use std::net::{IpAddr, SocketAddr};

use sinew_types::{Label, MeshAddr, Signature};

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::directory::RECORD_MAX;
use crate::document::DOCUMENT_MAX;
use crate::punch::{Punch, put_ip, read_addr, read_ip, socket_addr};
use crate::sync::{BlindTag, DocumentId};

const ADJ_OPEN: u8 = 1;
const ADJ_ACK: u8 = 2;
const ADJ_CLOSE: u8 = 3;
const TRACE: u8 = 4;
const TRACE_REPLY: u8 = 5;
const WHO_IS: u8 = 6;
const WHO_IS_REPLY: u8 = 7;
const BIND: u8 = 8;
const BIND_ACK: u8 = 9;
const BIND_REFUSED: u8 = 10;
const REDEEM: u8 = 11;
const REDEEM_REPLY: u8 = 12;
const UNBIND: u8 = 13;
const OBSERVED: u8 = 14;
const PUNCH: u8 = 15;
const PUNCH_REPLY: u8 = 16;
const PUNCH_END: u8 = 17;
const WITNESS: u8 = 18;
const WITNESS_REPLY: u8 = 19;
const SCATTER: u8 = 20;
const RECORDS_ASK: u8 = 32;
const RECORDS: u8 = 33;

/// Highest handle of a network: three bytes of a record's prefix (protocol A4.2).
pub const HANDLE_MAX: u32 = 0xff_ffff;

/// Most node records of one message.
pub const RECORDS_MAX: usize = 16;

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
    /// Packets of a network will carry this handle.
    Bind(Bind),
    /// The handle is known: packets with it are understood.
    BindAck {
        /// Which network.
        tag: BlindTag,
    },
    /// The handle will not be understood.
    BindRefused {
        /// Which network.
        tag: BlindTag,
        /// Why.
        refusal: BindRefusal,
    },
    /// Asks to be admitted by a ticket.
    Redeem(Box<Redeem>),
    /// Answers [`Request::Redeem`].
    RedeemReply(RedeemReply),
    /// This side has left the network, or has lost it.
    Unbind {
        /// Which network.
        tag: BlindTag,
    },
    /// Says where the sender sees its neighbour (protocol A10.1).
    Observed {
        /// The far end of the link, as it looks from here.
        addr: SocketAddr,
    },
    /// Proposes to look for a direct path, now (protocol A10.3).
    Punch(Box<Punch>),
    /// Answers [`Request::Punch`], and begins.
    PunchReply(Box<Punch>),
    /// The direct path is not used any more.
    PunchEnd {
        /// Of the round that found it.
        round: u32,
    },
    /// Asks a neighbour whether it sees a node at an address (protocol A10.8).
    Witness {
        /// Names the question.
        id: u32,
        /// The key of the node.
        node: [u8; 32],
        /// Where it says that it is.
        ip: IpAddr,
    },
    /// Answers [`Request::Witness`].
    WitnessReply {
        /// Of the question.
        id: u32,
        /// Whether a link with that node ends there.
        seen: bool,
    },
    /// Agrees on scattered knocks (protocol A10.8).
    Scatter {
        /// Of the round that has found nothing so far.
        round: u32,
        /// From how many ports the sender knocks by now; 0 asks the other to open some.
        ports: u16,
    },
    /// Asks a neighbour for records of nodes that it knows (protocol A12.4).
    RecordsAsk {
        /// How many at most.
        count: u8,
    },
    /// Records of nodes, at most [`RECORDS_MAX`], as signed.
    Records(Vec<Vec<u8>>),
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
            BIND => Self::Bind(Bind::read(&mut r)?),
            BIND_ACK => Self::BindAck { tag: r.array()? },
            BIND_REFUSED => Self::BindRefused { tag: r.array()?, refusal: BindRefusal::from_code(r.u8()?) },
            REDEEM => Self::Redeem(Box::new(Redeem {
                network: r.array()?,
                ticket: r.array()?,
                signature: r.array()?,
                name: wish(&mut r)?,
            })),
            REDEEM_REPLY => Self::RedeemReply(RedeemReply::read(&mut r)?),
            UNBIND => Self::Unbind { tag: r.array()? },
            OBSERVED => Self::Observed { addr: read_addr(&mut r)? },
            PUNCH => Self::Punch(Box::new(Punch::read(&mut r)?)),
            PUNCH_REPLY => Self::PunchReply(Box::new(Punch::read(&mut r)?)),
            PUNCH_END => Self::PunchEnd { round: r.u32()? },
            WITNESS => Self::Witness { id: r.u32()?, node: r.array()?, ip: read_ip(&mut r)? },
            WITNESS_REPLY => Self::WitnessReply { id: r.u32()?, seen: read_yes(&mut r)? },
            SCATTER => Self::Scatter { round: r.u32()?, ports: r.u16()? },
            RECORDS_ASK => Self::RecordsAsk { count: r.u8()? },
            RECORDS => Self::Records(read_records(&mut r)?),
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
            Self::Bind(bind) => bind.write(out.u8(BIND)),
            Self::BindAck { tag } => out.u8(BIND_ACK).bytes(tag),
            Self::BindRefused { tag, refusal } => out.u8(BIND_REFUSED).bytes(tag).u8(refusal.code()),
            Self::Redeem(redeem) => {
                let name = redeem.name.as_ref().map_or(&[][..], |name| name.as_str().as_bytes());
                let out = out.u8(REDEEM).bytes(&redeem.network).bytes(&redeem.ticket);
                out.bytes(&redeem.signature).bytes(name)
            }
            Self::RedeemReply(reply) => reply.write(out.u8(REDEEM_REPLY)),
            Self::Unbind { tag } => out.u8(UNBIND).bytes(tag),
            Self::Observed { addr } => socket_addr(out.u8(OBSERVED), addr.ip(), addr.port()),
            Self::Punch(punch) => punch.write(out.u8(PUNCH)),
            Self::PunchReply(punch) => punch.write(out.u8(PUNCH_REPLY)),
            Self::PunchEnd { round } => out.u8(PUNCH_END).u32(*round),
            Self::Witness { id, node, ip } => put_ip(out.u8(WITNESS).u32(*id).bytes(node), *ip),
            Self::WitnessReply { id, seen } => out.u8(WITNESS_REPLY).u32(*id).u8(u8::from(*seen)),
            Self::Scatter { round, ports } => out.u8(SCATTER).u32(*round).u16(*ports),
            Self::RecordsAsk { count } => out.u8(RECORDS_ASK).u8(*count),
            Self::Records(records) => {
                let records = records.get(..RECORDS_MAX).unwrap_or(records);
                let out = out.u8(RECORDS);
                records.iter().fold(out, |out, record| out.u16(record.len() as u16).bytes(record))
            }
            Self::Other { tag, body } => out.u8(*tag).bytes(body),
        };
    }
}

/// What BIND says (protocol A7.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The handle, 1 to [`HANDLE_MAX`].
    pub handle: u32,
    /// Which network.
    pub tag: BlindTag,
    /// The sender's MEMBER.
    pub member: DocumentId,
    /// Era and counter of the newest HEAD the sender holds.
    pub head: (u16, u64),
}

impl Bind {
    fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let [a, b, c, _] = self.handle.to_le_bytes();
        out.bytes(&[a, b, c]).bytes(&self.tag).bytes(&self.member).u16(self.head.0).u64(self.head.1)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let [a, b, c] = r.array()?;
        let handle = u32::from_le_bytes([a, b, c, 0]);
        // 0 is the mesh itself.
        if handle == 0 {
            return Err(Malformed);
        }
        Ok(Self { handle, tag: r.array()?, member: r.array()?, head: (r.u16()?, r.u64()?) })
    }
}

/// Why a handle will not be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindRefusal {
    /// The document that makes the sender a member is missing here.
    SendDocuments,
    /// By what is known here the sender is no member, or there is no such network.
    NotAMember,
    /// A code of a later version.
    Other(u8),
}

impl BindRefusal {
    const fn code(self) -> u8 {
        match self {
            Self::SendDocuments => 1,
            Self::NotAMember => 2,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::SendDocuments,
            2 => Self::NotAMember,
            other => Self::Other(other),
        }
    }
}

/// What the holder of a ticket says to an acceptor (protocol A7.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redeem {
    /// Which network.
    pub network: [u8; 32],
    /// The ticket's public key.
    pub ticket: [u8; 32],
    /// By the ticket's key, over [`Redeem::signed_bytes`], domain `REDEEM`.
    pub signature: Signature,
    /// What the asker would be called. A wish: who asks is known by its key, and the acceptor signs.
    pub name: Option<Label>,
}

impl Redeem {
    /// What the ticket's key signs: network, the node that asks, and the binding of the association, so
    /// that an acceptor cannot use it elsewhere.
    pub fn signed_bytes(network: &[u8; 32], node: &[u8; 32], binding: &[u8; 32]) -> Vec<u8> {
        [network.as_slice(), node, binding].concat()
    }
}

/// The acceptor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedeemReply {
    /// Of the question: the ticket's public key.
    pub ticket: [u8; 32],
    /// How it went.
    pub status: RedeemStatus,
    /// What makes the asker a member, in the order of authority.
    pub documents: Vec<Vec<u8>>,
}

/// How a redemption went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RedeemStatus {
    /// Admitted.
    Admitted,
    /// A person has to agree; ask again.
    Pending,
    /// No such ticket here.
    Unknown,
    /// Too late.
    Expired,
    /// As often as it may be.
    Used,
    /// The asker was revoked; a ticket does not undo that.
    Revoked,
    /// No free subnet.
    NoSubnet,
    /// The acceptor cannot admit anybody now.
    NotNow,
    /// A status of a later version.
    Other(u8),
}

impl RedeemStatus {
    const KNOWN: [Self; 8] = [
        Self::Admitted,
        Self::Pending,
        Self::Unknown,
        Self::Expired,
        Self::Used,
        Self::Revoked,
        Self::NoSubnet,
        Self::NotNow,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            known => Self::KNOWN.iter().position(|&one| one == known).unwrap_or(0) as u8,
        }
    }

    fn from_code(code: u8) -> Self {
        Self::KNOWN.get(usize::from(code)).copied().unwrap_or(Self::Other(code))
    }
}

impl RedeemReply {
    fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let out = out.bytes(&self.ticket).u8(self.status.code());
        self.documents.iter().fold(out, |out, document| out.u16(document.len() as u16).bytes(document))
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (ticket, status) = (r.array()?, RedeemStatus::from_code(r.u8()?));
        let mut documents = Vec::new();
        while !r.is_empty() {
            let len = usize::from(r.u16()?);
            if len == 0 || len > DOCUMENT_MAX {
                return Err(Malformed);
            }
            documents.push(r.bytes(len)?.to_vec());
        }
        Ok(Self { ticket, status, documents })
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

fn read_records(r: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut records = Vec::new();
    while !r.is_empty() {
        let len = usize::from(r.u16()?);
        if len == 0 || len > RECORD_MAX || records.len() == RECORDS_MAX {
            return Err(Malformed);
        }
        records.push(r.bytes(len)?.to_vec());
    }
    Ok(records)
}

/// 0 or 1.
fn read_yes(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

/// A label, or nothing.
fn wish(r: &mut Reader<'_>) -> Result<Option<Label>, Malformed> {
    if r.is_empty() {
        return Ok(None);
    }
    let text = core::str::from_utf8(r.bytes(r.rest().len())?).map_err(|_| Malformed)?;
    Label::parse(text).map(Some).map_err(|_| Malformed)
}

/// The longest front of `name` that fits.
fn clip(name: &str) -> &str {
    let end = (0..=NAME_MAX.min(name.len())).rev().find(|&end| name.is_char_boundary(end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}
