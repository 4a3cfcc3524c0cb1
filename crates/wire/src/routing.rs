//! Routing messages, the frames of control class 0 (routing §4.2, protocol A6).
//!
//! A frame is a run of `type u8 | len u16 | body`, short enough for one chunk, so that the frame
//! is the unit of processing and acknowledgement. Types from 0x80 are optional: who does not know
//! them passes over them. Any other unknown type, and any length that is not the type's own, is
//! malformed.

use sinew_types::{Class, MeshAddr, Metric, Seqno, Signature};

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::segment::{CHUNK_MAX, SEGMENT_HEADER_LEN};

/// Longest frame.
pub const FRAME_MAX: usize = CHUNK_MAX - SEGMENT_HEADER_LEN;
/// Longest locator in an origin record.
pub const LOCATOR_MAX: usize = 64;

/// Type and length before a body.
const TLV_LEN: usize = 3;

const HINT: u8 = 1;
const ORIGIN: u8 = 2;
const UPDATE: u8 = 3;
const RETRACT: u8 = 4;
const SEQNO_REQUEST: u8 = 5;
const ROUTE_REQUEST: u8 = 6;
const RECORD_REQUEST: u8 = 7;
const OPTIONAL: u8 = 0x80;

const FLAG_STUB: u8 = 1 << 0;
const FLAG_LANDMARK: u8 = 1 << 1;

/// One message between neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingMessage {
    /// What the sender is and how far it wants to see.
    Hint {
        /// What it adds to every metric before sending.
        floor: u16,
        /// Its class.
        class: Class,
        /// How many origins it keeps.
        k: u16,
        /// The cost beyond which it wants no origins.
        radius: u16,
    },
    /// An origin's signed record.
    Origin(OriginRecord),
    /// A route.
    Update {
        /// To whom.
        origin: MeshAddr,
        /// How fresh.
        seqno: Seqno,
        /// How far, the sender's floor included.
        metric: Metric,
        /// The chain value that proves the metric.
        chain: [u8; 16],
    },
    /// No route any more.
    Retract {
        /// To whom.
        origin: MeshAddr,
    },
    /// Asks for a route at least this fresh.
    SeqnoRequest {
        /// To whom.
        origin: MeshAddr,
        /// How fresh.
        seqno: Seqno,
    },
    /// Asks the neighbour to say again what it has.
    RouteRequest {
        /// To whom.
        origin: MeshAddr,
    },
    /// Asks for the signed record.
    RecordRequest {
        /// Whose.
        origin: MeshAddr,
    },
}

impl RoutingMessage {
    /// Reads the body of a message; `None` for an optional type we do not know.
    fn parse(kind: u8, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut r = Reader::new(body);
        let message = match kind {
            HINT => Self::Hint { floor: r.u16()?, class: class(r.u8()?)?, k: r.u16()?, radius: r.u16()? },
            ORIGIN => Self::Origin(OriginRecord::read(&mut r)?),
            UPDATE => Self::Update {
                origin: r.addr()?,
                seqno: r.seqno()?,
                metric: metric(r.u16()?)?,
                chain: r.array()?,
            },
            RETRACT => Self::Retract { origin: r.addr()? },
            SEQNO_REQUEST => Self::SeqnoRequest { origin: r.addr()?, seqno: r.seqno()? },
            ROUTE_REQUEST => Self::RouteRequest { origin: r.addr()? },
            RECORD_REQUEST => Self::RecordRequest { origin: r.addr()? },
            OPTIONAL.. => return Ok(None),
            _ => return Err(Malformed),
        };
        r.finish().map(|()| Some(message))
    }

    /// Appends type, length and body.
    pub fn emit(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let body = out.u8(self.kind()).u16(0);
        match self {
            Self::Hint { floor, class, k, radius } => {
                body.u16(*floor).u8(u8::from(*class == Class::Stub)).u16(*k).u16(*radius)
            }
            Self::Origin(record) => record.write(body),
            Self::Update { origin, seqno, metric, chain } => {
                body.addr(origin).seqno(*seqno).u16(metric.units()).bytes(chain)
            }
            Self::SeqnoRequest { origin, seqno } => body.addr(origin).seqno(*seqno),
            Self::Retract { origin } | Self::RouteRequest { origin } | Self::RecordRequest { origin } => {
                body.addr(origin)
            }
        };
        let len = (out.len() - start - TLV_LEN) as u16;
        out[start + 1..start + TLV_LEN].copy_from_slice(&len.to_le_bytes());
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Hint { .. } => HINT,
            Self::Origin(_) => ORIGIN,
            Self::Update { .. } => UPDATE,
            Self::Retract { .. } => RETRACT,
            Self::SeqnoRequest { .. } => SEQNO_REQUEST,
            Self::RouteRequest { .. } => ROUTE_REQUEST,
            Self::RecordRequest { .. } => RECORD_REQUEST,
        }
    }
}

