//! A node record: where a node says that it may be reached, signed by its key (protocol A12).
//!
//! Records travel through hands that nobody vouches for: a neighbour, a public directory, a packet to
//! everybody on a local network. So all that counts is inside the signature, the shape has one
//! spelling, and the longest record is short enough to be answered, stored and multicast whole.

use std::net::SocketAddr;

use sinew_types::{CarrierKind, Signature};

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::punch::{read_addr, socket_addr};

/// Most places of one record.
pub const PLACES_MAX: usize = 8;
/// Longest record, bytes.
pub const RECORD_MAX: usize = HEAD + PLACES_MAX * PLACE + SIGNATURE;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 32 + 8 + 8 + 1 + 32 + 1;
const PLACE: usize = 1 + 16 + 2;
const SIGNATURE: usize = 64;

const STUB: u8 = 1;
const PASS_ON: u8 = 2;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Who speaks, and whose signature it is.
    pub node: [u8; 32],
    /// Time of signing, Unix microseconds: of two records of one node the later counts.
    pub seq: u64,
    /// When it is void, Unix microseconds.
    pub expires: u64,
    /// It carries nothing for others.
    pub stub: bool,
    /// Whoever has the record may give it to others.
    pub pass_on: bool,
    /// The node's key in the directory over libp2p, if it takes part.
    pub peer_key: Option<[u8; 32]>,
    /// Where it may be reached, best first.
    pub places: Vec<Place>,
    /// Over everything before it, domain `NODE`.
    pub signature: Signature,
}

/// An address, and what listens there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Address and port.
    pub addr: SocketAddr,
    /// Carriers, in their fixed order; at least one.
    pub carriers: Vec<CarrierKind>,
}

impl NodeRecord {
    /// Reads a whole record.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > RECORD_MAX {
            return Err(Malformed);
        }
        let mut r = Reader::new(bytes);
        r.expect([VERSION])?;
        let (node, seq, expires, flags) = (r.array()?, r.u64()?, r.u64()?, r.u8()?);
        if flags & !(STUB | PASS_ON) != 0 {
            return Err(Malformed);
        }
        let peer_key = Some(r.array()?).filter(|key| *key != [0; 32]);
        let count = usize::from(r.u8()?);
        if count > PLACES_MAX {
            return Err(Malformed);
        }
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            places.push(Place::read(&mut r)?);
        }
        let signature = r.array()?;
        r.finish()?;
        let (stub, pass_on) = (flags & STUB != 0, flags & PASS_ON != 0);
        Ok(Self { node, seq, expires, stub, pass_on, peer_key, places, signature })
    }

    /// The record's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.signed_bytes();
        out.bytes(&self.signature);
        out
    }

    /// What the signature is over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_MAX);
        let flags = if self.stub { STUB } else { 0 } | if self.pass_on { PASS_ON } else { 0 };
        let places = self.places.get(..PLACES_MAX).unwrap_or(&self.places);
        let out = bytes.u8(VERSION).bytes(&self.node).u64(self.seq).u64(self.expires).u8(flags);
        let out = out.bytes(&self.peer_key.unwrap_or_default()).u8(places.len() as u8);
        places.iter().fold(out, |out, place| place.write(out));
        bytes
    }
}

impl Place {
    fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let set = self.carriers.iter().fold(0, |set, carrier| set | 1 << carrier.rank());
        socket_addr(out.u8(set), self.addr.ip(), self.addr.port())
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let set = r.u8()?;
        let carriers: Vec<_> =
            CarrierKind::ALL.into_iter().filter(|carrier| set & (1 << carrier.rank()) != 0).collect();
        let known = CarrierKind::ALL.into_iter().fold(0, |set, carrier| set | 1 << carrier.rank());
        let addr = read_addr(r)?;
        if set == 0 || set & !known != 0 || addr.port() == 0 {
            return Err(Malformed);
        }
        Ok(Self { addr, carriers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(places: usize) -> NodeRecord {
        let place = |n: usize| Place {
            addr: if n.is_multiple_of(2) { "192.0.2.1:7463" } else { "[2001:db8::1]:443" }.parse().unwrap(),
            carriers: CarrierKind::ALL[..=n % 4].to_vec(),
        };
        NodeRecord {
            node: [7; 32],
            seq: 1,
            expires: 2,
            stub: false,
            pass_on: true,
            peer_key: Some([3; 32]),
            places: (0..places).map(place).collect(),
            signature: [9; 64],
        }
    }

    #[test]
    fn a_record_has_one_spelling_and_the_longest_is_as_long_as_it_says() {
        for places in 0..=PLACES_MAX {
            let record = record(places);
            let bytes = record.to_bytes();
            assert_eq!(NodeRecord::parse(&bytes), Ok(record));
            assert_eq!(bytes.len() == RECORD_MAX, places == PLACES_MAX);
        }
    }

    #[test]
    fn whatever_is_not_of_the_shape_is_refused() {
        let good = record(1).to_bytes();
        let place = HEAD;
        let broken: [(&str, usize, u8); 6] = [
            ("version", 0, 2),
            ("flag", 49, 0x80),
            ("count", HEAD - 1, 9),
            ("a count that is too low", HEAD - 1, 0),
            ("no carrier", place, 0),
            ("unknown carrier", place, 0x11),
        ];
        for (what, at, value) in broken {
            let mut bytes = good.clone();
            bytes[at] = value;
            assert_eq!(NodeRecord::parse(&bytes), Err(Malformed), "{what}");
        }
        let mut no_port = good.clone();
        no_port[place + 17..place + 19].fill(0);
        assert_eq!(NodeRecord::parse(&no_port), Err(Malformed), "port 0");
        for len in 0..good.len() {
            assert_eq!(NodeRecord::parse(&good[..len]), Err(Malformed), "cut to {len}");
        }
        assert_eq!(NodeRecord::parse(&[good, vec![0]].concat()), Err(Malformed), "one byte more");
    }
}
