//! UDP headers of inner packets (RFC 768).

use crate::Malformed;
use crate::checksum::put;

/// Length of the header.
pub const HEADER_LEN: usize = 8;
/// Offset of the length field.
pub const LENGTH_OFFSET: usize = 4;
/// Offset of the checksum.
pub const CHECKSUM_OFFSET: usize = 6;

/// The header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Length of header and data, at least 8. May exceed what is here if this is a fragment.
    pub length: u16,
    /// Checksum, the pseudo-header's sum if partial, or 0 for none (IPv4 only).
    pub checksum: u16,
}

impl UdpHeader {
    /// Reads the header at the front of `l4`.
    pub fn parse(l4: &[u8]) -> Result<Self, Malformed> {
        let h: &[u8; HEADER_LEN] = l4.first_chunk().ok_or(Malformed)?;
        let length = u16::from_be_bytes([h[4], h[5]]);
        if usize::from(length) < HEADER_LEN {
            return Err(Malformed);
        }
        Ok(Self {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            length,
            checksum: u16::from_be_bytes([h[6], h[7]]),
        })
    }
}

/// Writes the length field; the checksum is the caller's to mend.
pub fn set_length(l4: &mut [u8], length: u16) -> Result<(), Malformed> {
    put(l4, LENGTH_OFFSET, length.to_be_bytes())
}

/// Writes the checksum field.
pub fn set_checksum(l4: &mut [u8], checksum: u16) -> Result<(), Malformed> {
    put(l4, CHECKSUM_OFFSET, checksum.to_be_bytes())
}
