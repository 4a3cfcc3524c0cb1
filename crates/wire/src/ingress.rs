//! What is said on the service port: by a gateway to the node that carries a workload, by whoever publishes to
//! the gateway, and by one gateway to another of its domain (protocol A11.3, A11.6).
//!
//! A TCP connection between two mesh addresses, so end to end encrypted, and whose source address proves
//! the node at the other end. One request at its start, one answer; after a CONNECT that was granted,
//! the workload's bytes.
//!
//! Every length is known to be in bounds before a byte behind it is waited for: [`Head::parse`] refuses
//! what is longer than its verb allows.

mod names;

use sinew_types::Label;

pub use names::{DOMAIN_MAX, LIST_MAX, NAMES_MAX, Name, NameList};

use crate::Malformed;
use crate::codec::{Put, Reader, array};
use crate::document::{put_label, read_label};

/// TCP port, on a node's own mesh address.
pub const PORT: u16 = 7464;
/// Length of a request's head.
pub const HEAD_LEN: usize = 10;
/// Most documents of one PUBLISH.
pub const DOCUMENTS_MAX: usize = 64;
/// Longest body of a PUBLISH.
pub const PUBLISH_MAX: usize = 256 * 1024;
/// Longest answer to a PUBLISH.
pub const ANSWER_MAX: usize = 64 * 1024;
/// Longest datagram: what UDP takes over IPv4.
pub const DATAGRAM_MAX: usize = 65_507;
/// Length of what an answer to a PUBLISH begins with.
pub const ANSWER_HEAD_LEN: usize = 5;
/// Length of the body of CONNECT and DATAGRAMS without the workload's name, and with the longest.
const OPEN_LEN: usize = 32 + 16 + 32 + 1 + 2;
const OPEN_MAX: usize = OPEN_LEN + 63;

const MAGIC: [u8; 4] = *b"SNIG";
const VERSION: u8 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A stream to a workload's TCP port.
    Connect = 1,
    /// Datagrams to and from a workload's UDP port, each as `length u16 | bytes`.
    Datagrams = 2,
    /// Documents that say what a gateway is to offer, and by what right.
    Publish = 3,
    /// Who holds which name below a domain.
    Names = 4,
}

/// The beginning of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What is asked for.
    pub verb: Verb,
    /// Length of the body, bytes; within what the verb allows.
    pub len: u32,
}

impl Head {
    /// Reads the first [`HEAD_LEN`] bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, HEAD_LEN)?;
        r.expect(MAGIC)?;
        r.expect([VERSION])?;
        let verb = match r.u8()? {
            1 => Verb::Connect,
            2 => Verb::Datagrams,
            3 => Verb::Publish,
            4 => Verb::Names,
            _ => return Err(Malformed),
        };
        let len = r.u32()?;
        let fits = match verb {
            Verb::Connect | Verb::Datagrams => (OPEN_LEN + 1..=OPEN_MAX).contains(&(len as usize)),
            Verb::Publish => (1..=PUBLISH_MAX).contains(&(len as usize)),
            Verb::Names => (1..=DOMAIN_MAX).contains(&(len as usize)),
        };
        if fits { Ok(Self { verb, len }) } else { Err(Malformed) }
    }

    /// Writes it.
    pub fn emit(&self) -> [u8; HEAD_LEN] {
        array(|w| w.bytes(&MAGIC).u8(VERSION).u8(self.verb as u8).u32(self.len))
    }
}

/// Which port of which workload is meant, and by what it is published.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Open {
    /// The network.
    pub network: [u8; 32],
    /// The service: the last 16 bytes of the PUBLISH's subject.
    pub service: [u8; 16],
    /// The member that signed the WORKLOAD.
    pub home: [u8; 32],
    /// The workload's name.
    pub workload: Label,
    /// Port.
    pub port: u16,
}

/// A whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A stream.
    Connect(Open),
    /// Datagrams.
    Datagrams(Open),
    /// Documents, each as it travels.
    Publish(Vec<Vec<u8>>),
    /// The domain, in lower case.
    Names(String),
}

