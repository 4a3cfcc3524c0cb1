//! Private networks: who belongs to one, which address is whose, and who may talk to whom.
//!
//! The fast path reads a [`Snapshot`] and nothing else:
//! [`Snapshot::network`] (a network by this node's number for it), [`NetworkView::place`] (whose an
//! address is), [`Policy::verdict`] (whether one may open a flow to the other),
//! [`Snapshot::incoming`] and [`Snapshot::outgoing`] (which handles are bound with which peer).

mod document;
mod judge;
mod plan;
mod policy;
mod refusal;
mod set;
mod snapshot;
mod state;
mod view;

pub use document::{DocumentId, Draft, Flaw, KeyRing, LEASE_MAX, Lease, NO_GRANT, Signed, Unverified};
pub use judge::{Clock, MEMBERS_MAX, STALE_AFTER, WORKLOADS_MAX, judge};
pub use plan::{FIRST_HOST, Plan, RESOLVER_HOST, Subnets};
pub use policy::{End, Explanation, Mismatch, Warning, check, explain};
pub use policy::{
    GroupSet, Policy, PolicySpec, ProtocolSpec, Rule, RuleSpec, Selector, SelectorSpec, Verdict,
};
pub use refusal::{Refusal, RefusalKind};
pub use set::{DocumentSet, Inserted, SlotKey};
pub use snapshot::{NetworkView, Place, Places, Slot, Snapshot, WorkloadKey};
pub use state::{Admin, Authority, Fate, Fault, Member, Standing, State, Workload};
