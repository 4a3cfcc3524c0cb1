//! Published services as text.

use sinew_control::api::{
    AnswerState, Exposed, Publication, PublicationBackend, PublicationState, PublishMode, Unexposed,
};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{bytes, printable, short};
use crate::verbs::Applied;

/// Where people find it, as far as the gateway has said.
fn urls(publication: &Publication) -> Vec<String> {
    let Some(answer) = &publication.answer else { return Vec::new() };
    let address = answer.addresses.first().map_or("", String::as_str);
    match (publication.mode, answer.port) {
        (PublishMode::Tcp | PublishMode::Udp, Some(port)) => {
            let at = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
            vec![format!("{}://{at}:{port}", publication.mode.as_str())]
        }
        (PublishMode::Tcp | PublishMode::Udp, None) => Vec::new(),
        (_, port) => {
            let port = port.filter(|port| *port != 443).map_or_else(String::new, |port| format!(":{port}"));
            let live = answer.hosts.iter().filter(|host| host.state == AnswerState::Live);
            live.map(|host| format!("https://{}{port}", host.host)).collect()
        }
    }
}

fn backends(list: &[PublicationBackend]) -> String {
    let one = |backend: &PublicationBackend| {
        let weight = if backend.weight == 1 { String::new() } else { format!("*{}", backend.weight) };
        let gone = if backend.node.is_none() { " (gone)" } else { "" };
        format!("{}:{}{weight}{gone}", backend.workload, backend.port)
    };
    list.iter().map(one).collect::<Vec<_>>().join(",")
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// `expose ls`.
pub(crate) fn list(services: &[Publication], wide: bool) -> String {
    let mut columns = vec![Text("NAME"), Text("NETWORK"), Text("MODE"), Text("BACKENDS"), Text("VIA")];
    if wide {
        columns.extend([Text("ID"), Text("HOSTS"), Text("EXPIRES")]);
    }
    columns.extend([Text("STATE"), Text("PUBLIC"), Number("OPEN"), Number("RX"), Number("TX"), Text("WHY")]);
    let row = |one: &Publication| {
        let gateway = if wide { one.gateway.clone() } else { short(&one.gateway) };
        let mut row = vec![one.name.clone(), one.network.clone(), one.mode.as_str().to_owned()];
        row.extend([backends(&one.backends), gateway]);
        if wide {
            row.extend([one.id.clone(), or_dash(one.hosts.join(",")), one.expires.clone()]);
        }
        row.extend([one.state.as_str().to_owned(), or_dash(urls(one).join(","))]);
        row.extend([one.connections.to_string(), bytes(one.rx_bytes), bytes(one.tx_bytes)]);
        row.push(or_dash(one.text.clone()));
        row
    };
    draw(&columns, services.iter().map(row))
}

/// `expose`.
pub(crate) fn exposed(exposed: &Exposed) -> String {
    let one = &exposed.publication;
    let mut text = format!("{} `{}` in {}: {}\n", exposed.change, one.name, one.network, one.state.as_str());
    for line in exposed.differences.iter().filter(|line| *line != "new") {
        text.push_str(&format!("  {line}\n"));
    }
    for url in urls(one) {
        text.push_str(&format!("  {url}\n"));
    }
    if !one.text.is_empty() {
        text.push_str(&format!("  {}\n", one.text));
    }
    text.push_str(&to_do(one));
    printable_lines(&text)
}

/// What the author has to do for the hosts that are not live.
fn to_do(one: &Publication) -> String {
    let mut text = String::new();
    let hosts = one.answer.iter().flat_map(|answer| &answer.hosts);
    for host in hosts.filter(|host| host.state != AnswerState::Live) {
        let why = if host.text.is_empty() { &host.code } else { &host.text };
        text.push_str(&format!("  {}: {}\n", host.host, why));
        for record in &host.dns {
            text.push_str(&format!("    set {} {} \"{}\"\n", record.name, record.kind, record.value));
        }
    }
    if one.state == PublicationState::Sending {
        text.push_str("  the gateway has not answered yet; `sinew expose ls` shows when it has\n");
    }
    text
}

/// A gateway's words are another node's: nothing in them moves the cursor.
fn printable_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", printable(line))).collect()
}

/// `unexpose`.
pub(crate) fn unexposed(gone: &Unexposed) -> String {
    let word = match gone.confirmed {
        true => "its gateway has taken it down",
        false => "cut off here; its gateway has not confirmed it yet and is told again",
    };
    format!("took back `{}` in {}: {word}\n", printable(&gone.name), printable(&gone.network))
}

/// `apply`.
pub(crate) fn applied(applied: &Applied) -> String {
    let mut text = String::new();
    for one in &applied.services {
        if applied.dry_run {
            let publication = &one.publication;
            text.push_str(&format!("{} `{}` in {}\n", one.change, publication.name, publication.network));
            for line in one.differences.iter().filter(|line| *line != "new") {
                text.push_str(&format!("  {line}\n"));
            }
        } else {
            text.push_str(&exposed(one));
        }
    }
    for gone in &applied.pruned {
        text.push_str(&format!("taken back `{}` in {}\n", gone.name, gone.network));
    }
    if text.is_empty() {
        text.push_str("the file names no service\n");
    }
    printable_lines(&text)
}
