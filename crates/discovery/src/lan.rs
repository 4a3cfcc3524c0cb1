//! Nodes on the networks that this host is on, found by multicast DNS.
//!
//! ```text
//!   start, new interface ── question + announcement ─▶ everybody
//!   everybody ── an unknown record ─▶ we announce ours, so that the newcomer knows us at once
//!   everybody ── a question ────────▶ the same
//!   every minute ─────────────────── announcement
//! ```
//! One socket for each interface and family, bound to the group's own address: nothing that was sent
//! to this host alone, from wherever, comes in by it. So what is heard was said on the link.

mod interfaces;
mod message;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sinew_directory::Source;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info};

use crate::Found;
use interfaces::{Interface, is_wanted};
use message::{Heard, MESSAGE_MAX};

const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// How often interfaces are looked at, and how often we announce ourselves unasked.
const LOOK: Duration = Duration::from_secs(5);
const ANNOUNCE: Duration = Duration::from_secs(60);
/// Between two announcements on one interface, whoever asks.
const SPACING: Duration = Duration::from_millis(250);
/// Messages that are looked at within a second, on all interfaces.
const PER_SECOND: u32 = 64;
/// Records that were heard lately: what comes again is not handed on, but for a sign of life.
const SEEN_MAX: usize = 256;
const SEEN_FOR: Duration = Duration::from_secs(30);

/// What is to be announced where.
#[derive(Clone, Debug, Default)]
pub struct LanConfig {
    /// Names of interfaces, a star at the end for anything; none: all that look like networks.
    pub interfaces: Vec<String>,
}

/// What people may see of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LanStatus {
    /// Interfaces that are spoken on.
    pub interfaces: Vec<String>,
    /// Records heard, repetitions included.
    pub heard: u64,
    /// Messages that were too many.
    pub dropped: u64,
}

/// The announcer; it ends with this handle.
#[derive(Debug)]
pub struct Lan {
    record: watch::Sender<Vec<u8>>,
    status: Arc<Mutex<LanStatus>>,
}

impl Lan {
    /// Starts announcing, once there is a record; `found` takes what others say.
    pub fn start(config: LanConfig, found: mpsc::Sender<Found>) -> Self {
        let (record, watched) = watch::channel(Vec::new());
        let status = Arc::new(Mutex::new(LanStatus::default()));
        let (heard, inbox) = mpsc::channel(QUEUE);
        let task = Task {
            config,
            found,
            record: watched,
            status: Arc::clone(&status),
            sockets: BTreeMap::new(),
            seen: VecDeque::new(),
            window: (Instant::now(), 0),
            heard,
        };
        tokio::spawn(task.run(inbox));
        Self { record, status }
    }

    /// What is announced from now on.
    pub fn announce(&self, record: Vec<u8>) {
        self.record.send_replace(record);
    }

    /// How it goes.
    pub fn status(&self) -> LanStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Messages from sockets that wait for the task.
const QUEUE: usize = 32;

/// Interface index and whether IPv6.
type Key = (u32, bool);

struct Port {
    interface: Interface,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
    reader: tokio::task::JoinHandle<()>,
    spoke: Option<Instant>,
    /// Somebody asked too soon after that: he is answered when it is time.
    owes: bool,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Task {
    config: LanConfig,
    found: mpsc::Sender<Found>,
    record: watch::Receiver<Vec<u8>>,
    status: Arc<Mutex<LanStatus>>,
    sockets: BTreeMap<Key, Port>,
    seen: VecDeque<([u8; 32], Instant)>,
    /// Since when messages are counted, and how many there were.
    window: (Instant, u32),
    heard: mpsc::Sender<(Key, Vec<u8>)>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::Receiver<(Key, Vec<u8>)>) {
        let mut look = interval(LOOK);
        let mut announce = interval(ANNOUNCE);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let owed = self.owed();
            tokio::select! {
                () = sleep_until(owed.unwrap_or_else(Instant::now)), if owed.is_some() => self.pay(),
                _ = look.tick() => self.look(),
                _ = announce.tick() => self.announce_all(),
                changed = self.record.changed() => match changed {
                    // News of ourselves does not wait for its turn.
                    Ok(()) => {
                        self.sockets.values_mut().for_each(|port| port.spoke = None);
                        self.announce_all();
                    }
                    // The handle is gone.
                    Err(_) => return,
                },
                Some((key, bytes)) = inbox.recv() => self.on_message(key, &bytes),
            }
        }
    }

    /// Sockets for new interfaces, none for those that are gone.
    fn look(&mut self) {
        let patterns = &self.config.interfaces;
        let now: Vec<_> = interfaces::list(|name| is_wanted(name, patterns));
        let stays =
            |key: &Key, port: &Port| now.iter().any(|one| one.index == key.0 && *one == port.interface);
        self.sockets.retain(|key, port| stays(key, port));
        for interface in now {
            for ipv6 in [false, true] {
                let has = if ipv6 { interface.ipv6 } else { interface.ipv4.is_some() };
                if has && !self.sockets.contains_key(&(interface.index, ipv6)) {
                    self.open(&interface, ipv6);
                }
            }
        }
        let mut names: Vec<_> = self.sockets.values().map(|port| port.interface.name.clone()).collect();
        names.dedup();
        self.with_status(|status| status.interfaces = names);
    }

