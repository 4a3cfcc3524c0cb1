//! What the control API asks of the node: values through a channel, answered one by one by the
//! loop that owns the node, so that nothing else ever touches it.

use sinew_control::ApiError;
use sinew_control::api::{
    self, Drops, Graph, Key, LoadedConfig, Netcheck, PeerAdd, PeerChanged, PeerRemove, Peers, PingProbe,
    Reload, RouteAnswer, Routes, RoutesShow, Sessions, Status, Trace, Why,
};
use tokio::sync::oneshot;

use crate::attach::Attach;
use crate::metrics::{GatewayNumbers, NodeNumbers};

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// One request.
pub(crate) enum Command {
    Node(NodeCommand),
    Network(NetworkCommand),
    Workload(WorkloadCommand),
    Publication(PublicationCommand),
    Dns(DnsCommand),
    Gateway(GatewayCommand),
}

/// Requests about the node itself.
pub(crate) enum NodeCommand {
    Status(Reply<Status>),
    Peers(Reply<Peers>),
    PeerAdd(PeerAdd, Reply<PeerChanged>),
    PeerRemove(PeerRemove, Reply<PeerChanged>),
    Routes(RoutesShow, Reply<Routes>),
    RouteGet(String, Reply<RouteAnswer>),
    Sessions(Reply<Sessions>),
    Why(String, Reply<Why>),
    Netcheck(Reply<Netcheck>),
    Drops(Reply<Drops>),
    Graph(Reply<Graph>),
    /// One probe; the API handler repeats it as often as asked.
    Ping {
        target: String,
        seq: u32,
        timeout_ms: u64,
        /// A direct path is looked for, whatever the traffic.
        want_direct: bool,
        reply: Reply<PingProbe>,
    },
    Trace {
        target: String,
        reply: Reply<Trace>,
    },
    Key(Reply<Key>),
    Config(Reply<LoadedConfig>),
    Reload(Reply<Reload>),
    /// Counters for `[metrics]`.
    Numbers(Reply<NodeNumbers>),
}

/// Requests about private networks.
pub(crate) enum NetworkCommand {
    List(Reply<api::Networks>),
    Create(api::NetworkCreate, Reply<api::NetworkCreated>),
    Show(api::NetworkQuery, Reply<api::Network>),
    Invite(api::InviteRequest, Reply<api::Invitation>),
    Join(api::JoinRequest, Reply<api::Joined>),
    Requests(api::NetworkQuery, Reply<api::JoinRequests>),
    Approve(api::Approve, Reply<api::NetworkChanged>),
    Revoke(api::Revoke, Reply<api::NetworkChanged>),
    Leave(api::NetworkQuery, Reply<api::NetworkChanged>),
    Policy(api::NetworkQuery, Reply<api::PolicyInForce>),
    PolicySet(api::PolicySet, Reply<api::NetworkChanged>),
    PolicyTrace(api::PolicyTrace, Reply<api::PolicyVerdicts>),
    Documents(api::NetworkQuery, Reply<api::Documents>),
    Import(api::DocumentsImport, Reply<api::NetworkChanged>),
}

/// Requests about workloads.
pub(crate) enum WorkloadCommand {
    List(Reply<api::Workloads>),
    Attach(Attach, Reply<api::AttachAnswer>),
    Detach(api::Detach, Reply<api::Detached>),
    /// What a workload's key has to sign.
    Terms(api::LeaseQuery, Reply<api::LeaseTerms>),
    Lease(api::LeaseRenewal, Reply<api::Leased>),
}

/// Requests about services that gateways offer.
pub(crate) enum PublicationCommand {
    List(Reply<api::Publications>),
    Expose(Box<api::Expose>, Reply<api::Exposed>),
    Unexpose(api::Unexpose, Reply<api::Unexposed>),
}

/// Requests about names.
pub(crate) enum DnsCommand {
    Query(api::DnsQuery, Reply<api::DnsAnswer>),
    Records(api::DnsRecordsQuery, Reply<api::DnsRecords>),
    Status(Reply<api::DnsStatus>),
}

/// Requests about the public gateway.
pub(crate) enum GatewayCommand {
    List(Reply<api::GatewayStatus>),
    Probe(api::GatewayProbe, Reply<api::GatewayProbed>),
    Log(api::GatewayLogQuery, Reply<api::GatewayLog>),
    Drain(api::GatewayDrain, Reply<api::GatewayDrained>),
    Certificates(Reply<api::GatewayCertificates>),
    Names(Reply<api::GatewayNames>),
    Transfer(api::GatewayTransfer, Reply<api::GatewayNames>),
    /// Counters for `[metrics]`.
    Numbers(Reply<GatewayNumbers>),
}

impl GatewayCommand {
    /// Answers that it is not carried out.
    pub(crate) fn refuse(self, error: ApiError) {
        match self {
            Self::List(reply) => drop(reply.send(Err(error))),
            Self::Probe(_, reply) => drop(reply.send(Err(error))),
            Self::Log(_, reply) => drop(reply.send(Err(error))),
            Self::Drain(_, reply) => drop(reply.send(Err(error))),
            Self::Certificates(reply) => drop(reply.send(Err(error))),
            Self::Names(reply) | Self::Transfer(_, reply) => drop(reply.send(Err(error))),
            Self::Numbers(reply) => drop(reply.send(Err(error))),
        }
    }
}

impl From<GatewayCommand> for Command {
    fn from(command: GatewayCommand) -> Self {
        Self::Gateway(command)
    }
}

impl From<NodeCommand> for Command {
    fn from(command: NodeCommand) -> Self {
        Self::Node(command)
    }
}

impl From<NetworkCommand> for Command {
    fn from(command: NetworkCommand) -> Self {
        Self::Network(command)
    }
}

impl From<WorkloadCommand> for Command {
    fn from(command: WorkloadCommand) -> Self {
        Self::Workload(command)
    }
}

impl From<PublicationCommand> for Command {
    fn from(command: PublicationCommand) -> Self {
        Self::Publication(command)
    }
}

impl From<DnsCommand> for Command {
    fn from(command: DnsCommand) -> Self {
        Self::Dns(command)
    }
}
