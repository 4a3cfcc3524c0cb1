//! The service port: gateways come here for what is published through them, publishers bring their documents to a
//! gateway, and gateways of one domain ask whose its names are (protocol A11.3, A11.6).
//!
//! ```text
//!  gateway ═ mesh ═▶ TUN ▸ kernel ▸ :7464 ─ CONNECT ─ table ─ socket made in the namespace ─▶ workload
//!                     ▲ open to the gateways of the table only
//! ```
//! A thread of its own, with its own runtime: what it carries is a fast path, and must neither wait for the
//! loop nor make it wait. The loop gives it a new [`Table`] when something changes; streams that a new
//! table no longer grants are cut.

mod call;
mod count;
mod courier;
mod datagrams;
mod request;
mod streams;
mod table;

use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpListener};
use std::sync::Arc;

use sinew_control::api::Answer;
use sinew_helper::{Helper, Id};
use sinew_node::overlay;
use sinew_types::MeshAddr;
use sinew_wire::ingress::Status;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use call::{Failed, call};
pub(crate) use count::{Counters, Traffic};
pub(crate) use courier::{Courier, Delivery, Letter, LetterKey};
pub(crate) use table::Table;

/// Documents that somebody brought to this node as a gateway, and where the answer goes.
pub(crate) struct Brought {
    /// As they came; nothing is checked.
    pub(crate) documents: Vec<Vec<u8>>,
    pub(crate) reply: oneshot::Sender<Answer>,
}

/// A gateway that asks this one whose the names of a domain are.
pub(crate) struct Asked {
    /// Whose address it is, is sure.
    pub(crate) from: Ipv6Addr,
    pub(crate) domain: String,
    /// The list as it travels, or why it is not told.
    pub(crate) reply: oneshot::Sender<Result<Vec<u8>, Status>>,
}

/// What comes to this node as a gateway.
pub(crate) enum Errand {
    Brought(Brought),
    Asked(Asked),
}

/// Where it is taken in, on a node that is a gateway. A full one answers "busy".
pub(crate) type Desk = mpsc::Sender<Errand>;

/// What the thread's tasks share.
struct Shared {
    helper: Arc<Helper>,
    tables: watch::Receiver<Arc<Table>>,
    counters: Arc<Counters>,
    desk: Option<Desk>,
    streams: usize,
}

/// The port, bound while there was a right to.
pub(crate) struct Port {
    /// Without, documents are not even carried to gateways: they would not know who speaks.
    pub(crate) listener: Option<TcpListener>,
    /// This node's address.
    pub(crate) own: MeshAddr,
    /// Streams that may be open at once.
    pub(crate) streams: usize,
}

/// The thread, from the loop's side. It ends when this is dropped.
pub(crate) struct Ingress {
    tables: watch::Sender<Arc<Table>>,
    counters: Arc<Counters>,
    pub(crate) courier: Courier,
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Ingress {
    /// Starts the thread. `desk`: where documents for this node as a gateway go, if it is one.
    ///
    /// # Errors
    /// Without a thread or a runtime.
    pub(crate) fn start(port: Port, helper: Arc<Helper>, desk: Option<Desk>) -> io::Result<Self> {
        let Port { listener, own, streams } = port;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (tables, watched) = watch::channel(Arc::default());
        let counters: Arc<Counters> = Arc::default();
        let shared =
            Arc::new(Shared { helper, tables: watched, counters: Arc::clone(&counters), desk, streams });
        let courier = Courier::start(&handle, own, listener.is_some());
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("sinew-ingress".to_owned()).spawn(move || {
            runtime.block_on(async move {
                if let Some(listener) = listener {
                    tokio::spawn(request::accept(listener, shared));
                }
                // The sender is dropped with the daemon's own end.
                let _ = stopped.await;
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { tables, counters, courier, handle, _stop: stop })
    }

    /// Puts a new table in force. Streams that it does not grant end at once. Says whether it is another.
    pub(crate) fn set_table(&self, table: Table) -> bool {
        self.tables.send_if_modified(|old| {
            let changed = **old != table;
            if changed {
                *old = Arc::new(table);
            }
            changed
        })
    }

    /// What was carried and refused.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The thread's runtime.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// A table from the documents in force and the namespaces that are known.
pub(crate) fn table(
    overlay: &overlay::Overlay,
    place: impl Fn(&overlay::Ingress, IpAddr) -> Option<Id>,
) -> Table {
    Table::new(&overlay.ingress(), place)
}
