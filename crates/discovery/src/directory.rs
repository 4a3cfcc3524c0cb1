//! The directory: signed node records in a Kademlia table that its members hold together, over libp2p.
//!
//! ```text
//!   loop ──Publish, LookUp──▶ ┌──────── thread ────────┐ ◀──TCP, Noise, yamux──▶ other members
//!   loop ◀──────Found──────── │ kad  identify  autonat │
//!                             └────────────────────────┘
//! ```
//! What it is not trusted with: a record is judged before it is stored for others, and again when it is
//! read (protocol A12.5), so members can lie by silence only. Its key is derived from the node's, its port
//! is its own, and nothing of the mesh ever goes over it. Streams over TCP with Noise alone: libp2p's QUIC
//! and TLS would bring a second TLS stack into the program, for a few hundred bytes an hour.
//!
//! A member is found by its place in the table, but what a node wants is other nodes: so each member
//! answers one question more, for its own record (`/sinew/record/1`), and the answer counts only
//! if the record names the very key that the connection has proved.

mod ask;
mod behaviour;
mod entry;
mod keeper;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use sinew_directory::Refusals;
use sinew_types::NodeId;
use thiserror::Error;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::Found;

/// Orders that wait for the thread.
const QUEUE: usize = 64;

/// Whether this node answers others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Once others say that they reach it.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// How this node takes part.
#[derive(Debug)]
pub struct DirectoryConfig {
    /// Secret of its key there.
    pub seed: Zeroizing<[u8; 32]>,
    /// Members by which it comes in: `/ip4|ip6|dns|dns4|dns6/HOST/tcp/PORT/p2p/ID`.
    pub entries: Vec<String>,
    /// Where it may be asked.
    pub listen: Vec<SocketAddr>,
    /// Whether it answers.
    pub serve: Serve,
    /// Whether its own record is given to anybody.
    pub publish: bool,
}

/// What people may see of it.
#[derive(Clone, Debug, Default)]
pub struct DirectoryStatus {
    /// This node's name there.
    pub peer_id: String,
    /// Members known.
    pub peers: usize,
    /// Members connected with.
    pub connected: usize,
    /// It answers others.
    pub serving: bool,
    /// Whether others reach it; `None` if nobody has said so.
    pub reachable: Option<bool>,
    /// Its record was read back from another member.
    pub published: bool,
    /// Records it keeps for others.
    pub records: usize,
    /// Records it refused.
    pub refused: Refusals,
}

/// Why it cannot be started.
#[derive(Debug, Error)]
pub enum DirectoryError {
    /// An entry that libp2p does not understand.
    #[error("`{0}` is no entry to the directory: {1}")]
    Entry(String, String),
    /// A port that is taken, most often.
    #[error("the directory cannot listen on {0}: {1}")]
    Listen(SocketAddr, String),
    /// Threads, memory.
    #[error("the directory cannot be started: {0}")]
    Start(String),
}

pub(crate) enum Command {
    Publish(Vec<u8>),
    LookUp(NodeId),
}

/// The directory; it ends with this handle.
#[derive(Debug)]
pub struct Directory {
    key: [u8; 32],
    commands: mpsc::Sender<Command>,
    status: Arc<Mutex<DirectoryStatus>>,
}

impl Directory {
    /// Starts it, on a thread of its own: what others make it compute is not to hold up packets.
    ///
    /// # Errors
    /// [`DirectoryError`].
    pub fn start(config: DirectoryConfig, found: mpsc::Sender<Found>) -> Result<Self, DirectoryError> {
        let (commands, orders) = mpsc::channel(QUEUE);
        let status = Arc::new(Mutex::new(DirectoryStatus::default()));
        let shown = Arc::clone(&status);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| DirectoryError::Start(error.to_string()))?;
        let key = keeper::public_key(&config.seed)?;
        // Everything that can fail does so here, and not on the thread.
        let keeper = {
            let _inside = runtime.enter();
            keeper::Keeper::new(config, found, shown)?
        };
        thread::Builder::new()
            .name("directory".to_owned())
            .spawn(move || runtime.block_on(keeper.run(orders)))
            .map_err(|error| DirectoryError::Start(error.to_string()))?;
        Ok(Self { key, commands, status })
    }

    /// This node's key there: part of its record.
    pub const fn key(&self) -> [u8; 32] {
        self.key
    }

    /// This node's record from now on.
    pub fn publish(&self, record: Vec<u8>) {
        // A full queue: it is published again before it expires.
        let _ = self.commands.try_send(Command::Publish(record));
    }

    /// Looks for a node; what is found comes as any other record.
    pub fn look_up(&self, node: NodeId) {
        // A full queue: whoever wants the node asks again.
        let _ = self.commands.try_send(Command::LookUp(node));
    }

    /// How it goes.
    pub fn status(&self) -> DirectoryStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests;