impl Request {
    /// Reads the body that `head` announced.
    pub fn parse(head: Head, body: &[u8]) -> Result<Self, Malformed> {
        if body.len() != head.len as usize {
            return Err(Malformed);
        }
        Ok(match head.verb {
            Verb::Connect => Self::Connect(Open::read(body)?),
            Verb::Datagrams => Self::Datagrams(Open::read(body)?),
            Verb::Publish => Self::Publish(documents(body)?),
            Verb::Names => Self::Names(names::read_domain(body)?),
        })
    }

    /// Writes head and body; `None` if there are more or longer documents than one request takes, or the domain is
    /// none.
    pub fn emit(&self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        let verb = match self {
            Self::Connect(open) => {
                open.write(&mut body);
                Verb::Connect
            }
            Self::Datagrams(open) => {
                open.write(&mut body);
                Verb::Datagrams
            }
            Self::Publish(documents) => {
                body.u8(u8::try_from(documents.len()).ok()?);
                for document in documents {
                    body.u16(u16::try_from(document.len()).ok()?).bytes(document);
                }
                if documents.is_empty() || documents.len() > DOCUMENTS_MAX || body.len() > PUBLISH_MAX {
                    return None;
                }
                Verb::Publish
            }
            Self::Names(domain) => {
                body.bytes(domain.as_bytes());
                if !names::is_domain(domain) {
                    return None;
                }
                Verb::Names
            }
        };
        let head = Head { verb, len: body.len() as u32 };
        Some([&head.emit()[..], &body].concat())
    }
}

impl Open {
    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(body);
        let (network, service, home) = (r.array()?, r.array()?, r.array()?);
        let open = Self { network, service, home, workload: read_label(&mut r)?, port: r.u16()? };
        r.finish().map(|()| open)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.bytes(&self.network).bytes(&self.service).bytes(&self.home);
        put_label(out, &self.workload);
        out.u16(self.port);
    }
}

fn documents(body: &[u8]) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut r = Reader::new(body);
    let count = usize::from(r.u8()?);
    if !(1..=DOCUMENTS_MAX).contains(&count) {
        return Err(Malformed);
    }
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        let len = usize::from(r.u16()?);
        list.push(r.bytes(len)?.to_vec());
    }
    r.finish().map(|()| list)
}

/// How a request ended; the first byte of every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Granted: the stream follows, or datagrams, or the answer to a PUBLISH.
    Ok = 0,
    /// Nothing of that kind is published through the asker, or for the asker to know, as far as this node knows.
    NotPublished = 1,
    /// The workload is not on this node, or cannot be reached by this one (a virtual machine).
    NotHere = 2,
    /// The workload refuses the connection.
    Refused = 3,
    /// The workload does not answer in time.
    TimedOut = 4,
    /// As many as there may be are open already.
    Busy = 5,
    /// The request is not of its shape, or of a version that is not spoken here.
    Malformed = 6,
}

impl Status {
    /// Reads the byte.
    pub const fn parse(byte: u8) -> Result<Self, Malformed> {
        Ok(match byte {
            0 => Self::Ok,
            1 => Self::NotPublished,
            2 => Self::NotHere,
            3 => Self::Refused,
            4 => Self::TimedOut,
            5 => Self::Busy,
            6 => Self::Malformed,
            _ => return Err(Malformed),
        })
    }

    /// The word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotPublished => "not_published",
            Self::NotHere => "not_here",
            Self::Refused => "refused",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Malformed => "malformed",
        }
    }
}

/// The beginning of an answer to a PUBLISH or NAMES: status, and the length of the JSON or list behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// How it ended; without [`Status::Ok`] nothing follows.
    pub status: Status,
    /// Length of what follows, bytes.
    pub len: u32,
}

impl AnswerHead {
    /// Reads it; what follows is not longer than the answer to this verb may be.
    pub fn parse(bytes: &[u8], verb: Verb) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, ANSWER_HEAD_LEN)?;
        let (status, len) = (Status::parse(r.u8()?)?, r.u32()?);
        let most = match verb {
            Verb::Names => LIST_MAX,
            Verb::Publish => ANSWER_MAX,
            Verb::Connect | Verb::Datagrams => 0,
        };
        let fits = if status == Status::Ok { len as usize <= most } else { len == 0 };
        if fits { Ok(Self { status, len }) } else { Err(Malformed) }
    }

    /// Writes it.
    pub fn emit(&self) -> [u8; ANSWER_HEAD_LEN] {
        array(|w| w.u8(self.status as u8).u32(self.len))
    }
}
