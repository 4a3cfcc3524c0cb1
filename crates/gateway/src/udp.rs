//! UDP ports: one flow for each client address, each with datagrams of its own to a backend.
//!
//! A source address of UDP proves nothing, so until a client has answered an answer (sent something
//! after it was sent something) it gets at most three times the bytes it has sent: less than forged
//! requests would be worth. Flows are bounded in number, for the listener and for each client; each
//! queues a few datagrams and ends when nothing moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::backend::{Backend, Busy};
use crate::config::Listener;
use crate::dial::{Datagrams, Failure};
use crate::event::{Refused, StreamEvent, unix_millis};
use crate::limit::{Connections, Place};
use crate::net::Client;
use crate::proxy;
use crate::relay::Moved;
use crate::state::{Service, Shared};

/// Datagrams of a client that wait for its backend.
const QUEUE: usize = 64;

/// What an unproven client gets for each byte that it sends.
const AMPLIFICATION: u64 = 3;

/// The largest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Serves a UDP listener until its task is ended.
pub(crate) async fn run(shared: Arc<Shared>, listener: Arc<ArcSwap<Listener>>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let clients = Arc::new(Connections::default());
    let (done, mut ended) = mpsc::channel::<SocketAddr>(1024);
    let mut flows: FxHashMap<SocketAddr, mpsc::Sender<Vec<u8>>> = FxHashMap::default();
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        tokio::select! {
            Some(client) = ended.recv() => {
                // A new flow of the same client may have begun meanwhile.
                if flows.get(&client).is_some_and(mpsc::Sender::is_closed) {
                    flows.remove(&client);
                }
            }
            received = socket.recv_from(&mut buffer) => {
                // An error is an ICMP message about a datagram before: none of ours to act on.
                let Ok((length, client)) = received else { continue };
                let datagram = buffer[..length].to_vec();
                let waiting = match flows.get(&client).filter(|flow| !flow.is_closed()) {
                    Some(flow) => flow.try_send(datagram).map_err(|_| Refused::DatagramLost),
                    None => open(&shared, &listener.load(), &socket, &clients, client, flows.len(), &done)
                        .and_then(|flow| {
                            let sent = flow.try_send(datagram).map_err(|_| Refused::DatagramLost);
                            flows.insert(client, flow);
                            sent
                        }),
                };
                if let Err(reason) = waiting {
                    shared.counters.refuse(reason);
                }
            }
        }
    }
}

/// A flow for a client that has none.
fn open(
    shared: &Arc<Shared>,
    listener: &Listener,
    socket: &Arc<UdpSocket>,
    clients: &Arc<Connections>,
    client: SocketAddr,
    flows: usize,
    done: &mpsc::Sender<SocketAddr>,
) -> Result<mpsc::Sender<Vec<u8>>, Refused> {
    let snapshot = shared.snapshot.load_full();
    let limits = &snapshot.config.limits;
    if flows >= limits.udp_flows as usize {
        return Err(Refused::FlowsFull);
    }
    let name = listener.service.as_deref().unwrap_or_default();
    let service = snapshot.services.get(name).cloned().ok_or(Refused::NoBackend)?;
    service.gate.admits(client.ip()).map_err(|_| Refused::Denied)?;
    service.gate.count(client.ip()).map_err(|_| Refused::Rate)?;
    let place =
        clients.take(Client::of(client.ip()), limits.udp_flows_per_client).ok_or(Refused::FlowsFull)?;
    let backend = service.picker.pick(client.ip(), None, &[], Instant::now()).ok_or(Refused::NoBackend)?;
    let (sender, receiver) = mpsc::channel(QUEUE);
    let flow = Flow {
        shared: shared.clone(),
        service,
        busy: Busy::new(&backend),
        socket: socket.clone(),
        client,
        idle: snapshot.config.timeouts.udp,
        connect: snapshot.config.timeouts.connect,
        _place: place,
    };
    let done = done.clone();
    tokio::spawn(async move {
        flow.run(receiver).await;
        let _ = done.send(client).await;
    });
    Ok(sender)
}

