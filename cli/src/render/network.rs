//! Private networks as text.

use std::path::Path;

use sinew_control::api::{
    Action, DocumentVersion, FlowVerdict, Joined, Member, Network, NetworkChanged, NetworkCreated,
    NetworkState, NetworkSummary, NetworkWorkload, PendingMember, PolicySummary,
};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{bytes, printable, short};
use crate::verbs::TestResult;

fn word(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

fn id(node: &str, wide: bool) -> String {
    if wide { node.to_owned() } else { short(node) }
}

fn version(version: Option<DocumentVersion>) -> String {
    version.map_or_else(|| "-".to_owned(), |version| format!("{}.{}", version.era, version.counter))
}

pub(crate) fn list(networks: &[NetworkSummary], wide: bool) -> String {
    let columns = [
        Text("NAME"),
        Text("ID"),
        Text("ROLE"),
        Text("STATE"),
        Text("IPV4"),
        Text("IPV6"),
        Number("VERSION"),
        Number("MEMBERS"),
        Number("UP"),
        Number("WORKLOADS"),
        Number("REQUESTS"),
    ];
    draw(
        &columns,
        networks.iter().map(|network| {
            vec![
                network.name.clone(),
                id(&network.id, wide),
                network.role.as_str().to_owned(),
                network.state.as_str().to_owned(),
                word(network.ipv4.as_ref()),
                network.ipv6.clone(),
                version(network.version),
                network.members_total.to_string(),
                network.members_up.to_string(),
                network.workloads_total.to_string(),
                network.requests.to_string(),
            ]
        }),
    )
}

/// One network as a screen.
pub(crate) fn show(network: &Network, wide: bool) -> String {
    let summary = &network.summary;
    let join =
        |parts: [Option<&String>; 2]| parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(", ");
    let version_at = network.version_at.as_ref().map_or_else(String::new, |at| format!(", signed {at}"));
    let lines = [
        ("network", summary.name.clone()),
        ("id", summary.id.clone()),
        ("role", summary.role.as_str().to_owned()),
        ("state", summary.state.as_str().to_owned()),
        ("addresses", join([summary.ipv4.as_ref(), Some(&summary.ipv6)])),
        ("here", join([network.subnet_ipv4.as_ref(), network.subnet_ipv6.as_ref()])),
        ("version", version(summary.version) + &version_at),
        ("documents", format!("{}, {}", network.documents, bytes(network.documents_bytes))),
        ("policy", policy(&network.policy, wide)),
        ("members", format!("{} of {} up", summary.members_up, summary.members_total)),
        ("workloads", summary.workloads_total.to_string()),
    ];
    let value = |text: &str| if text.is_empty() { "-".to_owned() } else { printable(text) };
    let mut text: String = lines.iter().map(|(key, text)| format!("{key:<11}{}\n", value(text))).collect();
    if summary.requests > 0 {
        text.push_str(&format!("{:<11}{} wait for `sinew network approve`\n", "requests", summary.requests));
    }
    text.push_str(&format!("\n{}", members(&network.members, wide)));
    if !network.workloads.is_empty() {
        text.push_str(&format!("\n{}", workloads(&network.workloads, wide)));
    }
    for finding in &network.health {
        let (severity, code) = (finding.severity.as_str(), printable(&finding.code));
        text.push_str(&format!("\n{severity}: {} [{code}]\n", printable(&finding.text)));
        if !finding.fix.is_empty() {
            text.push_str(&format!("  {}\n", printable(&finding.fix)));
        }
    }
    text
}

fn policy(policy: &PolicySummary, wide: bool) -> String {
    let default = policy.default.as_str();
    match (&policy.author, &policy.issued) {
        (Some(author), Some(issued)) => {
            format!("{default} by default, {} rules, set by {} at {issued}", policy.rules, id(author, wide))
        }
        _ => format!("{default} by default, never set"),
    }
}

pub(crate) fn members(members: &[Member], wide: bool) -> String {
    let columns = [
        Text("NODE"),
        Text("NAME"),
        Text("ROLE"),
        Text("GROUPS"),
        Text("IPV4"),
        Text("IPV6"),
        Text("UP"),
        Number("VERSION"),
        Number("DRIFT"),
        Text("LAST SEEN"),
        Text("EXPIRES"),
        Number("WORKLOADS"),
    ];
    draw(
        &columns,
        members.iter().map(|member| {
            vec![
                id(&member.node_id, wide),
                word(member.name.as_ref()),
                member.role.as_str().to_owned(),
                groups(&member.groups),
                word(member.ipv4.as_ref()),
                word(member.ipv6.as_ref()),
                if member.this {
                    "this"
                } else if member.up {
                    "yes"
                } else {
                    "no"
                }
                .to_owned(),
                version(member.version),
                member.drift.map_or_else(|| "-".to_owned(), |drift| drift.to_string()),
                word(member.last_seen.as_ref()),
                member.expires.clone().unwrap_or_else(|| "never".to_owned()),
                member.workloads.to_string(),
            ]
        }),
    )
}

fn groups(groups: &[String]) -> String {
    if groups.is_empty() { "-".to_owned() } else { groups.join(",") }
}

fn workloads(workloads: &[NetworkWorkload], wide: bool) -> String {
    let columns = [Text("WORKLOAD"), Text("NODE"), Text("ADDRESSES"), Text("GROUPS"), Text("NAME IN DNS")];
    draw(
        &columns,
        workloads.iter().map(|workload| {
            vec![
                workload.name.clone(),
                id(&workload.node_id, wide),
                workload.addresses.join(","),
                groups(&workload.groups),
                workload.dns.clone(),
            ]
        }),
    )
}

pub(crate) fn created(network: &NetworkCreated, owner_key: &Path) -> String {
    format!(
        "network    {}\nid         {}\naddresses  {}\nowner key  {}\n",
        network.name,
        network.id,
        [network.ipv4.as_ref(), Some(&network.ipv6)]
            .into_iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join(", "),
        owner_key.display()
    )
}

pub(crate) fn requests(requests: &[PendingMember]) -> String {
    if requests.is_empty() {
        return "nobody waits\n".to_owned();
    }
    // Whole keys: they are what has to be compared before somebody is let in.
    draw(
        &[Text("NODE"), Text("ADDRESS")],
        requests.iter().map(|request| vec![request.node_id.clone(), request.address.clone()]),
    )
}

pub(crate) fn joined(joined: &Joined) -> String {
    let subnets = [joined.subnet_ipv4.as_ref(), joined.subnet_ipv6.as_ref()];
    let subnets: Vec<_> = subnets.into_iter().flatten().cloned().collect();
    match joined.state {
        NetworkState::Ready => format!("joined {}: this node has {}\n", joined.name, subnets.join(", ")),
        NetworkState::Joining => format!("{}: an admin has to approve this node first\n", joined.name),
        state => format!("{}: {}\n", joined.name, state.as_str()),
    }
}

/// What became of a change, and how far the news has come.
pub(crate) fn changed(changed: &NetworkChanged, done: &str, already: &str) -> String {
    let what = if changed.changed { done } else { already };
    let who = changed.subject.as_ref().unwrap_or(&changed.network);
    let reached = match (changed.changed, changed.members) {
        (true, 1..) => format!("; {} of {} other members know", changed.reached, changed.members),
        _ => String::new(),
    };
    format!("{who} {what}{reached}\n")
}

/// A flow and what happens to it: `web to db tcp/5432 is denied`.
pub(crate) fn flow(verdict: &FlowVerdict) -> String {
    let what = if verdict.allowed { "allowed" } else { "denied" };
    format!("{} to {} {} is {what}", verdict.from, verdict.to, verdict.service)
}

pub(crate) fn verdict(verdict: &FlowVerdict, wide: bool) -> String {
    let rule = verdict.rule.map_or_else(|| "-".to_owned(), |rule| rule.to_string());
    let head = format!(
        "flow     {}\nverdict  {}\nrule     {rule}\nwhy      {}\n",
        printable(&format!("{} to {} {}", verdict.from, verdict.to, verdict.service)),
        if verdict.allowed { "allowed" } else { "denied" },
        printable(&verdict.why)
    );
    if verdict.ends.is_empty() {
        return head;
    }
    let columns = [Text("END"), Text("NODE"), Text("VERDICT"), Number("VERSION")];
    let ends = draw(
        &columns,
        verdict.ends.iter().map(|end| {
            let what = if end.allowed { Action::Allow } else { Action::Deny };
            vec![end.side.clone(), id(&end.node_id, wide), what.as_str().to_owned(), version(end.version)]
        }),
    );
    format!("{head}\n{ends}")
}

pub(crate) fn tests(tests: &[TestResult]) -> String {
    let columns = [Number("LINE"), Text("TEST"), Text("FLOW"), Text("EXPECTED"), Text("WHY")];
    draw(
        &columns,
        tests.iter().map(|test| {
            vec![
                test.line.to_string(),
                if test.ok { "ok" } else { "FAILED" }.to_owned(),
                flow(&test.verdict),
                test.expect.as_str().to_owned(),
                test.verdict.why.clone(),
            ]
        }),
    )
}
