//! The two tools every format is made of: a [`Reader`] that cannot run past its end, and [`Put`],
//! which writes the same chain of fields into a fixed array or onto a growing buffer.

use sinew_types::{MeshAddr, Seqno};

use crate::Malformed;

/// Takes fields off the front; every take is checked.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// For formats of exactly `len` bytes.
    pub(crate) fn exact(bytes: &'a [u8], len: usize) -> Result<Self, Malformed> {
        if bytes.len() == len { Ok(Self(bytes)) } else { Err(Malformed) }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A 48-bit sequence number.
    pub(crate) fn seqno(&mut self) -> Result<Seqno, Malformed> {
        let [a, b, c, d, e, f] = self.array()?;
        Ok(Seqno::new(u64::from_le_bytes([a, b, c, d, e, f, 0, 0])))
    }

    /// A mesh address; anything outside `fd3f::/16` is malformed.
    pub(crate) fn addr(&mut self) -> Result<MeshAddr, Malformed> {
        MeshAddr::from_bytes(self.array()?).ok_or(Malformed)
    }

    /// `value` and nothing else.
    pub(crate) fn expect<const N: usize>(&mut self, value: [u8; N]) -> Result<(), Malformed> {
        if self.array()? == value { Ok(()) } else { Err(Malformed) }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.0
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The end must be here.
    pub(crate) const fn finish(&self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// A chain of fields.
pub(crate) trait Put: Sized {
    fn bytes(self, bytes: &[u8]) -> Self;

    fn u8(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn seqno(self, value: Seqno) -> Self {
        let [a, b, c, d, e, f, ..] = value.value().to_le_bytes();
        self.bytes(&[a, b, c, d, e, f])
    }

    fn addr(self, value: &MeshAddr) -> Self {
        self.bytes(value.as_bytes())
    }
}

impl Put for &mut Vec<u8> {
    fn bytes(self, bytes: &[u8]) -> Self {
        self.extend_from_slice(bytes);
        self
    }
}

/// Fills a slice from the front. Writing past the end is a bug of ours and panics.
pub(crate) struct Writer<'a>(pub(crate) &'a mut [u8]);

impl Put for Writer<'_> {
    fn bytes(self, bytes: &[u8]) -> Self {
        let (head, rest) = self.0.split_at_mut(bytes.len());
        head.copy_from_slice(bytes);
        Self(rest)
    }
}

/// An array of `N` bytes written by `fill`; what it leaves out stays zero.
pub(crate) fn array<const N: usize>(fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> [u8; N] {
    let mut out = [0; N];
    fill(Writer(&mut out));
    out
}
