//! The service port's side of a gateway: what publishers bring.

use sinew_control::api::Answer;
use tokio::sync::oneshot;

/// Documents that somebody brought to this node as a gateway, and where the answer goes.
pub(crate) struct Brought {
    /// As they came; nothing is checked.
    pub(crate) documents: Vec<Vec<u8>>,
    pub(crate) reply: oneshot::Sender<Answer>,
}
