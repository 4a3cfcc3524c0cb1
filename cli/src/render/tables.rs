//! One function per verb's answer.

use sinew_control::api::{
    Drops, Key, Peer, PeerChanged, PingProbe, PingSummary, Route, RouteAnswer, Session, Trace,
};
use sinew_control::config::{Change, Effect};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{bytes, maybe, maybe_age, printable, rate, rtt, share, short};

fn word(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

fn id(node: &str, wide: bool) -> String {
    if wide { node.to_owned() } else { short(node) }
}

pub(crate) fn key(key: &Key) -> String {
    format!("node     {}\naddress  {}\npeer id  {}\n", key.node_id, key.address, key.peer_id)
}

pub(crate) fn peers(peers: &[Peer], wide: bool) -> String {
    if wide { peers_wide(peers) } else { peers_narrow(peers) }
}

fn peers_narrow(peers: &[Peer]) -> String {
    let columns = [
        Text("NODE"),
        Text("NAME"),
        Text("STATE"),
        Text("PATH"),
        Number("RTT"),
        Number("LOSS"),
        Number("MTU"),
        Number("RX"),
        Number("TX"),
        Number("UP"),
        Text("LAST ERROR"),
    ];
    draw(
        &columns,
        peers.iter().map(|peer| {
            vec![
                short(&peer.node_id),
                word(peer.name.as_ref()),
                peer.state.as_str().to_owned(),
                path(peer),
                rtt(peer.rtt_ms),
                share(peer.loss),
                maybe(peer.mtu),
                bytes(peer.rx_bytes),
                bytes(peer.tx_bytes),
                maybe_age(peer.uptime_ms),
                word(peer.last_error.as_ref()),
            ]
        }),
    )
}

fn path(peer: &Peer) -> String {
    match (&peer.carrier, &peer.endpoint) {
        (Some(carrier), Some(endpoint)) => format!("{carrier}/{endpoint}"),
        (None, Some(endpoint)) => endpoint.clone(),
        _ => "-".to_owned(),
    }
}

fn peers_wide(peers: &[Peer]) -> String {
    let columns = [
        Text("NODE"),
        Text("ADDRESS"),
        Text("NAME"),
        Text("STATE"),
        Text("DIR"),
        Text("SOURCE"),
        Text("PATH"),
        Number("RTT"),
        Number("JITTER"),
        Number("LOSS"),
        Number("MTU"),
        Number("RX"),
        Number("TX"),
        Number("RX RATE"),
        Number("TX RATE"),
        Number("LIMIT"),
        Number("UP"),
        Number("HANDSHAKE"),
        Text("CIPHER"),
        Text("VERSION"),
        Text("LAST ERROR"),
    ];
    draw(
        &columns,
        peers.iter().map(|peer| {
            vec![
                peer.node_id.clone(),
                peer.address.clone(),
                word(peer.name.as_ref()),
                peer.state.as_str().to_owned(),
                peer.direction.as_str().to_owned(),
                printable(&peer.source),
                path(peer),
                rtt(peer.rtt_ms),
                rtt(peer.jitter_ms),
                share(peer.loss),
                maybe(peer.mtu),
                bytes(peer.rx_bytes),
                bytes(peer.tx_bytes),
                rate(peer.rx_rate),
                rate(peer.tx_rate),
                peer.limit.map_or_else(|| "-".to_owned(), rate),
                maybe_age(peer.uptime_ms),
                maybe_age(peer.handshake_age_ms),
                word(peer.cipher.as_ref()),
                word(peer.version.as_ref()),
                word(peer.last_error.as_ref()),
            ]
        }),
    )
}

fn yes(so: bool) -> String {
    if so { "yes" } else { "no" }.to_owned()
}

pub(crate) fn peer_changed(changed: &PeerChanged, verb: &str, already: &str) -> String {
    let what = if changed.changed { verb } else { already };
    let saved = changed.saved.as_ref().map_or_else(String::new, |file| format!(", saved in {file}"));
    format!("{} {what}{saved}\n", changed.node_id)
}

pub(crate) fn routes(routes: &[Route], wide: bool) -> String {
    let columns = [
        Text("DESTINATION"),
        Text("NODE"),
        Text("NEXT HOP"),
        Number("METRIC"),
        Number("HOPS"),
        Number("SEQNO"),
        Text("FEASIBLE"),
        Text("SELECTED"),
        Number("AGE"),
        Text("ORIGIN"),
    ];
    draw(
        &columns,
        routes.iter().map(|route| {
            vec![
                route.destination.clone(),
                id(&route.node_id, wide),
                route.next_hop.as_ref().map_or_else(|| "-".to_owned(), |node| id(node, wide)),
                route.metric_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms")),
                maybe(route.hops),
                route.seqno.to_string(),
                yes(route.feasible),
                yes(route.selected),
                maybe_age(Some(route.age_ms)),
                route.origin.as_str().to_owned(),
            ]
        }),
    )
}

pub(crate) fn route_answer(answer: &RouteAnswer, wide: bool) -> String {
    format!(
        "destination  {}\nnode         {}\nreachable    {}\ndecision     {}\n\n{}",
        answer.destination,
        answer.node_id,
        yes(answer.reachable),
        printable(&answer.decision),
        routes(&answer.routes, wide)
    )
}

pub(crate) fn sessions(sessions: &[Session], wide: bool) -> String {
    let columns = [
        Text("NODE"),
        Text("ADDRESS"),
        Text("PATH"),
        Text("DIRECT"),
        Number("RTT"),
        Text("CIPHER"),
        Number("KEY AGE"),
        Number("RX"),
        Number("TX"),
        Number("DROPS"),
    ];
    draw(
        &columns,
        sessions.iter().map(|session| {
            vec![
                id(&session.node_id, wide),
                session.address.clone(),
                session.path.as_deref().map_or_else(|| "-".to_owned(), |path| short_path(path, wide)),
                yes(session.direct),
                rtt(session.rtt_ms),
                word(session.cipher.as_ref()),
                maybe_age(session.rekey_age_ms),
                bytes(session.rx_bytes),
                bytes(session.tx_bytes),
                session.drops.to_string(),
            ]
        }),
    )
}

/// `via NODEID` with the id cut; other paths as they are.
fn short_path(path: &str, wide: bool) -> String {
    match path.strip_prefix("via ") {
        Some(node) if !wide => format!("via {}", short(node)),
        _ => path.to_owned(),
    }
}

pub(crate) fn probe(probe: &PingProbe, wide: bool) -> String {
    let Some(ms) = probe.rtt_ms else {
        let why = probe.error.as_deref().unwrap_or("no answer");
        return format!("seq={} lost: {}\n", probe.seq, printable(why));
    };
    let path = probe.path.as_deref().map_or_else(|| "-".to_owned(), |path| short_path(path, wide));
    let kind = if probe.direct { "direct" } else { "relayed" };
    format!("seq={} rtt={} path={} ({kind})\n", probe.seq, rtt(Some(ms)), printable(&path))
}

pub(crate) fn summary(summary: &PingSummary) -> String {
    let lost = summary.sent.saturating_sub(summary.received);
    let percent = if summary.sent == 0 { 0.0 } else { f64::from(lost) / f64::from(summary.sent) };
    let mut text =
        format!("{} sent, {} received, {} lost", summary.sent, summary.received, share(Some(percent)));
    if summary.received > 0 {
        let times = [summary.min_ms, summary.avg_ms, summary.max_ms].map(rtt);
        text.push_str(&format!("; min {}, avg {}, max {}", times[0], times[1], times[2]));
    }
    text + "\n"
}

/// Hops always show whole keys: they are what a trace is for.
pub(crate) fn hops(trace: &Trace) -> String {
    let columns = [
        Number("HOP"),
        Text("NODE"),
        Text("NAME"),
        Text("ADDRESS"),
        Text("CARRIER"),
        Number("RTT"),
        Number("LOSS"),
        Number("MTU"),
    ];
    draw(
        &columns,
        trace.hops.iter().enumerate().map(|(number, hop)| {
            vec![
                number.to_string(),
                hop.node_id.clone(),
                word(hop.name.as_ref()),
                hop.address.clone(),
                word(hop.carrier.as_ref()),
                rtt(hop.rtt_ms),
                share(hop.loss),
                maybe(hop.mtu),
            ]
        }),
    )
}

pub(crate) fn drops(drops: &Drops) -> String {
    if drops.drops.is_empty() {
        return "nothing was dropped\n".to_owned();
    }
    let rows = drops.drops.iter().map(|drop| vec![drop.reason.clone(), drop.count.to_string()]);
    draw(
        &[Text("REASON"), Number("PACKETS")],
        rows.chain([vec!["total".to_owned(), drops.total.to_string()]]),
    )
}

pub(crate) fn changes(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "no differences\n".to_owned();
    }
    let effect = |effect| match effect {
        Effect::Live => "live",
        Effect::Reconnects => "ends the link",
        Effect::Restart => "needs a restart",
    };
    draw(
        &[Text("KEY"), Text("OLD"), Text("NEW"), Text("EFFECT")],
        changes.iter().map(|change| {
            vec![
                change.key.clone(),
                word(change.old.as_ref()),
                word(change.new.as_ref()),
                effect(change.effect).to_owned(),
            ]
        }),
    )
}
