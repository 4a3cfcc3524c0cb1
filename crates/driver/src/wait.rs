//! What the loop waits for, packets first.
//!
//! A packet that wakes an idle daemon finds cold caches: what is looked at before it is handled
//! counts in its round trip. So the sources of packets are asked first, in turns, and the rest
//! (commands, signals, the resolver, the clock) only when they have nothing, or every so often
//! when they always have.
//!
//! The runtime asks the kernel what is ready only while the loop waits or gives way. Under load it does not wait, and a
//! source that always has something would hide all others: so it gives way every few turns.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use sinew_carrier::connections::{ConnectionEvent, Connections};
use sinew_discovery::Found;
use sinew_types::InterfaceId;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::command::Command;
use crate::dialling::Resolved;
use crate::interfaces::Interfaces;
use crate::network::News;
use crate::portmap::Mapped;
use crate::signals::Signals;
use crate::sockets::Sockets;
use crate::tenants::Finished;

/// Turns of packets in a row before everything else is asked first.
const PATIENCE: u32 = 64;
/// Turns of packets in a row before the loop gives way. One turn alone costs no such look at the kernel.
const MAX_BLIND: u32 = 2;

/// The sources of packets.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Udp,
    Tun,
    Workload,
    Stream,
}

/// In the order of their turns.
const KINDS: [Kind; 4] = [Kind::Udp, Kind::Tun, Kind::Workload, Kind::Stream];

/// Why the loop woke.
pub(crate) enum Wake {
    Udp(usize),
    Connection(ConnectionEvent),
    Tun(InterfaceId),
    /// Something is due.
    Timer,
    /// The alarm rang; whether anything is due is to be seen.
    Alarm,
    Command(Command),
    /// Something that was begun for a workload has come to its end.
    Finished(Finished),
    Resolved(Resolved),
    /// Something happened to the host's network.
    News(News),
    /// The router in front of us passes on a port, or does not any more.
    Mapped(Mapped),
    /// Something was found out about other nodes.
    Found(Found),
    Reload,
    Stop(&'static str),
}

/// Whose turn it is.
#[derive(Debug, Default)]
pub(crate) struct Rota {
    /// Which of [`KINDS`] is asked first: the one after the last that had something.
    first: usize,
    /// Turns of packets since everything else was asked first.
    turns: u32,
    /// Turns of packets since the kernel was asked what is ready.
    blind: u32,
    /// Which socket is asked first: the one after the last that had something.
    socket: usize,
}

/// Wakes the loop at a time, not later. Setting it later costs nothing: it rings once at the old
/// time, and the loop sets it again; packets that put a deadline off would otherwise pay for it.
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())) }
    }

    fn set(&mut self, due: Duration) {
        let at = Instant::now() + due;
        if self.sleep.is_elapsed() || at < self.sleep.deadline() {
            self.sleep.as_mut().reset(at);
        }
    }
}

/// Everything that can wake the loop.
pub(crate) struct Sources<'a> {
    pub(crate) udp: &'a Sockets,
    /// `None` while a full stream makes the TUNs wait.
    pub(crate) interfaces: Option<&'a Interfaces>,
    pub(crate) connections: &'a mut Connections,
    pub(crate) commands: &'a mut Receiver<Command>,
    pub(crate) finished: &'a mut UnboundedReceiver<Finished>,
    pub(crate) resolved: &'a mut Receiver<Resolved>,
    pub(crate) news: &'a mut Receiver<News>,
    pub(crate) mapped: &'a mut Receiver<Mapped>,
    pub(crate) found: &'a mut Receiver<Found>,
    pub(crate) alarm: &'a mut Alarm,
}

