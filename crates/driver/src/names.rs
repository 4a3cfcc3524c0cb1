//! Names: tells the name server what the documents say, and who may ask for it where.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use sinew_control::ApiError;
use sinew_control::api::{self, DnsAnswer, DnsQuery, DnsRecord, DnsRecords, DnsServer, DnsStatus};
use sinew_dns::{Dns, Explanation, RecordText, Scope, ServerHandle, ServerStatus, Servers, Upstream, Zones};
use sinew_node::Node;
use sinew_types::NetworkId;
use tracing::warn;

use crate::command::{DnsCommand, Reply};
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
    by: &'static str,
    workloads: BTreeMap<String, Served>,
}

/// One workload's sockets.
struct Served {
    scope: Scope,
    _handles: Vec<ServerHandle>,
}

impl Names {
    /// Starts the name server, or none.
    pub(crate) fn start(enabled: bool, domain: &str) -> Result<Self, String> {
        let mut names = Self {
            dns: None,
            domain: domain.to_owned(),
            host: None,
            by: "none",
            workloads: BTreeMap::new(),
        };
        if enabled {
            let zones = Zones::new(domain).map_err(|error| error.to_string())?;
            let upstream = Upstream {
                servers: Servers::ResolvConf(PathBuf::from(RESOLV_CONF)),
                ..Upstream::default()
            };
            let dns = Dns::start(upstream, Arc::new(zones)).map_err(|error| error.to_string())?;
            names.dns = Some(Arc::new(dns));
        }
        Ok(names)
    }

    /// Whether names are served at all.
    pub(crate) fn is_on(&self) -> bool {
        self.dns.is_some()
    }

    /// The domain in which the names of a network stand, for `search`.
    pub(crate) fn search(&self, network: &str) -> Option<String> {
        self.is_on().then(|| format!("{network}.{}", self.domain))
    }

    /// Answers the host itself on these sockets.
    pub(crate) fn serve_host(&mut self, udp: UdpSocket, tcp: TcpListener) {
        let Some(dns) = &self.dns else { return };
        match dns.serve(Scope::host(Vec::new()), udp, tcp) {
            Ok(handle) => self.host = Some(handle),
            Err(error) => warn!(%error, "the host gets no name server"),
        }
    }

    /// systemd-resolved asks us for our domain.
    pub(crate) fn set_by(&mut self, by: &'static str) {
        self.by = by;
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
            Ok(zones) => dns.publish(Arc::new(zones)),
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
                host: self.by.to_owned(),
                upstreams: Vec::new(),
                servers: Vec::new(),
                health: Vec::new(),
            };
        };
        let status = dns.status();
        DnsStatus {
            enabled: true,
            domain: status.domain,
            host: self.by.to_owned(),
            upstreams: status.upstreams.iter().map(ToString::to_string).collect(),
            servers: status.servers.into_iter().map(server).collect(),
            health: Vec::new(),
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
