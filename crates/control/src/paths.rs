//! Resources of the control API. GET reads, POST with a JSON body acts.

/// GET → [`Status`](crate::api::Status).
pub const STATUS: &str = "/v1/status";
/// GET → [`Peers`](crate::api::Peers).
pub const PEERS: &str = "/v1/peers";
/// POST [`PeerAdd`](crate::api::PeerAdd) → [`PeerChanged`](crate::api::PeerChanged).
pub const PEERS_ADD: &str = "/v1/peers/add";
/// POST [`PeerRemove`](crate::api::PeerRemove) → [`PeerChanged`](crate::api::PeerChanged).
pub const PEERS_REMOVE: &str = "/v1/peers/rm";
/// GET → [`Routes`](crate::api::Routes); `?show=selected` (default) or `?show=all`.
pub const ROUTES: &str = "/v1/routes";
/// POST [`RouteQuery`](crate::api::RouteQuery) → [`RouteAnswer`](crate::api::RouteAnswer).
pub const ROUTES_GET: &str = "/v1/routes/get";
/// GET → [`Sessions`](crate::api::Sessions).
pub const SESSIONS: &str = "/v1/sessions";
/// POST [`PingRequest`](crate::api::PingRequest) → JSON lines of [`PingProbe`](crate::api::PingProbe), each
/// sent when its answer came or was given up.
pub const PING: &str = "/v1/ping";
/// POST [`TraceRequest`](crate::api::TraceRequest) → [`Trace`](crate::api::Trace).
pub const TRACE: &str = "/v1/trace";
/// POST [`WhyRequest`](crate::api::WhyRequest) → [`Why`](crate::api::Why).
pub const WHY: &str = "/v1/why";
/// GET → [`Netcheck`](crate::api::Netcheck).
pub const NETCHECK: &str = "/v1/netcheck";
/// GET → [`Drops`](crate::api::Drops).
pub const DROPS: &str = "/v1/drops";
/// GET → [`Graph`](crate::api::Graph).
pub const GRAPH: &str = "/v1/graph";
/// GET → [`Key`](crate::api::Key).
pub const KEY: &str = "/v1/key";
/// GET → [`LoadedConfig`](crate::api::LoadedConfig).
pub const CONFIG: &str = "/v1/config";
/// POST (no body) → [`Reload`](crate::api::Reload).
pub const CONFIG_RELOAD: &str = "/v1/config/reload";
/// GET → [`Networks`](crate::api::Networks).
pub const NETWORKS: &str = "/v1/networks";
/// POST [`NetworkCreate`](crate::api::NetworkCreate) → [`NetworkCreated`](crate::api::NetworkCreated).
pub const NETWORKS_CREATE: &str = "/v1/networks/create";
/// POST [`NetworkQuery`](crate::api::NetworkQuery) → [`Network`](crate::api::Network).
pub const NETWORKS_SHOW: &str = "/v1/networks/show";
/// POST [`InviteRequest`](crate::api::InviteRequest) → [`Invitation`](crate::api::Invitation).
pub const NETWORKS_INVITE: &str = "/v1/networks/invite";
/// POST [`JoinRequest`](crate::api::JoinRequest) → [`Joined`](crate::api::Joined).
pub const NETWORKS_JOIN: &str = "/v1/networks/join";
/// POST [`NetworkQuery`](crate::api::NetworkQuery) → [`JoinRequests`](crate::api::JoinRequests).
pub const NETWORKS_REQUESTS: &str = "/v1/networks/requests";
/// POST [`Approve`](crate::api::Approve) → [`NetworkChanged`](crate::api::NetworkChanged).
pub const NETWORKS_APPROVE: &str = "/v1/networks/approve";
/// POST [`Revoke`](crate::api::Revoke) → [`NetworkChanged`](crate::api::NetworkChanged).
pub const NETWORKS_REVOKE: &str = "/v1/networks/revoke";
/// POST [`NetworkQuery`](crate::api::NetworkQuery) → [`NetworkChanged`](crate::api::NetworkChanged).
pub const NETWORKS_LEAVE: &str = "/v1/networks/leave";
/// POST [`NetworkQuery`](crate::api::NetworkQuery) → [`PolicyInForce`](crate::api::PolicyInForce).
pub const NETWORKS_POLICY: &str = "/v1/networks/policy";
/// POST [`PolicySet`](crate::api::PolicySet) → [`NetworkChanged`](crate::api::NetworkChanged).
pub const NETWORKS_POLICY_SET: &str = "/v1/networks/policy/set";
/// POST [`PolicyTrace`](crate::api::PolicyTrace) → [`PolicyVerdicts`](crate::api::PolicyVerdicts).
pub const NETWORKS_POLICY_TRACE: &str = "/v1/networks/policy/trace";
/// POST [`NetworkQuery`](crate::api::NetworkQuery) → [`Documents`](crate::api::Documents).
pub const NETWORKS_DOCUMENTS: &str = "/v1/networks/documents";
/// POST [`DocumentsImport`](crate::api::DocumentsImport) → [`NetworkChanged`](crate::api::NetworkChanged).
pub const NETWORKS_DOCUMENTS_IMPORT: &str = "/v1/networks/documents/import";
/// GET → [`Workloads`](crate::api::Workloads). Attaching has a socket of its own ([`attach_socket`](crate::api::attach_socket)).
pub const WORKLOADS: &str = "/v1/workloads";
/// POST [`Detach`](crate::api::Detach) → [`Detached`](crate::api::Detached).
pub const WORKLOADS_DETACH: &str = "/v1/workloads/detach";
/// POST [`LeaseQuery`](crate::api::LeaseQuery) → [`LeaseTerms`](crate::api::LeaseTerms).
pub const WORKLOADS_LEASE_TERMS: &str = "/v1/workloads/lease/terms";
/// POST [`LeaseRenewal`](crate::api::LeaseRenewal) → [`Leased`](crate::api::Leased).
pub const WORKLOADS_LEASE: &str = "/v1/workloads/lease";
/// GET → [`Publications`](crate::api::Publications).
pub const PUBLICATIONS: &str = "/v1/publications";
/// POST [`Expose`](crate::api::Expose) → [`Exposed`](crate::api::Exposed).
pub const PUBLICATIONS_EXPOSE: &str = "/v1/publications/expose";
/// POST [`Unexpose`](crate::api::Unexpose) → [`Unexposed`](crate::api::Unexposed).
pub const PUBLICATIONS_UNEXPOSE: &str = "/v1/publications/unexpose";
/// POST [`DnsQuery`](crate::api::DnsQuery) → [`DnsAnswer`](crate::api::DnsAnswer).
pub const DNS_QUERY: &str = "/v1/dns/query";
/// GET → [`DnsRecords`](crate::api::DnsRecords); `?network=` for one only.
pub const DNS_RECORDS: &str = "/v1/dns/records";
/// GET → [`DnsStatus`](crate::api::DnsStatus).
pub const DNS_STATUS: &str = "/v1/dns/status";
/// GET → [`GatewayStatus`](crate::api::GatewayStatus).
pub const GATEWAY: &str = "/v1/gateway";
/// POST [`GatewayProbe`](crate::api::GatewayProbe) → [`GatewayProbed`](crate::api::GatewayProbed).
pub const GATEWAY_PROBE: &str = "/v1/gateway/probe";
/// POST [`GatewayLogQuery`](crate::api::GatewayLogQuery) → [`GatewayLog`](crate::api::GatewayLog).
pub const GATEWAY_LOG: &str = "/v1/gateway/log";
/// POST [`GatewayDrain`](crate::api::GatewayDrain) → [`GatewayDrained`](crate::api::GatewayDrained).
pub const GATEWAY_DRAIN: &str = "/v1/gateway/drain";
/// GET → [`GatewayCertificates`](crate::api::GatewayCertificates).
pub const GATEWAY_CERTIFICATES: &str = "/v1/gateway/certificates";
/// GET → [`GatewayNames`](crate::api::GatewayNames).
pub const GATEWAY_NAMES: &str = "/v1/gateway/names";
/// POST [`GatewayTransfer`](crate::api::GatewayTransfer) → [`GatewayNames`](crate::api::GatewayNames).
pub const GATEWAY_TRANSFER: &str = "/v1/gateway/names/transfer";
