//! `why` and `netcheck`: from what the node knows of its ways to what people are told.

mod meeting;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sinew_control::api::{
    Candidate, CandidateState, CarrierCheck, FamilyCheck, Finding, Listener, Nat, Netcheck, PortMapping,
    Reason, Reflected, Why,
};
use sinew_node::{Answer, CandidateStatus, Mapping, Meeting, Node, PeerStatus, View, Way, Ways};
use sinew_types::{CarrierKind, Instant, NodeId, PathAddr};

use crate::view::{Names, interface, millis};

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn reason(code: &str, text: impl Into<String>, fix: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), text: text.into(), fix: fix.into() }
}

pub(crate) fn why(
    node: &Node,
    target: NodeId,
    (names, interfaces): (&Names, &BTreeMap<u32, String>),
    now: Instant,
) -> Why {
    let ways = node.ways(&target, now);
    let used = ways.paths.iter().find(|way| way.in_use).map(|way| way.path);
    let own = target == node.status(now).node;
    let hop = node.hop_toward(&target);
    let path = match (own, hop) {
        (true, _) => None,
        (_, Some(hop)) if hop != target => Some(format!("via {}", name(names, &hop))),
        _ => used.map(|path| path.to_string()),
    };
    let direct = own || hop.is_none_or(|hop| hop == target) && used.is_some();
    let relay = hop.filter(|hop| *hop != target);
    let meeting = relay.map(|_| node.meeting(&target, now));
    Why {
        node_id: target.to_string(),
        address: target.address().to_string(),
        name: names.get(&target).cloned(),
        reachable: node.is_reachable(&target),
        direct,
        path,
        carrier: node.carrier_toward(&target).map(|carrier| carrier.as_str().to_owned()),
        next_try_ms: ways.next_try.or(meeting.as_ref().and_then(|meeting| meeting.next)).map(whole_millis),
        reasons: if own {
            vec![reason("self", "this is the node itself", "")]
        } else {
            reasons(&ways, used, relay.map(|hop| name(names, &hop)), meeting.as_ref(), now)
        },
        candidates: candidates(&ways, meeting.as_ref(), interfaces, now),
    }
}

fn name(names: &Names, node: &NodeId) -> String {
    names.get(node).cloned().unwrap_or_else(|| node.short())
}

/// `via`: the first relay, if data takes one; then there is a `meeting` too.
fn reasons(
    ways: &Ways,
    used: Option<PathAddr>,
    via: Option<String>,
    meeting: Option<&Meeting>,
    now: Instant,
) -> Vec<Reason> {
    let mut reasons = Vec::new();
    match (used, &via) {
        (Some(path), None) => reasons.extend(direct_reasons(ways, path)),
        (_, Some(via)) => reasons.push(reason("relayed", format!("data goes over relays, {via} first"), "")),
        (None, None) => {
            let fix = "`sinew peers` shows this node's links, `sinew routes` what neighbours tell";
            reasons.push(reason("no_route", "no link leads there, and no neighbour knows a way", fix));
        }
    }
    if used.is_none() && (ways.dialled || via.is_none()) {
        reasons.push(no_link(ways));
    }
    // Of a configured peer it is said only once it was tried: usually its link is what there is to mend.
    let met = meeting.filter(|meeting| !ways.dialled || meeting.last.is_some());
    reasons.extend(met.map(|meeting| meeting::explain(meeting, now)));
    reasons
}

/// Why there is no link.
fn no_link(ways: &Ways) -> Reason {
    let failed = ways.candidates.iter().filter(|known| matches!(known.answer, Answer::Failed(_))).count();
    if !ways.dialled {
        let fix = "add it as a peer: `sinew invite` there prints the URI, `sinew peers add` here takes it";
        reason("no_address", "no underlay address of it is known here, so it is not dialled", fix)
    } else if failed > 0 && failed == ways.candidates.len() {
        let text = format!("all {failed} direct ways failed when last tried; they are tried again");
        let fix = "the answers below say why; `sinew netcheck` what this network passes";
        reason("candidates_failed", text, fix)
    } else {
        reason("trying", "direct ways are being tried", "")
    }
}

fn direct_reasons(ways: &Ways, path: PathAddr) -> Vec<Reason> {
    let better =
        |known: &&CandidateStatus| known.carrier.is_some_and(|carrier| carrier.rank() < path.carrier.rank());
    let mut lost: Vec<&str> =
        ways.candidates.iter().filter(better).filter_map(|known| Some(known.carrier?.as_str())).collect();
    lost.dedup();
    let mut reasons = vec![if lost.is_empty() {
        reason("direct", format!("direct over {path}, the best way that is known"), "")
    } else {
        let text = format!("direct over {path}, because {} did not answer", lost.join(" and "));
        let fix = if lost.contains(&"udp") {
            "let firewalls on the way pass the far end's UDP port; it is tried again twice a minute"
        } else {
            "it is tried again twice a minute"
        };
        reason("better_failed", text, fix)
    }];
    if !ways.dialled {
        reasons.push(reason("opened_by_peer", "the far end opened the link; here it is not configured", ""));
    }
    reasons
}

