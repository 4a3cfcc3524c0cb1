//! What is wrong with a node, why, and what to do: from what the daemon says of itself.
//!
//! A pure function, so that every sentence has a test, and so that `doctor` needs nothing of the
//! daemon that scripts could not ask for too.

use serde::{Deserialize, Serialize};

use crate::api::{Nat, Netcheck, Peer, PeerState, Peers, Severity, Status};

/// Share of probes lost from which a link is worth a word.
const LOSSY: f64 = 0.05;

/// Everything found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Empty when all is well.
    pub findings: Vec<Finding>,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable word.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// What it comes from, as far as that shows.
    pub cause: String,
    /// What to do.
    pub fix: String,
}

/// Judges a node.
pub fn diagnose(status: &Status, check: &Netcheck, peers: &Peers) -> Diagnosis {
    let mut findings: Vec<_> = status
        .health
        .iter()
        .map(|health| Finding {
            code: health.code.clone(),
            severity: health.severity,
            text: health.text.clone(),
            cause: "the daemon found this itself".to_owned(),
            fix: health.fix.clone(),
        })
        .collect();
    findings.extend(network(check));
    findings.extend(nat(check));
    findings.extend(found(status, check));
    findings.extend(peers.peers.iter().filter_map(|peer| peer_finding(peer, check)));
    if status.listeners.iter().all(|listener| listener.endpoints.is_empty()) {
        findings.push(finding(
            "not_reachable",
            Severity::Info,
            "no other machine can open a link to this node",
            "it listens nowhere, or only on addresses that others cannot dial",
            "set [listen] udp and tcp if others are to have it as a peer",
        ));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Diagnosis { findings }
}

fn finding(code: &str, severity: Severity, text: &str, cause: &str, fix: &str) -> Finding {
    let own = str::to_owned;
    Finding { code: own(code), severity, text: own(text), cause: own(cause), fix: own(fix) }
}

fn network(check: &Netcheck) -> Option<Finding> {
    let passes = |name: &str| check.carriers.iter().find(|c| c.carrier == name).and_then(|c| c.passes);
    let any = check.carriers.iter().any(|carrier| carrier.passes == Some(true));
    let tried = check.carriers.iter().any(|carrier| carrier.passes.is_some());
    if tried && !any {
        return Some(finding(
            "nothing_passes",
            Severity::Error,
            "nothing that was dialled answers, over any carrier",
            "this machine is offline, a firewall passes nothing, or every peer is down",
            "try `ping` to a peer's address, and `?via=udp,quic,tcp,wss` with port 443 in its URI",
        ));
    }
    (passes("udp") == Some(false) && any).then(|| {
        finding(
            "udp_blocked",
            Severity::Warning,
            "UDP gets no answer from any peer, and another carrier does",
            "a firewall on the way drops UDP; streams work, at the price of speed and delay under loss",
            "let it pass UDP to the peers' ports; links move back to UDP by themselves within a minute",
        )
    })
}

fn nat(check: &Netcheck) -> Option<Finding> {
    (check.nat == Nat::EndpointDependent).then(|| {
        finding(
            "nat_endpoint_dependent",
            Severity::Info,
            "the NAT in front of this node gives each peer another port",
            "the router does endpoint-dependent mapping (\"symmetric NAT\")",
            "forward a UDP port to this node, or use IPv6, where direct links to nodes behind other NATs matter",
        )
    })
}

/// How other nodes are found.
fn found(status: &Status, check: &Netcheck) -> Option<Finding> {
    let how = &check.finding;
    if how.directory.as_ref().is_some_and(|directory| directory.peers == 0 && !directory.serving) {
        return Some(finding(
            "directory_silent",
            Severity::Warning,
            "no member of the directory answers",
            "its entries are down, or were given a wrong address or id",
            "compare [discovery] directory with `sinew key show` there; the port is that of its [discovery] listen",
        ));
    }
    (status.peers_total == 0 && how.known.is_empty()).then(|| {
        let speaks = how.lan.as_ref().is_some_and(|lan| !lan.interfaces.is_empty());
        let cause = match speaks {
            true => "no other node speaks on the local network, and no peer is configured",
            false => "no peer is configured, and there is no local network to look on ([discovery] lan)",
        };
        let fix = "name one node under [[peer]], or with `sinew peers add`; the others follow by themselves";
        finding("alone", Severity::Info, "this node knows no other", cause, fix)
    })
}

fn peer_finding(peer: &Peer, check: &Netcheck) -> Option<Finding> {
    let name = peer.name.clone().unwrap_or_else(|| peer.node_id.chars().take(8).collect());
    if peer.state != PeerState::Up && peer.configured {
        let no_ipv6 = check.ipv6.addresses.is_empty()
            && peer.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with('['));
        let cause = match &peer.last_error {
            _ if no_ipv6 => "its address is an IPv6 one, and this host has none".to_owned(),
            Some(error) => error.clone(),
            None => "it is being tried for the first time".to_owned(),
        };
        // The kernel's word (ENETUNREACH): nothing was sent at all.
        let no_route = cause.contains("Network is unreachable");
        let fix = if no_route {
            let to = peer.endpoint.as_deref().unwrap_or("it");
            format!("this host has no route to {to}, most often for want of a default route: see `ip route`")
        } else {
            format!("`sinew why {}` lists every way that was tried", peer.node_id)
        };
        let text = format!("peer {name} is not connected");
        return Some(finding("peer_down", Severity::Warning, &text, &cause, &fix));
    }
    let loss = peer.loss.filter(|loss| *loss >= LOSSY)?;
    let text = format!("the link to {name} loses {:.0} % of its probes", loss * 100.0);
    let cause =
        format!("the network to {} is overloaded or faulty", peer.endpoint.as_deref().unwrap_or("it"));
    Some(finding(
        "link_lossy",
        Severity::Warning,
        &text,
        &cause,
        "look at the network under it, not at Sinew",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CarrierCheck, Direction, FamilyCheck, Health, Listener, Offload, PortMapping};

    fn status() -> Status {
        let listener = Listener {
            carrier: "udp".into(),
            address: "0.0.0.0:1".into(),
            endpoints: vec!["192.0.2.1:1".into()],
        };
        Status {
            node_id: "n".into(),
            address: "a".into(),
            name: None,
            class: "router".into(),
            version: "v".into(),
            uptime_ms: 1,
            ready: true,
            peers_up: 1,
            peers_total: 1,
            routes: 0,
            sessions: 0,
            tun: None,
            mtu: None,
            offload: Offload::default(),
            listeners: vec![listener],
            reach: crate::api::Reach::default(),
            health: Vec::new(),
        }
    }

    fn check(udp: Option<bool>, tcp: Option<bool>) -> Netcheck {
        let carrier = |name: &str, passes| CarrierCheck {
            carrier: name.into(),
            listening: true,
            links: 0,
            worked: 0,
            failed: 0,
            passes,
        };
        let family = |address: &str| FamilyCheck { addresses: vec![address.into()], links: 0, passes: None };
        Netcheck {
            carriers: vec![carrier("udp", udp), carrier("tcp", tcp)],
            ipv4: family("192.0.2.1"),
            ipv6: FamilyCheck { addresses: Vec::new(), ..family("") },
            reflected: Vec::new(),
            nat: Nat::Unknown,
            nat_text: String::new(),
            finding: crate::api::Finding::default(),
            port_mapping: PortMapping::default(),
        }
    }

    fn peer(state: PeerState) -> Peer {
        Peer {
            node_id: "nodeidnodeid".into(),
            address: "a".into(),
            name: None,
            endpoint: Some("[2001:db8::1]:7".into()),
            carrier: None,
            interface: None,
            direction: Direction::Out,
            state,
            configured: true,
            source: "configured".into(),
            rtt_ms: None,
            jitter_ms: None,
            loss: None,
            mtu: None,
            rx_bytes: 0,
            tx_bytes: 0,
            rx_rate: 0,
            tx_rate: 0,
            limit: None,
            uptime_ms: None,
            handshake_age_ms: None,
            cipher: None,
            version: None,
            last_error: Some("udp/x: no answer".into()),
        }
    }

    fn codes(status: &Status, check: &Netcheck, peers: Vec<Peer>) -> Vec<String> {
        diagnose(status, check, &Peers { peers }).findings.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_healthy_node_has_no_findings() {
        assert!(codes(&status(), &check(Some(true), None), vec![peer(PeerState::Up)]).is_empty());
    }

    #[test]
    fn each_trouble_has_its_word_and_the_worst_comes_first() {
        assert_eq!(codes(&status(), &check(Some(false), Some(true)), Vec::new()), ["udp_blocked"]);
        assert_eq!(codes(&status(), &check(Some(false), Some(false)), Vec::new()), ["nothing_passes"]);
        let symmetric = Netcheck { nat: Nat::EndpointDependent, ..check(Some(true), None) };
        assert_eq!(codes(&status(), &symmetric, Vec::new()), ["nat_endpoint_dependent"]);
        let lossy = Peer { loss: Some(0.2), ..peer(PeerState::Up) };
        assert_eq!(codes(&status(), &check(Some(true), None), vec![lossy]), ["link_lossy"]);
        let health =
            Health { code: "no_peer".into(), severity: Severity::Error, text: "t".into(), fix: "f".into() };
        let mut ill = Status { health: vec![health], ..status() };
        ill.listeners.clear();
        let found = codes(&ill, &check(None, None), vec![peer(PeerState::Connecting)]);
        assert_eq!(found, ["no_peer", "peer_down", "not_reachable"]);
    }

    #[test]
    fn who_knows_nobody_is_told_how_to_find_somebody() {
        use crate::api::{FindingDirectory, FindingLan};
        let alone = Status { peers_total: 0, ..status() };
        assert_eq!(codes(&alone, &check(None, None), Vec::new()), ["alone"]);
        let mut heard = check(None, None);
        heard.finding.lan = Some(FindingLan { interfaces: vec!["eth0".into()], ..FindingLan::default() });
        let told = diagnose(&alone, &heard, &Peers { peers: Vec::new() });
        assert!(told.findings[0].cause.starts_with("no other node speaks"), "{told:?}");
        heard.finding.known.insert("lan".into(), 1);
        assert!(codes(&alone, &heard, Vec::new()).is_empty());
        heard.finding.directory = Some(FindingDirectory::default());
        assert_eq!(codes(&status(), &heard, Vec::new()), ["directory_silent"]);
    }

    #[test]
    fn a_host_without_a_route_is_told_to_look_at_its_routes() {
        let error = Some("tcp/203.0.113.9:7: Network is unreachable (os error 101)".into());
        let lost =
            Peer { endpoint: Some("203.0.113.9:7".into()), last_error: error, ..peer(PeerState::Connecting) };
        let found = diagnose(&status(), &check(None, None), &Peers { peers: vec![lost] });
        assert!(found.findings[0].fix.contains("no route to 203.0.113.9:7"), "{found:?}");
    }

    #[test]
    fn a_peer_that_cannot_be_reached_for_want_of_ipv6_is_told_so() {
        let found =
            diagnose(&status(), &check(None, None), &Peers { peers: vec![peer(PeerState::Connecting)] });
        assert!(found.findings[0].cause.contains("IPv6"), "{found:?}");
    }
}
