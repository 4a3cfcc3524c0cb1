//! Asking the router in front of this host to pass on a port to it.
//!
//! A node behind a home router can then be reached by everybody, without any search for a path. A task
//! of its own asks the gateway of the IPv4 uplink, by PCP, else by NAT-PMP, else by UPnP; renews what it got at
//! half of its time; asks anew when the host moves to another network; and gives back what it has at
//! the end. What the router says is a claim like that of any peer: the outside address becomes one
//! more candidate, and nobody believes it before an answer came from there (protocol A10.4).

mod codec;
mod upnp;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sinew_control::api::{MappingState, PortMapping};
use sinew_platform::net::Uplink;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use codec::{Protocol, Reply, Wish};

/// What is asked for; routers give less if they like.
const LIFETIME: Duration = Duration::from_secs(3600);
/// No mapping is renewed more often, whatever the router says (RFC 6887 §11.2.1).
const RENEW_LEAST: Duration = Duration::from_secs(4);
/// Waits for an answer (RFC 6886 §3.1, cut short: a router on the same link is near).
const TRIES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];
/// Before a router that does not answer, or refuses, is asked again.
const AGAIN: Duration = Duration::from_secs(600);
/// How long giving a mapping back may hold up the end.
const FAREWELL: Duration = Duration::from_millis(300);
/// States waiting for the loop.
const QUEUE: usize = 4;

/// What the loop is told: the state for people, and the outside address if there is one to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) state: PortMapping,
    pub(crate) outside: Option<SocketAddr>,
}

/// The loop's side of the task.
pub(crate) struct PortMaps {
    /// `None` once it is over.
    uplink: Option<watch::Sender<Option<Uplink>>>,
    news: mpsc::Receiver<Mapped>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl PortMaps {
    /// Starts asking for UDP `port`, if one is wanted.
    pub(crate) fn start(port: Option<u16>, uplink: Option<Uplink>) -> Self {
        let (uplink, uplinks) = watch::channel(uplink);
        let (sender, news) = mpsc::channel(QUEUE);
        let task = port.map(|port| {
            let mut nonce = [0; 12];
            // Without randomness there is only less protection from others on our own network.
            let _ = getrandom::fill(&mut nonce);
            tokio::spawn(Client { port, nonce, uplinks, sender, service: None }.run())
        });
        Self { uplink: Some(uplink), news, task }
    }

    /// The host is in another network.
    pub(crate) fn set_uplink(&self, uplink: Option<Uplink>) {
        if let Some(sender) = &self.uplink {
            sender.send_if_modified(|known| std::mem::replace(known, uplink) != uplink);
        }
    }

    pub(crate) fn news(&mut self) -> &mut mpsc::Receiver<Mapped> {
        &mut self.news
    }

    /// Gives back what there is.
    pub(crate) async fn end(&mut self) {
        self.uplink = None;
        self.news.close();
        if let Some(task) = self.task.take() {
            // A router that does not answer forgets by itself.
            let _ = timeout(FAREWELL, task).await;
        }
    }
}

/// A port that a router passes on.
#[derive(Clone, Copy, Debug)]
struct Grant {
    protocol: Protocol,
    outside: (Ipv4Addr, u16),
    lifetime: Duration,
}

struct Client {
    port: u16,
    nonce: [u8; 12],
    uplinks: watch::Receiver<Option<Uplink>>,
    sender: mpsc::Sender<Mapped>,
    /// The router's, where it speaks UPnP.
    service: Option<upnp::text::Service>,
}

impl Client {
    async fn run(mut self) {
        loop {
            let uplink = *self.uplinks.borrow_and_update();
            let way = uplink.and_then(|uplink| match (uplink.gateway, uplink.source) {
                (Some(IpAddr::V4(gateway)), Some(IpAddr::V4(source))) => Some((gateway, source)),
                _ => None,
            });
            let ended = match way {
                Some((gateway, source)) => self.serve(gateway, source).await,
                None => {
                    self.tell(MappingState::NoRouter, None, None).await;
                    self.uplinks.changed().await.is_err()
                }
            };
            if ended {
                return;
            }
        }
    }

    /// Keeps a mapping at one router until the uplink changes; whether the loop is gone.
    async fn serve(&mut self, gateway: Ipv4Addr, source: Ipv4Addr) -> bool {
        let mut grant: Option<Grant> = None;
        loop {
            let asked = self.ask(gateway, source, grant.as_ref()).await;
            let pause = match asked {
                Ok(new) => {
                    let known = grant.replace(new).map(|grant| grant.outside);
                    if known != Some(new.outside) {
                        let (address, port) = new.outside;
                        info!(%gateway, outside = %SocketAddr::from((address, port)), by = new.protocol.as_str(), "the router passes on a port");
                    }
                    self.tell(MappingState::Mapped, Some(gateway), Some(&new)).await;
                    (new.lifetime / 2).max(RENEW_LEAST)
                }
                Err(state) => {
                    debug!(%gateway, ?state, "no port is passed on");
                    grant = None;
                    self.tell(state, Some(gateway), None).await;
                    AGAIN
                }
            };
            let until = Instant::now() + pause;
            match tokio::time::timeout_at(until, self.uplinks.changed()).await {
                Err(_) => {}
                Ok(changed) => {
                    if changed.is_err()
                        || self.uplinks.borrow().is_some_and(|up| up.gateway == Some(gateway.into()))
                    {
                        self.give_back(gateway, source, grant.as_ref()).await;
                    }
                    return changed.is_err();
                }
            }
        }
    }