/// Each way that was dialled, with each path that it became: one over each uplink. Then what others opened, and
/// where was knocked.
fn candidates(
    ways: &Ways,
    meeting: Option<&Meeting>,
    interfaces: &BTreeMap<u32, String>,
    now: Instant,
) -> Vec<Candidate> {
    let mut paths: BTreeMap<(CarrierKind, SocketAddr), Vec<&Way>> = BTreeMap::new();
    for way in &ways.paths {
        paths.entry((way.path.carrier, way.path.remote)).or_default().push(way);
    }
    let mut list = Vec::new();
    for known in &ways.candidates {
        let key = known.carrier.zip(known.remote);
        let of = key.and_then(|key| paths.remove(&key)).unwrap_or_default();
        if of.is_empty() {
            list.push(candidate(known, None, interfaces));
        }
        list.extend(of.into_iter().map(|way| candidate(known, Some(way), interfaces)));
    }
    for ((carrier, remote), of) in paths {
        for way in of {
            let (state, answer) = judge(&Answer::Pending, Some(way));
            list.push(Candidate {
                carrier: Some(carrier.as_str().to_owned()),
                endpoint: None,
                remote: Some(remote.to_string()),
                interface: interface(interfaces, &way.path),
                state,
                last_try_ms: None,
                answer,
                rtt_ms: way.rtt.map(millis),
            });
        }
    }
    let known = ways.candidates.iter().filter_map(|known| known.remote);
    let listed: BTreeSet<_> = known.chain(ways.paths.iter().map(|way| way.path.remote)).collect();
    let last = meeting.and_then(|meeting| meeting.last.as_ref());
    list.extend(last.iter().flat_map(|last| meeting::candidates(last, &listed, now)));
    list
}

fn candidate(known: &CandidateStatus, way: Option<&Way>, interfaces: &BTreeMap<u32, String>) -> Candidate {
    let (state, answer) = judge(&known.answer, way);
    Candidate {
        carrier: known.carrier.map(|carrier| carrier.as_str().to_owned()),
        endpoint: Some(known.endpoint.clone()),
        remote: known.remote.map(|remote| remote.to_string()),
        interface: way.and_then(|way| interface(interfaces, &way.path)),
        state,
        last_try_ms: known.tried.map(whole_millis),
        answer,
        rtt_ms: way.and_then(|way| way.rtt).map(millis),
    }
}

/// What is known of a path is newer than what came of dialling it.
fn judge(answer: &Answer, way: Option<&Way>) -> (CandidateState, Option<String>) {
    match (way, answer) {
        (Some(way), _) if way.in_use => (CandidateState::InUse, None),
        (Some(way), _) if way.validated => (CandidateState::Standby, None),
        (_, Answer::Failed(why)) => (CandidateState::Failed, Some(why.clone())),
        (_, Answer::Up) => (CandidateState::Failed, Some("it does not answer any more".to_owned())),
        (_, Answer::Pending) => (CandidateState::Trying, None),
        (_, Answer::Untried) => (CandidateState::Untried, None),
        (_, Answer::NotNeeded) => {
            (CandidateState::NotNeeded, Some("something better stood already".to_owned()))
        }
    }
}

/// Every way of every peer, as `passes` counts it: whether it worked.
struct Tried {
    carrier: CarrierKind,
    ipv6: bool,
    worked: bool,
}

pub(crate) fn netcheck(
    node: &Node,
    listeners: &[Listener],
    (port_mapping, finding): (PortMapping, Finding),
    now: Instant,
) -> Netcheck {
    let peers = node.peers(now);
    let tried: Vec<_> = peers.iter().flat_map(|peer| tried(&node.ways(&peer.node, now))).collect();
    let views = node.views(now);
    let own = own_addresses(listeners);
    let datagrams: Vec<_> =
        views.iter().filter(|(view, _)| view.carrier == CarrierKind::Udp && view.seen.is_ipv4()).collect();
    let (nat, nat_text) = nat(node.reach().mapping[0], datagrams.last().map(|(view, _)| view.seen));
    Netcheck {
        carriers: CarrierKind::ALL.map(|carrier| check_carrier(carrier, &tried, &peers, listeners)).to_vec(),
        ipv4: check_family(false, &tried, &peers, &own),
        ipv6: check_family(true, &tried, &peers, &own),
        reflected: views.iter().map(reflected).collect(),
        nat,
        nat_text,
        port_mapping,
        finding,
    }
}

