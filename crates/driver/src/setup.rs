//! From a judged configuration to a running node, and back to the host as it was.
//!
//! Order matters: what can fail without leaving a trace comes first (sockets, control socket), the
//! TUN device and its address last. Everything made here is removed when its owner is dropped: the
//! kernel takes a TUN device and its routes away with its descriptor, also after `kill -9`.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use sinew_carrier::Datagrams as _;
use sinew_carrier::connections::{ConnectionLimits, Connections};
use sinew_carrier::tls::Certificate;
use sinew_carrier::udp::UdpCarrier;
use sinew_control::api::{Key, attach_socket};
use sinew_control::config::{self, ConfigFile, Inbound, Mtu, Switch};
use sinew_control::secrets::Secret;
use sinew_helper::{Connection, Helper};
use sinew_node::{Accept, Config, InboundPolicy, Node, Offloads, Ports, Rule, Service};
use sinew_platform::net::Net;
use sinew_platform::privilege::{self, Capability};
use sinew_platform::{clock, socket};
use sinew_tun::{Tun as _, TunConfig, TunDevice};
use sinew_types::{CarrierKind, Identity, MeshAddr, NodeId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::attach;
use crate::confine::confine;
use crate::dialling::{Dialling, own_endpoints};
use crate::error::RunError;
use crate::finding::{self, Finders};
use crate::gateway::{self, Authority, Sockets};
use crate::host_resolver::{self, HostAsks, Wanted};
use crate::ingress::{self, Ingress};
use crate::interfaces::Interfaces;
use crate::metrics;
use crate::names::Names;
use crate::network::{self, Network, Underlay};
use crate::offload::InUse;
use crate::operate::{Operations, limits, peer_config};
use crate::persist::{Kept, Persist};
use crate::publications::Publications;
use crate::shell::Shell;
use crate::signals::Signals;
use crate::size;
use crate::tenants::{Surroundings, Tenants};
use crate::{api, command::Command};

/// Streams of gateways at most, whatever the system allows.
const STREAMS_MAX: usize = 16_384;
/// Connections of a gateway's clients at most, whatever the system allows.
const CLIENTS_MAX: u32 = 20_000;
/// Descriptors for everything else.
const KEPT_DESCRIPTORS: usize = 1024;
/// Where names are asked for.
const DNS_PORT: u16 = 53;
/// Routers kept in the routing table (ROUTING §4.6).
const MAX_ROUTES: usize = 4096;
/// Device MTU that fits UDP over IPv6, or over IPv4 alone, on Ethernet (protocol A4).
const MTU_WITH_IPV6: u16 = 1416;
const MTU_IPV4_ONLY: u16 = 1436;
/// Control socket: root and its group, nobody else.
const SOCKET_MODE: u32 = 0o660;
/// Members of this group may operate the node, where the host has it.
const OPERATORS: &str = "sinew";

/// Everything a node starts with, judged and read.
pub struct Start {
    /// The configuration and its file.
    pub file: ConfigFile,
    /// The node's key.
    pub identity: Identity,
    /// The mesh secret; `None` = open mesh.
    pub secret: Option<Secret>,
    /// The process that keeps the privileges this one gives up once it is set up.
    pub helper: Connection,
}

/// Runs a node until a signal ends it. `ready` is called once everything stands.
///
/// # Errors
/// [`RunError`] when the host cannot be set up; nothing is left behind.
pub fn run(start: Start, ready: impl FnOnce()) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_async(start, ready))
}

