//! The first bytes of a TLS connection: which name the client asks for, before anybody answers.
//!
//! One `:443` serves hosts whose certificate is here and hosts whose certificate is elsewhere. Which
//! of the two a connection wants stands in its ClientHello (RFC 8446, 4.1.2), so that is read first
//! and then replayed to whoever gets the connection. This file is the pure half: bytes in, one of
//! *more*, *this hello*, *refused with this alert* out. It allocates nothing before the hello is
//! whole, and then one copy of at most [`HELLO_MAX`] bytes.
//!
//! A hello may come in any number of TCP segments and of TLS records; the records' lengths are
//! checked as they come, so a client cannot make us wait for what we would refuse anyway.

/// The longest ClientHello that is read, in bytes of handshake message. Those of browsers have 1.8
/// KB with a post-quantum share; with two shares, ECH and a ticket, 6 KB.
pub const HELLO_MAX: usize = 16 * 1024;

/// The most records that one hello may be cut into.
pub const RECORDS_MAX: usize = 64;

/// The most bytes that [`read`] asks for: a hello and the headers of its records.
pub const BYTES_MAX: usize = 4 + HELLO_MAX + RECORDS_MAX * RECORD_HEADER;

const RECORD_HEADER: usize = 5;
const RECORD_PAYLOAD_MAX: usize = 1 << 14;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;

/// What a ClientHello says of where it wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The host name asked for (RFC 6066, 3), in lower case and without a final dot.
    pub host: Option<String>,
    /// Application protocols on offer (RFC 7301), in the client's order.
    pub alpn: Vec<Vec<u8>>,
}

impl Hello {
    /// Whether a protocol is on offer.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.alpn.iter().any(|offer| offer == protocol)
    }
}

/// What the bytes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Not yet a whole hello.
    More,
    /// A whole hello; all bytes, also any after it, are to be replayed.
    Hello(Hello),
}

/// Why the bytes are no hello that we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something else than TLS, plain HTTP for instance.
    #[error("not TLS")]
    NotTls,
    /// TLS, but no handshake or no ClientHello first.
    #[error("something else came before the ClientHello")]
    Unexpected,
    /// A record longer than the protocol allows.
    #[error("a record is longer than 16 KiB")]
    RecordOverflow,
    /// Longer than [`HELLO_MAX`], or in more than [`RECORDS_MAX`] records.
    #[error("the ClientHello is too long")]
    TooLong,
    /// A length that does not fit its place.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// A name that is no host name, or two of them.
    #[error("the server name is not a host name")]
    BadName,
}

impl Refusal {
    /// The TLS alert that says so (RFC 8446, 6); `None` where the client would not understand one.
    pub fn alert(self) -> Option<Alert> {
        match self {
            Self::NotTls => None,
            Self::Unexpected => Some(Alert::UnexpectedMessage),
            Self::RecordOverflow => Some(Alert::RecordOverflow),
            Self::TooLong | Self::Malformed => Some(Alert::DecodeError),
            Self::BadName => Some(Alert::IllegalParameter),
        }
    }
}

/// The alerts that are sent before a TLS library has the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// A message that does not belong here.
    UnexpectedMessage = 10,
    /// A record that is too long.
    RecordOverflow = 22,
    /// A field that contradicts another.
    IllegalParameter = 47,
    /// A message that cannot be decoded.
    DecodeError = 50,
    /// Overload, or no backend: nothing that the client did.
    InternalError = 80,
    /// No such host here.
    UnrecognizedName = 112,
}

impl Alert {
    /// The alert as a record of its own, fatal. The version is that of TLS 1.0's record layer, which
    /// every client accepts at this point.
    pub fn record(self) -> [u8; 7] {
        [21, 3, 1, 0, 2, 2, self as u8]
    }
}

/// Reads the hello in `bytes`, which begin with the connection's first.
///
/// # Errors
/// No hello can begin like this.
pub fn read(bytes: &[u8]) -> Result<Reading, Refusal> {
    let mut message = Message::default();
    let mut rest = bytes;
    while let Some((record, after)) = next_record(rest)? {
        message.add(record)?;
        if let Some(whole) = message.whole(bytes)? {
            return hello(&whole).map(Reading::Hello);
        }
        rest = after;
    }
    // What has come of an unfinished record may already give the message's length away.
    message.check_partial(rest)?;
    Ok(Reading::More)
}

/// A record's payload, and what follows the record.
type Cut<'a> = (&'a [u8], &'a [u8]);

/// The payload of the first record in `bytes` and what follows, if all of it is there.
fn next_record(bytes: &[u8]) -> Result<Option<Cut<'_>>, Refusal> {
    let length = match bytes {
        [] => return Ok(None),
        [first, ..] if !(20..=23).contains(first) => return Err(Refusal::NotTls),
        [_, major, ..] if *major != 3 => return Err(Refusal::NotTls),
        [first, ..] if *first != HANDSHAKE => return Err(Refusal::Unexpected),
        [_, _, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => return Ok(None),
    };
    // An empty handshake record carries nothing and is forbidden (RFC 8446, 5.1).
    if length == 0 {
        return Err(Refusal::Malformed);
    }
    if length > RECORD_PAYLOAD_MAX {
        return Err(Refusal::RecordOverflow);
    }
    let payload = &bytes[RECORD_HEADER..];
    Ok(payload.split_at_checked(length))
}

