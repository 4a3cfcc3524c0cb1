//! ERR: a relay's word that a record went no further (protocol A4). Unauthenticated end to end,
//! hence a hint: it must name a record sent a moment ago.
//!
//! Everything it says lies in the 16 bytes of a routed body that every link seals: who reports
//! stands in the routed header, where the record was going follows from the session it names, and
//! a tap sees neither (decision 0003).

use crate::Malformed;
use crate::codec::{Put, Reader, array};
use crate::record::DataHeader;

/// Type byte of an error report.
pub const MSG_ERR: u8 = 7;
/// Length of an error report: what it says, and zeros up to the least routed body.
pub const ERR_LEN: usize = 32;

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

/// What a report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorReport {
    /// Why.
    pub code: ErrorCode,
    /// Largest ROUTED body the next link takes; 0 if not told.
    pub mtu: u16,
    /// Index and nonce of the record that went no further.
    pub record: DataHeader,
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
        let (mtu, record) = (r.u16()?, DataHeader { receiver: r.u32()?, nonce: r.u64()? });
        r.expect([0; 16])?;
        Ok(Self { code, mtu, record })
    }

    /// Writes a whole report.
    pub fn emit(&self) -> [u8; ERR_LEN] {
        array(|w| {
            let w = w.u8(MSG_ERR).u8(self.code as u8).u16(self.mtu);
            w.u32(self.record.receiver).u64(self.record.nonce).bytes(&[0; 16])
        })
    }
}