async fn run_async(start: Start, ready: impl FnOnce()) -> Result<(), RunError> {
    let Start { file, identity, secret, helper } = start;
    let config = &file.config;
    if config.tun.enabled {
        privilege::check(&[Capability::NetAdmin])?;
    }
    let helper = Arc::new(Helper::new(helper)?);
    let mut signals = Signals::new()?;
    let udp = bind_udp(&config.listen.udp)?;
    let mut offload = InUse::of_sockets(&config.offload, &udp).await;
    let (connections, bound, shared) = bind_connections(config, &udp)?;
    let group = socket::group_id(OPERATORS).map(|_| OPERATORS);
    let (control, guard) = socket::unix_listener(&config.control.socket, SOCKET_MODE, group)?;
    let (door, door_guard) =
        socket::unix_listener(&attach_socket(&config.control.socket), SOCKET_MODE, group)?;
    let mapped_port = network::mapped_port(&bound).filter(|_| config.reach.port_mapping);
    let own = identity.node_id();
    let address = own.address();
    let mut tun = open_tun(config, &udp, address).await?;
    let offloads = match &mut tun {
        Some((device, _)) => offload.and_device(&config.offload, device, address.to_ipv6()).await,
        None => Offloads::PLAIN,
    };
    offload.log();
    let (key, directory_seed) = (Key::of(&identity), identity.libp2p_seed());
    let mtu = tun.as_ref().map(|&(_, mtu)| mtu);
    let settings = node_config(config, identity, secret, &udp, mtu, offloads);
    let mut node = Node::new(settings, seed()?, clock::boottime());
    let network = Network::now().await;
    node.set_endpoints(network.endpoints(&udp, None));
    let summary = tun.as_ref().map(|(device, mtu)| (device.name().to_owned(), *mtu));
    let listeners = network.listeners(&bound, None);
    node.set_own_endpoints(own_endpoints(&listeners));
    info!(node = %address, "node starts");
    let (commands, requests) = mpsc::channel::<Command>(api::QUEUE);
    let metrics = metrics::Bound::bind(config, &commands)?;
    let tasks = [
        tokio::spawn(attach::serve(door, commands.clone())),
        tokio::spawn(async { drop(api::serve(control, commands).await) }),
        tokio::spawn(size::keep_small()),
    ];
    let host_names = bind_names(config, address);
    let (state_dir, dns) = (config.node.state_dir.clone(), config.dns.clone());
    let dialling = Dialling::new(config.proxy.http.clone());
    let socket = config.control.socket.clone();
    let ended = crate::workloads::ended_meanwhile(&socket);
    let publishing = Publishing::bind(config, address, shared)?;
    let asks = host_asks(config, tun.as_ref().map(|(device, _)| device), address, host_names.is_some());
    let gaps = confine(&file)?;
    // Threads of their own, which must have given up as much: from here on.
    let (persist, mut kept) = Persist::open(&state_dir)?;
    let names = start_names(&dns, host_names, asks)?;
    let finders = Finders::start(&file.config, directory_seed)?;
    let around = Surroundings { offloads, mtu, socket, ended };
    let tenants = start_tenants(publishing, own, (helper, persist, &mut kept), (names, dns.domain), around)?;
    let operations = Operations::new(file, (bound, listeners), summary, offload, key, gaps);
    let metrics = metrics.map(metrics::Bound::serve).transpose()?;
    let interfaces = Interfaces::new(tun.map(|(device, _)| device));
    let outside = (dialling, Underlay::watch(network, mapped_port), finders);
    let mut shell = Shell::new(node, (udp, connections), interfaces, requests, operations, tenants, outside);
    shell.restore(kept);
    ready();
    let result = shell.run(&mut signals).await;
    shell.underlay.end().await;
    end(tasks).await;
    drop((guard, door_guard, metrics));
    drop(shell); // With it the device, and what systemd-resolved was told of it.
    host_resolver::end(&state_dir);
    Ok(result?)
}

async fn end(tasks: [JoinHandle<()>; 3]) {
    for task in tasks {
        task.abort();
        // An aborted task answers with its own end; the socket's name goes with the guard.
        let _ = task.await;
    }
}

/// Where the host's own programs may ask for names: this node's address, port 53. Somebody else may
/// have that port; the mesh works without.
fn bind_names(config: &config::Config, address: MeshAddr) -> Option<(UdpSocket, TcpListener)> {
    if !config.dns.enabled || !config.tun.enabled {
        return None;
    }
    let at = SocketAddr::new(IpAddr::V6(address.to_ipv6()), DNS_PORT);
    let bound = UdpSocket::bind(at).and_then(|udp| Ok((udp, TcpListener::bind(at)?)));
    bound.inspect_err(|error| info!(%error, "no name server for the host at {at}")).ok()
}

/// What publishing needs of the host, taken while there are privileges.
struct Publishing {
    port: ingress::Port,
    /// The public side, if this node is a gateway.
    public: Option<(config::Gateway, Arc<Sockets>, Option<Authority>)>,
    shared: Option<gateway::Shared>,
}

impl Publishing {
    fn bind(
        config: &config::Config,
        address: MeshAddr,
        shared: Option<gateway::Shared>,
    ) -> Result<Self, RunError> {
        let public = config.gateway.as_ref().map(|gateway| {
            let sockets = Arc::new(Sockets::bind(gateway)?);
            Ok((gateway.clone(), sockets, Authority::prepare(gateway, &config.node.state_dir)?))
        });
        let public = public.transpose().map_err(RunError::Gateway)?;
        Ok(Self { port: service_port(config, address), public, shared })
    }
}

