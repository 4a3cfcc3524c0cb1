//! What goes into the machine and comes out of it, as values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sinew_types::{Label, NetworkId, NodeId, PeerUri};
use sinew_wire::document::Service;
use sinew_wire::segment::StreamClass;
use sinew_wire::ticket::Contact;

use crate::document::DocumentId;
use crate::refusal::Refusal;
use crate::snapshot::Slot;
use crate::state::Fault;

/// A message for the session with `peer`; what arrives there in one class arrives in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// For whom.
    pub peer: NodeId,
    /// On which stream: documents or requests.
    pub class: StreamClass,
    /// A whole message.
    pub bytes: Vec<u8>,
}

/// Something to be written down, in this order. Its `Debug` shows no content: it may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Change {
    /// Keep a document.
    PutDocument {
        /// Its id.
        id: DocumentId,
        /// The document.
        bytes: Vec<u8>,
    },
    /// A document is no longer needed.
    DropDocument {
        /// Its id.
        id: DocumentId,
    },
    /// What else is to be known of the network after a restart; replaces what was written before. May
    /// hold a ticket's secret.
    PutMeta(Vec<u8>),
    /// An entry of the journal of tickets.
    PutJournal {
        /// Its key.
        key: Vec<u8>,
        /// What it says.
        value: Vec<u8>,
    },
    /// An entry of the journal that is no longer needed.
    DropJournal {
        /// Its key.
        key: Vec<u8>,
    },
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PutDocument { bytes, .. } => write!(f, "PutDocument({} bytes)", bytes.len()),
            Self::DropDocument { .. } => f.write_str("DropDocument"),
            Self::PutMeta(bytes) => write!(f, "PutMeta({} bytes)", bytes.len()),
            Self::PutJournal { .. } => f.write_str("PutJournal"),
            Self::DropJournal { .. } => f.write_str("DropJournal"),
        }
    }
}

/// All that was written down of one network.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoredNetwork {
    /// Of the last [`Change::PutMeta`].
    pub meta: Vec<u8>,
    /// Documents, in any order.
    pub documents: Vec<Vec<u8>>,
    /// The journal, in any order.
    pub journal: Vec<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for StoredNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoredNetwork({} documents)", self.documents.len())
    }
}

/// What the machine tells. Read all events before sending anything: what is sent may say that the
/// effect of an event is in force (protocol A7.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Write these down, as one transaction.
    Store {
        /// Of which network.
        network: NetworkId,
        /// What.
        changes: Vec<Change>,
        /// If given: call [`Overlay::stored`](crate::Overlay::stored) with it once they are durable;
        /// somebody is admitted only then.
        token: Option<u64>,
    },
    /// Forget all that was written down of a network.
    Forget(NetworkId),
    /// Open a session with this node and keep it up while [`Overlay::wants`](crate::Overlay::wants) it.
    WantPeer {
        /// Which.
        peer: NodeId,
        /// Where a ticket says it is; empty if the mesh has to know the way.
        endpoints: Vec<PeerUri>,
    },
    /// [`Overlay::snapshot`](crate::Overlay::snapshot) is new: publish it to the workers.
    Changed,
    /// Packets of the network may be sent to the peer, with our number `slot` as handle.
    Bound {
        /// The peer.
        peer: NodeId,
        /// Our number for the network.
        slot: Slot,
    },
    /// The peer is no member any more, or has left: what waits for it is dropped, flows with it end.
    Dead {
        /// The peer.
        peer: NodeId,
        /// Our number for the network.
        slot: Slot,
    },
    /// An attempt to join by a ticket came to its end. If refused, the network is gone again.
    JoinDone {
        /// Which network.
        network: NetworkId,
        /// How it ended.
        result: Result<(), Refusal>,
    },
    /// Somebody asks to be admitted by a ticket that wants a person's approval.
    Asks {
        /// To which network.
        network: NetworkId,
        /// Who.
        node: NodeId,
    },
    /// What is published in the network, by whom, or where its workloads are, may have changed:
    /// [`Overlay::ingress`](crate::Overlay::ingress) and [`Overlay::published`](crate::Overlay::published).
    Published(NetworkId),
    /// This node's subnet changed, so the workload has other addresses now.
    Readdressed {
        /// In which network.
        network: NetworkId,
        /// The workload, with the new addresses.
        placed: Placed,
    },
    /// An operator has to know. Told once as long as it lasts.
    Alarm {
        /// In which network.
        network: NetworkId,
        /// What.
        fault: Fault,
    },
}

/// Whom to admit, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmitSpec {
    /// Who.
    pub node: NodeId,
    /// Its groups.
    pub groups: Vec<Label>,
    /// What people call it.
    pub name: Option<Label>,
    /// For how long; `None` without end, or as long as this admin may.
    pub lasts: Option<Duration>,
}

/// What is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// A member.
    Member(NodeId),
    /// A ticket, by its public key.
    Ticket(NodeId),
    /// A moving workload's key.
    Workload(NodeId),
    /// An admin, and all that it granted. The owner's key only.
    Admin(NodeId),
}

/// What sort of a ticket is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TicketKind {
    /// For one node, which needs nobody to be online.
    Pinned(NodeId),
    /// For so many nodes, counted by the acceptors.
    Counted {
        /// How many.
        uses: u16,
        /// Whether a person has to agree each time.
        approval: bool,
    },
    /// For whoever has it first, though nobody is online: it cannot be counted.
    Bearer,
}

/// A ticket that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteSpec {
    /// Of what sort.
    pub kind: TicketKind,
    /// Groups of those who come by it.
    pub groups: Vec<Label>,
    /// What people will call the node; pinned tickets only.
    pub name: Option<Label>,
    /// For how long it is good; `None` without end.
    pub lasts: Option<Duration>,
    /// Nodes to turn to, at most three; this node if empty. Of a counted ticket they are the acceptors.
    pub contacts: Vec<Contact>,
}

/// A workload of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadSpec {
    /// Its name.
    pub name: Label,
    /// The address it wants.
    pub ipv4: Option<Ipv4Addr>,
    /// Its groups; `None` for all of this node's.
    pub groups: Option<Vec<Label>>,
    /// What it serves.
    pub services: Vec<Service>,
    /// Its own key, if it is to move.
    pub key: Option<NodeId>,
}

/// A workload that has its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Our number for the network.
    pub slot: Slot,
    /// Its name.
    pub name: Label,
    /// IPv4, unless the network has none.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Ipv6Addr,
    /// Where it asks for names.
    pub resolver: (Option<Ipv4Addr>, Ipv6Addr),
    /// What it reaches over its interface: the network's ranges.
    pub routes: Vec<(IpAddr, u8)>,
}
