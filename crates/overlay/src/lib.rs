//! Private networks: who belongs to one, which address is whose, and who may talk to whom (protocol A7).
//!
//! A network is its owner's key and a set of signed documents. Every member holds the set, any member can
//! check it alone, and all come to the same outcome whatever the order in which documents reached them.
//!
//! ```text
//!  bytes ─▶ document (one by itself: shape, keys, signature) ─▶ set (for each slot and author the newest)
//!                                                                │
//!            view ◀─ state (members, workloads, policy …) ◀─ judge (a pure function of set and time)
//!              │            │
//!          Snapshot      binding · sync · join · admin · workload · names · status
//!       (the fast path)            (what the machine does about it)
//! ```
//!
//! # The machine
//! [`Overlay`] does no IO and reads no clock. After **every** call, and in this order: read
//! [`Overlay::poll_event`] to its end and act on it (publish the snapshot on [`Event::Changed`]); only then
//! ask [`Overlay::poll_send`] until it has nothing, since what is sent may say that an effect is in force;
//! then acknowledge the message that was handled. Call [`Overlay::handle_timeout`] at
//! [`Overlay::poll_timeout`].
//!
//! | what happens | call |
//! | --- | --- |
//! | start: networks from the store | [`Overlay::restore`] |
//! | `network create` (documents from [`found`], made where the owner's key is), a backup | [`Overlay::adopt`] |
//! | `network join`, `leave` | [`Overlay::join`] (ends with [`Event::JoinDone`]), [`Overlay::leave`] |
//! | `network invite`, `admit`, `approve`, `revoke`, `policy set` | [`Overlay::invite`], [`Overlay::admit`], [`Overlay::approve`], [`Overlay::revoke`], [`Overlay::set_policy`] |
//! | what only the owner's key may: grants, the next era | [`Owner`] on [`Overlay::export`], then [`Overlay::import`] |
//! | a workload comes or goes | [`Overlay::place`], [`Overlay::placed`], [`Overlay::remove`] |
//! | `expose`, `unexpose` | [`Overlay::expose`], [`Overlay::unexpose`]; then what [`Event::Published`] says |
//! | a moving workload | [`Overlay::offer_lease`] on the new host, [`Lease::attach`] where its key is, [`Overlay::attach_lease`] |
//! | a session stands, or ended | [`Overlay::peer_up`] with the association's binding, [`Overlay::peer_down`] |
//! | a message of class 1, of class 2 (tags 8 to 13) | [`Overlay::handle_documents`], [`Overlay::handle_request`] |
//! | a transaction with a token is durable | [`Overlay::stored`] |
//! | the wall clock was set | [`Overlay::set_unix`] |
//! | questions | [`Overlay::networks`], [`Overlay::state`], [`Overlay::find`], [`Overlay::names`], [`Overlay::lookup`], [`Overlay::reverse`], [`Overlay::serving`], [`Overlay::explain`], [`Overlay::whose`], [`check`] |
//!
//! Calls that may be refused return a [`Refusal`]: one variant for each mistake, with a stable word and an
//! exit code. A refused call has changed nothing.
//!
//! A restarted association (other [`Overlay::peer_up`] binding) forgets what was agreed in the old one; a
//! rekey does not. A node keeps sessions with up to eight other members of each network
//! ([`Event::WantPeer`]; kept while [`Overlay::wants`] says so); more on demand for data.
//!
//! # The fast path
//! It reads a [`Snapshot`] and nothing else: [`Snapshot::network`] (a network by this node's number for
//! it, the [`Slot`]), [`NetworkView::place`] (whose an address is), [`Policy::verdict`] (whether one may
//! open a flow to the other), [`Snapshot::incoming`] (which network a peer means by a handle) and
//! [`Snapshot::outgoing`] (whether a peer knows ours). A packet from `peer` is in order if `incoming` gives
//! a slot, the inner source's place has `node == peer`, and the inner destination's place has this node. A
//! network that is closed (not a member, not ready, strict and stale) has no places.

mod admin;
mod binding;
mod claims;
mod document;
mod event;
mod exposure;
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

pub use claims::{Claim, ClaimBackend, ClaimError, Claimed, Claims, Idle};
pub use document::{
    DocumentId, Draft, Flaw, KeyRing, LEASE_MAX, Lease, NO_GRANT, PUBLISH_LIFE, Signed, Unverified,
    network_of,
};
pub use event::WorkloadSpec;
pub use event::{AdmitSpec, Change, Event, InviteSpec, Placed, Revoked, Send, StoredNetwork, TicketKind};
pub use exposure::{BackendSpec, ExposureStatus, Ingress, IngressPort, Notice, PublicationSpec, service_id};
pub use judge::{Clock, MEMBERS_MAX, PUBLICATIONS_MAX, STALE_AFTER, WORKLOADS_MAX, judge};
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
pub use sinew_wire::document::{Grant, PublishMode, PublishedBackend, Range4, Service, Subnet4};
pub use sinew_wire::ticket::{Contact, Ticket, TicketError, TicketMode};
pub use snapshot::{NetworkView, Place, Places, Slot, Snapshot, WorkloadKey};
pub use state::{Admin, Authority, Fate, Fault, HeadState, Member, Publication, Standing, State, Workload};
pub use status::{Health, MemberStatus, NetworkStatus, TicketStatus, WorkloadStatus};