/// Networks, workloads and what is published of them: all that outlives a run.
fn start_tenants(
    publishing: Publishing,
    own: NodeId,
    (helper, persist, kept): (Arc<Helper>, Persist, &mut Kept),
    (names, internal): (Names, String),
    around: Surroundings,
) -> Result<Tenants, RunError> {
    let Publishing { port, public, shared } = publishing;
    let (desk, errands) = mpsc::channel(gateway::WAITING);
    let desk = public.is_some().then_some(desk);
    let is_gateway = desk.is_some();
    let ingress = Ingress::start(port, Arc::clone(&helper), desk)?;
    let publications = Publications::new(ingress, is_gateway);
    let mut tenants = Tenants::new(helper, persist, names, publications, around);
    if let Some((config, sockets, authority)) = public {
        let (internal, kept) = (vec![internal], std::mem::take(&mut kept.gateway));
        let clients = most_clients(privilege::raise_descriptors());
        let start =
            gateway::Start { config, internal, own, sockets, shared, clients, authority, errands, kept };
        tenants.serve_public(start).map_err(RunError::Gateway)?;
    }
    Ok(tenants)
}

fn start_names(
    dns: &config::Dns,
    host: Option<(UdpSocket, TcpListener)>,
    asks: HostAsks,
) -> Result<Names, RunError> {
    let mut names = Names::start(dns).map_err(RunError::Names)?;
    if let Some((udp, tcp)) = host {
        names.serve_host(udp, tcp, asks);
    }
    Ok(names)
}

/// Where gateways come in. Somebody else may have the port; only publishing needs it.
fn service_port(config: &config::Config, own: MeshAddr) -> ingress::Port {
    let at = SocketAddr::new(IpAddr::V6(own.to_ipv6()), sinew_wire::ingress::PORT);
    let bound = config.tun.enabled.then(|| TcpListener::bind(at)).transpose();
    let bound = bound.inspect_err(|error| warn!(%error, "no service port at {at}: nothing can be published"));
    let streams = most_streams(privilege::raise_descriptors());
    ingress::Port { listener: bound.ok().flatten(), own, streams }
}

/// How many streams of gateways may be open: each takes two descriptors, and a pipe while it is busy. The
/// rest of the daemon keeps as many as it had before.
fn most_streams(descriptors: u64) -> usize {
    let free = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(KEPT_DESCRIPTORS);
    (free / 3).clamp(16, STREAMS_MAX)
}

/// How many connections a gateway's clients may have: each takes a descriptor, and one more while a backend answers.
/// With all of them taken there are some left for that, and those of everything else.
fn most_clients(descriptors: u64) -> u32 {
    let free = u32::try_from(descriptors).unwrap_or(u32::MAX).saturating_sub(KEPT_DESCRIPTORS as u32);
    (free / 3 * 2).clamp(16, CLIENTS_MAX)
}

/// Has the host's resolver ask us, where it can and we have `sockets` to be asked on.
fn host_asks(
    config: &config::Config,
    device: Option<&TunDevice>,
    address: MeshAddr,
    sockets: bool,
) -> HostAsks {
    let wanted = device.filter(|_| sockets).map(|device| Wanted {
        interface: device.name(),
        index: device.ifindex(),
        server: IpAddr::V6(address.to_ipv6()),
        domain: &config.dns.domain,
    });
    host_resolver::set(&config.node.state_dir, wanted)
}

fn seed() -> Result<[u8; 32], RunError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    Ok(seed)
}

/// Listeners, where they are, and those that the gateway holds for the mesh.
type Listening = (Connections, Vec<(CarrierKind, SocketAddr)>, Option<gateway::Shared>);

/// One socket for each configured address; without any, one of each family for outgoing links.
fn bind_udp(addresses: &[SocketAddr]) -> Result<Vec<UdpCarrier>, RunError> {
    if addresses.is_empty() {
        let any = ["0.0.0.0:0", "[::]:0"].map(|text| text.parse::<SocketAddr>());
        let bound =
            any.into_iter().flatten().zip(0u32..).filter_map(|(addr, n)| UdpCarrier::bind(addr, n).ok());
        return Ok(bound.collect());
    }
    addresses.iter().zip(0u32..).map(|(&addr, local)| Ok(UdpCarrier::bind(addr, local)?)).collect()
}

