//! What is refused, and why: one variant for each mistake, each with a line that says what is wrong,
//! where, and what to do.
//!
//! The word of a refusal ([`Refusal::code`]) is part of the outside interface, as is its
//! [`RefusalKind`], from which the command line takes its exit code.

use std::net::IpAddr;

use sinew_types::{Label, LabelError, NetworkId, NodeId};
use sinew_wire::ticket::TicketError;
use thiserror::Error;

/// What sort of a mistake it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// The request itself is wrong (exit code 1).
    Usage,
    /// Nobody answered, or not yet (exit code 3).
    Unreachable,
    /// No such network, member, workload or name (exit code 4).
    Unknown,
    /// It is understood and not allowed (exit code 5).
    Denied,
}

impl RefusalKind {
    /// The exit code of the command line.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 1,
            Self::Unreachable => 3,
            Self::Unknown => 4,
            Self::Denied => 5,
        }
    }
}

macro_rules! refusals {
    ($($(#[doc = $doc:literal])+ #[says($($text:tt)*)] $name:ident $({ $($field:ident: $type:ty),* $(,)? })? = $kind:ident, $code:literal;)+) => {
        /// Why something was refused.
        #[derive(Clone, Debug, PartialEq, Eq, Error)]
        #[allow(missing_docs, reason = "the fields are what the line names")]
        pub enum Refusal {
            $($(#[doc = $doc])+ #[error($($text)*)] $name $({ $($field: $type),* })?,)+
        }

        impl Refusal {
            /// The stable word for JSON.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$name $({ $($field: _),* })? => $code,)+ }
            }

            /// What sort of a mistake it is.
            pub const fn kind(&self) -> RefusalKind {
                match self { $(Self::$name $({ $($field: _),* })? => RefusalKind::$kind,)+ }
            }
        }
    };
}

refusals! {
    /// A name that DNS would not take.
    #[says("`{text}` is no name: {reason}")]
    BadName { text: String, reason: LabelError } = Usage, "bad_name";
    /// Not a ticket at all.
    #[says("this is no ticket: {reason}")]
    BadTicket { reason: TicketError } = Usage, "bad_ticket";
    /// A ticket whose documents do not make anybody a member.
    #[says("the ticket for `{network}` does not hold what it should ({reason}); ask for a new one")]
    HollowTicket { network: Label, reason: &'static str } = Denied, "hollow_ticket";
    /// Too late.
    #[says("the ticket for `{network}` has expired; ask for a new one")]
    TicketExpired { network: Label } = Denied, "ticket_expired";
    /// As often as it may be used.
    #[says("the ticket for `{network}` has been used; ask for a new one")]
    TicketUsed { network: Label } = Denied, "ticket_used";
    /// The acceptor has never heard of it, or it was withdrawn.
    #[says("the network `{network}` does not know this ticket; it was withdrawn, or issued elsewhere")]
    TicketUnknown { network: Label } = Denied, "ticket_unknown";
    /// Pinned to somebody else.
    #[says("the ticket for `{network}` is for node {node}; this node needs one of its own")]
    TicketForAnother { network: Label, node: NodeId } = Denied, "ticket_for_another";
    /// No acceptor answered.
    #[says("no node that may honour the ticket for `{network}` answers; it is tried again until it expires")]
    NoAcceptor { network: Label } = Unreachable, "no_acceptor";
    /// The acceptor cannot admit now.
    #[says("the node that honours tickets for `{network}` cannot admit anybody now; it is tried again")]
    AcceptorBusy { network: Label } = Unreachable, "acceptor_busy";
    /// A person has to agree first.
    #[says("an administrator of `{network}` has to agree (`sinew network approve` there)")]
    ApprovalNeeded { network: Label } = Unreachable, "approval_needed";
    /// Nothing waits for approval.
    #[says("node {node} does not wait for approval in `{network}`")]
    NothingToApprove { network: Label, node: NodeId } = Unknown, "nothing_to_approve";
    /// Twice in one network.
    #[says("this node is in that network already, as `{network}`")]
    AlreadyHere { network: Label } = Usage, "already_here";
    /// Another network has that name here.
    #[says("another network is called `{name}` on this node; choose another name with --as")]
    NetworkNameTaken { name: Label } = Usage, "network_name_taken";
    /// More networks than a node keeps.
    #[says("this node is in {limit} networks already; leave one first")]
    TooManyNetworks { limit: usize } = Denied, "too_many_networks";
    /// No such network here.
    #[says("this node is in no network called `{name}` (`sinew network ls` lists them)")]
    UnknownNetwork { name: String } = Unknown, "unknown_network";
    /// No network of that key here.
    #[says("this node is not in network {network} (`sinew network ls` lists them)")]
    UnknownNetworkId { network: NetworkId } = Unknown, "unknown_network_id";
    /// No such workload on this node.
    #[says("this node runs no workload `{name}` in `{network}` (`sinew workload ls` lists them)")]
    UnknownWorkload { network: Label, name: Label } = Unknown, "unknown_workload";
    /// A name that the network does not have.
    #[says("`{name}` is neither a workload nor an address in `{network}`")]
    UnknownName { network: Label, name: String } = Unknown, "unknown_name";
    /// Not a member.
    #[says("node {node} is no member of `{network}`")]
    UnknownMember { network: Label, node: NodeId } = Unknown, "unknown_member";
    /// No such ticket.
    #[says("there is no ticket {ticket} in `{network}`")]
    UnknownTicket { network: Label, ticket: NodeId } = Unknown, "unknown_ticket";
    /// The name belongs to another workload.
    #[says("the name `{name}` is taken in `{network}`, by a workload of node {by}; choose another")]
    NameTaken { network: Label, name: Label, by: NodeId } = Usage, "name_taken";
    /// Outside the member's own subnet.
    #[says("{address} is not an address for workloads of this node in `{network}`: {subnet} from .2 on is")]
    AddressOutside { network: Label, address: IpAddr, subnet: String } = Usage, "address_outside";
    /// Another workload has it.
    #[says("{address} belongs to workload `{by}` in `{network}`")]
    AddressTaken { network: Label, address: IpAddr, by: Label } = Usage, "address_taken";
    /// Two subnets would share addresses.
    #[says("{subnet} in `{network}` is node {by}'s already; subnets must not overlap")]
    OverlappingSubnets { network: Label, subnet: String, by: NodeId } = Usage, "overlapping_subnets";
    /// Not a range that can be cut.
    #[says("{range} is no range for a network: {reason}")]
    BadRange { range: String, reason: &'static str } = Usage, "bad_range";
    /// All numbers of the sub-range are given away.
    #[says("no subnet is free in `{network}` for this administrator; the owner can grant another sub-range")]
    NoFreeSubnet { network: Label } = Denied, "no_free_subnet";
    /// All addresses of the member's subnet are given away.
    #[says("no address is free in this node's subnet of `{network}`; remove a workload first")]
    NoFreeAddress { network: Label } = Denied, "no_free_address";
    /// The node may not do this.
    #[says("this node may not {what} in `{network}`; an administrator's node with that right can")]
    NotAnAdmin { network: Label, what: &'static str } = Denied, "not_an_admin";
    /// Only the owner's key can.
    #[says("only the owner's key can {what} in `{network}`")]
    NotTheOwner { network: Label, what: &'static str } = Denied, "not_the_owner";
    /// This node is not, or no longer, a member.
    #[says("this node is no valid member of `{network}` ({reason})")]
    NotAMember { network: Label, reason: &'static str } = Denied, "not_a_member";
    /// The subject was revoked.
    #[says("node {node} was revoked in `{network}`; `sinew network admit` takes it back")]
    Revoked { network: Label, node: NodeId } = Denied, "revoked";
    /// The set is older than a ticket promised.
    #[says("`{network}` is not ready on this node: it still waits for the documents of its other members")]
    NotReady { network: Label } = Unreachable, "not_ready";
    /// No fresh HEAD.
    #[says("the last word of an administrator of `{network}` is {days} days old; until one is online nobody is admitted")]
    Stale { network: Label, days: u64 } = Denied, "stale";
    /// More than the network allows.
    #[says("`{network}` holds at most {limit} {what}")]
    Quota { network: Label, what: &'static str, limit: usize } = Denied, "quota";
    /// A rule that cannot be meant.
    #[says("rule {rule} of the policy: {reason}")]
    BadPolicy { rule: usize, reason: String } = Usage, "bad_policy";
    /// A document that is none.
    #[says("document {index}: {reason}")]
    BadDocument { index: usize, reason: &'static str } = Usage, "bad_document";
    /// No such service of this node.
    #[says("this node publishes no service `{name}` in `{network}` (`sinew expose ls` lists them)")]
    UnknownService { network: Label, name: String } = Unknown, "unknown_service";
    /// A publication that cannot be meant.
    #[says("this cannot be published: {reason}")]
    BadPublication { reason: &'static str } = Usage, "bad_publication";
    /// A lease out of bounds.
    #[says("a lease runs for 1 to 600 seconds, not {seconds}")]
    BadLease { seconds: u64 } = Usage, "bad_lease";
    /// A group, acceptor or use count out of bounds.
    #[says("{what} out of bounds: {allowed}")]
    OutOfBounds { what: &'static str, allowed: &'static str } = Usage, "out_of_bounds";
    /// Generations of this era are used up.
    #[says("the generations of this era are used up in `{network}`; the owner has to begin the next era")]
    EraUsedUp { network: Label } = Denied, "era_used_up";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_place_and_the_remedy() {
        let network = Label::parse("lab").unwrap();
        let refusal = Refusal::TicketExpired { network: network.clone() };
        assert_eq!(refusal.to_string(), "the ticket for `lab` has expired; ask for a new one");
        assert_eq!((refusal.code(), refusal.kind().exit_code()), ("ticket_expired", 5));
        let refusal = Refusal::UnknownNetwork { name: "lab".into() };
        assert_eq!(refusal.kind().exit_code(), 4);
        let refusal = Refusal::AddressOutside {
            network,
            address: "10.0.0.1".parse().unwrap(),
            subnet: "10.1.7.0/24".into(),
        };
        assert_eq!(refusal.kind().exit_code(), 1);
        assert!(refusal.to_string().contains("10.1.7.0/24"));
    }
}