struct Flow {
    shared: Arc<Shared>,
    service: Arc<Service>,
    busy: Busy,
    socket: Arc<UdpSocket>,
    client: SocketAddr,
    idle: std::time::Duration,
    connect: std::time::Duration,
    _place: Place,
}

/// What a client has shown of itself.
#[derive(Debug, Default)]
struct Proof {
    received: u64,
    sent: u64,
    proven: bool,
}

impl Proof {
    fn receive(&mut self, length: usize) {
        self.received += length as u64;
        self.proven |= self.sent > 0;
    }

    /// Whether an answer of this length may go out.
    fn send(&mut self, length: usize) -> bool {
        let allowed = self.proven || self.sent + length as u64 <= self.received * AMPLIFICATION;
        if allowed {
            self.sent += length as u64;
        }
        allowed
    }
}

impl Flow {
    async fn run(self, mut from_client: mpsc::Receiver<Vec<u8>>) {
        let (start, time) = (Instant::now(), unix_millis());
        let tally = &self.service.tally;
        tally.streams.fetch_add(1, Ordering::Relaxed);
        tally.active.fetch_add(1, Ordering::Relaxed);
        let moved = tally.moved();
        let backend: &Backend = &self.busy.0;
        let dialling = self.shared.dial.datagrams(&backend.target);
        let end = match tokio::time::timeout(self.connect, dialling).await {
            Ok(Ok(far)) => self.relay(&*far, &mut from_client, &moved).await,
            failed => {
                let full = matches!(failed, Ok(Err(ref error)) if Failure::of(error) == Failure::Full);
                if !full {
                    backend.failed(Instant::now());
                }
                self.shared.counters.refuse(Refused::NoBackend);
                "unreachable"
            }
        };
        tally.active.fetch_sub(1, Ordering::Relaxed);
        self.shared.observer.stream(&StreamEvent {
            time,
            client: self.client,
            service: self.service.name.clone(),
            host: None,
            backend: Some(backend.target.to_string()),
            rx_bytes: moved.up.get(),
            tx_bytes: moved.down.get(),
            duration_ms: start.elapsed().as_secs_f64() * 1000.0,
            end,
        });
    }

    async fn relay(
        &self,
        far: &dyn Datagrams,
        from_client: &mut mpsc::Receiver<Vec<u8>>,
        moved: &Moved,
    ) -> &'static str {
        let mut proof = Proof::default();
        let mut buffer = vec![0; DATAGRAM_MAX];
        let mut front = self.service.config.proxy_header.map(|_| self.header());
        loop {
            tokio::select! {
                datagram = from_client.recv() => {
                    let Some(datagram) = datagram else { return "closed" };
                    proof.receive(datagram.len());
                    moved.up.add(datagram.len());
                    let datagram = match front.take() {
                        Some(header) => [header, datagram].concat(),
                        None => datagram,
                    };
                    if far.send(&datagram).await.is_err() {
                        self.shared.counters.refuse(Refused::DatagramLost);
                    }
                }
                received = far.receive(&mut buffer) => {
                    let Ok(length) = received else { return "broken" };
                    if !proof.send(length) {
                        self.shared.counters.refuse(Refused::Amplification);
                        continue;
                    }
                    moved.down.add(length);
                    if self.socket.send_to(&buffer[..length], self.client).await.is_err() {
                        self.shared.counters.refuse(Refused::DatagramLost);
                    }
                }
                () = tokio::time::sleep(self.idle) => return "idle",
            }
        }
    }

    fn header(&self) -> Vec<u8> {
        let local = self.socket.local_addr().unwrap_or(self.client);
        proxy::write_datagram(self.client, local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unproven_client_gets_three_times_what_it_sent() {
        let mut proof = Proof::default();
        proof.receive(100);
        assert!(proof.send(200) && proof.send(100));
        assert!(!proof.send(1));
        proof.receive(1);
        assert!(proof.send(1_000_000), "it has answered an answer");
    }

    #[test]
    fn many_datagrams_without_an_answer_prove_nothing() {
        let mut proof = Proof::default();
        (0..10).for_each(|_| proof.receive(10));
        assert!(!proof.send(301) && proof.send(300) && !proof.send(1));
    }
}