fn class(byte: u8) -> Result<Class, Malformed> {
    match byte {
        0 => Ok(Class::Router),
        1 => Ok(Class::Stub),
        _ => Err(Malformed),
    }
}

/// Above the cap there is no metric; saturating here would give one value many spellings.
fn metric(units: u16) -> Result<Metric, Malformed> {
    if units <= Metric::UNREACHABLE.units() { Ok(Metric::new(units)) } else { Err(Malformed) }
}

/// What an origin says about itself, signed by its key and passed on unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginRecord {
    /// Whose record; not yet checked to be a key.
    pub node: [u8; 32],
    /// How fresh.
    pub seqno: Seqno,
    /// The class.
    pub class: Class,
    /// It offers itself as a landmark.
    pub landmark: bool,
    /// Bits of work behind that offer.
    pub landmark_power: u8,
    /// End of the metric chain of this seqno.
    pub anchor: [u8; 16],
    /// Minutes the record is good for.
    pub expiry_min: u16,
    /// Reserved, at most [`LOCATOR_MAX`] bytes; empty now.
    pub locator: Vec<u8>,
    /// Over [`Self::signed_bytes`], domain `ORIGIN`.
    pub signature: Signature,
}

impl OriginRecord {
    /// What the origin signs: everything before the signature, as it stands on the wire.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        self.write_signed(&mut out);
        out
    }

    /// Reads a whole record.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let record = Self::read(&mut r)?;
        r.finish().map(|()| record)
    }

    /// Appends a whole record.
    pub fn emit(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    fn write<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        self.write_signed(out).bytes(&self.signature)
    }

    fn write_signed<'a>(&self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        let stub = if self.class == Class::Stub { FLAG_STUB } else { 0 };
        let landmark = if self.landmark { FLAG_LANDMARK } else { 0 };
        let locator = self.locator.get(..LOCATOR_MAX).unwrap_or(&self.locator);
        let out = out.bytes(&self.node).seqno(self.seqno).u8(stub | landmark).u8(self.landmark_power);
        out.bytes(&self.anchor).u16(self.expiry_min).u8(locator.len() as u8).bytes(locator)
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (node, seqno) = (r.array()?, r.seqno()?);
        let [flags, landmark_power] = r.array()?;
        // A flag we cannot write again would be lost, and the signature with it.
        if flags & !(FLAG_STUB | FLAG_LANDMARK) != 0 {
            return Err(Malformed);
        }
        let (anchor, expiry_min) = (r.array()?, r.u16()?);
        let len = usize::from(r.u8()?);
        if len > LOCATOR_MAX {
            return Err(Malformed);
        }
        Ok(Self {
            node,
            seqno,
            class: if flags & FLAG_STUB == 0 { Class::Router } else { Class::Stub },
            landmark: flags & FLAG_LANDMARK != 0,
            landmark_power,
            anchor,
            expiry_min,
            locator: r.bytes(len)?.to_vec(),
            signature: r.array()?,
        })
    }
}

/// The messages of a frame, in order. After the first malformed one nothing more comes: where
/// the next would begin is not known.
#[derive(Clone, Debug)]
pub struct RoutingFrame<'a>(Reader<'a>);

impl<'a> RoutingFrame<'a> {
    /// Iterates over the messages of `frame`.
    pub const fn parse(frame: &'a [u8]) -> Self {
        Self(Reader::new(frame))
    }

    fn step(&mut self) -> Result<Option<RoutingMessage>, Malformed> {
        let kind = self.0.u8()?;
        let len = usize::from(self.0.u16()?);
        RoutingMessage::parse(kind, self.0.bytes(len)?)
    }
}

impl Iterator for RoutingFrame<'_> {
    type Item = Result<RoutingMessage, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            match self.step() {
                Ok(None) => {}
                Ok(Some(message)) => return Some(Ok(message)),
                Err(Malformed) => {
                    self.0 = Reader::new(&[]);
                    return Some(Err(Malformed));
                }
            }
        }
        None
    }
}

/// Fills one frame at the end of a buffer.
#[derive(Debug)]
pub struct FrameBuilder<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> FrameBuilder<'a> {
    /// Starts a frame behind what `out` already holds.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Appends `message` if it still fits; `false` leaves the frame as it was.
    pub fn push(&mut self, message: &RoutingMessage) -> bool {
        let before = self.out.len();
        message.emit(self.out);
        let fits = self.out.len() - self.start <= FRAME_MAX;
        if !fits {
            self.out.truncate(before);
        }
        fits
    }

    /// Whether nothing was pushed.
    pub const fn is_empty(&self) -> bool {
        self.out.len() == self.start
    }
}
