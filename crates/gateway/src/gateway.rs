//! The running front: threads, listeners, checks, and what can be asked of it.
//!
//! Each thread runs a runtime of its own and serves the connections that it is given to their end,
//! with connections to backends that no other thread uses: a request crosses no thread. Connections
//! are dealt out in turn.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use serde::Serialize;
use tokio::runtime::{self, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;

use crate::backend::Condition;
use crate::config::{Config, Listener, Protocol};
use crate::dial::{Dial, TcpDial};
use crate::event::{Counters, Observer, Refused};
use crate::front::{self, Arrival, Seat};
use crate::http::id::Ids;
use crate::state::{ConfigError, Shared, Snapshot, TlsSettings};
use crate::tls::Certificates;
use crate::{check, udp};

/// Pause after the kernel refused a connection (no descriptors left, say): it would refuse again.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens sockets for clients; a process without privileges has others do it.
pub trait Bind: Send + Sync + 'static {
    /// A listening TCP socket.
    ///
    /// # Errors
    /// The address cannot be had.
    fn tcp(&self, address: SocketAddr) -> io::Result<TcpListener>;

    /// A bound UDP socket.
    ///
    /// # Errors
    /// The address cannot be had.
    fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket>;
}

/// Opens sockets itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnBind;

impl Bind for OwnBind {
    fn tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(4096)?;
        Ok(socket.into())
    }

    fn udp(&self, address: SocketAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind(address)
    }
}

/// Takes connections that came by a shared port and are not for any service here.
pub trait Handover: Send + Sync + 'static {
    /// Takes the connection of `client` (not blocking) from which `first` has been read: the whole
    /// ClientHello at least. Returns whether there was room; if not, it is to be closed.
    fn take(&self, stream: std::net::TcpStream, client: SocketAddr, first: Bytes) -> bool;
}

/// What the front runs on.
#[allow(missing_debug_implementations)]
pub struct Options {
    /// Threads; 0 for one for each processor.
    pub threads: usize,
    /// Reaches backends.
    pub dial: Arc<dyn Dial>,
    /// Opens sockets.
    pub bind: Arc<dyn Bind>,
    /// Hears of requests.
    pub observer: Arc<dyn Observer>,
    /// Certificates, which may be exchanged at any time.
    pub certificates: Arc<Certificates>,
    /// With whom ports are shared.
    pub handover: Option<Arc<dyn Handover>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            threads: 0,
            dial: Arc::new(TcpDial),
            bind: Arc::new(OwnBind),
            observer: Arc::new(()),
            certificates: Certificates::new(),
            handover: None,
        }
    }
}

/// Why the front does not start, or not change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong; nothing has changed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An address cannot be had; nothing has changed.
    #[error("cannot listen at {address}: {error}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The system has no threads, descriptors or randomness left.
    #[error("cannot start: {0}")]
    System(String),
}

/// The public front. Dropping it ends everything at once; [`Gateway::shutdown`] lets it finish.
#[allow(missing_debug_implementations)]
pub struct Gateway {
    shared: Arc<Shared>,
    bind: Arc<dyn Bind>,
    threads: Vec<Thread>,
    /// One change at a time.
    running: Mutex<Running>,
    stop: watch::Sender<bool>,
}

struct Thread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    join: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Running {
    listeners: BTreeMap<(SocketAddr, bool), Listening>,
    checks: Vec<AbortHandle>,
}

struct Listening {
    config: Arc<ArcSwap<Listener>>,
    bound: SocketAddr,
    task: AbortHandle,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state of one backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendStatus {
    /// Its target.
    pub target: String,
    /// Whether it is used.
    pub condition: Condition,
    /// Requests and streams under way.
    pub active: u32,
}

/// The state of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
    /// Requests and streams under way.
    pub active: u64,
    /// Streams and UDP flows so far.
    pub streams: u64,
    /// Responses by status class, 1xx to 5xx.
    pub statuses: [u64; 5],
    /// The same by configured host.
    pub hosts: Vec<(String, [u64; 5])>,
    /// Bytes from clients, without headers; of streams as they go, of requests when they are done.
    pub rx_bytes: u64,
    /// Bytes to clients, without headers.
    pub tx_bytes: u64,
}