/// The listeners of all other carriers, where each listener is bound, those of UDP included, and what is left to
/// the gateway to listen at.
fn bind_connections(config: &config::Config, udp: &[UdpCarrier]) -> Result<Listening, RunError> {
    let mut connections = Connections::new(ConnectionLimits::default());
    let mut bound: Vec<_> = udp.iter().map(|socket| (CarrierKind::Udp, socket.local_addr())).collect();
    for &addr in &config.listen.tcp {
        bound.push((CarrierKind::Tcp, connections.listen(addr)?));
    }
    if config.listen.wss.is_empty() && config.listen.quic.is_empty() {
        return Ok((connections, bound, None));
    }
    let shown = match &config.tls.files {
        Some((chain, key)) => Certificate::read(chain, key)?,
        None => Certificate::self_made()?,
    };
    for &addr in &config.listen.quic {
        bound.push((CarrierKind::Quic, connections.listen_quic(addr, &shown)?));
    }
    let at = config.gateway.as_ref().map(|gateway| gateway.shared(&config.listen)).unwrap_or_default();
    for &addr in &config.listen.wss {
        let addr = if at.contains(&addr) { addr } else { connections.listen_wss(addr, &shown)? };
        bound.push((CarrierKind::Wss, addr));
    }
    let shared = match at.is_empty() {
        true => None,
        false => Some(gateway::Shared { at, door: connections.share_wss(&shown)? }),
    };
    Ok((connections, bound, shared))
}

async fn open_tun(
    config: &config::Config,
    udp: &[UdpCarrier],
    address: MeshAddr,
) -> Result<Option<(TunDevice, u16)>, RunError> {
    let (tun, wanted) = (&config.tun, &config.offload);
    if !tun.enabled {
        return Ok(None);
    }
    let ipv6 = udp.iter().any(|socket| socket.local_addr().is_ipv6());
    let mtu = match tun.mtu {
        Mtu::Fixed(mtu) => mtu,
        Mtu::Auto if ipv6 => MTU_WITH_IPV6,
        Mtu::Auto => MTU_IPV4_ONLY,
    };
    let net = Net::new()?;
    for repaired in net.orphans(&tun.name).await? {
        info!(repaired, "left by a run that was killed");
    }
    // Without either, not even virtio headers: where those are at fault, this is the way out.
    let offload = (wanted.tun_read, wanted.tun_write) != (Switch::Off, Switch::Off);
    let device = TunDevice::open(&TunConfig { name: tun.name.clone(), mtu, offload })?;
    // The whole mesh range is on-link: an address /16 makes the route, and the kernel removes both
    // with the device.
    net.add_address(device.ifindex(), IpAddr::V6(address.to_ipv6()), MeshAddr::PREFIX_LEN).await?;
    net.link_up(device.ifindex(), mtu).await?;
    info!(interface = device.name(), mtu, offload = device.offload().as_str(), %address, "interface up");
    Ok(Some((device, mtu)))
}

fn node_config(
    config: &config::Config,
    identity: Identity,
    secret: Option<Secret>,
    udp: &[UdpCarrier],
    mtu: Option<u16>,
    offloads: Offloads,
) -> Config {
    Config {
        identity: Arc::new(identity),
        name: config.node.name.clone().unwrap_or_default(),
        class: config.node.class,
        secrets: secret.iter().map(|secret| **secret).collect(),
        accept: match config.mesh.accept {
            config::Accept::Any => Accept::Any,
            config::Accept::Listed => Accept::Listed,
        },
        inbound: inbound(&config.tun.inbound),
        peers: config.peers.iter().map(peer_config).collect(),
        device_mtu: mtu.unwrap_or(MTU_WITH_IPV6),
        offloads,
        udp_sockets: crate::sockets::firsts(udp),
        direct: config.reach.direct,
        peering: finding::peering(config),
        limits: limits(config),
        max_routes: MAX_ROUTES,
        unix: clock::unix(),
    }
}

/// `[tun] inbound` as the fast path enforces it.
pub(crate) fn inbound(inbound: &Inbound) -> InboundPolicy {
    let rule = |rule: &config::InboundRule| {
        let one = |port| Ports { first: port, last: port };
        let service = match rule.service {
            config::Service::Tcp(port) => Service::Tcp(one(port)),
            config::Service::Udp(port) => Service::Udp(one(port)),
            config::Service::Icmp => Service::Icmp,
        };
        Rule::new(service, rule.from)
    };
    match inbound {
        Inbound::Established => InboundPolicy::Established,
        Inbound::All => InboundPolicy::All,
        Inbound::Rules(rules) => InboundPolicy::Rules(rules.iter().map(rule).collect()),
    }
}
