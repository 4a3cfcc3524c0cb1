//! Node records: made by their node, judged by everybody else, on the way in and on the way out
//! (protocol A12.2).

use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sinew_types::{Domain, Identity, NodeId, UnixMicros, verify};
use sinew_wire::directory::{NodeRecord, PLACES_MAX, Place};
use thiserror::Error;

/// How long a record of ours holds.
pub const LIFE: Duration = Duration::from_secs(24 * 3600);
/// No record may hold for longer: what is forgotten soon need not be taken back.
pub const LIFE_MAX: Duration = Duration::from_secs(48 * 3600);
/// How far the clock of whoever signed may be ahead of ours.
pub const AHEAD: Duration = Duration::from_secs(600);

/// Under which key the directory keeps a node's record: SHA-256("sinew/dir/v1\0" ‖ NodeId).
pub fn key(node: &NodeId) -> [u8; 32] {
    Sha256::new().chain_update(b"sinew/dir/v1\0").chain_update(node.as_bytes()).finalize().into()
}

/// Why a record is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Refusal {
    /// Not of the shape.
    #[error("it is not a node record")]
    Malformed,
    /// Its signature is not the node's.
    #[error("its signature is not by the node that it names")]
    Forged,
    /// It is another node's than the one that was asked for.
    #[error("it is another node's")]
    Misplaced,
    /// It is void by now.
    #[error("it has expired")]
    Expired,
    /// It would hold for longer than any may, or was made in the future.
    #[error("it would hold for too long")]
    TooLong,
    /// A newer one is known.
    #[error("a newer one is known")]
    Older,
}

/// How many records were refused, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refusals([u64; 6]);

impl Refusals {
    /// Every reason with its word and count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ["malformed", "forged", "misplaced", "expired", "too_long", "older"].into_iter().zip(self.0)
    }

    /// Counts one.
    pub const fn count(&mut self, refusal: Refusal) {
        self.0[refusal as usize] += 1;
    }

    /// How many for one reason.
    pub const fn get(&self, refusal: Refusal) -> u64 {
        self.0[refusal as usize]
    }
}

/// Whether a record's times are held against our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clockwork {
    /// It came from far, or out of some store.
    Strict(UnixMicros),
    /// It came from the local network just now, or this node has met its author there before: a machine
    /// that has no clock yet is found by its neighbours all the same.
    Lenient,
}

/// A record whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Whose.
    pub node: NodeId,
    /// What it says.
    pub record: NodeRecord,
}

/// Judges a record's bytes.
///
/// # Errors
/// Why it must not be used or passed on.
pub fn check(bytes: &[u8], clock: Clockwork) -> Result<Checked, Refusal> {
    let record = NodeRecord::parse(bytes).map_err(|_| Refusal::Malformed)?;
    let ahead = AHEAD.as_micros() as u64;
    if let Clockwork::Strict(now) = clock {
        let latest = record.seq.saturating_add(LIFE_MAX.as_micros() as u64);
        if record.seq > now.saturating_add(ahead) || record.expires > latest {
            return Err(Refusal::TooLong);
        }
        if record.expires <= now {
            return Err(Refusal::Expired);
        }
    }
    // The cheap tests first: these two cost a tenth of a millisecond.
    let node = NodeId::parse(&record.node).map_err(|_| Refusal::Forged)?;
    if !verify(&node, Domain::NODE, &record.signed_bytes(), &record.signature) {
        return Err(Refusal::Forged);
    }
    Ok(Checked { node, record })
}

/// As [`check`], of what a store has under `place`.
///
/// # Errors
/// As [`check`], and [`Refusal::Misplaced`].
pub fn check_at(place: &[u8], bytes: &[u8], now: UnixMicros) -> Result<Checked, Refusal> {
    let checked = check(bytes, Clockwork::Strict(now))?;
    if key(&checked.node).as_slice() == place { Ok(checked) } else { Err(Refusal::Misplaced) }
}

/// What a node says of itself, before it is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// It carries nothing for others.
    pub stub: bool,
    /// Others may pass it on.
    pub pass_on: bool,
    /// Its key in the directory.
    pub peer_key: Option<[u8; 32]>,
    /// Where it listens, best first.
    pub places: Vec<Place>,
}

impl Own {
    /// Signs it, as of `now`.
    pub fn sign(&self, identity: &Identity, now: UnixMicros) -> NodeRecord {
        let mut record = NodeRecord {
            node: *identity.node_id().as_bytes(),
            seq: now,
            expires: now.saturating_add(LIFE.as_micros() as u64),
            stub: self.stub,
            pass_on: self.pass_on,
            peer_key: self.peer_key,
            places: self.places.iter().take(PLACES_MAX).cloned().collect(),
            signature: [0; 64],
        };
        record.signature = identity.sign(Domain::NODE, &record.signed_bytes());
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = 1_790_000_000_000_000;

    fn signed(change: impl FnOnce(&mut NodeRecord)) -> Vec<u8> {
        let identity = Identity::from_seed([1; 32]);
        let mut record = Own::default().sign(&identity, NOW);
        change(&mut record);
        record.signature = identity.sign(Domain::NODE, &record.signed_bytes());
        record.to_bytes()
    }

    #[test]
    fn a_record_is_held_to_its_times_its_author_and_its_place() {
        let hour = 3_600_000_000;
        let strict = |bytes: &[u8], now| check(bytes, Clockwork::Strict(now)).map(|_| ());
        let good = signed(|_| {});
        assert_eq!(strict(&good, NOW), Ok(()));
        assert_eq!(strict(&good, NOW + 25 * hour), Err(Refusal::Expired));
        assert_eq!(strict(&good, NOW - hour), Err(Refusal::TooLong), "made in the future");
        let long = signed(|record| record.expires = NOW + 49 * hour);
        assert_eq!(strict(&long, NOW), Err(Refusal::TooLong));
        assert!(check(&long, Clockwork::Lenient).is_ok());
        let node = Identity::from_seed([1; 32]).node_id();
        assert!(check_at(&key(&node), &good, NOW).is_ok());
        let other = Identity::from_seed([2; 32]).node_id();
        assert_eq!(check_at(&key(&other), &good, NOW), Err(Refusal::Misplaced));
    }

    #[test]
    fn no_byte_of_a_record_can_be_changed() {
        let good = signed(|_| {});
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            assert!(check(&bytes, Clockwork::Lenient).is_err(), "byte {at}");
        }
        let other = Identity::from_seed([2; 32]);
        let mut record = NodeRecord::parse(&good).unwrap();
        record.signature = other.sign(Domain::NODE, &record.signed_bytes());
        assert_eq!(check(&record.to_bytes(), Clockwork::Lenient), Err(Refusal::Forged));
        record.signature = Identity::from_seed([1; 32]).sign(Domain::ORIGIN, &record.signed_bytes());
        assert_eq!(check(&record.to_bytes(), Clockwork::Lenient), Err(Refusal::Forged), "another domain");
    }

    #[test]
    fn refusals_are_counted_each_under_its_own_word() {
        let mut counts = Refusals::default();
        for refusal in [Refusal::Malformed, Refusal::Older, Refusal::Older] {
            counts.count(refusal);
        }
        let told: Vec<_> = counts.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(told, [("malformed", 1), ("older", 2)]);
        assert_eq!(counts.get(Refusal::Older), 2);
    }
}
