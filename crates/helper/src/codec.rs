//! What the two processes say to each other, byte for byte.
//!
//! The daemon asks, the helper answers, one question at a time. Every message is
//! `version u8 | verb or outcome u8 | request u32 | body`, little-endian, and at most [`MAX_MESSAGE`]
//! bytes; texts and lists begin with their length, one byte, and have limits of their own. A body
//! ends where it should, and each verb has its number of descriptors. Whatever breaks one of these
//! rules is [`Malformed`]: the helper ends then, because the daemon's own code never sends such a
//! thing, so somebody else does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// First byte of every message; two processes of one program always agree, so this only catches a
/// program file that was replaced between the start of one and of the other.
const VERSION: u8 = 1;
/// Longest message, either way.
pub(crate) const MAX_MESSAGE: usize = 4096;
/// Longest text of an error.
const MAX_TEXT: usize = 1024;
/// Addresses, routes and resolver addresses of one workload.
const MAX_ADDRESSES: usize = 16;
const MAX_ROUTES: usize = 64;
pub(crate) const MAX_RESOLVERS: usize = 4;
/// Longest interface name: IFNAMSIZ without its final zero.
const MAX_NAME: usize = 15;
/// MTUs a workload's interface may have: IPv6's minimum (RFC 8200) to the largest packet.
const MTU: RangeInclusive<u16> = 1280..=65_535;

/// An address or a range: first address and prefix length.
pub type Prefix = (IpAddr, u8);

/// What a workload is called here: 1 to 64 of `a-z A-Z 0-9 - _ .`, not beginning with a dot. It
/// names a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(String);

impl Id {
    const MAX: usize = 64;

    /// Checks the rule above.
    pub fn new(text: &str) -> Option<Self> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = !text.is_empty() && text.len() <= Self::MAX && !text.starts_with('.');
        (fits && text.bytes().all(good)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a workload's interface is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The workload.
    pub id: Id,
    /// Name of its interface; `None`: `sinew0`, `sinew1`, … whichever is free.
    pub interface: Option<String>,
    /// MTU, bytes, at least 1,280.
    pub mtu: u16,
    /// Its addresses, the first of each family being the one it speaks from; at most 16.
    pub addresses: Vec<Prefix>,
    /// What is reached through the interface; at most 64.
    pub routes: Vec<Prefix>,
    /// Addresses on which the daemon answers the workload's DNS questions, port 53; at most 4. For
    /// a virtual machine they are its gateway's.
    pub resolver: Vec<IpAddr>,
    /// A virtual machine: the TAP device it is behind. That is moved into a namespace of its own,
    /// where the addresses are routed to it.
    pub tap: Option<String>,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Make a namespace, pin it, bring up its loopback; answers with it.
    NewNamespace(Id),
    /// Make an interface in the namespace that comes along, or in the pinned one.
    Attach(Attach),
    /// Take hold of it again after a restart.
    Reattach(Attach),
    /// Delete it and forget the namespace.
    Detach(Id),
    /// Pinned namespaces, in order, after this one.
    List(Option<Id>),
    /// Make a socket in the pinned namespace.
    Socket(Id, SocketKind),
}

/// A socket that is neither bound nor connected: what the daemon reaches a workload's own ports by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketKind {
    /// UDP instead of TCP.
    pub datagrams: bool,
    /// IPv6 instead of IPv4.
    pub ipv6: bool,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Done; nothing to tell.
    Done,
    /// A namespace, which comes along.
    Namespace,
    /// The device comes along, then UDP and TCP sockets for each resolver address.
    Attached { ifindex: u32, interface: String },
    /// A socket, which comes along.
    Socket,
    /// Pinned namespaces; whether there are more.
    Ids { ids: Vec<Id>, more: bool },
    /// Not done, and nothing changed.
    Refused { why: Why, text: String },
}

/// Why the helper did not do it, as far as callers treat it differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no namespace under this id, or it is gone.
    Unknown,
    /// What was handed over is no network namespace (any more).
    NotANamespace,
    /// The id or the interface name is in use.
    Taken,
    /// The helper was started without a capability it needs.
    NotPermitted,
    /// What is asked for is not a workload's to have.
    Forbidden,
    /// The kernel refused a step; the text says which.
    Failed,
}

