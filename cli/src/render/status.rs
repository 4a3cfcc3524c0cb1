//! `status` as one screen.

use sinew_control::api::{Offload, Reach, Status};

use super::units::{age, printable};

/// Identity, interface, numbers, and what is wrong.
pub(crate) fn status(status: &Status) -> String {
    let listeners: Vec<_> = status
        .listeners
        .iter()
        .map(|listener| format!("{} {}", listener.carrier, listener.address))
        .collect();
    let interface = match (&status.tun, status.mtu) {
        (Some(name), Some(mtu)) => format!("{name}, mtu {mtu}"),
        (Some(name), None) => name.clone(),
        (None, _) => "none".to_owned(),
    };
    let lines = [
        ("node", status.node_id.clone()),
        ("address", status.address.clone()),
        ("name", status.name.clone().unwrap_or_else(|| "-".to_owned())),
        ("class", status.class.clone()),
        ("version", format!("{}, up {}", status.version, age(status.uptime_ms))),
        ("interface", interface),
        ("offload", offload(&status.offload)),
        ("listening", if listeners.is_empty() { "-".to_owned() } else { listeners.join(", ") }),
        ("seen at", seen_at(&status.reach)),
        ("peers", format!("{} of {} up", status.peers_up, status.peers_total)),
        ("routes", status.routes.to_string()),
        ("sessions", status.sessions.to_string()),
        ("ready", if status.ready { "yes" } else { "no" }.to_owned()),
    ];
    let mut text: String =
        lines.iter().map(|(key, value)| format!("{key:<11}{}\n", printable(value))).collect();
    for note in &status.offload.notes {
        text.push_str(&format!("\noffload: {}\n", printable(note)));
    }
    for finding in &status.health {
        let (severity, code) = (finding.severity.as_str(), printable(&finding.code));
        text.push_str(&format!("\n{severity}: {} [{code}]\n", printable(&finding.text)));
        if !finding.fix.is_empty() {
            text.push_str(&format!("  {}\n", printable(&finding.fix)));
        }
    }
    text
}

/// Where others see the node; on a public address that is where it is.
fn seen_at(reach: &Reach) -> String {
    let mapping = [("IPv4", &reach.mapping_ipv4), ("IPv6", &reach.mapping_ipv6)];
    let told = mapping.iter().filter(|(_, mapping)| !["none", "unknown", ""].contains(&mapping.as_str()));
    let told: Vec<_> = told.map(|(family, mapping)| format!("{family} mapping {mapping}")).collect();
    let addresses = reach.reflexive.join(", ");
    match (addresses.is_empty(), told.is_empty()) {
        (true, _) => "-".to_owned(),
        (false, true) => addresses,
        (false, false) => format!("{addresses}; {}", told.join(", ")),
    }
}

fn offload(offload: &Offload) -> String {
    let tun = [("tun read", &offload.tun_read), ("tun write", &offload.tun_write)];
    let tun = tun.into_iter().filter_map(|(name, state)| Some((name, state.as_ref()?)));
    let udp = [("udp send", &offload.udp_send), ("udp receive", &offload.udp_receive)];
    let all: Vec<_> = tun.chain(udp).map(|(name, state)| format!("{name} {state}")).collect();
    all.join(", ")
}
