//! From a claim to what the front serves: settings that the author chose become those of the front, each checked
//! alone, so that one author's mistake is that author's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sinew_control::api::{
    PublishAccess, PublishBalance, PublishCheck, PublishMode, PublishProtocol, PublishProxyHeader, Settings,
};
use sinew_control::config;
use sinew_gateway::config as front;
use sinew_gateway::config::Target;
use sinew_node::overlay::{self, Claim, ClaimBackend};
use sinew_registry::{Mode, Serving, Transport};
use sinew_wire::ingress::Open;

use super::dial::{Route, Table};

/// Checks are made through somebody else's mesh links: not more often, and not so seldom that they mean nothing.
const INTERVAL: std::ops::RangeInclusive<f64> = 0.5..=300.0;
/// What verifying a password may cost: KiB, passes, lanes.
const ARGON: [(&str, u32); 3] = [("m", 65_536), ("t", 8), ("p", 4)];

/// The mode in the words of the register.
pub(super) const fn mode(mode: overlay::PublishMode) -> Mode {
    match mode {
        overlay::PublishMode::Http => Mode::Http,
        overlay::PublishMode::TlsPassthrough => Mode::Passthrough,
        overlay::PublishMode::Tcp => Mode::Tcp,
        overlay::PublishMode::Udp => Mode::Udp,
    }
}

/// The same in those of the API.
pub(super) const fn shown(mode: Mode) -> PublishMode {
    match mode {
        Mode::Http => PublishMode::Http,
        Mode::Passthrough => PublishMode::TlsPassthrough,
        Mode::Tcp => PublishMode::Tcp,
        Mode::Udp => PublishMode::Udp,
    }
}

const fn front_mode(mode: overlay::PublishMode) -> front::Mode {
    match mode {
        overlay::PublishMode::Http => front::Mode::Http,
        overlay::PublishMode::TlsPassthrough => front::Mode::TlsPassthrough,
        overlay::PublishMode::Tcp => front::Mode::Tcp,
        overlay::PublishMode::Udp => front::Mode::Udp,
    }
}

/// The author's settings. Keys that are not known narrow perhaps who may come in, so they are refused.
pub(super) fn settings(claim: &Claim) -> Result<Settings, String> {
    if claim.settings.is_empty() {
        return Ok(Settings::default());
    }
    serde_json::from_slice(&claim.settings).map_err(|error| format!("settings: {error}"))
}

/// A backend by its name to the front. It stays the same wherever the workload is, and is the service's own: two that
/// one workload serves are let in by its node each for itself, and end each for itself.
pub(super) fn target(claim: &Claim, backend: &ClaimBackend) -> Target {
    let kind = if claim.mode == overlay::PublishMode::Udp { "/udp" } else { "" };
    let ClaimBackend { workload, port, home, .. } = backend;
    let Claim { network, author, .. } = claim;
    let service = u128::from_be_bytes(claim.service);
    Target(format!("{workload}:{port}{kind}/{home}/{network}/{author}/{service:032x}").into())
}

/// Adds what may be dialled for a claim.
pub(super) fn routes(claim: &Claim, table: &mut Table) {
    for backend in &claim.backends {
        let open = Open {
            network: *claim.network.as_bytes(),
            service: claim.service,
            home: *backend.home.as_bytes(),
            workload: backend.workload.clone(),
            port: backend.port,
        };
        table.insert(target(claim, backend), Route { node: backend.node, open });
    }
}

