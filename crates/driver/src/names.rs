//! Names: tells the name server what the documents say, and who may ask for it where.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use sinew_control::api::{
    self, DnsAnswer, DnsForward, DnsQuery, DnsRecord, DnsRecords, DnsServer, DnsStatus,
};
use sinew_control::{ApiError, config};
use sinew_dns::{
    Dns, Explanation, NetworkZone, RecordText, Rule, Scope, ServerHandle, ServerStatus, Servers, Upstream,
    Zones,
};
use sinew_node::Node;
use sinew_types::NetworkId;
use tracing::warn;

use crate::command::{DnsCommand, Reply};
use crate::host_resolver::HostAsks;
use crate::networks;

/// Where the host says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is asked for when the question names no type.
const ADDRESSES: [&str; 2] = ["A", "AAAA"];

/// The name server and the sockets it answers on.
pub(crate) struct Names {
    dns: Option<Arc<Dns>>,
    domain: String,
    host: Option<ServerHandle>,
    /// How the host's own programs ask us.
    asks: HostAsks,
    workloads: BTreeMap<String, Served>,
    /// What has no form as a name, as the log was told.
    skipped: BTreeSet<String>,
}

/// One workload's sockets.
struct Served {
    scope: Scope,
    _handles: Vec<ServerHandle>,
}

impl Names {
    /// Starts the name server, or none.
    pub(crate) fn start(config: &config::Dns) -> Result<Self, String> {
        let mut names = Self {
            dns: None,
            domain: config.domain.clone(),
            host: None,
            asks: HostAsks::NOT,
            workloads: BTreeMap::new(),
            skipped: BTreeSet::new(),
        };
        if config.enabled {
            let zones = Zones::new(&config.domain).map_err(|error| error.to_string())?;
            let servers = Servers::ResolvConf(PathBuf::from(RESOLV_CONF));
            let rules = config.forward.iter().map(|rule| Rule::new(&rule.domain, rule.servers.clone()));
            let rules = rules.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
            let upstream = Upstream { servers, rules };
            let dns = Dns::start(upstream, Arc::new(zones)).map_err(|error| error.to_string())?;
            names.dns = Some(Arc::new(dns));
        }
        Ok(names)
    }

    /// Whether names are served at all.
    pub(crate) fn is_on(&self) -> bool {
        self.dns.is_some()
    }

    /// The domain in which the names of a network stand, for `search`: below its name, or below its
    /// key if the domain uses that name itself.
    pub(crate) fn search(&self, name: &str, id: &str) -> Option<String> {
        let network = if NetworkZone::is_name(name) { name } else { id };
        self.is_on().then(|| format!("{network}.{}", self.domain))
    }

    /// Answers the host itself on these sockets.
    pub(crate) fn serve_host(&mut self, udp: UdpSocket, tcp: TcpListener, asks: HostAsks) {
        self.asks = asks;
        let Some(dns) = &self.dns else { return };
        match dns.serve(Scope::host(Vec::new()), udp, tcp) {
            Ok(handle) => self.host = Some(handle),
            Err(error) => warn!(%error, "the host gets no name server"),
        }
    }

    /// Answers a workload on sockets in its namespace; it sees the names of `networks` alone.
    pub(crate) fn serve(
        &mut self,
        id: &str,
        label: &str,
        networks: &[NetworkId],
        sockets: impl Iterator<Item = (UdpSocket, TcpListener)>,
    ) {
        let Some(dns) = &self.dns else { return };
        let keys = networks.iter().map(|network| *network.key().as_bytes()).collect();
        let scope = Scope { label: label.to_owned(), networks: keys, host: false, forward: true };
        let mut handles = Vec::new();
        for (udp, tcp) in sockets {
            match dns.serve(scope.clone(), udp, tcp) {
                Ok(handle) => handles.push(handle),
                Err(error) => warn!(workload = label, %error, "no name server for it"),
            }
        }
        self.workloads.insert(id.to_owned(), Served { scope, _handles: handles });
    }

    /// Stops answering a workload.
    pub(crate) fn stop(&mut self, id: &str) {
        self.workloads.remove(id);
    }

    /// Takes over what the documents say now.
    pub(crate) fn publish(&mut self, node: &Node) {
        let Some(dns) = &self.dns else { return };
        match networks::zones(node, &self.domain) {
            Ok(named) => {
                dns.publish(Arc::new(named.zones));
                // Once for each, however often the documents change.
                named.skipped.difference(&self.skipped).for_each(|line| warn!("not a name: {line}"));
                self.skipped = named.skipped;
            }
            Err(error) => warn!(%error, "names not published"),
        }
        if let Some(host) = &self.host {
            host.set_scope(Scope::host(networks::ids(node)));
        }
    }

    // --- requests ---

