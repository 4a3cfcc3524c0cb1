//! A domain of one's own: that an address record points here proves nothing (it may dangle, or be another
//! tenant's), so its owner puts the network's name into a TXT record (protocol A8).
//!
//! ```text
//!  Waiting ──present──▶ Proved ──a day later: present──▶ Proved
//!     ▲ absent: again, ever less often      │ absent, three days in a row
//!     └─────────────────────────────────────┘
//! ```
//! A name server that does not answer is no proof that the record is gone: it is asked again, for at most
//! a week.

use sha2::{Digest, Sha256};
use sinew_types::NetworkId;

use crate::name::proof_name;
use crate::rules::DAY;

/// Looks in a row that find nothing and end a proof.
const FAILURES: u8 = 3;
/// Between looks while somebody waits, seconds; the last one goes on for a day.
const EAGER: [u64; 8] = [5, 5, 10, 20, 30, 60, 120, 300];
/// Between looks when nobody does any more, seconds.
const PATIENT: u64 = 3600;
/// How long a proof lasts that cannot be looked at, seconds.
const UNSEEN_MAX: u64 = 7 * DAY;
/// A look whose answer never came is made again after this, seconds.
const LOST: u64 = 30;
/// Between looks at a proof that somebody else has one for, too, seconds.
const CONTESTED: u64 = 600;

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The record, with the right text.
    Present,
    /// Name servers say that it is not there, or another text is.
    Absent,
    /// They say nothing.
    Unknown,
}

/// Whether a domain is proved to be a network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not, or no longer.
    Waiting {
        /// Looks so far.
        tries: u32,
        /// What the last one found.
        last: Option<Finding>,
    },
    /// It is.
    Proved {
        /// Since.
        since: u64,
        /// Last seen.
        seen: u64,
        /// Looks since then that found nothing.
        failures: u8,
    },
}

/// One network's claim to one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// First asked for.
    pub since: u64,
    /// How it stands.
    pub state: State,
    /// When to look next.
    pub next: u64,
}

/// A record that is to be looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The domain that is claimed.
    pub domain: String,
    /// By whom.
    pub network: NetworkId,
    /// The record that proves it.
    pub record: TxtRecord,
}

/// A TXT record: where, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxtRecord {
    /// `_sinew.` and the domain.
    pub name: String,
    /// 52 characters of base32.
    pub text: String,
}

/// The record by which the owner of `domain` says that `network` may publish it at the gateway of domain `gateway`
/// (protocol A8).
pub fn txt_record(domain: &str, network: &NetworkId, gateway: &str) -> TxtRecord {
    let mut hash = Sha256::new();
    hash.update(b"sinew/fqdn/v1\0");
    hash.update(domain);
    hash.update(network.as_bytes());
    hash.update(gateway);
    TxtRecord { name: proof_name(domain), text: base32(&hash.finalize()) }
}

/// As keys are written: lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::new();
    let (mut bits, mut held) = (0u32, 0u32);
    let letter = |bits: u32| char::from(ALPHABET[(bits & 31) as usize]);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(letter(bits >> held));
        }
    }
    if held > 0 {
        text.push(letter(bits << (5 - held)));
    }
    text
}

impl Proof {
    pub(crate) const fn new(now: u64) -> Self {
        Self { since: now, state: State::Waiting { tries: 0, last: None }, next: now }
    }

    pub(crate) const fn is_proved(&self) -> bool {
        matches!(self.state, State::Proved { .. })
    }

    /// A look is under way.
    pub(crate) fn asked(&mut self, now: u64) {
        self.next = now + LOST;
    }

    /// Its publisher has claimed it again: who waits is looked at soon, unless that was a moment ago.
    pub(crate) fn again(&mut self, now: u64) {
        if !self.is_proved() {
            self.next = self.next.min(now + EAGER[0]);
        }
    }

    /// Somebody else has a proof, too: one of the two must be old.
    pub(crate) fn contest(&mut self, now: u64) {
        self.next = now;
    }

