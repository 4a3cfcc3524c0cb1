//! The metric chain: nobody can claim a shorter path than he has heard of (protocol A6).
//!
//! An origin picks a random h₀ for each seqno and signs h₁₀₂₃, the *anchor*. A route of metric m
//! carries h_m. Whoever holds h_m can compute every later value, hence prove every larger metric,
//! but none that is smaller. Address, seqno and position go into every step, so that work on one
//! chain says nothing about another.
//!
//! A [`Proof`] keeps the lowest value verified so far for one (origin, seqno). A new claim costs
//! only the distance to it: usually a handful of steps.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use sinew_types::{Instant, MeshAddr, Metric, Seqno};

use crate::verifier::{Origin, Verifier};

/// One value of a chain.
pub type ChainValue = [u8; 16];

const TAG: &[u8; 14] = b"sinew/chain/1\0";

/// Which chain: every seqno of an origin has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChainKey {
    /// The origin's address.
    pub addr: MeshAddr,
    /// Its seqno.
    pub seqno: Seqno,
}

impl ChainKey {
    /// The value at `to`, from the value at `from`; `value` itself unless `from < to`.
    pub fn advance(&self, from: Metric, value: &ChainValue, to: Metric) -> ChainValue {
        let mut current = *value;
        for i in from.units()..to.units() {
            current = self.step(i + 1, &current);
        }
        current
    }

    /// h_i from h_{i-1}: 54 bytes in, one SHA-256 block.
    pub(crate) fn step(&self, i: u16, previous: &ChainValue) -> ChainValue {
        let mut block = [0; 54];
        block[..14].copy_from_slice(TAG);
        block[14..30].copy_from_slice(self.addr.as_bytes());
        block[30..36].copy_from_slice(&self.seqno.value().to_le_bytes()[..6]);
        block[36..38].copy_from_slice(&i.to_le_bytes());
        block[38..].copy_from_slice(previous);
        let digest = Sha256::digest(block);
        let mut out = [0; 16];
        out.copy_from_slice(&digest[..16]);
        out
    }
}

/// What we can prove about one seqno of an origin.
#[derive(Clone, Debug)]
pub(crate) struct Proof {
    /// The signed record; its anchor is where every claim has to end.
    pub(crate) origin: Arc<Origin>,
    /// The lowest metric verified, [`Metric::UNREACHABLE`] at first.
    pub(crate) low: Metric,
    /// The chain's value there, the anchor at first.
    pub(crate) value: ChainValue,
    /// When the seqno is no longer good, by our own clock: a jump of network time harms nothing
    /// that is already here.
    pub(crate) expires: Instant,
    /// A second record with this seqno that is about. Values that do not verify may belong to it, so
    /// the neighbour who passes them on is not to blame.
    pub(crate) rival: Option<Arc<Origin>>,
}

impl Proof {
    pub(crate) fn new(origin: Arc<Origin>, expires: Instant) -> Self {
        let value = origin.record.anchor;
        Self { origin, low: Metric::UNREACHABLE, value, expires, rival: None }
    }

    pub(crate) fn seqno(&self) -> Seqno {
        self.origin.record.seqno
    }

    fn key(&self) -> ChainKey {
        ChainKey { addr: self.origin.addr, seqno: self.seqno() }
    }

    /// Steps that [`Self::verify`] takes for a claim of `metric`.
    pub(crate) fn price(&self, metric: Metric) -> u64 {
        u64::from(self.low.units().abs_diff(metric.units()))
    }

    /// Whether `value` proves `metric`; a lower one becomes the new base.
    pub(crate) fn verify(&mut self, metric: Metric, value: &ChainValue, verifier: &dyn Verifier) -> bool {
        let key = self.key();
        if metric >= self.low {
            return verifier.advance(&key, self.low, &self.value, metric) == *value;
        }
        let genuine = verifier.advance(&key, metric, value, self.low) == self.value;
        if genuine {
            (self.low, self.value) = (metric, *value);
        }
        genuine
    }

    /// The value that proves `metric`; `None` below what we can prove.
    pub(crate) fn prove(&self, metric: Metric, verifier: &dyn Verifier) -> Option<ChainValue> {
        (metric >= self.low).then(|| verifier.advance(&self.key(), self.low, &self.value, metric))
    }
}

#[cfg(test)]
mod tests;
