//! Bodies of requests and answers; field names are those of the outside interface.
//!
//! Durations are in milliseconds (`*_ms`), sizes in bytes, rates in bytes per second. A value
//! that is not known is `null`; its key is always there. Node ids are 52 base32 characters,
//! addresses IPv6 text.

mod config;
mod finding;
mod gateway;
mod graph;
mod hex;
mod names;
mod networks;
mod peers;
mod policy;
mod probe;
mod publish;
mod reach;
mod routes;
mod sessions;
mod status;
mod workloads;

pub use config::{LoadedConfig, Reload};
pub use finding::{Finding, FindingDirectory, FindingLan};
pub use gateway::{
    BackendProbe, GatewayBackend, GatewayCertificate, GatewayCertificates, GatewayDomain, GatewayDrain,
    GatewayDrained, GatewayListener, GatewayLog, GatewayLogQuery, GatewayName, GatewayNames, GatewayPort,
    GatewayProbe, GatewayProbed, GatewayRegistrar, GatewayService, GatewayStatus, GatewayTransfer,
};
pub use graph::{Graph, GraphLink, GraphNode, LinkKind};
pub use hex::Hex;
pub use names::{
    DnsAnswer, DnsForward, DnsQuery, DnsRecord, DnsRecords, DnsRecordsQuery, DnsServer, DnsStatus,
};
pub use networks::{
    Approve, DocumentVersion, Documents, DocumentsImport, Invitation, InviteRequest, JoinRequest,
    JoinRequests, Joined, Member, Network, NetworkChanged, NetworkCreate, NetworkCreated, NetworkQuery,
    NetworkState, NetworkSummary, NetworkWorkload, Networks, PendingMember, PolicySummary, Revoke, Role,
    TicketMode,
};
pub use peers::{Direction, Peer, PeerAdd, PeerChanged, PeerRemove, PeerState, Peers};
pub use policy::{
    Action, Flow, FlowEnd, FlowVerdict, Policy, PolicyInForce, PolicySet, PolicyTrace, PolicyVerdicts,
    PolicyWarning, Rule, Selector, Service,
};
pub use probe::{PingProbe, PingRequest, PingSummary, Trace, TraceHop, TraceRequest};
pub use publish::{
    Answer, AnswerHost, AnswerState, DnsToSet, Expose, ExposeBackend, Exposed, Publication,
    PublicationBackend, PublicationState, Publications, PublishAccess, PublishBalance, PublishCheck,
    PublishForwardAuth, PublishMode, PublishProtocol, PublishProxyHeader, PublishRate, PublishUser, Settings,
    Unexpose, Unexposed,
};
pub use reach::{
    Candidate, CandidateState, CarrierCheck, FamilyCheck, MappingState, Nat, Netcheck, PortMapping, Reason,
    Reflected, Why, WhyRequest,
};
pub use routes::{Route, RouteAnswer, RouteOrigin, RouteQuery, Routes, RoutesShow};
pub use sessions::{DropCount, Drops, Session, Sessions};
pub use status::{Health, Key, Listener, Offload, Reach, Severity, Status};

pub use workloads::{
    ATTACH_MESSAGE_MAX, AttachAnswer, AttachNetwork, AttachRequest, AttachService, AttachedBy,
    AttachedInterface, Detach, Detached, LeaseQuery, LeaseRenewal, LeaseTerms, Leased, Transport, Watch,
    Workload, WorkloadState, Workloads, attach_answer, attach_socket, interface_pins, leading_out,
    pinned_namespace, pins, plugin_notes, tombstones,
};

#[cfg(test)]
mod tests;
