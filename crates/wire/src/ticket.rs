//! Tickets: what somebody is handed in order to join a private network (protocol A7.6).
//!
//! A ticket is one line of text, `sinewnet1` and base32, since it is mailed, pasted and read from
//! files. It holds a secret unless it is pinned: [`Ticket`] erases it on drop and does not print it.

use core::fmt;
use std::str::FromStr;

use sinew_types::{Label, PeerUri};
use zeroize::{Zeroize, Zeroizing};

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::document::DOCUMENT_MAX;

/// How the text begins.
pub const TICKET_PREFIX: &str = "sinewnet1";
/// Longest text that is looked at.
pub const TICKET_TEXT_MAX: usize = 64 * 1024;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Most contacts in a ticket.
const CONTACTS_MAX: usize = 3;
/// Most endpoints of one contact.
const ENDPOINTS_MAX: usize = 8;
/// Most documents in a ticket.
const DOCUMENTS_MAX: usize = 8;
/// Longest text of an endpoint.
const ENDPOINT_MAX: usize = 400;

/// How a ticket is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TicketMode {
    /// For one node, whose MEMBER is in the ticket; no secret.
    Pinned = 0,
    /// An acceptor counts and signs.
    Counted = 1,
    /// The ticket's key signs by itself.
    Bearer = 2,
}

/// A node to turn to, and where it is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// Its key; not yet checked to be one.
    pub node: [u8; 32],
    /// Ways to it on the underlay; none if the mesh knows the way.
    pub endpoints: Vec<PeerUri>,
}

/// A ticket.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Which network.
    pub network: [u8; 32],
    /// What it is called.
    pub name: Label,
    /// How it is used.
    pub mode: TicketMode,
    /// Era and counter of the HEAD at issue: an older set is not believed.
    pub head: (u16, u64),
    /// Until when, seconds since 1970; 0 without end.
    pub expires: u64,
    /// Seed of the ticket's key; `None` if pinned.
    pub secret: Option<[u8; 32]>,
    /// Whom to ask.
    pub contacts: Vec<Contact>,
    /// What the joiner needs at hand.
    pub documents: Vec<Vec<u8>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, {:?}, {} documents)", self.name, self.mode, self.documents.len())
    }
}

/// Why a text is no ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It begins otherwise.
    #[error("a ticket begins with {TICKET_PREFIX}")]
    Prefix,
    /// A character that no ticket has.
    #[error("a ticket consists of a-z and 2-7 in lower case; check that the whole line was copied")]
    Alphabet,
    /// Longer than any ticket.
    #[error("longer than any ticket; check that nothing else was copied with it")]
    TooLong,
    /// The check at its end does not fit.
    #[error("a part is missing or changed; check that the whole line was copied")]
    Damaged,
}

