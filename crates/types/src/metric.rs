//! What a route costs and how fresh it is (routing-model §2: a *rank* is a pair of both).

use core::fmt;

/// Path cost in units of 2 ms, saturating at [`Metric::UNREACHABLE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Metric(u16);

impl Metric {
    /// The origin itself.
    pub const ZERO: Self = Self(0);
    /// The least a link may cost.
    pub const ONE: Self = Self(1);
    /// The cap (protocol A6): everyone can compute the chain's anchor, so it proves nothing.
    pub const UNREACHABLE: Self = Self(1023);
    /// Milliseconds in one unit.
    pub const UNIT_MS: u64 = 2;

    /// A metric of `units`, saturating at the cap.
    pub const fn new(units: u16) -> Self {
        if units > Self::UNREACHABLE.0 { Self::UNREACHABLE } else { Self(units) }
    }

    /// The value in units of 2 ms.
    pub const fn units(self) -> u16 {
        self.0
    }

    /// The value in milliseconds, as people read it.
    pub const fn millis(self) -> u64 {
        self.0 as u64 * Self::UNIT_MS
    }

    /// Whether a route of this cost may be used.
    pub const fn is_reachable(self) -> bool {
        self.0 < Self::UNREACHABLE.0
    }

    /// Cost of this path followed by `other`, saturating at the cap.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self::new(self.0.saturating_add(other.0))
    }

    /// What is left of this cost after `other`, never below zero.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_reachable() { write!(f, "{}u", self.0) } else { f.write_str("inf") }
    }
}

/// Sequence number of an origin: 48 bits, normally the Unix time in milliseconds at issue.
/// Compared plainly; 48 bits of milliseconds do not wrap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seqno(u64);

impl Seqno {
    /// The highest value that fits the wire.
    pub const MAX: Self = Self((1 << 48) - 1);

    /// A sequence number, saturating at 48 bits.
    pub const fn new(value: u64) -> Self {
        if value > Self::MAX.0 { Self::MAX } else { Self(value) }
    }

    /// The number.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// The low 32 bits, as they travel in a data packet's watermark.
    pub const fn low32(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for Seqno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Freshness and cost together; the unit of every feasibility comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rank {
    /// How fresh.
    pub seqno: Seqno,
    /// How far.
    pub metric: Metric,
}

impl Rank {
    /// Strictly better: newer, or equally new and strictly nearer (RFC 8966 §3.5.1).
    pub fn better_than(self, other: Self) -> bool {
        self.seqno > other.seqno || (self.seqno == other.seqno && self.metric < other.metric)
    }
}
