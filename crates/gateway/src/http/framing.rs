//! Where one HTTP/1 request ends and the next begins, decided once and strictly.
//!
//! Requests are smuggled where two programs disagree about that (RFC 9112, 11.2). The HTTP library
//! behind us is lenient in ways that are lawful alone: it takes a bare line feed for a line's
//! end, and one of two contradicting lengths. So each head is looked at before the library sees it, and
//! what could be read in two ways is refused: both lengths, a length twice, an encoding other than
//! exactly `chunked`, folded lines, bare line feeds or carriage returns, no `Host` or two.
//! Heads are also counted and measured here, so that the limits hold however slowly one comes.
//!
//! The scanner is a machine over bytes; it remembers at most where it stands in a body and how far
//! an unfinished head has been searched.

/// The longest line of a chunk's size with its extensions, and of a trailer section, bytes.
const CHUNK_LINE_MAX: usize = 1024;
const TRAILERS_MAX: usize = 16 * 1024;

/// Why a request is refused before it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// More than one reading is possible, or none.
    #[error("the request's framing is malformed or ambiguous")]
    Framing,
    /// No `Host`, or more than one.
    #[error("exactly one Host is needed")]
    Host,
    /// Not HTTP/1.0 or 1.1.
    #[error("this version of HTTP is not spoken here")]
    Version,
    /// Line and headers are too long, or the headers too many.
    #[error("the request's headers are too large")]
    TooLarge,
    /// The headers did not come in time.
    #[error("the request's headers did not come in time")]
    Timeout,
}

impl Violation {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 5] =
        [Self::Framing, Self::Host, Self::Version, Self::TooLarge, Self::Timeout];

    /// The status that says so.
    pub fn status(self) -> u16 {
        match self {
            Self::Framing | Self::Host => 400,
            Self::Version => 505,
            Self::TooLarge => 431,
            Self::Timeout => 408,
        }
    }
}

/// What bounds a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Line and headers, bytes.
    pub bytes: usize,
    /// Headers.
    pub count: usize,
}

/// Where in a connection the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before or in a head of which so many bytes have been searched for its end.
    Head { searched: usize },
    /// In a body of known length, so many bytes before its end.
    Sized(u64),
    /// In a chunk's size line, after so many bytes.
    ChunkLine { length: usize, size: u64, digits: u8, extension: bool, cr: bool },
    /// In a chunk, so many bytes before its end.
    Chunk(u64),
    /// After a chunk: its line end, of which so many bytes have come.
    ChunkEnd(u8),
    /// In the trailers: bytes so far, and how long the line is; a line of none ends them.
    Trailers { length: usize, line: usize, cr: bool },
}

/// The machine.
#[derive(Debug)]
pub struct Framing {
    at: At,
    limits: HeadLimits,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// So many of them are whole heads and parts of bodies. The rest is the front of a head, to be
    /// shown again together with what follows it.
    pub passed: usize,
    /// After those comes what is refused.
    pub violation: Option<Violation>,
}

impl Framing {
    /// At the start of a connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { at: At::Head { searched: 0 }, limits }
    }

    /// Whether the next byte belongs to a body.
    pub fn in_body(&self) -> bool {
        !matches!(self.at, At::Head { .. })
    }

    /// Goes over `bytes`: those that the last scan did not pass, and new ones.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut passed = 0;
        while passed < bytes.len() {
            let rest = &bytes[passed..];
            let step = match self.at {
                At::Head { searched } => match self.head(rest, searched) {
                    Ok(None) => break,
                    Ok(Some(length)) => Ok(length),
                    Err(violation) => Err(violation),
                },
                _ => self.body(rest),
            };
            match step {
                Ok(length) => passed += length,
                Err(violation) => return Scan { passed, violation: Some(violation) },
            }
        }
        Scan { passed, violation: None }
    }

    /// A whole head at the front of `bytes`: its length, and what follows it.
    fn head(&mut self, bytes: &[u8], searched: usize) -> Result<Option<usize>, Violation> {
        let window = &bytes[..bytes.len().min(self.limits.bytes)];
        // A line's end may lie across what was searched; its first three bytes are looked at again.
        let from = searched.saturating_sub(3);
        // An empty line before a request is skipped, as RFC 9112, 2.2 asks.
        let blank = if window.starts_with(b"\r\n") { 2 } else { 0 };
        let found = find(&window[from.max(blank).min(window.len())..], b"\r\n\r\n");
        let Some(end) = found.map(|at| at + from.max(blank) + 4) else {
            if window.len() < bytes.len() || bytes.len() >= self.limits.bytes {
                return Err(Violation::TooLarge);
            }
            check_partial(window)?;
            self.at = At::Head { searched: window.len() };
            return Ok(None);
        };
        self.at = judge(&window[blank..end], self.limits.count)?;
        Ok(Some(end))
    }

    fn body(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        match self.at {
            At::Head { .. } => Ok(0),
            At::Sized(left) => Ok(self.pass(left, bytes.len(), At::Sized, At::Head { searched: 0 })),
            At::Chunk(left) => Ok(self.pass(left, bytes.len(), At::Chunk, At::ChunkEnd(0))),
            At::ChunkEnd(seen) => {
                let expected = if seen == 0 { b'\r' } else { b'\n' };
                if bytes[0] != expected {
                    return Err(Violation::Framing);
                }
                self.at = if seen == 0 { At::ChunkEnd(1) } else { CHUNK_LINE };
                Ok(1)
            }
            At::ChunkLine { .. } => self.chunk_line(bytes[0]).map(|()| 1),
            At::Trailers { length, line, cr } => {
                self.at = trailers(bytes[0], length + 1, line, cr)?;
                Ok(1)
            }
        }
    }

    fn pass(&mut self, left: u64, have: usize, more: fn(u64) -> At, done: At) -> usize {
        let length = left.min(have as u64);
        self.at = if length == left { done } else { more(left - length) };
        length as usize
    }

    fn chunk_line(&mut self, byte: u8) -> Result<(), Violation> {
        let At::ChunkLine { length, size, digits, extension, cr } = self.at else { return Ok(()) };
        let next =
            |size, digits, extension, cr| At::ChunkLine { length: length + 1, size, digits, extension, cr };
        if length >= CHUNK_LINE_MAX {
            return Err(Violation::Framing);
        }
        let digit = char::from(byte).to_digit(16).filter(|_| !extension && !cr);
        self.at = match (byte, digit) {
            (_, Some(digit)) if digits < 15 => next(size << 4 | u64::from(digit), digits + 1, false, false),
            (b'\n', _) if cr && digits > 0 && size == 0 => At::Trailers { length: 0, line: 0, cr: false },
            (b'\n', _) if cr && digits > 0 => At::Chunk(size),
            (b'\r', _) if !cr => next(size, digits, extension, true),
            (b';', _) if !cr && digits > 0 => next(size, digits, true, false),
            (b'\t' | b' '..=b'~' | 0x80.., None) if extension && !cr => next(size, digits, true, false),
            _ => return Err(Violation::Framing),
        };
        Ok(())
    }
}

