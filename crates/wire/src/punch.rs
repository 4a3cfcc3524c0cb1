//! What two nodes tell each other to find a direct path between them (protocol A10): how one is seen by
//! the other, where each may be reached, and how its translator numbers what it translates.
//!
//! All of it is a claim. Whoever acts on it sends small packets to addresses of somebody else's choice,
//! so what is read here is bounded in number and has one spelling; which addresses are fit to be sent
//! to is for the receiver's own rules.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::Malformed;
use crate::codec::{Put, Reader};

/// Most candidates of one message.
pub const MAX_CANDIDATES: usize = 8;

/// What a node said about where it may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Punch {
    /// Names the round: both messages carry it.
    pub round: u32,
    /// Round trip over relays as the sender knows it, microseconds.
    pub rtt_us: u32,
    /// How the translator in front of the sender maps.
    pub mapping: Mapping,
    /// The ports that its next mappings should get, if they follow each other.
    pub guess: Option<Guess>,
    /// Where the sender may be reached, best first, at most [`MAX_CANDIDATES`]; none: it would rather not.
    pub candidates: Vec<Candidate>,
}

/// A place where a node may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// How the node knows of it.
    pub kind: CandidateKind,
    /// The place.
    pub addr: SocketAddr,
}

/// How a node knows of one of its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CandidateKind {
    /// An interface of its own has it.
    Local,
    /// Peers see it there.
    Reflexive,
    /// A router has promised to pass it on.
    Mapped,
    /// A kind of a later version.
    Other(u8),
}

/// How a translator chooses the outside of a mapping (RFC 4787 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mapping {
    /// Too few peers have said how they see us.
    #[default]
    Unknown,
    /// Nobody translates.
    Open,
    /// The same for every far end.
    EndpointIndependent,
    /// Another for every address of a far end, and perhaps for every port.
    AddressDependent,
    /// Another for every address and port of a far end.
    AddressAndPortDependent,
    /// A code of a later version.
    Other(u8),
}

/// Ports that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guess {
    /// The outside address.
    pub ip: IpAddr,
    /// The last port seen.
    pub port: u16,
    /// From one mapping to the next; not 0.
    pub step: i8,
}

impl CandidateKind {
    const fn code(self) -> u8 {
        match self {
            Self::Local => 1,
            Self::Reflexive => 2,
            Self::Mapped => 3,
            Self::Other(code) => code,
        }
    }

    const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::Local,
            2 => Self::Reflexive,
            3 => Self::Mapped,
            other => Self::Other(other),
        }
    }
}

impl Mapping {
    const KNOWN: [Self; 5] = [
        Self::Unknown,
        Self::Open,
        Self::EndpointIndependent,
        Self::AddressDependent,
        Self::AddressAndPortDependent,
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

    /// Whether another far end meets us at another port.
    pub const fn is_dependent(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }

    /// The word for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown | Self::Other(_) => "unknown",
            Self::Open => "none",
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address-and-port-dependent",
        }
    }
}

impl Punch {
    pub(crate) fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let out = out.u32(self.round).u32(self.rtt_us).u8(self.mapping.code());
        let out = match self.guess {
            None => out.u8(0),
            Some(Guess { ip, port, step }) => socket_addr(out.u8(step.to_le_bytes()[0]), ip, port),
        };
        let candidates = self.candidates.get(..MAX_CANDIDATES).unwrap_or(&self.candidates);
        let out = out.u8(candidates.len() as u8);
        candidates.iter().fold(out, |out, candidate| {
            socket_addr(out.u8(candidate.kind.code()), candidate.addr.ip(), candidate.addr.port())
        })
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (round, rtt_us, mapping) = (r.u32()?, r.u32()?, Mapping::from_code(r.u8()?));
        let guess = match i8::from_le_bytes([r.u8()?]) {
            0 => None,
            step => {
                let addr = read_addr(r)?;
                Some(Guess { ip: addr.ip(), port: addr.port(), step })
            }
        };
        let count = usize::from(r.u8()?);
        if count > MAX_CANDIDATES {
            return Err(Malformed);
        }
        let mut candidates = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = CandidateKind::from_code(r.u8()?);
            candidates.push(Candidate { kind, addr: read_addr(r)? });
        }
        Ok(Self { round, rtt_us, mapping, guess, candidates })
    }
}

/// Address 16; IPv4 travels as `::ffff:a.b.c.d`.
pub(crate) fn put_ip(out: &mut Vec<u8>, ip: IpAddr) -> &mut Vec<u8> {
    let ip = match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    out.bytes(&ip.octets())
}

/// The reverse: IPv4 comes out as IPv4 again.
pub(crate) fn read_ip(r: &mut Reader<'_>) -> Result<IpAddr, Malformed> {
    let ip = Ipv6Addr::from_octets(r.array()?);
    Ok(ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4))
}

/// Address 16 and port 2.
pub(crate) fn socket_addr(out: &mut Vec<u8>, ip: IpAddr, port: u16) -> &mut Vec<u8> {
    put_ip(out, ip).u16(port)
}

/// The reverse.
pub(crate) fn read_addr(r: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    Ok(SocketAddr::new(read_ip(r)?, r.u16()?))
}
