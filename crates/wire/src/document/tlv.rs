//! Bodies as `tag u8 | len u16 | value`, tags strictly rising: a value has one place and one spelling.

use crate::Malformed;
use crate::codec::{Put, Reader};

/// Tags from here on may be passed over by who does not know them.
const OPTIONAL: u8 = 0x80;

/// Whether `body` is a run of whole fields with rising tags.
pub(super) fn check(body: &[u8]) -> Result<(), Malformed> {
    let mut fields = Fields::new(body);
    while fields.next()?.is_some() {}
    Ok(())
}

/// Takes the fields of a body one by one, in order.
pub(super) struct Fields<'a> {
    reader: Reader<'a>,
    last: Option<u8>,
    /// A field that was looked at and is not the one asked for.
    ahead: Option<(u8, &'a [u8])>,
}

impl<'a> Fields<'a> {
    pub(super) const fn new(body: &'a [u8]) -> Self {
        Self { reader: Reader::new(body), last: None, ahead: None }
    }

    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        if let Some(field) = self.ahead.take() {
            return Ok(Some(field));
        }
        if self.reader.is_empty() {
            return Ok(None);
        }
        let tag = self.reader.u8()?;
        if self.last.is_some_and(|last| last >= tag) {
            return Err(Malformed);
        }
        self.last = Some(tag);
        let len = usize::from(self.reader.u16()?);
        Ok(Some((tag, self.reader.bytes(len)?)))
    }

    /// The value of `tag` if it is next; asked for in rising order.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        match self.next()? {
            Some((own, value)) if own == tag => Ok(Some(value)),
            other => {
                self.ahead = other;
                Ok(None)
            }
        }
    }

    /// The value of `tag`, which must be next.
    pub(super) fn required(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        self.optional(tag)?.ok_or(Malformed)
    }

    /// Whether `tag` is next; its value must be empty.
    pub(super) fn flag(&mut self, tag: u8) -> Result<bool, Malformed> {
        match self.optional(tag)? {
            Some([]) => Ok(true),
            Some(_) => Err(Malformed),
            None => Ok(false),
        }
    }

    /// What is left must be optional.
    pub(super) fn finish(mut self) -> Result<(), Malformed> {
        while let Some((tag, _)) = self.next()? {
            if tag < OPTIONAL {
                return Err(Malformed);
            }
        }
        Ok(())
    }
}

/// Writes fields; the caller keeps the order.
#[derive(Default)]
pub(super) struct Builder(pub(super) Vec<u8>);

impl Builder {
    pub(super) fn field(&mut self, tag: u8, value: &[u8]) -> &mut Self {
        self.0.u8(tag).u16(value.len() as u16).bytes(value);
        self
    }

    pub(super) fn option(&mut self, tag: u8, value: Option<Vec<u8>>) -> &mut Self {
        if let Some(value) = value {
            self.field(tag, &value);
        }
        self
    }

    pub(super) fn flag(&mut self, tag: u8, set: bool) -> &mut Self {
        if set { self.field(tag, &[]) } else { self }
    }
}