fn tried(ways: &Ways) -> Vec<Tried> {
    let judged = |known: &CandidateStatus| {
        let (carrier, remote) = known.carrier.zip(known.remote)?;
        let worked = match known.answer {
            Answer::Up | Answer::NotNeeded => true,
            Answer::Failed(_) => false,
            Answer::Pending | Answer::Untried => return None,
        };
        let path = ways.paths.iter().any(|way| (way.path.carrier, way.path.remote) == (carrier, remote));
        (!path).then_some(Tried { carrier, ipv6: remote.is_ipv6(), worked })
    };
    let paths = ways.paths.iter().map(|way| Tried {
        carrier: way.path.carrier,
        ipv6: way.path.remote.is_ipv6(),
        worked: way.validated,
    });
    paths.chain(ways.candidates.iter().filter_map(judged)).collect()
}

fn passes<'a>(tried: impl Iterator<Item = &'a Tried>) -> Option<bool> {
    tried.fold(None, |passes, way| Some(passes.unwrap_or(false) || way.worked))
}

fn check_carrier(
    carrier: CarrierKind,
    tried: &[Tried],
    peers: &[PeerStatus],
    listeners: &[Listener],
) -> CarrierCheck {
    let of = || tried.iter().filter(|way| way.carrier == carrier);
    CarrierCheck {
        carrier: carrier.as_str().to_owned(),
        listening: listeners.iter().any(|listener| listener.carrier == carrier.as_str()),
        links: peers.iter().filter(|peer| peer.path.is_some_and(|path| path.carrier == carrier)).count()
            as u64,
        worked: of().filter(|way| way.worked).count() as u64,
        failed: of().filter(|way| !way.worked).count() as u64,
        passes: passes(of()),
    }
}

fn check_family(ipv6: bool, tried: &[Tried], peers: &[PeerStatus], own: &[SocketAddr]) -> FamilyCheck {
    let mut addresses: Vec<_> =
        own.iter().filter(|at| at.is_ipv6() == ipv6).map(|at| at.ip().to_string()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    let over = |peer: &&PeerStatus| peer.path.is_some_and(|path| path.remote.is_ipv6() == ipv6);
    FamilyCheck {
        addresses,
        links: peers.iter().filter(over).count() as u64,
        passes: passes(tried.iter().filter(|way| way.ipv6 == ipv6)),
    }
}

fn own_addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().flat_map(|listener| &listener.endpoints).filter_map(|text| text.parse().ok()).collect()
}

fn reflected((view, age): &(View, Duration)) -> Reflected {
    Reflected {
        address: view.seen.to_string(),
        carrier: view.carrier.as_str().to_owned(),
        node_id: view.peer.to_string(),
        age_ms: whole_millis(*age),
    }
}