const CHUNK_LINE: At = At::ChunkLine { length: 0, size: 0, digits: 0, extension: false, cr: false };

fn trailers(byte: u8, length: usize, line: usize, cr: bool) -> Result<At, Violation> {
    match (byte, cr) {
        _ if length > TRAILERS_MAX => Err(Violation::Framing),
        (b'\n', true) if line == 0 => Ok(At::Head { searched: 0 }),
        (b'\n', true) => Ok(At::Trailers { length, line: 0, cr: false }),
        (b'\r', false) => Ok(At::Trailers { length, line, cr: true }),
        (b'\n' | b'\0', _) | (_, true) => Err(Violation::Framing),
        // A trailer that is folded into the one before it.
        (b' ' | b'\t', false) if line == 0 => Err(Violation::Framing),
        (_, false) => Ok(At::Trailers { length, line: line + 1, cr: false }),
    }
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Refuses at once what can never become a head: whoever speaks another protocol need not wait.
fn check_partial(bytes: &[u8]) -> Result<(), Violation> {
    let bare = |pair: &[u8]| pair[1] == b'\n' && pair[0] != b'\r';
    let wrong = bytes.contains(&0) || bytes.windows(2).any(bare) || bytes.first() == Some(&b'\n');
    if wrong { Err(Violation::Framing) } else { Ok(()) }
}

/// What follows a head that ends with an empty line.
fn judge(head: &[u8], count_max: usize) -> Result<At, Violation> {
    let lines = head.strip_suffix(b"\r\n\r\n").ok_or(Violation::Framing)?;
    if lines.contains(&0) {
        return Err(Violation::Framing);
    }
    let mut lines = Lines(Some(lines));
    let modern = version(lines.next().ok_or(Violation::Framing)??)?;
    let mut said = Said::default();
    for (index, line) in lines.enumerate() {
        if index >= count_max {
            return Err(Violation::TooLarge);
        }
        said.header(line?)?;
    }
    said.judge(modern)
}

/// Lines that end with CR LF, none of which holds either alone.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], Violation>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.take()?;
        let line = match rest.iter().position(|byte| *byte == b'\n') {
            None => rest,
            Some(end) => {
                self.0 = Some(&rest[end + 1..]);
                match rest[..end].strip_suffix(b"\r") {
                    Some(line) => line,
                    None => return Some(Err(Violation::Framing)),
                }
            }
        };
        let bare = line.contains(&b'\r');
        Some(if bare { Err(Violation::Framing) } else { Ok(line) })
    }
}

/// Whether a request line is HTTP/1.1; refuses what is neither that nor 1.0.
fn version(line: &[u8]) -> Result<bool, Violation> {
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let filled = |word: Option<&[u8]>| word.is_some_and(|word| !word.is_empty() && !word.contains(&b'\t'));
    if !filled(method) || !filled(target) || words.next().is_some() {
        return Err(Violation::Framing);
    }
    match version {
        Some(b"HTTP/1.1") => Ok(true),
        Some(b"HTTP/1.0") => Ok(false),
        Some(other) if other.starts_with(b"HTTP/") => Err(Violation::Version),
        _ => Err(Violation::Framing),
    }
}

/// What a head says of its body.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    hosts: u32,
}

impl Said {
    fn header(&mut self, line: &[u8]) -> Result<(), Violation> {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Violation::Framing)?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::Framing);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let digits = !value.is_empty() && value.len() <= 18 && value.iter().all(u8::is_ascii_digit);
            let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            let length = parsed.filter(|_| digits).ok_or(Violation::Framing)?;
            if self.length.replace(length).is_some() {
                return Err(Violation::Framing);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let chunked = value.eq_ignore_ascii_case(b"chunked");
            if !chunked || std::mem::replace(&mut self.chunked, true) {
                return Err(Violation::Framing);
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
        }
        Ok(())
    }

    fn judge(&self, modern: bool) -> Result<At, Violation> {
        if self.hosts > 1 || (modern && self.hosts == 0) {
            return Err(Violation::Host);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation::Framing),
            (None, true) if !modern => Err(Violation::Framing),
            (None, true) => Ok(CHUNK_LINE),
            (Some(length), false) if length > 0 => Ok(At::Sized(length)),
            (_, false) => Ok(At::Head { searched: 0 }),
        }
    }
}

/// Without the white space that may stand around a value: spaces and tabs, nothing else.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A byte of a header's name (RFC 9110, 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests;
