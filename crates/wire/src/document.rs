//! Documents of a private network: the signed envelope, and what each kind says (protocol A7.1).
//!
//! [`Document`] is the envelope with its body as bytes: it is emitted as it was parsed, so a node may
//! keep and pass on what it does not understand. [`Body`] is what the body of a known kind says. A body
//! is a run of `tag u8 | len u16 | value` with strictly rising tags. Tags from 0x80 on are optional: who
//! does not know one passes over it. Any other unknown tag makes the body malformed, because it may
//! narrow what the document grants.

mod body;
mod policy;
mod publish;
mod tlv;

pub use body::{Attach, Body, Grant, Head, Invite, InviteMode, Member, Net, Range4, Revocation, Revoke};
pub use body::{Service, Subnet4, Workload};
pub(crate) use body::{put_label, read_label};
pub use policy::{PolicySpec, ProtocolSpec, RuleSpec, SelectorSpec};
pub use publish::{BACKENDS_MAX, HOSTS_MAX, Publish, PublishMode, PublishedBackend, SETTINGS_MAX, is_host};

use sinew_types::Signature;

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::segment::MESSAGE_MAX;

/// Longest document: with the header of a DOCUMENTS message it fits one message of class 1.
pub const DOCUMENT_MAX: usize = MESSAGE_MAX - 64;
/// Bytes before the body.
pub const DOCUMENT_HEADER_LEN: usize = 166;
/// Length of the signature.
const SIGNATURE_LEN: usize = 64;

const MAGIC: [u8; 4] = *b"SNDC";
const VERSION: u8 = 1;

/// Numbers of the kinds.
pub mod kind {
    /// What the network is: name, address range, era.
    pub const NET: u8 = 1;
    /// Makes a key an admin.
    pub const GRANT: u8 = 2;
    /// Makes a node a member.
    pub const MEMBER: u8 = 3;
    /// Voids documents of a subject up to a generation.
    pub const REVOKE: u8 = 4;
    /// Who may talk to whom.
    pub const POLICY: u8 = 5;
    /// A workload of a member.
    pub const WORKLOAD: u8 = 6;
    /// The state of the set, so that nobody is shown an old one.
    pub const HEAD: u8 = 7;
    /// What the holder of a ticket may ask for.
    pub const INVITE: u8 = 8;
    /// A service that a gateway is to offer to people outside.
    pub const PUBLISH: u8 = 9;
    /// Where a moving workload is.
    pub const ATTACH: u8 = 10;
}

/// The envelope. Keys and subjects are bytes here: whether they are keys is not a matter of shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// What it says; see [`kind`].
    pub kind: u8,
    /// Which network: the owner's public key.
    pub network: [u8; 32],
    /// Who signed it.
    pub author: [u8; 32],
    /// The document that lets the author say this; zero if the author needs none.
    pub grant: [u8; 32],
    /// About whom.
    pub subject: [u8; 32],
    /// `era u16 << 16 | n u16`: what merge compares first.
    pub generation: u32,
    /// Orders an author's documents of one generation.
    pub seq: u64,
    /// When, seconds since 1970 by the author's clock.
    pub issued: u64,
    /// Until when, seconds since 1970; 0 without end.
    pub expires: u64,
    /// What it says, as bytes; the shape is checked, the meaning is [`Body::parse`]'s.
    pub body: Vec<u8>,
    /// Over [`Self::signed_bytes`], domain `DOCUMENT`.
    pub signature: Signature,
}

impl Document {
    /// Reads a whole document.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > DOCUMENT_MAX {
            return Err(Malformed);
        }
        let mut r = Reader::new(bytes);
        r.expect(MAGIC)?;
        r.expect([VERSION])?;
        let kind = r.u8()?;
        r.expect([0, 0])?;
        let (network, author, grant, subject) = (r.array()?, r.array()?, r.array()?, r.array()?);
        let (generation, seq, issued, expires) = (r.u32()?, r.u64()?, r.u64()?, r.u64()?);
        let len = usize::from(r.u16()?);
        let body = r.bytes(len)?;
        tlv::check(body)?;
        let body = body.to_vec();
        let signature = r.array()?;
        r.finish()?;
        Ok(Self { kind, network, author, grant, subject, generation, seq, issued, expires, body, signature })
    }

    /// Appends a whole document.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.write_signed(out);
        out.bytes(&self.signature);
    }

    /// Length when emitted.
    pub const fn emitted_len(&self) -> usize {
        DOCUMENT_HEADER_LEN + self.body.len() + SIGNATURE_LEN
    }

    /// What the author signs: everything before the signature, as it stands on the wire.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.emitted_len());
        self.write_signed(&mut out);
        out
    }

    fn write_signed(&self, out: &mut Vec<u8>) {
        let out = out.bytes(&MAGIC).u8(VERSION).u8(self.kind).u16(0);
        let out = out.bytes(&self.network).bytes(&self.author).bytes(&self.grant).bytes(&self.subject);
        let out = out.u32(self.generation).u64(self.seq).u64(self.issued).u64(self.expires);
        out.u16(self.body.len() as u16).bytes(&self.body);
    }
}