/// What is in front of our IPv4 sockets. `seen`: where the last neighbour sees our datagrams come from, since
/// only they show how a translator maps: a stream leaves from another port each time.
fn nat(mapping: Mapping, seen: Option<SocketAddr>) -> (Nat, String) {
    let Some(seen) = seen else {
        return (Nat::Unknown, "no peer has said how it sees this node over IPv4 and UDP".to_owned());
    };
    match mapping {
        Mapping::Open => (Nat::None, format!("peers see this host's own address {}", seen.ip())),
        Mapping::Unknown | Mapping::Other(_) => {
            (Nat::Some, "there is a NAT; another peer over UDP would show of which kind".to_owned())
        }
        Mapping::EndpointIndependent => {
            let text = "there is a NAT with one address and port towards every peer: direct links can be had";
            (Nat::EndpointIndependent, text.to_owned())
        }
        Mapping::AddressDependent | Mapping::AddressAndPortDependent => {
            let text = "there is a NAT with another port towards each peer: direct paths to nodes behind a NAT \
                        take longer to find, and to one of the same kind only relays lead, unless a router \
                        passes on a port";
            (Nat::EndpointDependent, text.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_micros(60_000_000);

    fn remote(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn path(carrier: CarrierKind) -> PathAddr {
        PathAddr { carrier, local: 1, remote: remote("192.0.2.1:7") }
    }

    fn known(carrier: CarrierKind, answer: Answer) -> CandidateStatus {
        CandidateStatus {
            carrier: Some(carrier),
            endpoint: "hub.example:7".into(),
            remote: Some(remote("192.0.2.1:7")),
            tried: Some(Duration::from_secs(3)),
            answer,
        }
    }

    fn way(carrier: CarrierKind, in_use: bool, validated: bool) -> Way {
        Way { path: path(carrier), in_use, validated, rtt: None }
    }

    fn ways(paths: Vec<Way>, candidates: Vec<CandidateStatus>) -> Ways {
        Ways { paths, candidates, dialled: true, next_try: None }
    }

    fn codes(reasons: &[Reason]) -> Vec<&str> {
        reasons.iter().map(|reason| reason.code.as_str()).collect()
    }

    #[test]
    fn each_situation_has_its_reason() {
        let failed = || Answer::Failed("no answer".into());
        let udp = ways(vec![way(CarrierKind::Udp, true, true)], vec![known(CarrierKind::Udp, Answer::Up)]);
        assert_eq!(codes(&reasons(&udp, Some(path(CarrierKind::Udp)), None, None, NOW)), ["direct"]);
        let tcp = ways(
            vec![way(CarrierKind::Tcp, true, true), way(CarrierKind::Udp, false, false)],
            vec![known(CarrierKind::Udp, failed()), known(CarrierKind::Tcp, Answer::Up)],
        );
        let why = reasons(&tcp, Some(path(CarrierKind::Tcp)), None, None, NOW);
        assert_eq!(codes(&why), ["better_failed"]);
        assert!(why[0].text.contains("udp did not answer") && why[0].fix.contains("firewall"));
        let inbound = Ways { dialled: false, ..ways(vec![way(CarrierKind::Udp, true, true)], Vec::new()) };
        let why = reasons(&inbound, Some(path(CarrierKind::Udp)), None, None, NOW);
        assert_eq!(codes(&why), ["direct", "opened_by_peer"]);
        let stranger = Ways { dialled: false, ..ways(Vec::new(), Vec::new()) };
        assert_eq!(codes(&reasons(&stranger, None, None, None, NOW)), ["no_route", "no_address"]);
        let met = |last| Meeting {
            enabled: true,
            own: Mapping::Open,
            last,
            scattered: false,
            relays_nearer: false,
            next: None,
        };
        let via = || Some("bob".to_owned());
        let why = reasons(&stranger, None, via(), Some(&met(None)), NOW);
        assert_eq!(codes(&why), ["relayed", "quiet"]);
        let peer = Ways { dialled: true, ..stranger };
        let why = reasons(&peer, None, via(), Some(&met(None)), NOW);
        assert_eq!(codes(&why), ["relayed", "trying"], "its link is what there is to mend");
        let lost = ways(Vec::new(), vec![known(CarrierKind::Udp, failed())]);
        assert_eq!(codes(&reasons(&lost, None, None, None, NOW)), ["no_route", "candidates_failed"]);
        let trying = ways(Vec::new(), vec![known(CarrierKind::Udp, Answer::Pending)]);
        assert_eq!(codes(&reasons(&trying, None, None, None, NOW)), ["no_route", "trying"]);
    }

    #[test]
    fn every_way_is_listed_once_with_what_is_newest_of_it() {
        let all = ways(
            vec![way(CarrierKind::Tcp, true, true), way(CarrierKind::Wss, false, true)],
            vec![known(CarrierKind::Udp, Answer::Up), known(CarrierKind::Tcp, Answer::Pending)],
        );
        let list = candidates(&all, None, &BTreeMap::new(), NOW);
        let states: Vec<_> = list.iter().map(|known| (known.carrier.as_deref(), known.state)).collect();
        let expected = [
            (Some("udp"), CandidateState::Failed),
            (Some("tcp"), CandidateState::InUse),
            (Some("wss"), CandidateState::Standby),
        ];
        assert_eq!(states, expected);
        assert_eq!(list[2].endpoint, None, "the far end opened it");
    }

    #[test]
    fn one_address_is_listed_once_for_each_uplink() {
        let mut other = way(CarrierKind::Udp, false, true);
        other.path.local = 65_536;
        let all =
            ways(vec![way(CarrierKind::Udp, true, true), other], vec![known(CarrierKind::Udp, Answer::Up)]);
        let interfaces = BTreeMap::from([(1, "wan".to_owned()), (65_536, "lte".to_owned())]);
        let list = candidates(&all, None, &interfaces, NOW);
        let shown: Vec<_> = list.iter().map(|known| (known.interface.as_deref(), known.state)).collect();
        assert_eq!(shown, [(Some("wan"), CandidateState::InUse), (Some("lte"), CandidateState::Standby)]);
        assert!(list.iter().all(|known| known.endpoint.as_deref() == Some("hub.example:7")));
    }

    #[test]
    fn a_nat_is_told_by_how_it_maps() {
        let of = |mapping| nat(mapping, Some(remote("192.0.2.9:1000"))).0;
        assert_eq!(nat(Mapping::Unknown, None).0, Nat::Unknown);
        assert_eq!(of(Mapping::Open), Nat::None);
        assert_eq!(of(Mapping::Unknown), Nat::Some);
        assert_eq!(of(Mapping::EndpointIndependent), Nat::EndpointIndependent);
        assert_eq!(of(Mapping::AddressDependent), Nat::EndpointDependent);
    }
}