    /// Asks by what was answered before, else by one after the other.
    async fn ask(
        &mut self,
        gateway: Ipv4Addr,
        source: Ipv4Addr,
        grant: Option<&Grant>,
    ) -> Result<Grant, MappingState> {
        let known = grant.map(|grant| grant.protocol);
        if known != Some(Protocol::Upnp) {
            match ask(gateway, &self.wish(source, grant, LIFETIME), known).await {
                Err(MappingState::Silent) if known.is_none() => {}
                result => return result,
            }
            self.service = upnp::find(gateway, source).await;
        }
        let service = self.service.as_ref().ok_or(MappingState::Silent)?;
        match self.upnp_wish(source, grant).ask(service).await {
            Ok(upnp::Granted { outside, lifetime }) => {
                Ok(Grant { protocol: Protocol::Upnp, outside, lifetime })
            }
            Err(upnp::text::Failure::Silent) => Err(MappingState::Silent),
            Err(_) => Err(MappingState::Refused),
        }
    }

    fn upnp_wish(&self, client: Ipv4Addr, grant: Option<&Grant>) -> upnp::Wish {
        let outside = grant.map_or(self.port, |grant| grant.outside.1);
        upnp::Wish { client, port: self.port, outside, lifetime: LIFETIME }
    }

    fn wish(&self, client: Ipv4Addr, grant: Option<&Grant>, lifetime: Duration) -> Wish {
        // The same number outside is what people expect; the router may have given it away.
        let outside = grant.map_or((Ipv4Addr::UNSPECIFIED, self.port), |grant| grant.outside);
        Wish { client, port: self.port, outside: Some(outside), lifetime, nonce: self.nonce }
    }

    async fn give_back(&self, gateway: Ipv4Addr, source: Ipv4Addr, grant: Option<&Grant>) {
        let Some(grant) = grant else { return };
        let wish = self.wish(source, Some(grant), Duration::ZERO);
        let request = match grant.protocol {
            Protocol::Pcp => codec::pcp_map(&wish),
            Protocol::NatPmp => codec::pmp_map(&wish),
            Protocol::Upnp => {
                let Some(service) = &self.service else { return };
                return self.upnp_wish(source, Some(grant)).give_back(service).await;
            }
        };
        let Ok(socket) = open(gateway, source).await else { return };
        let _ = exchange(&socket, &request, &wish, &TRIES[..1]).await;
    }

    async fn tell(&self, state: MappingState, gateway: Option<Ipv4Addr>, grant: Option<&Grant>) {
        let outside = grant.map(|grant| SocketAddr::from(grant.outside));
        let usable = outside.filter(|outside| codec::is_public(*outside));
        let state = match (state, usable) {
            (MappingState::Mapped, None) => MappingState::BehindAnother,
            (state, _) => state,
        };
        let state = PortMapping {
            state,
            protocol: grant.map(|grant| grant.protocol.as_str().to_owned()),
            gateway: gateway.map(|gateway| gateway.to_string()),
            outside: outside.map(|outside| outside.to_string()),
            lifetime_ms: grant.map(|grant| u64::try_from(grant.lifetime.as_millis()).unwrap_or(u64::MAX)),
        };
        // The loop is gone only at the end.
        let _ = self.sender.send(Mapped { state, outside: usable }).await;
    }
}

async fn open(gateway: Ipv4Addr, source: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((source, 0)).await?;
    // Only the router's answers are seen, and "nobody listens there" is an error of the next call.
    socket.connect((gateway, codec::PORT)).await?;
    Ok(socket)
}

/// Asks for a mapping, by the newer protocol first.
async fn ask(gateway: Ipv4Addr, wish: &Wish, known: Option<Protocol>) -> Result<Grant, MappingState> {
    let socket = open(gateway, wish.client).await.map_err(|_| MappingState::NoRouter)?;
    if known != Some(Protocol::NatPmp) {
        match exchange(&socket, &codec::pcp_map(wish), wish, &TRIES).await {
            Some(Reply::Mapped { address: Some(address), port, lifetime }) => {
                return Ok(Grant { protocol: Protocol::Pcp, outside: (address, port), lifetime });
            }
            Some(Reply::Refused(_)) => return Err(MappingState::Refused),
            Some(Reply::OtherVersion) => {}
            _ => return Err(MappingState::Silent),
        }
    }
    let address = match exchange(&socket, &codec::pmp_address(), wish, &TRIES).await {
        Some(Reply::Address(address)) => address,
        Some(Reply::Refused(_)) => return Err(MappingState::Refused),
        _ => return Err(MappingState::Silent),
    };
    match exchange(&socket, &codec::pmp_map(wish), wish, &TRIES).await {
        Some(Reply::Mapped { port, lifetime, .. }) => {
            Ok(Grant { protocol: Protocol::NatPmp, outside: (address, port), lifetime })
        }
        Some(Reply::Refused(_)) => Err(MappingState::Refused),
        _ => Err(MappingState::Silent),
    }
}

/// One question until it is answered; `None` if it is not.
async fn exchange(socket: &UdpSocket, request: &[u8], wish: &Wish, tries: &[Duration]) -> Option<Reply> {
    let mut answer = [0; codec::MAX_ANSWER];
    for patience in tries {
        socket.send(request).await.ok()?;
        let until = Instant::now() + *patience;
        loop {
            match tokio::time::timeout_at(until, socket.recv(&mut answer)).await {
                Err(_) => break,
                // Nobody listens there.
                Ok(Err(_)) => return None,
                Ok(Ok(length)) => {
                    if let Some(reply) = codec::parse(&answer[..length], wish) {
                        return Some(reply);
                    }
                }
            }
        }
    }
    None
}