/// The state of the whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Connections accepted so far.
    pub connections: u64,
    /// What was turned away, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Services by name.
    pub services: Vec<ServiceStatus>,
}

impl Gateway {
    /// Starts threads and listeners.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(options: Options, config: Config) -> Result<Self, StartError> {
        let system = |error: &dyn std::fmt::Display| StartError::System(error.to_string());
        let count = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let (stop, stopping) = watch::channel(false);
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::default(),
            tls: TlsSettings::new(&options.certificates).map_err(|error| system(&error))?,
            certificates: options.certificates,
            dial: options.dial,
            observer: options.observer,
            handover: options.handover,
            clients: Arc::default(),
            seats: Arc::default(),
            handshakes: Arc::default(),
            counters: Counters::default(),
            stopping,
            ids: Ids::new().map_err(|error| system(&error))?,
            threads: count,
        });
        let threads: io::Result<Vec<_>> = (0..count).map(Thread::start).collect();
        let threads = threads.map_err(|error| system(&error))?;
        let gateway = Self { shared, bind: options.bind, threads, running: Mutex::default(), stop };
        gateway.apply(config)?;
        Ok(gateway)
    }

    /// Changes to another configuration, whole or not at all. Connections and requests that are under
    /// way go on; new requests see the new one, also on old connections.
    ///
    /// # Errors
    /// See [`StartError`]; everything goes on as before.
    pub fn apply(&self, config: Config) -> Result<(), StartError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.snapshot.load_full();
        let snapshot = Snapshot::build(config, &before, &self.shared.certificates, self.shared.threads)?;
        // What can fail comes first.
        let mut fresh = Vec::new();
        for listener in &snapshot.config.listeners {
            if !running.listeners.contains_key(&key(listener)) {
                fresh.push((listener.clone(), self.open(listener)?));
            }
        }
        let snapshot = Arc::new(snapshot);
        self.shared.certificates.set_default(snapshot.config.default_host.as_deref());
        self.shared.snapshot.store(snapshot.clone());
        running.listeners.retain(|key, listening| {
            let kept = snapshot.config.listeners.iter().find(|listener| self::key(listener) == *key);
            kept.inspect(|listener| listening.config.store(Arc::new((*listener).clone()))).is_some()
        });
        for (listener, socket) in fresh {
            running.listeners.insert(key(&listener), self.listen(listener, socket)?);
        }
        running.checks.drain(..).for_each(|check| check.abort());
        running.checks = self.check(&snapshot);
        Ok(())
    }

    fn open(&self, listener: &Listener) -> Result<Socket, StartError> {
        let socket = match listener.protocol {
            Protocol::Udp => self.bind.udp(listener.address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(socket))
            }),
            _ => self.bind.tcp(listener.address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(Socket::Tcp(socket))
            }),
        };
        socket.map_err(|error| StartError::Bind { address: listener.address, error })
    }

    fn listen(&self, listener: Listener, socket: Socket) -> Result<Listening, StartError> {
        let failed = |error: io::Error| StartError::System(error.to_string());
        let config = Arc::new(ArcSwap::from_pointee(listener));
        let first = &self.threads[0].handle;
        let entered = first.enter();
        let (bound, task) = match socket {
            Socket::Udp(socket) => {
                let bound = socket.local_addr().map_err(failed)?;
                let socket = tokio::net::UdpSocket::from_std(socket).map_err(failed)?;
                (bound, first.spawn(udp::run(self.shared.clone(), config.clone(), socket)))
            }
            Socket::Tcp(socket) => {
                let bound = socket.local_addr().map_err(failed)?;
                let socket = tokio::net::TcpListener::from_std(socket).map_err(failed)?;
                let handles = self.threads.iter().map(|thread| thread.handle.clone()).collect();
                (bound, first.spawn(accept(self.shared.clone(), config.clone(), socket, handles)))
            }
        };
        drop(entered);
        Ok(Listening { config, bound, task: task.abort_handle() })
    }

    fn check(&self, snapshot: &Snapshot) -> Vec<AbortHandle> {
        let mut checks = Vec::new();
        for service in snapshot.services.values().filter(|service| service.config.check.is_some()) {
            for backend in service.picker.backends() {
                // Spread over the threads.
                let thread = &self.threads[checks.len() % self.threads.len()];
                let run = check::run(self.shared.clone(), service.clone(), backend.clone());
                checks.push(thread.handle.spawn(run).abort_handle());
            }
        }
        checks
    }

    /// The certificates in use.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.shared.certificates
    }

    /// Answers the HTTP-01 challenge `token` on plain HTTP, or no longer.
    pub fn set_challenge(&self, token: &str, answer: Option<&str>) {
        self.shared.certificates.set_answer(token, answer);
    }

    /// Where it listens: the configured address and the one it has got (another if the port was 0).
    pub fn addresses(&self) -> Vec<(Listener, SocketAddr)> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let each = running.listeners.values();
        each.map(|listening| (listening.config.load().as_ref().clone(), listening.bound)).collect()
    }

    /// Connections of clients that are open now.
    pub fn connections(&self) -> u64 {
        self.shared.clients.count()
    }

    /// Services, backends, counts.
    pub fn status(&self) -> Status {
        let snapshot = self.shared.snapshot.load();
        let mut services: Vec<_> = snapshot.services.values().map(|service| service.status()).collect();
        services.sort_by(|a, b| a.name.cmp(&b.name));
        let counters = &self.shared.counters;
        let word = |(reason, count): (Refused, u64)| (reason.word(), count);
        Status {
            connections: counters.connections.load(Ordering::Relaxed),
            refused: counters.refused().into_iter().map(word).collect(),
            services,
        }
    }

    /// Accepts nothing new, lets requests and streams finish for at most `grace`, then ends. Blocks.
    /// Returns whether all had finished.
    pub fn shutdown(self, grace: Duration) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).listeners.clear();
        let _ = self.stop.send(true);
        let end = Instant::now() + grace;
        let clients = &self.shared.clients;
        while !clients.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        clients.is_empty()
    }
}

