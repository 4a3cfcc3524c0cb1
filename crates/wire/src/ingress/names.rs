//! NAMES: who holds which name below a domain, as the gateway that decides on them tells those that follow it
//! (protocol A11.6).
//!
//! The whole list in one answer, so that what a follower serves is what was true at one moment. It is bounded, and
//! has one spelling: names rise.

use sinew_types::Label;

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::document::{is_host, put_label, read_label};

/// Most names of one domain.
pub const NAMES_MAX: usize = 8192;
/// Longest domain: a name of 63 characters and a dot go in front, and 253 are all.
pub const DOMAIN_MAX: usize = 253 - 64;
/// Longest entry: name, holder, since, until, and whose it will be.
const ENTRY_MAX: usize = 1 + 63 + 32 + 8 + 8 + 1 + 32 + 8;
/// Longest list.
pub const LIST_MAX: usize = 2 + NAMES_MAX * ENTRY_MAX;

/// A name that a network holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The label in front of the domain.
    pub label: Label,
    /// Its holder.
    pub network: [u8; 32],
    /// Since when, seconds since 1970.
    pub since: u64,
    /// Until when, if it is not claimed again.
    pub until: u64,
    /// Whose it will be, and from when.
    pub transfer: Option<([u8; 32], u64)>,
}

/// All names of a domain, rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameList(pub Vec<Name>);

impl NameList {
    /// Reads what follows the head of the answer.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let count = usize::from(r.u16()?);
        // No room is made for more than can follow.
        if count > NAMES_MAX || count > bytes.len() {
            return Err(Malformed);
        }
        let mut names: Vec<Name> = Vec::with_capacity(count);
        for _ in 0..count {
            let name = Name::read(&mut r)?;
            if names.last().is_some_and(|last| last.label >= name.label) {
                return Err(Malformed);
            }
            names.push(name);
        }
        r.finish().map(|()| Self(names))
    }

    /// Writes it; `None` if there are more names than a list has, or they do not rise.
    pub fn emit(&self) -> Option<Vec<u8>> {
        let rises = self.0.is_sorted_by(|a, b| a.label < b.label);
        if self.0.len() > NAMES_MAX || !rises {
            return None;
        }
        let mut out = Vec::new();
        out.u16(self.0.len() as u16);
        self.0.iter().for_each(|name| name.write(&mut out));
        Some(out)
    }
}

impl Name {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let label = read_label(r)?;
        let (network, since, until) = (r.array()?, r.u64()?, r.u64()?);
        let transfer = match r.u8()? {
            0 => None,
            1 => Some((r.array()?, r.u64()?)),
            _ => return Err(Malformed),
        };
        Ok(Self { label, network, since, until, transfer })
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_label(out, &self.label);
        out.bytes(&self.network).u64(self.since).u64(self.until).u8(u8::from(self.transfer.is_some()));
        if let Some((to, at)) = &self.transfer {
            out.bytes(to).u64(*at);
        }
    }
}

/// The body of the request: the domain that is meant.
pub(super) fn read_domain(body: &[u8]) -> Result<String, Malformed> {
    let text = core::str::from_utf8(body).map_err(|_| Malformed)?;
    if is_domain(text) { Ok(text.to_owned()) } else { Err(Malformed) }
}

/// A name in lower case, without a star.
pub(super) fn is_domain(text: &str) -> bool {
    text.len() <= DOMAIN_MAX && is_host(text) && !text.starts_with('*')
}