    /// Takes what a look has found. `contested`: another network has proved the same.
    pub(crate) fn found(&mut self, finding: Finding, contested: bool, now: u64) {
        let (state, pause) = match (self.state, finding) {
            (State::Proved { since, .. }, Finding::Present) => {
                (State::Proved { since, seen: now, failures: 0 }, DAY)
            }
            (State::Waiting { .. }, Finding::Present) => {
                (State::Proved { since: now, seen: now, failures: 0 }, DAY)
            }
            (State::Proved { failures, .. }, Finding::Absent) if failures + 1 >= FAILURES => {
                (State::Waiting { tries: 0, last: Some(finding) }, PATIENT)
            }
            (State::Proved { since, seen, failures }, Finding::Absent) => {
                let pause = if contested { CONTESTED } else { DAY };
                (State::Proved { since, seen, failures: failures + 1 }, pause)
            }
            (State::Proved { seen, .. }, Finding::Unknown) if now >= seen + UNSEEN_MAX => {
                (State::Waiting { tries: 0, last: Some(finding) }, PATIENT)
            }
            (proved @ State::Proved { .. }, Finding::Unknown) => (proved, PATIENT),
            (State::Waiting { tries, .. }, _) => {
                let eager = now < self.since + DAY;
                let step = usize::try_from(tries).unwrap_or(usize::MAX).min(EAGER.len() - 1);
                let pause = if eager { EAGER[step] } else { PATIENT };
                (State::Waiting { tries: tries.saturating_add(1), last: Some(finding) }, pause)
            }
        };
        self.state = state;
        self.next = now + pause;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::tests::network;

    #[test]
    fn the_record_binds_domain_network_and_gateway() {
        let record = txt_record("app.example.org", &network(1), "gw.test");
        assert_eq!(record.name, "_sinew.app.example.org");
        assert!(
            record.text.len() == 52
                && record.text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        );
        for other in [
            txt_record("b.example.org", &network(1), "gw.test"),
            txt_record("app.example.org", &network(2), "gw.test"),
            txt_record("app.example.org", &network(1), "gw2.test"),
        ] {
            assert_ne!(other.text, record.text);
        }
        // RFC 4648, 10, in lower case and without padding.
        for (plain, text) in [("", ""), ("f", "my"), ("fo", "mzxq"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(base32(plain.as_bytes()), text);
        }
        // Computed once with sha256sum and base32: a change of the formula would void every record out there.
        assert_eq!(record.text, "ns4bx7fb6mga3ku3gotnuyqmnacld32gy6pjleh55ec5xrz5c53q");
    }

    fn proved(now: u64) -> Proof {
        let mut proof = Proof::new(now);
        proof.found(Finding::Present, false, now);
        proof
    }

    #[test]
    fn a_domain_is_proved_by_one_look_and_lost_by_three() {
        let mut proof = Proof::new(0);
        proof.found(Finding::Absent, false, 0);
        assert!(!proof.is_proved() && proof.next == 5);
        proof.found(Finding::Unknown, false, 5);
        assert!(!proof.is_proved() && proof.next == 10);
        proof.found(Finding::Present, false, 10);
        assert!(proof.is_proved() && proof.next == 10 + DAY);
        let mut now = 10;
        for day in 1..=3 {
            assert!(proof.is_proved(), "day {day}");
            now += DAY;
            proof.found(Finding::Absent, false, now);
        }
        assert!(!proof.is_proved());
        proof.found(Finding::Present, false, now + 60);
        assert!(proof.is_proved());
    }

    #[test]
    fn one_good_look_forgives_two_bad_ones() {
        let mut proof = proved(0);
        for round in 0..5 {
            proof.found(Finding::Absent, false, round);
            proof.found(Finding::Absent, false, round);
            proof.found(Finding::Present, false, round);
        }
        assert_eq!(proof.state, State::Proved { since: 0, seen: 4, failures: 0 });
    }

    #[test]
    fn silent_name_servers_end_a_proof_only_after_a_week() {
        let mut proof = proved(0);
        for hour in 1..7 * 24 {
            assert_eq!(proof.next, if hour == 1 { DAY } else { (hour - 1) * 3600 + 3600 });
            proof.found(Finding::Unknown, false, hour * 3600);
            assert!(proof.is_proved(), "{hour}");
        }
        proof.found(Finding::Unknown, false, 7 * DAY);
        assert!(!proof.is_proved());
    }

    #[test]
    fn a_contested_proof_is_looked_at_soon() {
        let mut proof = proved(0);
        proof.contest(100);
        assert_eq!(proof.next, 100);
        proof.found(Finding::Absent, true, 100);
        assert_eq!(proof.next, 700);
    }

    #[test]
    fn looks_become_rare_when_nobody_sets_the_record() {
        let mut proof = Proof::new(0);
        let (mut now, mut looks) = (0, 0);
        while now < 2 * DAY {
            proof.found(Finding::Absent, false, now);
            now = proof.next;
            looks += 1;
        }
        assert!(looks < 400, "{looks}");
        proof.again(now);
        assert!(proof.next <= now + 5);
    }
}