/// The handshake message as it grows over records, without a copy of it.
#[derive(Default)]
struct Message {
    records: usize,
    have: usize,
    start: [u8; 4],
}

impl Message {
    fn add(&mut self, record: &[u8]) -> Result<(), Refusal> {
        self.records += 1;
        if self.records > RECORDS_MAX {
            return Err(Refusal::TooLong);
        }
        self.peek(record);
        self.have += record.len();
        self.length().map(|_| ())
    }

    fn peek(&mut self, record: &[u8]) {
        let missing = self.start.iter_mut().skip(self.have);
        missing.zip(record).for_each(|(to, from)| *to = *from);
    }

    /// Length of the whole message with its header, once that is known.
    fn length(&self) -> Result<Option<usize>, Refusal> {
        if self.have >= 1 && self.start[0] != CLIENT_HELLO {
            return Err(Refusal::Unexpected);
        }
        if self.have < self.start.len() {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, self.start[1], self.start[2], self.start[3]]) as usize;
        if length > HELLO_MAX {
            return Err(Refusal::TooLong);
        }
        Ok(Some(self.start.len() + length))
    }

    fn check_partial(&mut self, rest: &[u8]) -> Result<(), Refusal> {
        let Some(payload) = rest.get(RECORD_HEADER..) else { return Ok(()) };
        self.peek(payload);
        self.have += payload.len();
        self.length().map(|_| ())
    }

    /// The body of the message, if all of it has come.
    fn whole(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let Some(length) = self.length()?.filter(|length| self.have >= *length) else { return Ok(None) };
        let mut message = Vec::with_capacity(self.have);
        let mut rest = bytes;
        while message.len() < length {
            let Some((record, after)) = next_record(rest)? else { break };
            message.extend_from_slice(record);
            rest = after;
        }
        message.truncate(length);
        message.drain(..self.start.len());
        Ok(Some(message))
    }
}

/// A reader of length-prefixed fields, none of which may be cut short.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Refusal> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(field)
    }

    fn u8(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Refusal> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn short(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn long(&mut self) -> Result<&'a [u8], Refusal> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    fn done(&self) -> bool {
        self.0.is_empty()
    }
}

fn hello(body: &[u8]) -> Result<Hello, Refusal> {
    let mut fields = Fields(body);
    fields.take(2 + 32)?;
    let session = fields.short()?;
    let suites = fields.long()?;
    let compressions = fields.short()?;
    if session.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compressions.is_empty() {
        return Err(Refusal::Malformed);
    }
    let mut hello = Hello { host: None, alpn: Vec::new() };
    if fields.done() {
        return Ok(hello);
    }
    let mut extensions = Fields(fields.long()?);
    if !fields.done() {
        return Err(Refusal::Malformed);
    }
    let (mut names, mut protocols) = (false, false);
    while !extensions.done() {
        let kind = extensions.u16()?;
        let data = extensions.long()?;
        match kind {
            0 if std::mem::replace(&mut names, true) => return Err(Refusal::Malformed),
            0 => hello.host = server_name(data)?,
            16 if std::mem::replace(&mut protocols, true) => return Err(Refusal::Malformed),
            16 => hello.alpn = alpn(data)?,
            _ => {}
        }
    }
    Ok(hello)
}

fn server_name(data: &[u8]) -> Result<Option<String>, Refusal> {
    let mut fields = Fields(data);
    let mut list = Fields(fields.long()?);
    if !fields.done() || list.done() {
        return Err(Refusal::Malformed);
    }
    let mut host = None;
    while !list.done() {
        let kind = list.u8()?;
        let name = list.long()?;
        if kind != 0 {
            continue;
        }
        if host.is_some() {
            return Err(Refusal::BadName);
        }
        let text = std::str::from_utf8(name).map_err(|_| Refusal::BadName)?;
        // Addresses are not allowed here (RFC 6066, 3), but old clients send them: as good as none.
        if text.parse::<std::net::IpAddr>().is_ok() {
            return Ok(None);
        }
        host = Some(crate::host::normal(text).ok_or(Refusal::BadName)?);
    }
    Ok(host)
}

fn alpn(data: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut fields = Fields(data);
    let mut list = Fields(fields.long()?);
    if !fields.done() || list.done() {
        return Err(Refusal::Malformed);
    }
    let mut protocols = Vec::new();
    while !list.done() {
        let protocol = list.short()?;
        if protocol.is_empty() {
            return Err(Refusal::Malformed);
        }
        protocols.push(protocol.to_vec());
    }
    Ok(protocols)
}

#[cfg(test)]
pub(crate) mod tests;
