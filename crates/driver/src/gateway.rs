//! This node as a public gateway: takes what publishers bring, decides whose it is, and runs the front.
//!
//! ```text
//!  service port ─ documents ─▶ ┌───────────── desk (a thread) ─────────────┐
//!                              │ Claims ▸ Registry ▸ build ─▶ front config │ ─▶ front (its threads) ─▶ MeshDial
//!  loop ─── commands ────────▶ │ TXT looks · certificates · store          │
//!                              └───────────────────────────────────────────┘
//! ```
//! Nothing of it runs on the loop, which carries the packets of the mesh: verifying documents that strangers bring
//! takes milliseconds, and a disk may take longer. What decides is pure (`overlay::Claims`, `sinew-registry`); the
//! front (`sinew-gateway`) knows nothing of the mesh and dials by [`dial::MeshDial`]. Where another gateway decides on
//! the names of the domain, [`follow`] asks it.

mod answer;
mod bind;
mod build;
mod certificates;
mod desk;
mod dial;
mod documents;
mod follow;
mod log;
mod look;
mod ordered;
mod orders;
mod share;
mod show;
mod tide;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use sinew_control::ApiError;
use sinew_control::config;
use sinew_store::Entry;
use sinew_types::NodeId;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

pub(crate) use bind::Sockets;
pub(crate) use certificates::folders;
pub(crate) use desk::Order;
pub(crate) use ordered::Authority;
pub(crate) use share::Shared;

use crate::command::GatewayCommand;
use crate::ingress::Errand;
use crate::persist::Persist;

/// Publishers whose documents may wait; the next is told that this node is busy.
pub(crate) const WAITING: usize = 64;
/// Orders of the loop that may wait.
const ORDERS: usize = 64;

/// What a gateway starts with.
pub(crate) struct Start {
    pub(crate) config: config::Gateway,
    /// Domains that this node answers itself, and that nobody publishes.
    pub(crate) internal: Vec<String>,
    pub(crate) own: NodeId,
    /// Bound while there was a right to.
    pub(crate) sockets: Arc<Sockets>,
    /// Connections that clients may have.
    pub(crate) clients: u32,
    /// Those of the sockets that are shared with the mesh.
    pub(crate) shared: Option<Shared>,
    /// Whom certificates are ordered from.
    pub(crate) authority: Option<Authority>,
    /// Documents that publishers bring, and what other gateways ask.
    pub(crate) errands: mpsc::Receiver<Errand>,
    /// What an earlier run promised.
    pub(crate) kept: Vec<Entry>,
}

/// The gateway, from the loop's side.
pub(crate) struct Public {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Public {
    /// Waits for the desk, which has something to store perhaps.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Public {
    /// Starts the desk and the front.
    ///
    /// # Errors
    /// What keeps it from starting, for people.
    pub(crate) fn start(start: Start, persist: Persist) -> Result<Self, String> {
        let (orders, received) = mpsc::channel(ORDERS);
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let errands = start.errands;
        let parts = desk::Parts {
            config: start.config,
            internal: start.internal,
            own: start.own,
            sockets: start.sockets,
            shared: start.shared,
            clients: start.clients,
            authority: start.authority,
            kept: start.kept,
        };
        let desk = {
            let _inside = runtime.enter();
            desk::Desk::new(parts, persist)?
        };
        let run = move || {
            runtime.block_on(desk.run(errands, received));
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("sinew-desk".to_owned()).spawn(run);
        let thread = thread.map_err(|error| error.to_string())?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    fn order(&self, order: Order) -> Result<(), Order> {
        let Some(orders) = &self.orders else { return Err(order) };
        orders.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order) => order,
        })
    }

    /// Carries out one request of the control API.
    pub(crate) fn handle(&self, command: GatewayCommand) {
        if let Err(Order::Command(command)) = self.order(Order::Command(command)) {
            command.refuse(ApiError::internal("the gateway is busy"));
        }
    }

    /// Takes another configuration, reads certificates again, opens the log anew.
    pub(crate) fn reload(&self, config: config::Gateway) {
        // A full queue holds another reload, or an operator's questions: he sees that nothing has changed.
        if self.order(Order::Reload(Box::new(config))).is_err() {
            tracing::warn!("the gateway is busy; reload again");
        }
    }

    /// Accepts nothing new, lets what is under way finish; `done` hears when it has.
    pub(crate) fn drain(&self, grace: Duration) -> oneshot::Receiver<bool> {
        let (done, ended) = oneshot::channel();
        // If it cannot be told, `done` is dropped, and the end is now.
        let _ = self.order(Order::Drain { grace, done });
        ended
    }
}