/// A slip of the hand must be seen at once; who forges a ticket can compute this too.
fn check(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl Ticket {
    /// Reads the bytes behind the text.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (body, sum) = bytes.split_last_chunk().ok_or(Malformed)?;
        if check(body) != u32::from_le_bytes(*sum) {
            return Err(Malformed);
        }
        let mut r = Reader::new(body);
        let (network, mode) = (r.array()?, mode(r.u8()?)?);
        let (head, expires) = ((r.u16()?, r.u64()?), r.u64()?);
        let secret = if mode == TicketMode::Pinned { None } else { Some(r.array()?) };
        let len = usize::from(r.u8()?);
        let name = core::str::from_utf8(r.bytes(len)?).map_err(|_| Malformed)?;
        let name = Label::parse(name).map_err(|_| Malformed)?;
        // Made whole before anything can fail, so that the secret is erased whatever follows.
        let mut ticket =
            Self { network, name, mode, head, expires, secret, contacts: Vec::new(), documents: Vec::new() };
        for _ in 0..count(&mut r, CONTACTS_MAX)? {
            ticket.contacts.push(Contact::read(&mut r)?);
        }
        for _ in 0..count(&mut r, DOCUMENTS_MAX)? {
            let len = usize::from(r.u16()?);
            if len == 0 || len > DOCUMENT_MAX {
                return Err(Malformed);
            }
            ticket.documents.push(r.bytes(len)?.to_vec());
        }
        r.finish().map(|()| ticket)
    }

    /// Appends the bytes behind the text. At most three contacts of eight endpoints and eight documents
    /// are written: more would not be read.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.bytes(&self.network).u8(self.mode as u8).u16(self.head.0).u64(self.head.1).u64(self.expires);
        out.bytes(self.secret.as_ref().map_or(&[], |secret| secret.as_slice()));
        let name = self.name.as_str();
        out.u8(name.len() as u8).bytes(name.as_bytes());
        let contacts = &self.contacts[..self.contacts.len().min(CONTACTS_MAX)];
        out.u8(contacts.len() as u8);
        contacts.iter().for_each(|contact| contact.write(out));
        let documents = &self.documents[..self.documents.len().min(DOCUMENTS_MAX)];
        out.u8(documents.len() as u8);
        for document in documents {
            out.u16(document.len() as u16).bytes(document);
        }
        let sum = check(&out[start..]);
        out.u32(sum);
    }

    /// The line that people hand on. A secret unless the ticket is pinned.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::new());
        self.emit(&mut bytes);
        let mut text = Zeroizing::new(String::with_capacity(TICKET_PREFIX.len() + bytes.len() * 8 / 5 + 1));
        text.push_str(TICKET_PREFIX);
        let (mut bits, mut held) = (0u32, 0);
        for &byte in bytes.iter() {
            bits = (bits << 8) | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
            }
        }
        if held > 0 {
            text.push(char::from(ALPHABET[(bits << (5 - held)) as usize & 31]));
        }
        text
    }
}

impl FromStr for Ticket {
    type Err = TicketError;

    /// Space around and line breaks inside are passed over: mail breaks lines.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() > TICKET_TEXT_MAX {
            return Err(TicketError::TooLong);
        }
        let rest = text.trim().strip_prefix(TICKET_PREFIX).ok_or(TicketError::Prefix)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(rest.len() * 5 / 8));
        let (mut bits, mut held) = (0u32, 0);
        for character in rest.bytes().filter(|c| !c.is_ascii_whitespace()) {
            let value = ALPHABET.iter().position(|&a| a == character).ok_or(TicketError::Alphabet)?;
            bits = (bits << 5) | value as u32;
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        // Less than a character may be left, and nothing in it: one ticket has one text.
        if held >= 5 || bits & ((1 << held) - 1) != 0 {
            return Err(TicketError::Damaged);
        }
        Self::parse(&bytes).map_err(|Malformed| TicketError::Damaged)
    }
}

fn mode(byte: u8) -> Result<TicketMode, Malformed> {
    [TicketMode::Pinned, TicketMode::Counted, TicketMode::Bearer]
        .into_iter()
        .find(|mode| *mode as u8 == byte)
        .ok_or(Malformed)
}

fn count(r: &mut Reader<'_>, most: usize) -> Result<usize, Malformed> {
    let count = usize::from(r.u8()?);
    if count <= most { Ok(count) } else { Err(Malformed) }
}

impl Contact {
    fn write(&self, out: &mut Vec<u8>) {
        let endpoints = &self.endpoints[..self.endpoints.len().min(ENDPOINTS_MAX)];
        out.bytes(&self.node).u8(endpoints.len() as u8);
        for endpoint in endpoints {
            let text = endpoint.to_string();
            out.u16(text.len() as u16).bytes(text.as_bytes());
        }
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let node = r.array()?;
        let mut endpoints = Vec::new();
        for _ in 0..count(r, ENDPOINTS_MAX)? {
            let len = usize::from(r.u16()?);
            if len > ENDPOINT_MAX {
                return Err(Malformed);
            }
            let text = core::str::from_utf8(r.bytes(len)?).map_err(|_| Malformed)?;
            let endpoint: PeerUri = text.parse().map_err(|_| Malformed)?;
            // One spelling, and the key of the contact itself.
            if endpoint.to_string() != text || *endpoint.node.as_bytes() != node {
                return Err(Malformed);
            }
            endpoints.push(endpoint);
        }
        Ok(Self { node, endpoints })
    }
}
