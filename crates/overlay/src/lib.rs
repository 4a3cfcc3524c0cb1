//! Private networks: who belongs to one, which address is whose, and who may talk to whom.
//!
//! The fast path reads a [`Snapshot`] and nothing else:
//! [`Snapshot::network`] (a network by this node's number for it), [`NetworkView::place`] (whose an
//! address is), [`Policy::verdict`] (whether one may open a flow to the other),
//! [`Snapshot::incoming`] and [`Snapshot::outgoing`] (which handles are bound with which peer).

mod policy;
mod snapshot;

pub use policy::{GroupSet, Policy, Protocol, Rule, Selector, Verdict};
pub use snapshot::{NetworkView, Place, Places, Slot, Snapshot, WorkloadKey};
