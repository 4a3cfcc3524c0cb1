//! What libp2p is made of here, and its limits.

use std::iter;
use std::num::NonZeroUsize;
use std::time::Duration;

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::kad::{self, Mode, StoreInserts};
use libp2p::multiaddr::Protocol;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, autonat, identify, noise, tcp, yamux};
use sinew_directory::record::LIFE_MAX;
use sinew_types::MeshAddr;
use sinew_wire::directory::RECORD_MAX;

use super::ask::{self, Ask};
use super::{DirectoryError, Serve};

pub(super) const KAD: StreamProtocol = StreamProtocol::new("/sinew/kad/1");
const IDENTIFY: &str = "/sinew/id/1";

/// Records kept for others: 300 bytes each, and their place in the table.
const RECORDS_MAX: usize = 4096;
/// Connections that others opened, all and of one member; and such that are in the making.
const INCOMING: (u32, u32, u32) = (128, 2, 32);
const OUTGOING: u32 = 64;
const IDLE: Duration = Duration::from_secs(30);
const QUERY: Duration = Duration::from_secs(20);
/// Between two tests whether others reach this node.
const PROBE: Duration = Duration::from_secs(30);

#[derive(NetworkBehaviour)]
pub(super) struct Parts {
    limits: connection_limits::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    identify: identify::Behaviour,
    reach: autonat::v2::client::Behaviour,
    reach_of_others: autonat::v2::server::Behaviour,
    pub(super) ask: request_response::Behaviour<Ask>,
}

impl Parts {
    fn new(key: &Keypair, serve: Serve) -> Self {
        let own = PeerId::from(key.public());
        let store = MemoryStoreConfig {
            max_records: RECORDS_MAX,
            max_value_bytes: RECORD_MAX,
            // Nothing but records is kept.
            max_provided_keys: 0,
            max_providers_per_key: 1,
        };
        let mut config = kad::Config::new(KAD);
        config
            .set_query_timeout(QUERY)
            .disjoint_query_paths(true)
            .set_record_filtering(StoreInserts::FilterBoth)
            .set_record_ttl(Some(LIFE_MAX))
            // This node publishes by its own clock, and only what it signed.
            .set_publication_interval(None)
            .set_replication_factor(NonZeroUsize::new(8).unwrap_or(NonZeroUsize::MIN))
            .set_max_packet_size(16 * 1024);
        let mut kad = kad::Behaviour::with_config(own, MemoryStore::with_config(own, store), config);
        kad.set_mode(Some(if serve == Serve::On { Mode::Server } else { Mode::Client }));
        let (all, one, pending) = INCOMING;
        let limits = ConnectionLimits::default()
            .with_max_established_incoming(Some(all))
            .with_max_established_per_peer(Some(one))
            .with_max_pending_incoming(Some(pending))
            .with_max_pending_outgoing(Some(pending))
            .with_max_established_outgoing(Some(OUTGOING));
        let about = identify::Config::new(IDENTIFY.to_owned(), key.public())
            // What program in which version: nobody's business.
            .with_agent_version("sinew".to_owned());
        let support = iter::once((ask::PROTOCOL, ProtocolSupport::Full));
        let probes = autonat::v2::client::Config::default().with_probe_interval(PROBE).with_max_candidates(4);
        Self {
            limits: connection_limits::Behaviour::new(limits),
            kad,
            identify: identify::Behaviour::new(about),
            reach: autonat::v2::client::Behaviour::new(rand::make_rng(), probes),
            reach_of_others: autonat::v2::server::Behaviour::default(),
            ask: request_response::Behaviour::with_codec(Ask, support, request_response::Config::default()),
        }
    }
}

pub(super) fn swarm(key: Keypair, serve: Serve) -> Result<Swarm<Parts>, DirectoryError> {
    let failed = |error: &dyn std::fmt::Display| DirectoryError::Start(error.to_string());
    let builder = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|error| failed(&error))?;
    let builder = builder.with_behaviour(|key| Parts::new(key, serve)).map_err(|error| failed(&error))?;
    Ok(builder.with_swarm_config(|config| config.with_idle_connection_timeout(IDLE)).build())
}

/// Whether an address that somebody says is worth a try: an IP address with a TCP port, and none that
/// means this host or the mesh.
pub(super) fn is_place(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let ip = match parts.next() {
        Some(Protocol::Ip4(v4)) => {
            !v4.is_loopback() && !v4.is_unspecified() && !v4.is_multicast() && !v4.is_link_local()
        }
        Some(Protocol::Ip6(v6)) => {
            let none =
                v6.is_loopback() || v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local();
            !none && !MeshAddr::contains(&v6)
        }
        _ => false,
    };
    ip && matches!(parts.next(), Some(Protocol::Tcp(1..)))
        && matches!(parts.next(), None | Some(Protocol::P2p(_)))
}