impl Sources<'_> {
    /// The first that has something, at the latest after `due`.
    pub(crate) async fn next(
        mut self,
        rota: &mut Rota,
        signals: &mut Signals,
        due: Duration,
    ) -> io::Result<Wake> {
        if rota.blind >= MAX_BLIND {
            rota.blind = 0;
            tokio::task::yield_now().await;
        }
        self.alarm.set(due);
        let patient = rota.turns < PATIENCE;
        let interfaces = self.interfaces;
        // A device that is gone reports an error and is never readable.
        let mut gone = pin!(async {
            match interfaces {
                Some(interfaces) => interfaces.own_gone().await,
                None => std::future::pending().await,
            }
        });
        let mut signal = pin!(signals.next());
        std::future::poll_fn(|cx| {
            if patient && let Poll::Ready(wake) = self.poll_packets(rota, cx) {
                rota.turns += 1;
                rota.blind += 1;
                return Poll::Ready(Ok(wake));
            }
            if let Poll::Ready(wake) = self.poll_rest(cx) {
                return Poll::Ready(Ok(wake));
            }
            if let Poll::Ready(name) = signal.as_mut().poll(cx) {
                return Poll::Ready(Ok(name.map_or(Wake::Reload, Wake::Stop)));
            }
            rota.turns = 0;
            if !patient && let Poll::Ready(wake) = self.poll_packets(rota, cx) {
                return Poll::Ready(Ok(wake));
            }
            rota.blind = 0;
            gone.as_mut().poll(cx).map_ok(|()| Wake::Tun(InterfaceId::NODE))
        })
        .await
    }

    fn poll_packets(&mut self, rota: &mut Rota, cx: &mut Context<'_>) -> Poll<Wake> {
        let first = rota.first;
        for at in (0..KINDS.len()).map(|turn| (first + turn) % KINDS.len()) {
            if let Poll::Ready(wake) = self.poll_kind(KINDS[at], rota, cx) {
                rota.first = (at + 1) % KINDS.len();
                return Poll::Ready(wake);
            }
        }
        Poll::Pending
    }

    fn poll_kind(&mut self, kind: Kind, rota: &mut Rota, cx: &mut Context<'_>) -> Poll<Wake> {
        match kind {
            Kind::Udp => self.udp.poll_readable(rota.socket, cx).map(|at| {
                rota.socket = at + 1;
                Wake::Udp(at)
            }),
            Kind::Tun => self.poll_interfaces(|interfaces| interfaces.poll_own(cx)),
            Kind::Workload => self.poll_interfaces(|interfaces| interfaces.poll_workloads(cx)),
            Kind::Stream => self.connections.poll_next(cx).map(Wake::Connection),
        }
    }

    fn poll_interfaces(&self, poll: impl FnOnce(&Interfaces) -> Poll<InterfaceId>) -> Poll<Wake> {
        self.interfaces.map_or(Poll::Pending, |interfaces| poll(interfaces).map(Wake::Tun))
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Poll::Ready(Some(command)) = self.commands.poll_recv(cx) {
            return Poll::Ready(Wake::Command(command));
        }
        if let Poll::Ready(Some(finished)) = self.finished.poll_recv(cx) {
            return Poll::Ready(Wake::Finished(finished));
        }
        if let Poll::Ready(Some(resolved)) = self.resolved.poll_recv(cx) {
            return Poll::Ready(Wake::Resolved(resolved));
        }
        if let Poll::Ready(Some(news)) = self.news.poll_recv(cx) {
            return Poll::Ready(Wake::News(news));
        }
        if let Poll::Ready(Some(mapped)) = self.mapped.poll_recv(cx) {
            return Poll::Ready(Wake::Mapped(mapped));
        }
        if let Poll::Ready(Some(found)) = self.found.poll_recv(cx) {
            return Poll::Ready(Wake::Found(found));
        }
        self.alarm.sleep.as_mut().poll(cx).map(|()| Wake::Alarm)
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use sinew_carrier::connections::ConnectionLimits;
    use sinew_carrier::udp::UdpCarrier;
    use sinew_carrier::{Datagrams as _, RecvBuffer};
    use tokio::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_source_that_always_has_something_hides_no_other_for_long() {
        let bind = |local| UdpCarrier::bind("127.0.0.1:0".parse().unwrap(), local).unwrap();
        let udp = Sockets::new(vec![bind(0), bind(1)]);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let send = |at: usize| sender.send_to(b"datagram", udp.bound()[at].local_addr()).unwrap();
        for _ in 0..100 {
            send(0);
        }
        let (mut rota, mut signals, mut alarm) = (Rota::default(), Signals::new().unwrap(), Alarm::new());
        let mut connections = Connections::new(ConnectionLimits::default());
        let mut buffer = RecvBuffer::new(1);
        let mut turns = 0;
        loop {
            let sources = Sources {
                udp: &udp,
                interfaces: None,
                connections: &mut connections,
                commands: &mut mpsc::channel(1).1,
                finished: &mut mpsc::unbounded_channel().1,
                resolved: &mut mpsc::channel(1).1,
                news: &mut mpsc::channel(1).1,
                mapped: &mut mpsc::channel(1).1,
                found: &mut mpsc::channel(1).1,
                alarm: &mut alarm,
            };
            match sources.next(&mut rota, &mut signals, Duration::from_secs(10)).await.unwrap() {
                Wake::Udp(0) => {
                    turns += u32::from(udp.bound()[0].try_recv(&mut buffer).is_ok());
                    if turns == 1 {
                        send(1);
                    }
                }
                Wake::Udp(1) => break,
                // What was set at the start rings once.
                Wake::Alarm => {}
                _ => panic!("nothing else was to come"),
            }
        }
        assert!(turns <= 3, "{turns} turns of the one before the other was seen");
    }
}
