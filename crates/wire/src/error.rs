//! ERR: a relay's word that a routed record went no further (protocol A4). Unauthenticated end
//! to end, hence a hint: the quote must name a record sent a moment ago.

use sinew_types::MeshAddr;

use crate::Malformed;
use crate::codec::{Put, Reader, array};

/// Type byte of an error report.
pub const MSG_ERR: u8 = 7;
/// Length of an error report.
pub const ERR_LEN: usize = 72;
/// How much of the offending body is quoted.
pub const QUOTE_LEN: usize = 32;

/// Why a relay did not forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorCode {
    /// It has no route to the destination.
    NoRoute = 1,
    /// The hop limit ran out there.
    HopLimit = 2,
    /// The record is larger than its next link takes; `mtu` says how large it may be.
    TooBig = 3,
    /// Its own feasibility distance is not below the watermark.
    Watermark = 4,
}

/// The 72 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// Why.
    pub code: ErrorCode,
    /// Largest ROUTED body the next link takes; 0 if not told.
    pub mtu: u16,
    /// Who reports.
    pub reporter: MeshAddr,
    /// Where the record was going.
    pub dst: MeshAddr,
    /// The first bytes of the offending body: index and nonce name the record.
    pub quote: [u8; QUOTE_LEN],
}

impl ErrorReport {
    /// Reads a whole report.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(body, ERR_LEN)?;
        r.expect([MSG_ERR])?;
        let code = match r.u8()? {
            1 => ErrorCode::NoRoute,
            2 => ErrorCode::HopLimit,
            3 => ErrorCode::TooBig,
            4 => ErrorCode::Watermark,
            _ => return Err(Malformed),
        };
        let mtu = r.u16()?;
        r.expect([0; 4])?;
        Ok(Self { code, mtu, reporter: r.addr()?, dst: r.addr()?, quote: r.array()? })
    }

    /// Writes a whole report.
    pub fn emit(&self) -> [u8; ERR_LEN] {
        array(|w| {
            let w = w.u8(MSG_ERR).u8(self.code as u8).u16(self.mtu).u32(0);
            w.addr(&self.reporter).addr(&self.dst).bytes(&self.quote)
        })
    }
}
