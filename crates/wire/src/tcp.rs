//! TCP headers of inner packets (RFC 9293).

use crate::Malformed;
use crate::checksum::{put, update};

/// FIN flag.
pub const FIN: u8 = 0x01;
/// SYN flag.
pub const SYN: u8 = 0x02;
/// RST flag.
pub const RST: u8 = 0x04;
/// PSH flag.
pub const PSH: u8 = 0x08;
/// ACK flag.
pub const ACK: u8 = 0x10;
/// URG flag.
pub const URG: u8 = 0x20;
/// ECE flag.
pub const ECE: u8 = 0x40;
/// CWR flag.
pub const CWR: u8 = 0x80;

/// Length of a header without options.
pub const HEADER_MIN: usize = 20;
/// Offset of the sequence number.
pub const SEQ_OFFSET: usize = 4;
/// Offset of the flags byte.
pub const FLAGS_OFFSET: usize = 13;
/// Offset of the checksum.
pub const CHECKSUM_OFFSET: usize = 16;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_MSS: u8 = 2;

/// The fixed fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Length of the header with options, bytes; the whole of it is present.
    pub header_len: usize,
    /// Flags.
    pub flags: u8,
    /// Window, unscaled.
    pub window: u16,
    /// Checksum, or the pseudo-header's sum if partial.
    pub checksum: u16,
}

impl TcpHeader {
    /// Reads the header at the front of `l4`; all of it, options included, must be there.
    pub fn parse(l4: &[u8]) -> Result<Self, Malformed> {
        let h: &[u8; HEADER_MIN] = l4.first_chunk().ok_or(Malformed)?;
        let header_len = usize::from(h[12] >> 4) * 4;
        if header_len < HEADER_MIN || header_len > l4.len() {
            return Err(Malformed);
        }
        Ok(Self {
            src_port: u16::from_be_bytes([h[0], h[1]]),
            dst_port: u16::from_be_bytes([h[2], h[3]]),
            seq: u32::from_be_bytes([h[4], h[5], h[6], h[7]]),
            ack: u32::from_be_bytes([h[8], h[9], h[10], h[11]]),
            header_len,
            flags: h[13],
            window: u16::from_be_bytes([h[14], h[15]]),
            checksum: u16::from_be_bytes([h[16], h[17]]),
        })
    }

    /// The options, as bytes.
    pub fn options<'a>(&self, l4: &'a [u8]) -> &'a [u8] {
        l4.get(HEADER_MIN..self.header_len).unwrap_or_default()
    }
}

/// Writes the sequence number; the checksum is the caller's to mend.
pub fn set_seq(l4: &mut [u8], seq: u32) -> Result<(), Malformed> {
    put(l4, SEQ_OFFSET, seq.to_be_bytes())
}

/// Writes the flags; the checksum is the caller's to mend.
pub fn set_flags(l4: &mut [u8], flags: u8) -> Result<(), Malformed> {
    put(l4, FLAGS_OFFSET, [flags])
}

/// Writes the checksum field.
pub fn set_checksum(l4: &mut [u8], checksum: u16) -> Result<(), Malformed> {
    put(l4, CHECKSUM_OFFSET, checksum.to_be_bytes())
}

/// Lowers the MSS option of a SYN to `max` and mends the checksum, unless that is partial and so
/// does not cover it. Says whether anything changed.
pub fn clamp_mss(l4: &mut [u8], max: u16, csum_partial: bool) -> Result<bool, Malformed> {
    let header = TcpHeader::parse(l4)?;
    if header.flags & SYN == 0 {
        return Ok(false);
    }
    let Some((at, mss)) = find_mss(header.options(l4)).filter(|&(_, mss)| mss > max) else {
        return Ok(false);
    };
    let at = HEADER_MIN + at;
    put(l4, at, max.to_be_bytes())?;
    if !csum_partial {
        // At an odd offset each byte stands in the other half of its word.
        let aligned = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
        set_checksum(l4, update(header.checksum, aligned(mss), aligned(max)))?;
    }
    Ok(true)
}

/// Offset and value of the MSS option; `None` also where the options make no sense.
fn find_mss(options: &[u8]) -> Option<(usize, u16)> {
    let mut at = 0;
    loop {
        match *options.get(at..)? {
            [OPTION_MSS, 4, high, low, ..] => return Some((at + 2, u16::from_be_bytes([high, low]))),
            [] | [OPTION_END, ..] => return None,
            [OPTION_NOP, ..] => at += 1,
            [_, len, ..] if len >= 2 => at += usize::from(len),
            _ => return None,
        }
    }
}
