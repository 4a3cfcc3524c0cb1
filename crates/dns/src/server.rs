//! The thread that answers, and the sockets it answers on.
//!
//! ```text
//!  UDP ─▶ react ─┬─▶ reply                    at once, in the same turn of the loop
//!                └─▶ a task that asks upstream; at most 64 a server, 256 in all; then SERVFAIL
//!  TCP ─▶ at most 16 connections a server, 128 in all; one question at a time; 5 s of silence ends it
//! ```
//!
//! A question about our own names never waits for one that was handed on: those wait in tasks of
//! their own, and when there are too many, the next is told so instead of queued.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::explain::{self, Explanation};
use crate::message::{QUESTION_MAX, Reaction, react};
use crate::question::{Question, Transport};
use crate::scope::Scope;
use crate::stats::{Counters, Counts, Outcome};
use crate::upstream::{Failure, Forwarder, Upstream};
use crate::zones::Zones;

/// Questions handed on at once, for one server and in all. Each holds a socket.
const FORWARDS: usize = 64;
const FORWARDS_ALL: usize = 256;

/// TCP connections at once, for one server and in all.
const CONNECTIONS: usize = 16;
const CONNECTIONS_ALL: usize = 128;

/// Silence after which a TCP connection is closed.
const IDLE: Duration = Duration::from_secs(5);

/// Pause after the kernel refused us something, descriptors say: it would refuse again at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The name server: a thread, and any number of pairs of sockets. Dropping it ends all of them.
#[derive(Debug)]
pub struct Dns {
    shared: Arc<Shared>,
    runtime: runtime::Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    zones: ArcSwap<Zones>,
    forwarder: Forwarder,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    servers: Mutex<BTreeMap<u64, Arc<Server>>>,
    next: AtomicU64,
    /// Counts of servers that have ended.
    past: Mutex<Counts>,
}

#[derive(Debug)]
struct Server {
    scope: ArcSwap<Scope>,
    address: SocketAddr,
    counters: Counters,
    forwards: Arc<Semaphore>,
}

/// One server's state, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerStatus {
    /// Its scope.
    pub scope: Scope,
    /// Where it listens.
    pub address: SocketAddr,
    /// Names of the networks that exist there.
    pub networks: Vec<String>,
    /// Domains that are searched there.
    pub search: Vec<String>,
    /// How questions ended.
    pub counts: Counts,
}

/// The whole, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsStatus {
    /// Our domain.
    pub domain: String,
    /// Whom other names are asked of.
    pub upstreams: Vec<SocketAddr>,
    /// Domains that go elsewhere, with their servers.
    pub rules: Vec<(String, Vec<SocketAddr>)>,
    /// In order of their start.
    pub servers: Vec<ServerStatus>,
}

