//! Who belongs to the network, with which subnet.

use std::collections::BTreeMap;
use std::sync::Arc;

use sinew_types::NodeId;
use sinew_wire::document::{Body, Grant, Member as MemberBody, kind};

use super::rights::may_give;
use super::{Judge, MEMBERS_MAX, Right};
use crate::document::Signed;
use crate::state::{Authority, Fate, Fault, Member, Standing};

type Candidate<'a> = (Authority, &'a Arc<Signed>);

impl<'a> Judge<'a> {
    pub(super) fn members(&mut self) {
        let mut best: BTreeMap<NodeId, Candidate<'a>> = BTreeMap::new();
        let mut comers: BTreeMap<NodeId, Vec<&'a Arc<Signed>>> = BTreeMap::new();
        for (_, signed) in self.set.of_kind(kind::MEMBER) {
            let (Some(node), Some(Body::Member(body))) = (signed.subject, &signed.body) else { continue };
            let Some(authority) = self.entitled(signed, Grant::ADMIT) else { continue };
            if let Some(why) = self.unfit(signed, body) {
                self.fate(signed, Fate::Idle(why));
                continue;
            }
            if authority == Authority::Ticket {
                comers.entry(signed.author).or_default().push(signed);
            }
            self.fate(signed, Fate::Idle("a newer one is in force"));
            let newer = |&(by, old): &Candidate<'_>| Self::order(authority, signed) > Self::order(by, old);
            if best.get(&node).is_none_or(newer) {
                best.insert(node, (authority, signed));
            }
        }
        let suspended = self.suspended(&comers);
        for (at, (node, candidate)) in best.into_iter().enumerate() {
            if at >= MEMBERS_MAX {
                self.fate(candidate.1, Fate::Idle("more members than a network has"));
            } else {
                self.enter(node, candidate, suspended.contains(&candidate.1.author));
            }
        }
        self.subnets();
    }

    /// Why the addresses or groups are not its author's to give.
    fn unfit(&self, signed: &Signed, body: &MemberBody) -> Option<&'static str> {
        let right = self.right(signed);
        if !may_give(&right, body.number) {
            return Some("outside its author's sub-range");
        }
        let Some(subnets) = self.state.plan.subnets(body.number) else { return Some("outside the range") };
        if subnets.v4 != body.subnet {
            return Some("its addresses are not those of its number");
        }
        if let Right::Ticket(ticket) = right {
            let fits = ticket.invite.groups == body.groups
                && ticket.generation == signed.document.generation
                && body.ticket == Some(signed.document.author);
            return (!fits).then_some("more than the ticket gives");
        }
        None
    }

    /// Bearer tickets that more than one node came by (protocol A7.6). Two of their documents are kept:
    /// enough to prove it, however many the ticket's holder signs.
    fn suspended(&mut self, comers: &BTreeMap<NodeId, Vec<&Arc<Signed>>>) -> Vec<NodeId> {
        let mut suspended = Vec::new();
        for (ticket, documents) in comers.iter().filter(|(_, documents)| documents.len() > 1) {
            suspended.push(*ticket);
            self.state.faults.push(Fault::TicketTwice { ticket: *ticket });
            for signed in documents.iter().skip(2) {
                self.fate(signed, Fate::Surplus);
            }
        }
        suspended
    }

    fn enter(&mut self, node: NodeId, (authority, signed): Candidate<'_>, suspended: bool) {
        let Some(Body::Member(body)) = &signed.body else { return };
        let Some(subnets) = self.state.plan.subnets(body.number) else { return };
        let suspended = suspended && authority == Authority::Ticket;
        // A ticket's own word is good as long as the ticket: backdating would make it good for ever.
        let ticket = self.state.tickets.get(&signed.document.author);
        let end = ticket.filter(|_| authority == Authority::Ticket).map_or(0, |ticket| ticket.expires);
        let ends = [signed.document.expires, end].into_iter().filter(|&end| end != 0).min().unwrap_or(0);
        let standing = match (suspended, self.is_past(ends)) {
            (true, _) => Standing::Suspended,
            (false, true) => Standing::Expired,
            (false, false) => Standing::Valid,
        };
        if standing == Standing::Valid {
            self.fate(signed, Fate::Live);
        } else if self.state.fates.get(&signed.id) != Some(&Fate::Surplus) {
            self.fate(signed, Fate::Idle(standing.as_str()));
        }
        let member = Member {
            node,
            id: signed.id,
            author: signed.author,
            authority,
            generation: signed.document.generation,
            number: body.number,
            subnets,
            groups: body.groups.clone(),
            name: body.name.clone(),
            since: body.since,
            expires: ends,
            ticket: body.ticket,
            standing,
        };
        self.state.members.insert(node, member);
    }

    /// One subnet, one member: the first admitted keeps it. Admins with disjoint sub-ranges cannot bring
    /// this about; an owner that gives numbers by hand can.
    fn subnets(&mut self) {
        let mut order: Vec<_> = self
            .state
            .members
            .values()
            .filter(|member| member.is_valid())
            .map(|member| (member.authority == Authority::Ticket, member.since, member.id, member.node))
            .collect();
        order.sort_unstable();
        let mut taken: BTreeMap<u16, NodeId> = BTreeMap::new();
        for (_, _, id, node) in order {
            let Some(member) = self.state.members.get_mut(&node) else { continue };
            if let Some(by) = taken.get(&member.number) {
                member.standing = Standing::Conflict;
                self.state.faults.push(Fault::SubnetTwice { node, by: *by });
                self.state.fates.insert(id, Fate::Idle(Standing::Conflict.as_str()));
            } else {
                taken.insert(member.number, node);
            }
        }
    }
}
