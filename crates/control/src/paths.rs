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
