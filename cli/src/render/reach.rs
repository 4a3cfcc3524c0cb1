//! `why`, `netcheck` and `doctor` for people.

use std::collections::BTreeMap;

use sinew_control::api::{Candidate, FamilyCheck, Finding, Netcheck, Why};
use sinew_control::doctor::Diagnosis;

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{age, maybe_age, printable, rtt, short};

fn word(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), |text| printable(text))
}

fn passes(answer: Option<bool>) -> &'static str {
    match answer {
        Some(true) => "yes",
        Some(false) => "no answer",
        None => "not tried",
    }
}

pub(crate) fn why(why: &Why, wide: bool) -> String {
    let node = if wide { why.node_id.clone() } else { short(&why.node_id) };
    let name = why.name.as_ref().map(|name| format!(" ({})", printable(name))).unwrap_or_default();
    let path = why.path.as_ref().map_or_else(
        || if why.reachable { "this node".to_owned() } else { "unreachable".to_owned() },
        |path| printable(path),
    );
    let mut text = format!("{node}{name}: {path}\n");
    for reason in &why.reasons {
        text.push_str(&format!("  {} [{}]\n", printable(&reason.text), printable(&reason.code)));
        if !reason.fix.is_empty() {
            text.push_str(&format!("    {}\n", printable(&reason.fix)));
        }
    }
    if let Some(next) = why.next_try_ms {
        text.push_str(&format!("  next try in {}\n", age(next)));
    }
    if !why.candidates.is_empty() {
        text.push('\n');
        text.push_str(&candidates(&why.candidates));
    }
    text
}

fn candidates(candidates: &[Candidate]) -> String {
    let columns = [
        Text("CARRIER"),
        Text("ENDPOINT"),
        Text("ADDRESS"),
        Text("BY"),
        Text("STATE"),
        Number("RTT"),
        Number("LAST TRY"),
        Text("ANSWER"),
    ];
    draw(
        &columns,
        candidates.iter().map(|known| {
            vec![
                word(known.carrier.as_ref()),
                word(known.endpoint.as_ref()),
                word(known.remote.as_ref()),
                word(known.interface.as_ref()),
                known.state.as_str().to_owned(),
                rtt(known.rtt_ms),
                maybe_age(known.last_try_ms),
                word(known.answer.as_ref()),
            ]
        }),
    )
}

pub(crate) fn netcheck(check: &Netcheck) -> String {
    let columns = [
        Text("CARRIER"),
        Text("LISTENING"),
        Text("PASSES"),
        Number("LINKS"),
        Number("WORKED"),
        Number("FAILED"),
    ];
    let mut text = draw(
        &columns,
        check.carriers.iter().map(|carrier| {
            vec![
                carrier.carrier.clone(),
                if carrier.listening { "yes" } else { "no" }.to_owned(),
                passes(carrier.passes).to_owned(),
                carrier.links.to_string(),
                carrier.worked.to_string(),
                carrier.failed.to_string(),
            ]
        }),
    );
    let family = |name: &str, family: &FamilyCheck| {
        let addresses =
            if family.addresses.is_empty() { "none".to_owned() } else { family.addresses.join(", ") };
        format!("{name:<10}{addresses}; links {}, passes: {}\n", family.links, passes(family.passes))
    };
    text.push('\n');
    text.push_str(&family("ipv4", &check.ipv4));
    text.push_str(&family("ipv6", &check.ipv6));
    text.push_str(&format!("{:<10}{} [{}]\n", "nat", printable(&check.nat_text), check.nat.as_str()));
    let mapping = &check.port_mapping;
    let outside = mapping.outside.as_ref().map(|outside| {
        let by = mapping.protocol.as_deref().unwrap_or("-");
        format!(": {} by {}", printable(outside), printable(by))
    });
    let (said, code) = (mapping.state.text(), mapping.state.as_str());
    text.push_str(&format!("{:<10}{said}{} [{code}]\n", "router", outside.unwrap_or_default()));
    for seen in &check.reflected {
        let (carrier, node) = (printable(&seen.carrier), short(&seen.node_id));
        text.push_str(&format!("{:<10}{carrier}/{} by {node}\n", "seen as", printable(&seen.address)));
    }
    text.push_str(&finding(&check.finding));
    text
}

/// How other nodes are found, one line for each way.
fn finding(finding: &Finding) -> String {
    let counts = |counts: &BTreeMap<String, u64>| {
        let parts: Vec<_> = counts.iter().map(|(word, n)| format!("{} {n}", printable(word))).collect();
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    };
    let mut text = format!(
        "{:<10}keeps {} links by itself, {} stand; knows {}; remembers {}\n",
        "finding",
        finding.target,
        finding.chosen,
        counts(&finding.known),
        finding.remembered
    );
    if !finding.refused.is_empty() {
        text.push_str(&format!("{:<10}{}\n", "refused", counts(&finding.refused)));
    }
    let told = if finding.shared { "neighbours may tell others" } else { "neighbours keep it to themselves" };
    let places = if finding.places.is_empty() { "nowhere".to_owned() } else { finding.places.join(", ") };
    text.push_str(&format!("{:<10}{}; {told}\n", "told", printable(&places)));
    let lan = finding.lan.as_ref().map_or("off".to_owned(), |lan| match lan.interfaces.is_empty() {
        true => "no interface to speak on".to_owned(),
        false => format!("on {}; heard {}", printable(&lan.interfaces.join(", ")), lan.heard),
    });
    text.push_str(&format!("{:<10}{lan}\n", "lan"));
    let directory = finding.directory.as_ref().map_or("off".to_owned(), |directory| {
        format!(
            "{} known, {} connected; its port is {}; {}; record {}",
            directory.peers,
            directory.connected,
            printable(&directory.reachability),
            if directory.serving { "answers others" } else { "asks only" },
            if directory.published { "published" } else { "not published" }
        )
    });
    text.push_str(&format!("{:<10}{directory}\n", "directory"));
    text
}

pub(crate) fn diagnosis(diagnosis: &Diagnosis) -> String {
    if diagnosis.findings.is_empty() {
        return "nothing is wrong that shows from here\n".to_owned();
    }
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let (severity, code) = (finding.severity.as_str(), printable(&finding.code));
        text.push_str(&format!("{severity}: {} [{code}]\n", printable(&finding.text)));
        text.push_str(&format!("  cause:  {}\n", printable(&finding.cause)));
        if !finding.fix.is_empty() {
            text.push_str(&format!("  remedy: {}\n", printable(&finding.fix)));
        }
    }
    text
}
