//! Names that are not ours, handed on to the resolvers of the host.
//!
//! One socket and one random number per question, so that an answer can be forged only by
//! somebody who sees the question. Everything is bounded: how many questions wait (in all and for
//! each server of ours, so that one workload cannot use up another's) and how long each (two
//! seconds). A question that is on its way already is not asked again but shares the answer: fifty
//! workloads that start together cost one question, and a loop of resolvers ends where it began.
//!
//! The host's list is its resolv.conf, read again when the file has changed. Our own address in
//! it is left out: asking ourselves would only use up the bounds.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::message;
use crate::question::{Question, Transport};
use crate::zones::{BadName, label};

/// How long a question may take elsewhere, over all attempts.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// How often the host's file is looked at.
const RECHECK: Duration = Duration::from_secs(1);

/// Servers used of a resolv.conf, as in libc.
const SERVERS_MAX: usize = 3;

/// Longest resolv.conf that is read, bytes.
const FILE_MAX: u64 = 64 * 1024;

/// Whom to ask by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Servers {
    /// Nobody: what is not ours is refused.
    #[default]
    None,
    /// These.
    Fixed(Vec<SocketAddr>),
    /// Those of this resolv.conf.
    ResolvConf(PathBuf),
}

/// Whom to ask about one domain and all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    domain: Name,
    servers: Vec<SocketAddr>,
}

impl Rule {
    /// Questions about `domain` go to `servers`; to nobody if there are none.
    ///
    /// # Errors
    /// [`BadName`]: not a domain name.
    pub fn new(domain: &str, servers: Vec<SocketAddr>) -> Result<Self, BadName> {
        let labels = domain.trim_end_matches('.').split('.').map(label).collect::<Result<Vec<_>, _>>()?;
        let domain = Name::from_labels(labels.iter().map(String::as_bytes))
            .map_err(|_| BadName { text: domain.to_owned(), why: "not a domain name" })?;
        Ok(Self { domain, servers })
    }
}

/// Where the names of others are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upstream {
    /// Unless a rule says otherwise.
    pub servers: Servers,
    /// The longest domain that fits wins.
    pub rules: Vec<Rule>,
}

/// Why there is no answer from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Nobody to ask.
    Nobody,
    /// Nobody answered in time.
    Silent,
}

/// What came from elsewhere: the bytes, and from whom.
pub(crate) type Answered = Result<(Arc<[u8]>, SocketAddr), Failure>;

/// The bytes of a question under id 0, and whether it goes by TCP.
type Key = (Vec<u8>, bool);

/// Hands questions on.
#[derive(Debug)]
pub(crate) struct Forwarder {
    upstream: ArcSwap<Upstream>,
    file: Mutex<Option<FileState>>,
    /// Sockets of ours that the host can reach.
    own: Mutex<Vec<SocketAddr>>,
    /// The questions on their way, each with the place of its answer.
    asking: Mutex<HashMap<Key, watch::Receiver<Option<Answered>>>>,
    /// Counts the servers that failed: the next question begins with the next one.
    failed: AtomicUsize,
}

#[derive(Clone, Debug)]
struct FileState {
    path: PathBuf,
    checked: std::time::Instant,
    stamp: Option<Stamp>,
    servers: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Forwarder {
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self {
            upstream: ArcSwap::from_pointee(upstream),
            file: Mutex::new(None),
            own: Mutex::new(Vec::new()),
            asking: Mutex::new(HashMap::new()),
            failed: AtomicUsize::new(0),
        }
    }

    pub(crate) fn set(&self, upstream: Upstream) {
        self.upstream.store(upstream.into());
    }

    pub(crate) fn add_own(&self, address: SocketAddr) {
        lock(&self.own).push(address);
    }

    pub(crate) fn remove_own(&self, address: SocketAddr) {
        let mut own = lock(&self.own);
        if let Some(at) = own.iter().position(|other| *other == address) {
            own.swap_remove(at);
        }
    }

    /// Whom a question about `name` goes to, in order.
    pub(crate) fn servers_for(&self, name: &Name) -> Vec<SocketAddr> {
        let upstream = self.upstream.load();
        let rule = upstream
            .rules
            .iter()
            .filter(|rule| rule.domain.zone_of(name))
            .max_by_key(|rule| rule.domain.num_labels());
        let mut servers = match (rule, &upstream.servers) {
            (Some(rule), _) => rule.servers.clone(),
            (None, Servers::None) => Vec::new(),
            (None, Servers::Fixed(servers)) => servers.clone(),
            (None, Servers::ResolvConf(path)) => self.of_file(path),
        };
        let own = lock(&self.own);
        servers.retain(|server| !own.contains(server));
        servers
    }

    /// The default servers, for people.
    pub(crate) fn default_servers(&self) -> Vec<SocketAddr> {
        self.servers_for(&Name::root())
    }

    /// The rules, for people.
    pub(crate) fn rules(&self) -> Vec<(String, Vec<SocketAddr>)> {
        let upstream = self.upstream.load();
        let text =
            |rule: &Rule| (rule.domain.to_ascii().trim_end_matches('.').to_owned(), rule.servers.clone());
        upstream.rules.iter().map(text).collect()
    }

    fn of_file(&self, path: &Path) -> Vec<SocketAddr> {
        let mut file = lock(&self.file);
        let now = std::time::Instant::now();
        let known = file.as_ref().filter(|state| state.path == path);
        if let Some(state) = known
            && now.duration_since(state.checked) < RECHECK
        {
            return state.servers.clone();
        }
        let stamp = stamp(path);
        let servers = match known {
            Some(state) if state.stamp == stamp => state.servers.clone(),
            _ => read(path),
        };
        *file = Some(FileState { path: path.to_owned(), checked: now, stamp, servers: servers.clone() });
        servers
    }

