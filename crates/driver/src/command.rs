//! What the control API asks of the node: values through a channel, answered one by one by the
//! loop that owns the node, so that nothing else ever touches it.

use sinew_control::ApiError;
use sinew_control::api::{
    Drops, Graph, Key, LoadedConfig, PeerAdd, PeerChanged, PeerRemove, Peers, PingProbe, Reload, RouteAnswer,
    Routes, RoutesShow, Sessions, Status, Trace,
};
use tokio::sync::oneshot;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, ApiError>>;

/// One request of the control API.
pub(crate) enum Command {
    Status(Reply<Status>),
    Peers(Reply<Peers>),
    PeerAdd(PeerAdd, Reply<PeerChanged>),
    PeerRemove(PeerRemove, Reply<PeerChanged>),
    Routes(RoutesShow, Reply<Routes>),
    RouteGet(String, Reply<RouteAnswer>),
    Sessions(Reply<Sessions>),
    Drops(Reply<Drops>),
    Graph(Reply<Graph>),
    /// One probe; the API handler repeats it as often as asked.
    Ping {
        target: String,
        seq: u32,
        timeout_ms: u64,
        reply: Reply<PingProbe>,
    },
    Trace {
        target: String,
        reply: Reply<Trace>,
    },
    Key(Reply<Key>),
    Config(Reply<LoadedConfig>),
    Reload(Reply<Reload>),
}
