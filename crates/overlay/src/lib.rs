//! Private networks: who belongs to one, which address is whose, and who may talk to whom.
//!
//! The fast path reads a [`Snapshot`] and nothing else:
//! [`Snapshot::network`] (a network by this node's number for it), [`NetworkView::place`] (whose an
//! address is), [`Policy::verdict`] (whether one may open a flow to the other),
//! [`Snapshot::incoming`] and [`Snapshot::outgoing`] (which handles are bound with which peer).

mod admin;
mod binding;
mod document;
mod event;
mod join;
mod judge;
mod memory;
mod names;
mod network;
mod overlay;
mod owner;
mod peer;
mod plan;
mod policy;
mod refusal;
mod set;
mod snapshot;
mod state;
mod status;
mod stored;
mod sync;
mod view;
mod workload;

pub use document::{DocumentId, Draft, Flaw, KeyRing, LEASE_MAX, Lease, NO_GRANT, Signed, Unverified};
pub use event::WorkloadSpec;
pub use event::{AdmitSpec, Change, Event, InviteSpec, Placed, Revoked, Send, StoredNetwork, TicketKind};
pub use judge::{Clock, MEMBERS_MAX, STALE_AFTER, WORKLOADS_MAX, judge};
pub use names::NameRecord;
pub use overlay::{Counts, Overlay};
pub use owner::{AdminRevoked, Founding, Owner, found};
pub use plan::{FIRST_HOST, Plan, RESOLVER_HOST, Subnets};
pub use policy::{End, Explanation, Mismatch, Warning, check, explain};
pub use policy::{
    GroupSet, Policy, PolicySpec, ProtocolSpec, Rule, RuleSpec, Selector, SelectorSpec, Verdict,
};
pub use refusal::{Refusal, RefusalKind};
pub use set::{DocumentSet, Inserted, SlotKey};
pub use sinew_wire::document::{Grant, Range4, Service, Subnet4};
pub use sinew_wire::ticket::{Contact, Ticket, TicketError, TicketMode};
pub use snapshot::{NetworkView, Place, Places, Slot, Snapshot, WorkloadKey};
pub use state::{Admin, Authority, Fate, Fault, HeadState, Member, Standing, State, Workload};
pub use status::{Health, MemberStatus, NetworkStatus, TicketStatus, WorkloadStatus};