/// The service as the front would serve it, but for its name and hosts, which others decide on.
pub(super) fn template(claim: &Claim, settings: &Settings) -> Result<front::Service, String> {
    // In this mode it is asked by authorities, in the others about clients.
    let passthrough = claim.mode == overlay::PublishMode::TlsPassthrough;
    let asked = claim.backends.iter().find(|backend| backend.weight == 0);
    let backends = claim.backends.iter().filter(|backend| backend.weight > 0).map(|backend| front::Backend {
        target: target(claim, backend),
        weight: backend.weight,
        drain: false,
    });
    let service = front::Service {
        name: "check".to_owned(),
        mode: front_mode(claim.mode),
        hosts: Vec::new(),
        paths: settings.paths.clone(),
        plain: settings.plain,
        protocol: match settings.protocol {
            Some(PublishProtocol::H2c) => front::BackendProtocol::H2c,
            Some(PublishProtocol::H1) | None => front::BackendProtocol::H1,
        },
        backends: backends.collect(),
        balance: match settings.balance {
            None | Some(PublishBalance::RoundRobin) => front::Balance::RoundRobin,
            Some(PublishBalance::LeastConnections) => front::Balance::LeastConnections,
            Some(PublishBalance::StickyCookie) => front::Balance::StickyCookie,
            Some(PublishBalance::StickyAddress) => front::Balance::StickyAddress,
        },
        check: check(claim.mode, settings.check.as_ref())?,
        proxy_header: settings.proxy_header.map(|version| match version {
            PublishProxyHeader::V1 => front::ProxyVersion::V1,
            PublishProxyHeader::V2 => front::ProxyVersion::V2,
        }),
        access: access(&settings.access, claim, asked.filter(|_| !passthrough))?,
        http01: asked.filter(|_| passthrough).map(|backend| target(claim, backend)),
        body_max: settings.body_max,
    };
    alone(&service)?;
    Ok(service)
}

/// Judges a service as if it were the only one.
fn alone(service: &front::Service) -> Result<(), String> {
    let mut service = service.clone();
    if matches!(service.mode, front::Mode::Http | front::Mode::TlsPassthrough) {
        service.hosts = vec!["host.example".to_owned()];
    }
    let config = front::Config { services: vec![service], ..front::Config::default() };
    sinew_gateway::check(config).map_err(|error| error.to_string().replace("service check: ", ""))
}

/// A connection tells whether somebody is there; of UDP nothing does.
fn check(mode: overlay::PublishMode, wanted: Option<&PublishCheck>) -> Result<Option<front::Check>, String> {
    if mode == overlay::PublishMode::Udp {
        return Ok(None);
    }
    let mut check = front::Check::default();
    let Some(wanted) = wanted else { return Ok(Some(check)) };
    if let Some(seconds) = wanted.interval {
        if !INTERVAL.contains(&seconds) {
            return Err("check.interval is 0.5 to 300 seconds".to_owned());
        }
        check.interval = Duration::from_secs_f64(seconds);
    }
    if wanted.path.is_some() && mode != overlay::PublishMode::Http {
        return Err("check.path is for mode http".to_owned());
    }
    check.path.clone_from(&wanted.path);
    check.host.clone_from(&wanted.host);
    Ok(Some(check))
}

fn access(
    wanted: &PublishAccess,
    claim: &Claim,
    asked: Option<&ClaimBackend>,
) -> Result<front::Access, String> {
    let prefixes = |texts: &[String]| -> Result<Vec<_>, String> {
        texts.iter().map(|text| text.parse().map_err(|error| format!("access: {error}"))).collect()
    };
    for user in &wanted.basic {
        affordable(&user.hash)?;
    }
    let forward = match (&wanted.forward, asked) {
        (None, None) => None,
        (Some(forward), Some(asked)) => Some(front::ForwardAuth {
            target: target(claim, asked),
            path: forward.path.clone(),
            host: forward.host.clone(),
            copy: forward.copy.clone(),
        }),
        (Some(_), None) => return Err("access.forward needs a backend of weight 0".to_owned()),
        (None, Some(_)) => return Err("a backend of weight 0 is for access.forward".to_owned()),
    };
    Ok(front::Access {
        allow: prefixes(&wanted.allow)?,
        deny: prefixes(&wanted.deny)?,
        basic: wanted
            .basic
            .iter()
            .map(|user| front::BasicUser { name: user.name.clone(), hash: user.hash.clone() })
            .collect(),
        rate: wanted.rate.map(|rate| front::Rate { per_second: rate.per_second, burst: rate.burst }),
        forward,
        client_ca: wanted.client_ca.clone(),
    })
}