impl Dns {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread or no descriptors left.
    pub fn start(upstream: Upstream, zones: Arc<Zones>) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("sinew-dns".to_owned()).spawn(move || {
            // An error means that the sender is gone, which is a stop as well.
            let _ = runtime.block_on(stopped);
        })?;
        let shared = Shared {
            zones: ArcSwap::new(zones),
            forwarder: Forwarder::new(upstream),
            forwards: Arc::new(Semaphore::new(FORWARDS_ALL)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_ALL)),
            servers: Mutex::default(),
            next: AtomicU64::new(0),
            past: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared), runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Replaces all names. Questions read from now on see the new ones.
    pub fn publish(&self, zones: Arc<Zones>) {
        self.shared.zones.store(zones);
    }

    /// The names as last published.
    pub fn zones(&self) -> Arc<Zones> {
        self.shared.zones.load_full()
    }

    /// Asks others from now on.
    pub fn set_upstream(&self, upstream: Upstream) {
        self.shared.forwarder.set(upstream);
    }

    /// Answers on these sockets until the handle is dropped. They are to be bound to one address
    /// each (an answer has to come from where the question went), the same for both; in whose
    /// namespace is the caller's choice.
    ///
    /// # Errors
    /// The sockets cannot be used.
    pub fn serve(&self, scope: Scope, udp: UdpSocket, tcp: TcpListener) -> io::Result<ServerHandle> {
        let address = udp.local_addr()?;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let entered = self.runtime.enter();
        let udp = tokio::net::UdpSocket::from_std(udp)?;
        let tcp = tokio::net::TcpListener::from_std(tcp)?;
        drop(entered);
        // Only a server that the host itself can reach can be among the host's resolvers.
        let own = scope.host;
        if own {
            self.shared.forwarder.add_own(address);
        }
        let server = Arc::new(Server {
            scope: ArcSwap::from_pointee(scope),
            address,
            counters: Counters::default(),
            forwards: Arc::new(Semaphore::new(FORWARDS)),
        });
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.shared.servers).insert(id, server.clone());
        let tasks = [
            self.runtime.spawn(run_udp(self.shared.clone(), server.clone(), udp)).abort_handle(),
            self.runtime.spawn(run_tcp(self.shared.clone(), server.clone(), tcp)).abort_handle(),
        ];
        Ok(ServerHandle { shared: self.shared.clone(), server, id, own, tasks })
    }

    /// Asks as whoever asks in `scope` would, and says where the answer came from. `name` may be
    /// short: the search domains are tried first, as libc does. `kind`: `A`, `SRV` and so on.
    ///
    /// # Errors
    /// What is wrong with `name` or `kind`.
    pub async fn explain(&self, scope: &Scope, name: &str, kind: &str) -> Result<Explanation, String> {
        let (shared, scope, name, kind) =
            (self.shared.clone(), scope.clone(), name.to_owned(), kind.to_owned());
        // On our own thread, where its timers and sockets live.
        let task = self.runtime.spawn(async move {
            let zones = shared.zones.load_full();
            explain::explain(&zones, &scope, &shared.forwarder, &name, &kind).await
        });
        task.await.unwrap_or_else(|error| Err(format!("the name server has stopped: {error}")))
    }

    /// Domain, resolvers, servers.
    pub fn status(&self) -> DnsStatus {
        let zones = self.zones();
        let servers = lock(&self.shared.servers).values().map(|server| server.status(&zones)).collect();
        DnsStatus {
            domain: zones.domain(),
            upstreams: self.shared.forwarder.default_servers(),
            rules: self.shared.forwarder.rules(),
            servers,
        }
    }

    /// How questions ended, over all servers since the start.
    pub fn counts(&self) -> Counts {
        let servers = lock(&self.shared.servers);
        let past = *lock(&self.shared.past);
        servers.values().map(|server| server.counters.read()).fold(past, Counts::plus)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One pair of sockets at work. Dropping it closes them.
#[derive(Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
    server: Arc<Server>,
    id: u64,
    own: bool,
    tasks: [AbortHandle; 2],
}

impl ServerHandle {
    /// Other networks exist here from now on. Whether it is the host's does not change.
    pub fn set_scope(&self, mut scope: Scope) {
        scope.host = self.own;
        self.server.scope.store(Arc::new(scope));
    }

    /// Its state.
    pub fn status(&self) -> ServerStatus {
        self.server.status(&self.shared.zones.load())
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        if self.own {
            self.shared.forwarder.remove_own(self.server.address);
        }
        // In this order in `counts`, too: a count is in one of the two at any moment.
        let mut servers = lock(&self.shared.servers);
        let mut past = lock(&self.shared.past);
        *past = past.plus(self.server.counters.read());
        servers.remove(&self.id);
    }
}

impl Server {
    fn status(&self, zones: &Zones) -> ServerStatus {
        let scope = Scope::clone(&self.scope.load());
        ServerStatus {
            networks: scope.visible(zones).map(|network| network.name().to_owned()).collect(),
            search: scope.search(zones),
            address: self.address,
            counts: self.counters.read(),
            scope,
        }
    }