enum Socket {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

/// What makes a listener the same one after a change.
fn key(listener: &Listener) -> (SocketAddr, bool) {
    (listener.address, listener.protocol == Protocol::Udp)
}

impl crate::state::Service {
    fn status(&self) -> ServiceStatus {
        let now = Instant::now();
        let backends = self.picker.backends().map(|backend| BackendStatus {
            target: backend.target.to_string(),
            condition: backend.condition(now),
            active: backend.active.load(Ordering::Relaxed),
        });
        ServiceStatus {
            name: self.name.to_string(),
            backends: backends.collect(),
            active: self.tally.active.load(Ordering::Relaxed),
            streams: self.tally.streams.load(Ordering::Relaxed),
            statuses: std::array::from_fn(|class| self.tally.statuses[class].load(Ordering::Relaxed)),
            hosts: self.tally.hosts(),
            rx_bytes: self.tally.rx_bytes.load(Ordering::Relaxed),
            tx_bytes: self.tally.tx_bytes.load(Ordering::Relaxed),
        }
    }
}

impl Thread {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let join = std::thread::Builder::new().name(format!("sinew-front-{number}")).spawn(move || {
            // An error means that the sender is gone, which is a stop as well.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop: Some(stop), join: Some(join) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(join) = self.join.take() {
            let _ = join.join();
        }
    }
}

/// Accepts connections and deals them out.
async fn accept(
    shared: Arc<Shared>,
    config: Arc<ArcSwap<Listener>>,
    socket: tokio::net::TcpListener,
    threads: Vec<Handle>,
) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let max = shared.snapshot.load().config.limits.connections;
        let taken = shared.seats.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(shared.seats.clone());
        if taken >= max {
            shared.counters.refuse(Refused::ListenerFull);
            continue;
        }
        // Another thread's runtime will watch it.
        let Ok(stream) = stream.into_std() else { continue };
        let thread = NEXT.fetch_add(1, Ordering::Relaxed) % threads.len();
        let listener = config.load().as_ref().clone();
        let arrival = Arrival { shared: shared.clone(), thread, listener, stream, seat };
        threads[thread].spawn(front::run(arrival));
    }
}