    /// The bytes of the answer and who gave it. Whoever asks what is on its way already gets
    /// that answer, too.
    pub(crate) async fn ask(&self, question: &Question) -> Answered {
        let servers = self.servers_for(question.query.name());
        if servers.is_empty() {
            return Err(Failure::Nobody);
        }
        let key = key(question).ok_or(Failure::Nobody)?;
        let end = Instant::now() + DEADLINE;
        loop {
            let mut shared = match self.join(&key) {
                Role::Leader(lead) => {
                    let answered = self.ask_each(question, &servers, end).await;
                    lead.result.send_replace(Some(answered.clone()));
                    return answered;
                }
                Role::Follower(shared) => shared,
            };
            match timeout_at(end, shared.wait_for(Option::is_some)).await {
                Ok(Ok(answered)) => return answered.clone().unwrap_or(Err(Failure::Silent)),
                // Whoever led was stopped with his server: ask ourselves.
                Ok(Err(_)) => {}
                Err(_) => return Err(Failure::Silent),
            }
        }
    }

    async fn ask_each(&self, question: &Question, servers: &[SocketAddr], end: Instant) -> Answered {
        // A single server is asked twice: the first datagram may have been lost.
        let attempts = u32::try_from(servers.len().max(2)).unwrap_or(2);
        let mut second_best = None;
        for attempt in 0..attempts {
            let at = self.failed.load(Ordering::Relaxed) % servers.len();
            let server = servers[at];
            let left = end.saturating_duration_since(Instant::now());
            let slice = Instant::now() + left / (attempts - attempt);
            let result = timeout_at(slice, exchange(question, server)).await;
            if let Ok(Ok((bytes, code))) = result {
                let answered = (bytes.into(), server);
                if servers.len() == 1 || !is_failure(code) {
                    return Ok(answered);
                }
                second_best = Some(answered);
            }
            // Unless others that failed with us have moved on already.
            let now = self.failed.load(Ordering::Relaxed);
            if now % servers.len() == at {
                self.failed.store(now.wrapping_add(1), Ordering::Relaxed);
            }
        }
        second_best.ok_or(Failure::Silent)
    }

    fn join(&self, key: &Key) -> Role<'_> {
        let mut asking = lock(&self.asking);
        if let Some(shared) = asking.get(key) {
            return Role::Follower(shared.clone());
        }
        let (result, shared) = watch::channel(None);
        asking.insert(key.clone(), shared);
        Role::Leader(Lead { forwarder: self, key: key.clone(), result })
    }
}

/// Whether another server may know better.
const fn is_failure(code: ResponseCode) -> bool {
    matches!(code, ResponseCode::ServFail | ResponseCode::Refused | ResponseCode::NotImp)
}

/// All that makes one question different from another, elsewhere.
fn key(question: &Question) -> Option<Key> {
    let mut plain = question.clone();
    plain.query.set_name(question.query.name().to_lowercase());
    Some((message::outgoing(&plain, 0)?, question.transport == Transport::Tcp))
}

enum Role<'a> {
    Leader(Lead<'a>),
    Follower(watch::Receiver<Option<Answered>>),
}

/// A question on its way, known as such until this is dropped.
struct Lead<'a> {
    forwarder: &'a Forwarder,
    key: Key,
    result: watch::Sender<Option<Answered>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        lock(&self.forwarder.asking).remove(&self.key);
    }
}

async fn exchange(question: &Question, server: SocketAddr) -> std::io::Result<(Vec<u8>, ResponseCode)> {
    let mut random = [0; 2];
    getrandom::fill(&mut random).map_err(std::io::Error::other)?;
    let id = u16::from_ne_bytes(random);
    let bytes = message::outgoing(question, id)
        .ok_or_else(|| std::io::Error::other("the question cannot be written"))?;
    match question.transport {
        Transport::Udp => by_udp(question, id, &bytes, server).await,
        Transport::Tcp => by_tcp(question, id, &bytes, server).await,
    }
}

async fn by_udp(
    question: &Question,
    id: u16,
    bytes: &[u8],
    server: SocketAddr,
) -> std::io::Result<(Vec<u8>, ResponseCode)> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    // Connected: the kernel lets in nothing from anybody else, and tells us of refusals.
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not fit the question is somebody's guess: the right one may still come.
        if let Some(code) = message::answers(question, id, &buffer[..length]) {
            buffer.truncate(length);
            return Ok((buffer, code));
        }
    }
}

async fn by_tcp(
    question: &Question,
    id: u16,
    bytes: &[u8],
    server: SocketAddr,
) -> std::io::Result<(Vec<u8>, ResponseCode)> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let framed = [length.to_be_bytes().as_slice(), bytes].concat();
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut buffer = vec![0; length.into()];
    stream.read_exact(&mut buffer).await?;
    let code = message::answers(question, id, &buffer)
        .ok_or_else(|| std::io::Error::other("an answer to something else"))?;
    Ok((buffer, code))
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some(Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    })
}

fn read(path: &Path) -> Vec<SocketAddr> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let result = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
    match result {
        Ok(_) => name_servers(&String::from_utf8_lossy(&text)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read the host's name servers");
            Vec::new()
        }
    }
}

/// The servers of a resolv.conf.
pub(crate) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let values = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    values.filter_map(server).take(SERVERS_MAX).collect()
}

/// An address, also with a zone: `fe80::1%eth0`.
fn server(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = 53;
    if let Some((address, zone)) = text.split_once('%') {
        let address: Ipv6Addr = address.parse().ok()?;
        let index = zone.parse().ok().or_else(|| nix::net::if_::if_nametoindex(zone).ok())?;
        return Some(SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, index)));
    }
    Some(SocketAddr::new(text.parse().ok()?, PORT))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that is guarded can be left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
