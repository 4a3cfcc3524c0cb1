//! Who may speak for the owner, what is revoked, and who may come.

use std::sync::Arc;

use sinew_types::NodeId;
use sinew_wire::document::{Body, Grant, Revoke, kind};

use super::{AHEAD_MAX, GRANTS_MAX, Judge, REVOKED, Right};
use crate::document::Signed;
use crate::state::{Admin, Authority, Fate, Fault, Ticket};

impl Judge<'_> {
    /// Grants and the owner's revocations, which nothing but the owner's word decides.
    pub(super) fn grants(&mut self) {
        for (_, signed) in self.of_kind(kind::REVOKE) {
            if let Some(Body::Revoke(revoke)) = &signed.body
                && signed.author == self.network.key()
            {
                self.revoke(signed, *revoke);
            }
        }
        self.by_owner.clone_from(&self.state.revoked);
        for (_, signed) in self.of_kind(kind::GRANT) {
            let (Some(node), Some(Body::Grant(grant))) = (signed.subject, &signed.body) else { continue };
            let generation = signed.document.generation;
            if self.is_revoked(kind::GRANT, &signed.document.subject, generation) {
                // Kept all the same: revocations signed under it stay in force.
                self.fate(signed, Fate::Idle("revoked"));
                continue;
            }
            let expires = signed.document.expires;
            let expired = self.is_past(expires);
            let admin = Admin { id: signed.id, grant: *grant, generation, expires, expired };
            // Slots of one subject rise by generation, so the last one stands.
            if let Some(old) = self.state.admins.insert(node, admin) {
                self.state.fates.insert(old.id, Fate::Idle("a newer grant is in force"));
            }
            self.fate(signed, if expired { Fate::Idle("expired") } else { Fate::Live });
        }
        let surplus: Vec<NodeId> = self.state.admins.keys().skip(GRANTS_MAX).copied().collect();
        for node in surplus {
            if let Some(admin) = self.state.admins.remove(&node) {
                self.state.fates.insert(admin.id, Fate::Idle("more grants than a network has"));
            }
        }
        self.overlaps();
    }

    fn overlaps(&mut self) {
        let mut ranges: Vec<_> =
            self.state.admins.iter().map(|(node, admin)| (admin.grant.numbers, *node)).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [((_, last), one), ((first, _), other)] = *pair
                && first <= last
            {
                self.state.faults.push(Fault::GrantsOverlap { one, other });
            }
        }
    }

    fn revoke(&mut self, signed: &Signed, revoke: Revoke) {
        let (key, generation) = ((revoke.target, signed.document.subject), signed.document.generation);
        let highest = self.state.revoked.entry(key).or_insert(generation);
        *highest = generation.max(*highest);
        self.fate(signed, Fate::Live);
    }

    /// What becomes of a document that was revoked. The owner's word is final. An admin's is not: it falls
    /// if the admin turns out to have been a thief, so what it revoked is kept.
    pub(super) fn revoked_fate(&self, kind: u8, subject: &[u8; 32], generation: u32) -> Option<Fate> {
        let by_owner = self.by_owner.get(&(kind, *subject)).is_some_and(|&revoked| generation <= revoked);
        match self.is_revoked(kind, subject, generation) {
            true if by_owner => Some(Fate::Void),
            true => Some(REVOKED),
            false => None,
        }
    }

    fn is_revoked(&self, kind: u8, subject: &[u8; 32], generation: u32) -> bool {
        self.state.revoked(kind, subject).is_some_and(|revoked| generation <= revoked)
    }

    /// The admins' revocations. They outlive the grant, within its era: a thief's are a nuisance until
    /// the owner begins the next one, while an honest admin's must not be undone by revoking the admin.
    pub(super) fn revocations(&mut self) {
        for (_, signed) in self.of_kind(kind::REVOKE) {
            let Some(Body::Revoke(revoke)) = signed.body else { continue };
            if signed.author == self.network.key() {
                continue;
            }
            let fate = self.admin_revocation(signed, revoke);
            self.fate(signed, fate);
            if fate == Fate::Live {
                self.revoke(signed, revoke);
            }
        }
    }

    fn admin_revocation(&self, signed: &Signed, revoke: Revoke) -> Fate {
        let Some(grant) = self.grant_of(signed) else { return Fate::Orphan };
        let (scopes, era) = match self.end_of(grant) {
            // Only ever falls as documents come, so what is void stays void.
            Some(end) if signed.era() > end => return Fate::Void,
            Some(_) => (grant_body(grant).map_or(0, |grant| grant.scopes), self.state.era),
            None => {
                (self.state.admins.get(&signed.author).map_or(0, |admin| admin.grant.scopes), self.state.era)
            }
        };
        let scope = match revoke.target {
            kind::POLICY | kind::PUBLISH => Grant::POLICY,
            _ => Grant::REVOKE,
        };
        let target = matches!(
            revoke.target,
            kind::MEMBER | kind::POLICY | kind::WORKLOAD | kind::INVITE | kind::PUBLISH
        );
        if signed.era() > era {
            Fate::Idle("above the era")
        } else if !target || scopes & scope == 0 {
            Fate::Idle("its author may not revoke this")
        } else {
            Fate::Live
        }
    }

    /// The era in which the owner took a grant back, the first time.
    fn end_of(&self, grant: &Signed) -> Option<u16> {
        let revocations = self.set.about(kind::REVOKE, grant.document.subject);
        let ends = revocations.filter(|signed| {
            let target = matches!(signed.body, Some(Body::Revoke(Revoke { target: kind::GRANT })));
            let owner = signed.author == self.network.key();
            target && owner && signed.document.generation >= grant.document.generation
        });
        ends.map(|signed| signed.era()).min()
    }

    /// The GRANT that a document names, if it is its author's.
    fn grant_of(&self, signed: &Signed) -> Option<&Arc<Signed>> {
        let grant = self.set.get(&signed.document.grant)?;
        (grant.document.kind == kind::GRANT && grant.document.subject == signed.document.author)
            .then_some(grant)
    }

    pub(super) fn right(&self, signed: &Signed) -> Right {
        if signed.author == self.network.key() {
            return Right::Owner;
        }
        if let Some(grant) = self.grant_of(signed) {
            let (subject, generation) = (&signed.document.author, grant.document.generation);
            if self.is_revoked(kind::GRANT, subject, generation) {
                return Right::Void;
            }
            // What an admin may do is what its newest grant says.
            return match self.state.admins.get(&signed.author) {
                Some(admin) if !admin.expired => Right::Admin(*admin),
                Some(_) => Right::Expired,
                None => Right::Unknown,
            };
        }
        match self.state.tickets.get(&signed.document.author) {
            Some(ticket) if ticket.id == signed.document.grant && ticket.is_bearer() => {
                Right::Ticket(Box::new(ticket.clone()))
            }
            _ => Right::Unknown,
        }
    }

    /// Whether a document that speaks for the network counts, by whose word. If not, its fate is noted.
    pub(super) fn entitled(&mut self, signed: &Signed, scope: u16) -> Option<Authority> {
        let kind = signed.document.kind;
        let revoked = self.revoked_fate(kind, &signed.document.subject, signed.document.generation);
        let fate = match (self.right(signed), revoked) {
            _ if self.is_forgotten(signed) => Fate::Void,
            (Right::Void, _) => Fate::Void,
            // Strangers are not heard, on whatever subject.
            (Right::Unknown, _) => Fate::Orphan,
            (Right::Ticket(_), revoked) if kind != kind::MEMBER || revoked.is_some() => Fate::Orphan,
            (_, Some(fate)) => fate,
            (Right::Owner, None) => return Some(Authority::Owner),
            (Right::Admin(admin), None) => match self.admin_bounds(signed, &admin, scope) {
                None => return Some(Authority::Admin),
                Some(why) => Fate::Idle(why),
            },
            (Right::Ticket(_), None) => return Some(Authority::Ticket),
            (Right::Expired, None) => Fate::Idle("its author's grant has expired"),
        };
        self.fate(signed, fate);
        None
    }

    fn admin_bounds(&mut self, signed: &Signed, admin: &Admin, scope: u16) -> Option<&'static str> {
        let document = &signed.document;
        if admin.grant.scopes & scope == 0 {
            return Some("its author has no right to that");
        }
        // protocol A7.3: the owner can always outbid an admin by the next era.
        if signed.era() > self.state.era {
            return Some("above the era");
        }
        if let Some(longest) = admin.grant.longest
            && matches!(document.kind, kind::MEMBER | kind::INVITE)
        {
            let life = document.expires.saturating_sub(document.issued);
            if document.expires == 0 || life > u64::from(longest) {
                return Some("longer than its author may give");
            }
            let ahead = document.issued.saturating_sub(AHEAD_MAX);
            if ahead > 0 && !self.is_past(ahead) {
                return Some("issued in the future");
            }
        }
        None
    }

    pub(super) fn invites(&mut self) {
        for (_, signed) in self.of_kind(kind::INVITE) {
            let (Some(key), Some(Body::Invite(invite))) = (signed.subject, &signed.body) else { continue };
            if self.entitled(signed, Grant::ADMIT).is_none() {
                continue;
            }
            let expires = signed.document.expires;
            let expired = self.is_past(expires);
            let ticket = Ticket {
                key,
                id: signed.id,
                author: signed.author,
                generation: signed.document.generation,
                invite: invite.clone(),
                expires,
                expired,
            };
            // Two authors with one ticket key: the lower id, so that all choose the same.
            let old = self.state.tickets.get(key.as_bytes()).map(|old| old.id);
            if old.is_some_and(|old| old < signed.id) {
                self.fate(signed, Fate::Idle("another ticket has this key"));
                continue;
            }
            if let Some(old) = old {
                self.state.fates.insert(old, Fate::Idle("another ticket has this key"));
            }
            self.fate(signed, if expired { Fate::Idle("expired") } else { Fate::Live });
            self.state.tickets.insert(*key.as_bytes(), ticket);
        }
    }
}

fn grant_body(signed: &Signed) -> Option<&Grant> {
    match &signed.body {
        Some(Body::Grant(grant)) => Some(grant),
        _ => None,
    }
}

/// Whether the numbers of an INVITE or MEMBER are its author's to give.
pub(super) fn may_give(right: &Right, number: u16) -> bool {
    match right {
        Right::Admin(admin) => (admin.grant.numbers.0..=admin.grant.numbers.1).contains(&number),
        Right::Owner => true,
        Right::Ticket(ticket) => ticket.invite.number == Some(number),
        Right::Expired | Right::Void | Right::Unknown => false,
    }
}