    /// Carries out one request. `workload` finds the attachment that a text means.
    pub(crate) fn handle(
        &self,
        command: DnsCommand,
        workload: impl FnOnce(&str) -> Result<String, ApiError>,
    ) {
        match command {
            DnsCommand::Query(query, reply) => self.query(query, workload, reply),
            DnsCommand::Records(query, reply) => drop(reply.send(self.records(&query))),
            DnsCommand::Status(reply) => drop(reply.send(Ok(self.status()))),
        }
    }

    fn query(
        &self,
        query: DnsQuery,
        workload: impl FnOnce(&str) -> Result<String, ApiError>,
        reply: Reply<DnsAnswer>,
    ) {
        let scope = match &query.workload {
            None => Ok(self.host_scope()),
            Some(text) => workload(text).and_then(|id| {
                let served = self.workloads.get(&id);
                served.map(|served| served.scope.clone()).ok_or_else(|| ApiError::unknown_workload(text))
            }),
        };
        let (scope, dns) = match (scope, &self.dns) {
            (Ok(scope), Some(dns)) => (scope, Arc::clone(dns)),
            (Err(error), _) => return drop(reply.send(Err(error))),
            (_, None) => return drop(reply.send(Err(off()))),
        };
        // Another name server may have to be asked: not while packets wait.
        tokio::spawn(async move { drop(reply.send(ask(&dns, &scope, &query).await)) });
    }

    fn host_scope(&self) -> Scope {
        let scope = self.host.as_ref().map(|host| host.status().scope);
        scope.unwrap_or_else(|| {
            // Nobody asks there; the question is what they would see.
            let mut networks: Vec<_> =
                self.workloads.values().flat_map(|served| served.scope.networks.iter().copied()).collect();
            networks.sort_unstable();
            networks.dedup();
            Scope::host(networks)
        })
    }

    fn records(&self, query: &api::DnsRecordsQuery) -> Result<DnsRecords, ApiError> {
        let dns = self.dns.as_ref().ok_or_else(off)?;
        let all = dns.zones().records(&self.host_scope());
        let wanted = |record: &RecordText| {
            query.network.is_none() || record.network.as_deref() == query.network.as_deref()
        };
        Ok(DnsRecords { records: all.into_iter().filter(wanted).map(record).collect() })
    }

    fn status(&self) -> DnsStatus {
        let Some(dns) = &self.dns else {
            return DnsStatus {
                enabled: false,
                domain: self.domain.clone(),
                host: self.asks.by.to_owned(),
                upstreams: Vec::new(),
                forward: Vec::new(),
                servers: Vec::new(),
                health: Vec::new(),
            };
        };
        let status = dns.status();
        DnsStatus {
            enabled: true,
            domain: status.domain,
            host: self.asks.by.to_owned(),
            upstreams: status.upstreams.iter().map(ToString::to_string).collect(),
            forward: status.rules.into_iter().map(forward).collect(),
            servers: status.servers.into_iter().map(server).collect(),
            health: self.asks.health.iter().cloned().collect(),
        }
    }
}

fn off() -> ApiError {
    ApiError::unsupported("this node serves no names: set `enabled = true` under [dns] and restart it")
}

async fn ask(dns: &Dns, scope: &Scope, query: &DnsQuery) -> Result<DnsAnswer, ApiError> {
    let began = std::time::Instant::now();
    let kinds = query.kind.as_deref().map_or(ADDRESSES.to_vec(), |kind| vec![kind]);
    let mut answer: Option<Explanation> = None;
    for kind in kinds {
        let one = dns.explain(scope, &query.name, kind).await;
        let one = one.map_err(|error| ApiError::invalid(error, "A, AAAA, SRV, PTR, …"))?;
        answer = Some(match answer {
            // One of the two may have no records, or fail upstream: the better one speaks.
            Some(mut first) if !first.records.is_empty() => {
                first.records.extend(one.records);
                first
            }
            _ => one,
        });
    }
    let answer = answer.ok_or_else(|| ApiError::internal("nothing was asked"))?;
    Ok(DnsAnswer {
        name: answer.name,
        status: answer.code,
        records: answer.records.into_iter().map(record).collect(),
        source: answer.source,
        why: answer.why,
        duration_ms: began.elapsed().as_secs_f64() * 1000.0,
    })
}

fn record(text: RecordText) -> DnsRecord {
    DnsRecord {
        name: text.name,
        kind: text.kind,
        ttl_ms: u64::from(text.ttl) * 1000,
        data: text.data,
        network: text.network,
        node_id: text.node.map(|node| node.to_string()),
    }
}

fn forward((domain, servers): (String, Vec<SocketAddr>)) -> DnsForward {
    DnsForward { domain, servers: servers.iter().map(ToString::to_string).collect() }
}

fn server(status: ServerStatus) -> DnsServer {
    DnsServer {
        scope: status.scope.label,
        address: status.address.to_string(),
        networks: status.networks,
        search: status.search,
        queries: status.counts.queries(),
        answered: status.counts.answered(),
        forwarded: status.counts.forwarded(),
        failed: status.counts.failed(),
    }
}