    fn react(&self, shared: &Shared, bytes: &[u8], transport: Transport) -> Reaction {
        react(&shared.zones.load(), &self.scope.load(), bytes, transport)
    }

    /// Room for one more question on its way, if there is.
    fn room(&self, shared: &Shared) -> Option<[OwnedSemaphorePermit; 2]> {
        let own = self.forwards.clone().try_acquire_owned().ok()?;
        Some([own, shared.forwards.clone().try_acquire_owned().ok()?])
    }
}

/// The bytes that go back for a question that was handed on.
async fn forward(shared: &Shared, question: &Question) -> (Option<Vec<u8>>, Outcome) {
    match shared.forwarder.ask(question).await {
        Ok((bytes, _)) => (question.relay(&bytes), Outcome::Forwarded),
        Err(Failure::Nobody) => (question.code(ResponseCode::Refused), Outcome::Refused),
        Err(Failure::Silent) => (question.code(ResponseCode::ServFail), Outcome::UpstreamFailed),
    }
}

async fn run_udp(shared: Arc<Shared>, server: Arc<Server>, socket: tokio::net::UdpSocket) {
    let socket = Arc::new(socket);
    let mut waiting = JoinSet::new();
    let mut buffer = vec![0; QUESTION_MAX + 1];
    loop {
        while waiting.try_join_next().is_some() {}
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match server.react(&shared, &buffer[..length], Transport::Udp) {
            Reaction::Ignore => {}
            Reaction::Reply(bytes, outcome) => send(&server, &socket, &bytes, from, outcome),
            Reaction::Forward(question) => {
                let Some(room) = server.room(&shared) else {
                    let bytes = question.code(ResponseCode::ServFail).unwrap_or_default();
                    send(&server, &socket, &bytes, from, Outcome::Busy);
                    continue;
                };
                let (shared, server, socket) = (shared.clone(), server.clone(), socket.clone());
                waiting.spawn(async move {
                    let (bytes, outcome) = forward(&shared, &question).await;
                    drop(room);
                    send(&server, &socket, &bytes.unwrap_or_default(), from, outcome);
                });
            }
        }
    }
}

/// Sends without waiting: a full socket buffer must not hold back the next question.
fn send(server: &Server, socket: &tokio::net::UdpSocket, bytes: &[u8], to: SocketAddr, outcome: Outcome) {
    server.counters.count(outcome);
    if bytes.is_empty() || socket.try_send_to(bytes, to).is_err() {
        server.counters.unsent(outcome);
    }
}

async fn run_tcp(shared: Arc<Shared>, server: Arc<Server>, listener: tokio::net::TcpListener) {
    let own = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = own.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Only now: a server without connections holds none of the common room.
        let Ok(common) = shared.connections.clone().try_acquire_owned() else { continue };
        let (shared, server) = (shared.clone(), server.clone());
        connections.spawn(async move {
            let _room = (permit, common);
            // An error is the client's end of the connection, or his silence.
            let _ = converse(&shared, &server, stream).await;
        });
    }
}

async fn converse(shared: &Shared, server: &Server, mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; QUESTION_MAX];
    loop {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            let Some(room) = buffer.get_mut(..length) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            stream.read_exact(room).await
        };
        let length = tokio::time::timeout(IDLE, read).await??;
        let (bytes, outcome) = match server.react(shared, &buffer[..length], Transport::Tcp) {
            Reaction::Ignore => return Ok(()),
            Reaction::Reply(bytes, outcome) => (Some(bytes), outcome),
            Reaction::Forward(question) => match server.room(shared) {
                Some(_room) => forward(shared, &question).await,
                None => (question.code(ResponseCode::ServFail), Outcome::Busy),
            },
        };
        let Some(bytes) = bytes else { return Ok(()) };
        server.counters.count(outcome);
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes(), bytes.as_slice()].concat();
        let sent = tokio::time::timeout(IDLE, stream.write_all(&framed)).await;
        if !matches!(sent, Ok(Ok(()))) {
            server.counters.unsent(outcome);
            return Ok(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is guarded can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