    fn with_status(&self, change: impl FnOnce(&mut LanStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn open(&mut self, interface: &Interface, ipv6: bool) {
        let key = (interface.index, ipv6);
        let (socket, to) = match bind(interface, ipv6) {
            Ok(bound) => bound,
            Err(error) => {
                debug!(interface = interface.name, ipv6, %error, "no announcements there");
                return;
            }
        };
        info!(interface = interface.name, ipv6, "looking for nodes on the local network");
        let socket = Arc::new(socket);
        let reader = tokio::spawn(read(key, Arc::clone(&socket), self.heard.clone()));
        let port = Port { interface: interface.clone(), socket, to, reader, spoke: None, owes: false };
        self.sockets.insert(key, port);
        if let Some(question) = message::question() {
            self.send(key, &question);
        }
        self.announce_on(key);
    }

    fn announce_all(&mut self) {
        let keys: Vec<_> = self.sockets.keys().copied().collect();
        keys.into_iter().for_each(|key| self.announce_on(key));
    }

    fn announce_on(&mut self, key: Key) {
        let record = self.record.borrow_and_update().clone();
        let now = Instant::now();
        let Some(port) = self.sockets.get_mut(&key) else { return };
        if port.spoke.is_some_and(|last| now.duration_since(last) < SPACING) {
            port.owes = true;
            return;
        }
        if record.is_empty() {
            port.owes = false;
            return;
        }
        (port.spoke, port.owes) = (Some(now), false);
        let label: String =
            Sha256::digest(&record).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        if let Some(bytes) = message::announcement(&label, &record) {
            self.send(key, &bytes);
        }
    }

    /// When the next announcement is due that somebody asked for.
    fn owed(&self) -> Option<Instant> {
        let owing = self.sockets.values().filter(|port| port.owes);
        owing.filter_map(|port| port.spoke).map(|last| last + SPACING).min()
    }

    fn pay(&mut self) {
        let owing: Vec<_> = self.sockets.iter().filter(|(_, port)| port.owes).map(|(key, _)| *key).collect();
        owing.into_iter().for_each(|key| self.announce_on(key));
    }

    fn send(&self, key: Key, bytes: &[u8]) {
        let Some(port) = self.sockets.get(&key) else { return };
        // A link that takes nothing now is spoken on again soon.
        if let Err(error) = port.socket.try_send_to(bytes, port.to) {
            debug!(interface = port.interface.name, %error, "announcement not sent");
        }
    }

    fn on_message(&mut self, key: Key, bytes: &[u8]) {
        let now = Instant::now();
        if now.duration_since(self.window.0) >= Duration::from_secs(1) {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        if self.window.1 > PER_SECOND {
            return self.with_status(|status| status.dropped += 1);
        }
        match message::read(bytes) {
            None => {}
            Some(Heard::Question) => self.announce_on(key),
            Some(Heard::Record(record)) => self.on_record(key, record, now),
        }
    }

    fn on_record(&mut self, key: Key, record: Vec<u8>, now: Instant) {
        if *self.record.borrow() == record {
            return;
        }
        self.with_status(|status| status.heard += 1);
        let hash: [u8; 32] = Sha256::digest(&record).into();
        self.seen.retain(|(_, at)| now.duration_since(*at) < SEEN_FOR);
        if self.seen.iter().any(|(seen, _)| *seen == hash) {
            return;
        }
        if self.seen.len() >= SEEN_MAX {
            self.seen.pop_front();
        }
        self.seen.push_back((hash, now));
        self.announce_on(key);
        // A full queue: it will be said again.
        let _ = self.found.try_send(Found { record, source: Source::Lan });
    }
}

async fn read(key: Key, socket: Arc<UdpSocket>, heard: mpsc::Sender<(Key, Vec<u8>)>) {
    let mut buffer = vec![0; MESSAGE_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((len, _)) => {
                let message = buffer.get(..len).unwrap_or_default().to_vec();
                if heard.send((key, message)).await.is_err() {
                    return;
                }
            }
            // The interface went down; the next look finds out.
            Err(error) => {
                debug!(%error, "announcements cannot be read");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// A socket of one interface and family, and where the group is.
fn bind(interface: &Interface, ipv6: bool) -> io::Result<(UdpSocket, SocketAddr)> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The host's own responder, and other nodes, have the port too.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    let group = if ipv6 {
        let group = SocketAddrV6::new(GROUP_V6, PORT, 0, interface.index);
        socket.set_only_v6(true)?;
        socket.bind(&SocketAddr::V6(group).into())?;
        socket.join_multicast_v6(&GROUP_V6, interface.index)?;
        socket.set_multicast_if_v6(interface.index)?;
        socket.set_multicast_all_v6(false)?;
        socket.set_multicast_hops_v6(255)?;
        socket.set_multicast_loop_v6(true)?;
        SocketAddr::V6(group)
    } else {
        let group = SocketAddr::V4(SocketAddrV4::new(GROUP_V4, PORT));
        socket.bind(&group.into())?;
        socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(interface.index))?;
        socket.set_multicast_if_v4(&interface.ipv4.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
        socket.set_multicast_all_v4(false)?;
        socket.set_multicast_ttl_v4(255)?;
        socket.set_multicast_loop_v4(true)?;
        group
    };
    Ok((UdpSocket::from_std(socket.into())?, group))
}
