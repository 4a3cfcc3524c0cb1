//! Workloads and names as text.

use sinew_control::api::{AttachAnswer, Detached, DnsAnswer, DnsRecord, DnsServer, DnsStatus, Workload};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{age, bytes, maybe, printable, short};

fn word(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

pub(crate) fn list(workloads: &[Workload], wide: bool) -> String {
    if wide { list_wide(workloads) } else { list_narrow(workloads) }
}

fn list_narrow(workloads: &[Workload]) -> String {
    let columns = [
        Text("NAME"),
        Text("NETWORK"),
        Text("ADDRESSES"),
        Text("STATE"),
        Number("PID"),
        Text("BY"),
        Number("RX"),
        Number("TX"),
    ];
    draw(
        &columns,
        workloads.iter().map(|workload| {
            vec![
                workload.name.clone(),
                workload.network.clone(),
                workload.addresses.join(","),
                workload.state.as_str().to_owned(),
                maybe(workload.pid),
                workload.by.as_str().to_owned(),
                bytes(workload.rx_bytes),
                bytes(workload.tx_bytes),
            ]
        }),
    )
}

fn list_wide(workloads: &[Workload]) -> String {
    let columns = [
        Text("NAME"),
        Text("ID"),
        Text("NETWORK"),
        Text("ADDRESSES"),
        Text("INTERFACE"),
        Number("MTU"),
        Text("NETNS"),
        Text("STATE"),
        Number("PID"),
        Text("BY"),
        Text("TAG"),
        Text("KEY"),
        Text("LEASE UNTIL"),
        Text("RESOLVERS"),
        Text("SEARCH"),
        Number("RX"),
        Number("TX"),
    ];
    draw(
        &columns,
        workloads.iter().map(|workload| {
            vec![
                workload.name.clone(),
                workload.id.clone(),
                workload.network.clone(),
                workload.addresses.join(","),
                workload.interface.clone(),
                workload.mtu.to_string(),
                word(workload.netns.as_ref()),
                workload.state.as_str().to_owned(),
                maybe(workload.pid),
                workload.by.as_str().to_owned(),
                word(workload.tag.as_ref()),
                word(workload.key.as_ref()),
                word(workload.lease_until.as_ref()),
                listed(&workload.resolvers),
                listed(&workload.search),
                bytes(workload.rx_bytes),
                bytes(workload.tx_bytes),
            ]
        }),
    )
}

fn listed(texts: &[String]) -> String {
    if texts.is_empty() { "-".to_owned() } else { texts.join(",") }
}

pub(crate) fn attached(answer: &AttachAnswer) -> String {
    let columns =
        [Text("WORKLOAD"), Text("NETWORK"), Text("INTERFACE"), Text("ADDRESSES"), Number("MTU"), Text("ID")];
    draw(
        &columns,
        answer.interfaces.iter().map(|interface| {
            vec![
                answer.name.clone(),
                interface.network.clone(),
                interface.interface.clone(),
                interface.addresses.join(","),
                interface.mtu.to_string(),
                answer.id.clone(),
            ]
        }),
    )
}

pub(crate) fn detached(detached: &Detached) -> String {
    format!("{} detached\n", printable(&detached.name))
}

pub(crate) fn records(records: &[DnsRecord], wide: bool) -> String {
    let columns = [Text("NAME"), Number("TTL"), Text("TYPE"), Text("DATA"), Text("NETWORK"), Text("NODE")];
    draw(
        &columns,
        records.iter().map(|record| {
            vec![
                record.name.clone(),
                age(record.ttl_ms),
                record.kind.clone(),
                record.data.clone(),
                word(record.network.as_ref()),
                record
                    .node_id
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), |node| if wide { node.clone() } else { short(node) }),
            ]
        }),
    )
}

pub(crate) fn answer(answer: &DnsAnswer, wide: bool) -> String {
    let head = format!(
        "name    {}\nstatus  {}\nsource  {}\nwhy     {}\ntook    {:.1} ms\n",
        printable(&answer.name),
        printable(&answer.status),
        printable(&answer.source),
        printable(&answer.why),
        answer.duration_ms
    );
    if answer.records.is_empty() { head } else { format!("{head}\n{}", records(&answer.records, wide)) }
}

pub(crate) fn dns_status(status: &DnsStatus) -> String {
    let lines = [
        ("enabled", if status.enabled { "yes" } else { "no" }.to_owned()),
        ("domain", status.domain.clone()),
        ("host asks", status.host.clone()),
        ("upstreams", listed(&status.upstreams)),
    ];
    let forward = status.forward.iter().map(|rule| {
        let servers = if rule.servers.is_empty() { "nobody".to_owned() } else { rule.servers.join(", ") };
        ("forward", format!("{} to {servers}", rule.domain))
    });
    let lines = lines.into_iter().chain(forward);
    let mut text: String = lines.map(|(key, value)| format!("{key:<11}{}\n", printable(&value))).collect();
    if !status.servers.is_empty() {
        text.push_str(&format!("\n{}", servers(&status.servers)));
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

fn servers(servers: &[DnsServer]) -> String {
    let columns = [
        Text("FOR"),
        Text("ADDRESS"),
        Text("NETWORKS"),
        Text("SEARCH"),
        Number("QUERIES"),
        Number("ANSWERED"),
        Number("FORWARDED"),
        Number("FAILED"),
    ];
    draw(
        &columns,
        servers.iter().map(|server| {
            vec![
                server.scope.clone(),
                server.address.clone(),
                listed(&server.networks),
                listed(&server.search),
                server.queries.to_string(),
                server.answered.to_string(),
                server.forwarded.to_string(),
                server.failed.to_string(),
            ]
        }),
    )
}