const WHYS: [Why; 6] =
    [Why::Unknown, Why::NotANamespace, Why::Taken, Why::NotPermitted, Why::Forbidden, Why::Failed];

/// A message that breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

type Parsed<T> = Result<T, Malformed>;

impl Request {
    /// The message. Limits that the caller broke make it one the helper refuses to read, so they
    /// are checked first.
    pub(crate) fn encode(&self, request: u32) -> Parsed<Vec<u8>> {
        let verb = match self {
            Self::NewNamespace(_) => 1,
            Self::Attach(_) => 2,
            Self::Reattach(_) => 3,
            Self::Detach(_) => 4,
            Self::List(_) => 5,
            Self::Socket(..) => 6,
        };
        let mut out = Writer::new(verb, request);
        match self {
            Self::NewNamespace(id) | Self::Detach(id) => out.text(id.as_str()),
            Self::Attach(attach) | Self::Reattach(attach) => out.attach(attach),
            Self::List(after) => out.text(after.as_ref().map_or("", Id::as_str)),
            Self::Socket(id, kind) => {
                out.text(id.as_str());
                out.0.extend([u8::from(kind.datagrams), u8::from(kind.ipv6)]);
            }
        }
        let bytes = out.0;
        match Self::decode(&bytes, self.descriptors().start().to_owned()) {
            Ok((_, same)) if same == *self => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// Reads a message that came with this many descriptors.
    pub(crate) fn decode(bytes: &[u8], descriptors: usize) -> Parsed<(u32, Self)> {
        let (mut input, verb, request) = Reader::open(bytes)?;
        let parsed = match verb {
            1 => Self::NewNamespace(input.id()?),
            2 => Self::Attach(input.attach()?),
            3 => Self::Reattach(input.attach()?),
            4 => Self::Detach(input.id()?),
            5 => Self::List(match input.text(Id::MAX)? {
                "" => None,
                text => Some(Id::new(text).ok_or(Malformed)?),
            }),
            6 => {
                let id = input.id()?;
                Self::Socket(id, SocketKind { datagrams: input.flag()?, ipv6: input.flag()? })
            }
            _ => return Err(Malformed),
        };
        input.end()?;
        if !parsed.descriptors().contains(&descriptors) {
            return Err(Malformed);
        }
        Ok((request, parsed))
    }

    /// How many descriptors come along.
    fn descriptors(&self) -> RangeInclusive<usize> {
        match self {
            Self::Attach(_) => 0..=1,
            _ => 0..=0,
        }
    }
}

impl Reply {
    pub(crate) fn encode(&self, request: u32) -> Vec<u8> {
        let outcome = match self {
            Self::Done => 0,
            Self::Namespace => 1,
            Self::Attached { .. } => 2,
            Self::Ids { .. } => 3,
            Self::Refused { .. } => 4,
            Self::Socket => 5,
        };
        let mut out = Writer::new(outcome, request);
        match self {
            Self::Done | Self::Namespace | Self::Socket => {}
            Self::Attached { ifindex, interface } => {
                out.0.extend(ifindex.to_le_bytes());
                out.text(interface);
            }
            Self::Ids { ids, more } => {
                out.list(ids, |out, id| out.text(id.as_str()));
                out.0.push(u8::from(*more));
            }
            Self::Refused { why, text } => {
                out.0.push(WHYS.iter().position(|known| known == why).map_or(u8::MAX, |at| at as u8));
                let mut end = text.len().min(MAX_TEXT);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                out.0.extend((end as u16).to_le_bytes());
                out.0.extend(&text.as_bytes()[..end]);
            }
        }
        out.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Parsed<(u32, Self)> {
        let (mut input, outcome, request) = Reader::open(bytes)?;
        let parsed = match outcome {
            0 => Self::Done,
            1 => Self::Namespace,
            2 => {
                let ifindex = u32::from_le_bytes(input.array()?);
                Self::Attached { ifindex, interface: input.text(MAX_NAME)?.to_owned() }
            }
            3 => {
                let ids = input.list(IDS_IN_ONE_REPLY, Reader::id)?;
                Self::Ids { ids, more: input.byte()? != 0 }
            }
            4 => {
                let why = *WHYS.get(usize::from(input.byte()?)).ok_or(Malformed)?;
                let len = usize::from(u16::from_le_bytes(input.array()?));
                let text = String::from_utf8_lossy(input.take(len)?).into_owned();
                Self::Refused { why, text }
            }
            5 => Self::Socket,
            _ => return Err(Malformed),
        };
        input.end()?;
        Ok((request, parsed))
    }
}

/// Ids that fit one reply, however long they are.
pub(crate) const IDS_IN_ONE_REPLY: usize = (MAX_MESSAGE - 16) / (1 + Id::MAX);

struct Writer(Vec<u8>);

impl Writer {
    fn new(verb: u8, request: u32) -> Self {
        let mut out = vec![VERSION, verb];
        out.extend(request.to_le_bytes());
        Self(out)
    }

    /// A length beyond a byte is one that no reader accepts.
    fn length(&mut self, len: usize) {
        self.0.push(u8::try_from(len).unwrap_or(u8::MAX));
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], each: impl Fn(&mut Self, &T)) {
        self.length(items.len());
        items.iter().for_each(|item| each(self, item));
    }

    fn ip(&mut self, ip: &IpAddr) {
        match ip {
            IpAddr::V4(v4) => {
                self.0.push(4);
                self.0.extend(v4.octets());
            }
            IpAddr::V6(v6) => {
                self.0.push(6);
                self.0.extend(v6.octets());
            }
        }
    }

    fn prefix(&mut self, (ip, len): &Prefix) {
        self.ip(ip);
        self.0.push(*len);
    }

    fn attach(&mut self, attach: &Attach) {
        self.text(attach.id.as_str());
        self.text(attach.interface.as_deref().unwrap_or_default());
        self.0.extend(attach.mtu.to_le_bytes());
        self.list(&attach.addresses, Self::prefix);
        self.list(&attach.routes, Self::prefix);
        self.list(&attach.resolver, Self::ip);
        self.text(attach.tap.as_deref().unwrap_or_default());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Body, verb or outcome, and number of a message.
    fn open(bytes: &'a [u8]) -> Parsed<(Self, u8, u32)> {
        let mut input = Self(bytes);
        if input.byte()? != VERSION {
            return Err(Malformed);
        }
        let verb = input.byte()?;
        let request = u32::from_le_bytes(input.array()?);
        Ok((input, verb, request))
    }

    fn take(&mut self, len: usize) -> Parsed<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn byte(&mut self) -> Parsed<u8> {
        self.array().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Parsed<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn text(&mut self, max: usize) -> Parsed<&'a str> {
        let len = usize::from(self.byte()?);
        if len > max {
            return Err(Malformed);
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed)
    }

    fn list<T>(&mut self, max: usize, each: impl Fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let len = usize::from(self.byte()?);
        if len > max {
            return Err(Malformed);
        }
        (0..len).map(|_| each(self)).collect()
    }

    fn id(&mut self) -> Parsed<Id> {
        Id::new(self.text(Id::MAX)?).ok_or(Malformed)
    }

    /// A name the kernel takes, or none.
    fn name(&mut self) -> Parsed<Option<String>> {
        let text = self.text(MAX_NAME)?;
        let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
        match text {
            "" => Ok(None),
            "." | ".." => Err(Malformed),
            name if name.bytes().all(good) => Ok(Some(name.to_owned())),
            _ => Err(Malformed),
        }
    }

    fn ip(&mut self) -> Parsed<IpAddr> {
        match self.byte()? {
            4 => self.array::<4>().map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
            6 => self.array::<16>().map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
            _ => Err(Malformed),
        }
    }

    fn prefix(&mut self) -> Parsed<Prefix> {
        let ip = self.ip()?;
        let len = self.byte()?;
        let max = if ip.is_ipv6() { 128 } else { 32 };
        if len <= max { Ok((ip, len)) } else { Err(Malformed) }
    }

    fn attach(&mut self) -> Parsed<Attach> {
        let (id, interface) = (self.id()?, self.name()?);
        let mtu = u16::from_le_bytes(self.array()?);
        if !MTU.contains(&mtu) {
            return Err(Malformed);
        }
        Ok(Attach {
            id,
            interface,
            mtu,
            addresses: self.list(MAX_ADDRESSES, Self::prefix)?,
            routes: self.list(MAX_ROUTES, Self::prefix)?,
            resolver: self.list(MAX_RESOLVERS, Self::ip)?,
            tap: self.name()?,
        })
    }

    fn end(&self) -> Parsed<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests;