/// Who publishes says what a password costs to verify, and the gateway pays.
fn affordable(hash: &str) -> Result<(), String> {
    let parameters = hash.split('$').nth(3).unwrap_or_default();
    for part in parameters.split(',') {
        let Some((name, value)) = part.split_once('=') else { continue };
        let bound = ARGON.iter().find(|(known, _)| *known == name);
        if let Some((_, most)) = bound
            && value.parse::<u32>().map_or(true, |value| value > *most)
        {
            return Err(format!(
                "access.basic: {name}={value} costs too much to verify; at most {name}={most}"
            ));
        }
    }
    Ok(())
}

/// What a service is called, in logs and state: its first place, which nobody else has.
pub(super) fn name(serving: &Serving<'_>) -> String {
    match (serving.hosts.first(), serving.service.port, serving.service.mode.transport()) {
        (Some(host), ..) => format!("{host}{}", serving.service.paths.first().map_or("", String::as_str)),
        (None, Some(port), Some(transport)) => format!("{}/{port}", transport.as_str()),
        _ => String::new(),
    }
}

/// Sockets for a service at a port.
pub(super) fn port_listeners(
    addresses: &[IpAddr],
    serving: &Serving<'_>,
    proxy_protocol: bool,
) -> Vec<front::Listener> {
    let (Some(port), Some(transport)) = (serving.service.port, serving.service.mode.transport()) else {
        return Vec::new();
    };
    let each = |ip: &IpAddr| front::Listener {
        address: SocketAddr::new(*ip, port),
        protocol: match transport {
            Transport::Tcp => front::Protocol::Tcp,
            Transport::Udp => front::Protocol::Udp,
        },
        service: Some(name(serving)),
        proxy_protocol: proxy_protocol && transport == Transport::Tcp,
        shared: false,
    };
    addresses.iter().map(each).collect()
}

/// Sockets of the configuration, some of which are `shared` with the mesh.
pub(super) fn listeners(config: &config::Gateway, shared: &[SocketAddr]) -> Vec<front::Listener> {
    let each = |protocol| {
        move |address: &SocketAddr| front::Listener {
            address: *address,
            protocol,
            service: None,
            proxy_protocol: config.proxy_protocol,
            shared: shared.contains(address),
        }
    };
    let https = config.https.iter().map(each(front::Protocol::Https));
    https.chain(config.http.iter().map(each(front::Protocol::Http))).collect()
}

#[cfg(test)]
mod tests {
    use sinew_types::{Identity, Label, NetworkId};

    use super::*;

    #[test]
    fn services_of_one_workload_are_dialled_each_for_itself() {
        let node = |n: u8| Identity::from_seed([n; 32]).node_id();
        let backend = ClaimBackend {
            home: node(2),
            workload: Label::parse("web").unwrap(),
            port: 80,
            weight: 1,
            node: Some(node(3)),
        };
        let claim = |service: u8| Claim {
            network: NetworkId::new(node(1)),
            network_name: None,
            author: node(2),
            service: [service; 16],
            id: [0; 32],
            seq: 1,
            issued: 0,
            expires: 1,
            removed: false,
            gateway: node(4),
            mode: overlay::PublishMode::Http,
            hosts: Vec::new(),
            settings: Vec::new(),
            recovery: None,
            backends: vec![backend.clone()],
            head_issued: None,
        };
        let mut table = Table::new();
        for service in [7, 8] {
            routes(&claim(service), &mut table);
        }
        for service in [7, 8] {
            let route = table.get(&target(&claim(service), &backend));
            assert_eq!(route.map(|route| route.open.service), Some([service; 16]));
        }
    }

    #[test]
    fn passwords_that_would_cost_the_gateway_too_much_are_refused() {
        let hash = |parameters: &str| format!("$argon2id$v=19${parameters}$c2FsdHNhbHQ$aGFzaA");
        for (parameters, fine) in [
            ("m=19456,t=2,p=1", true),
            ("m=65536,t=3,p=4", true),
            ("m=4194304,t=2,p=1", false),
            ("m=19456,t=4000000000,p=1", false),
            ("m=19456,t=2,p=99", false),
            ("m=x,t=2,p=1", false),
        ] {
            assert_eq!(affordable(&hash(parameters)).is_ok(), fine, "{parameters}");
        }
    }
}
