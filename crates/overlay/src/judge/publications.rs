//! What is published through gateways, and what was taken back (protocol A11.2).

use sinew_wire::document::{Body, Grant, Publish, kind};

use super::{AHEAD_MAX, Judge};
use crate::document::{NO_GRANT, Signed, service_of};
use crate::state::{Fate, Publication};

/// For how long after its end a PUBLISH is kept: a gateway that was away must not take an older one for
/// the newest, seconds.
const KEPT_AFTER: u64 = 86_400;

impl Judge<'_> {
    pub(super) fn publications(&mut self) {
        for (_, signed) in self.of_kind(kind::PUBLISH) {
            let Some(Body::Publish(publish)) = &signed.body else { continue };
            let fate = match self.publisher(signed, publish) {
                Some(fate) => fate,
                None => self.in_time(signed),
            };
            self.fate(signed, fate);
            if fate == Fate::Live {
                self.enter_publication(signed, publish);
            }
        }
    }

    /// What becomes of one whose author has no say; `None` if it has. An admin speaks for all workloads,
    /// a member for its own.
    fn publisher(&mut self, signed: &Signed, publish: &Publish) -> Option<Fate> {
        if signed.document.grant != NO_GRANT || signed.author == self.network.key() {
            let entitled = self.entitled(signed, Grant::POLICY).is_some();
            return match entitled {
                true => None,
                false => self.state.fates.get(&signed.id).copied(),
            };
        }
        let Some(member) = self.state.members.get(&signed.author) else { return Some(Fate::Orphan) };
        let (subject, generation) = (&signed.document.subject, signed.document.generation);
        if let Some(fate) = self.revoked_fate(kind::PUBLISH, subject, generation) {
            return Some(fate);
        }
        if !member.is_valid() {
            return Some(Fate::Idle("its member does not count now"));
        }
        if signed.era() > self.state.era {
            return Some(Fate::Idle("above the era"));
        }
        let own = |home: &[u8; 32]| home == signed.author.as_bytes();
        let others = publish.backends.iter().any(|backend| !own(&backend.home));
        others.then_some(Fate::Idle("a workload of another member, and its author is no admin"))
    }

    fn in_time(&mut self, signed: &Signed) -> Fate {
        let document = &signed.document;
        // Renewal is the author's; it looks again when half of the time is over.
        let half = document.issued + document.expires.saturating_sub(document.issued) / 2;
        self.is_past(half);
        if self.is_past(document.expires.saturating_add(KEPT_AFTER)) {
            return Fate::Void;
        }
        if self.is_past(document.expires) {
            return Fate::Idle("expired");
        }
        let ahead = document.issued.saturating_sub(AHEAD_MAX);
        if ahead > 0 && !self.is_past(ahead) {
            return Fate::Idle("issued in the future");
        }
        Fate::Live
    }

    fn enter_publication(&mut self, signed: &Signed, publish: &Publish) {
        let Some(gateway) = signed.host else { return };
        let publication = Publication {
            author: signed.author,
            service: service_of(&signed.document.subject),
            gateway,
            mode: publish.mode,
            hosts: publish.hosts.clone(),
            backends: publish.backends.clone(),
            settings: publish.settings.clone(),
            recovery: publish.recovery,
            removed: publish.removed,
            id: signed.id,
            seq: signed.document.seq,
            generation: signed.document.generation,
            issued: signed.document.issued,
            expires: signed.document.expires,
        };
        let key = (signed.author, signed.document.subject);
        // Two rights of one author (a member that is made an admin): the newer word counts.
        let order = |one: &Publication| (one.generation, one.seq, std::cmp::Reverse(one.id));
        match self.state.publications.get(&key) {
            Some(old) if order(old) > order(&publication) => {
                self.fate(signed, Fate::Idle("a newer one is in force"));
            }
            old => {
                if let Some(old) = old.map(|old| old.id) {
                    self.state.fates.insert(old, Fate::Idle("a newer one is in force"));
                }
                self.state.publications.insert(key, publication);
            }
        }
    }
}
