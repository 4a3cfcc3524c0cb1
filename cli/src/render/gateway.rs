//! `gateway` as text.

use serde_json::Value;
use sinew_control::api::{
    AnswerState, GatewayCertificate, GatewayDrained, GatewayNames, GatewayProbed, GatewayRegistrar,
    GatewayService, GatewayStatus,
};

use super::table::{
    Column::{Number, Text},
    draw,
};
use super::units::{age, bytes, maybe, printable, rtt, short};

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A date without its time.
fn day(text: &str) -> String {
    text.split('T').next().unwrap_or(text).to_owned()
}

/// `gateway ls`.
pub(crate) fn services(status: &GatewayStatus, wide: bool) -> String {
    let mut columns = vec![Text("HOST"), Text("MODE"), Text("NETWORK"), Text("BACKENDS"), Text("STATE")];
    if wide {
        columns.extend([Text("PATHS"), Text("AUTHOR"), Text("SERVICE"), Text("SINCE"), Text("EXPIRES")]);
    }
    columns.extend([
        Text("CERTIFICATE"),
        Number("OPEN"),
        Number("REQUESTS"),
        Number("5XX"),
        Number("RX"),
        Number("TX"),
    ]);
    let row = |one: &GatewayService| {
        let network = one.network.clone().unwrap_or_else(|| short(&one.network_id));
        let mut row =
            vec![one.host.clone(), one.mode.as_str().to_owned(), network, backends(one), state(one)];
        if wide {
            row.extend([or_dash(one.paths.join(",")), one.author.clone(), one.service.clone()]);
            row.extend([one.since.clone(), one.expires.clone()]);
        }
        let requests = one.requests.values().sum::<u64>() + one.streams;
        let failed = one.requests.get("5xx").copied().unwrap_or_default();
        row.push(maybe(one.certificate_expiry.as_deref().map(day)));
        row.extend([one.connections.to_string(), requests.to_string(), failed.to_string()]);
        row.extend([bytes(one.rx_bytes), bytes(one.tx_bytes)]);
        row
    };
    let table = match status.services.is_empty() {
        true => "nothing is published through this gateway\n".to_owned(),
        false => draw(&columns, status.services.iter().map(row)),
    };
    table + &registrar(status.registrar.as_ref(), wide)
}

/// Who decides on the names, and how old its list is; nothing where this gateway does.
fn registrar(registrar: Option<&GatewayRegistrar>, wide: bool) -> String {
    let Some(GatewayRegistrar { node_id, age_ms, problem, .. }) = registrar else { return String::new() };
    let node = if wide { node_id.clone() } else { short(node_id) };
    let heard = age_ms.map_or_else(|| "never heard".to_owned(), |ms| format!("list heard {} ago", age(ms)));
    let problem = problem.as_ref().map(|problem| format!("; {}", printable(problem))).unwrap_or_default();
    format!("names by {node}: {heard}{problem}\n")
}

fn backends(service: &GatewayService) -> String {
    let one = |backend: &sinew_control::api::GatewayBackend| {
        let weight = if backend.weight <= 1 { String::new() } else { format!("*{}", backend.weight) };
        let state = if backend.healthy && backend.weight > 0 {
            String::new()
        } else {
            format!(" ({})", backend.condition)
        };
        format!("{}{weight}{state}", backend.addr)
    };
    or_dash(service.backends.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// The worst of its hosts, in a word.
fn state(service: &GatewayService) -> String {
    let worst = service.hosts.iter().find(|host| host.state != AnswerState::Live);
    worst.map_or_else(|| "live".to_owned(), |host| host.code.clone())
}

/// `gateway probe`.
pub(crate) fn probed(probed: &GatewayProbed, wide: bool) -> String {
    let columns = [Text("BACKEND"), Text("NODE"), Number("CONNECT"), Text("RESULT")];
    let row = |probe: &sinew_control::api::BackendProbe| {
        let node = probe.node_id.as_deref().map(|node| if wide { node.to_owned() } else { short(node) });
        let result = probe.error.clone().unwrap_or_else(|| "ok".to_owned());
        vec![probe.addr.clone(), maybe(node), rtt(probe.connect_ms), result]
    };
    let mut text = draw(&columns, probed.probes.iter().map(row));
    for host in probed.service.hosts.iter().filter(|host| host.state != AnswerState::Live) {
        text.push_str(&format!("{}: {}\n", printable(&host.host), printable(&host.text)));
        for dns in &host.dns {
            text.push_str(&format!(
                "  {}. {} {}\n",
                printable(&dns.name),
                printable(&dns.kind),
                printable(&dns.value)
            ));
        }
    }
    text
}

/// `gateway drain`.
pub(crate) fn drained(drained: &GatewayDrained, undo: bool) -> String {
    let what = if undo { "gets clients again" } else { "gets no new clients" };
    let mut text: String =
        drained.backends.iter().map(|one| format!("{}: {what}\n", printable(one))).collect();
    if !undo {
        text.push_str(&format!("{} under way\n", drained.active));
    }
    text
}

/// `gateway cert`.
pub(crate) fn certificates(all: &[GatewayCertificate]) -> String {
    let columns = [Text("HOSTS"), Text("SOURCE"), Text("FROM"), Text("UNTIL"), Text("PROBLEM")];
    let row = |one: &GatewayCertificate| {
        let date = |text: &Option<String>| maybe(text.as_deref().map(day));
        let problem = maybe(one.problem.clone());
        vec![one.hosts.join(","), one.source.clone(), date(&one.not_before), date(&one.not_after), problem]
    };
    draw(&columns, all.iter().map(row))
}

/// `gateway name ls`.
pub(crate) fn names(names: &GatewayNames, wide: bool) -> String {
    let whole = |id: &str| if wide { id.to_owned() } else { short(id) };
    let columns = [Text("NAME"), Text("KIND"), Text("NETWORK"), Text("STATE"), Text("SINCE"), Text("UNTIL")];
    let mut rows = Vec::new();
    for name in &names.names {
        let state = match (&name.transfer_to, &name.transfer_at) {
            (Some(to), Some(at)) => format!("goes to {} on {}", whole(to), day(at)),
            _ if name.in_use => "in use".to_owned(),
            _ => "held".to_owned(),
        };
        let until = if name.in_use { "-".to_owned() } else { day(&name.until) };
        rows.push(vec![
            name.host.clone(),
            "name".to_owned(),
            whole(&name.network_id),
            state,
            day(&name.since),
            until,
        ]);
    }
    for domain in &names.domains {
        let network = whole(&domain.network_id);
        let row =
            [domain.domain.clone(), "domain".to_owned(), network, domain.state.clone(), day(&domain.since)];
        rows.push(row.into_iter().chain(["-".to_owned()]).collect());
    }
    for port in &names.ports {
        let network = whole(&port.network_id);
        let name = format!("{}/{}", port.transport, port.port);
        rows.push(vec![
            name,
            "port".to_owned(),
            network,
            "held".to_owned(),
            day(&port.since),
            day(&port.until),
        ]);
    }
    draw(&columns, rows) + &registrar(names.registrar.as_ref(), wide)
}

/// `gateway log`: one line for each event.
pub(crate) fn log(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{}\n", printable(&event(line)))).collect()
}

fn event(line: &Value) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or("-");
    let number = |key: &str| line.get(key).and_then(Value::as_u64).unwrap_or_default();
    let time = text("time");
    let traffic = || format!("{} in, {} out", bytes(number("rx_bytes")), bytes(number("tx_bytes")));
    match text("kind") {
        "request" => {
            let error = line.get("error").and_then(Value::as_str).map(|error| format!(" {error}"));
            format!(
                "{time} {} {} {}{} {} → {}, {}{}",
                text("client"),
                text("method"),
                text("host"),
                text("path"),
                number("status"),
                text("backend"),
                traffic(),
                error.unwrap_or_default()
            )
        }
        "stream" => {
            format!(
                "{time} {} {} → {}, {}, {}",
                text("client"),
                text("service"),
                text("backend"),
                traffic(),
                text("end")
            )
        }
        "backend" => {
            let (service, backend) = (text("service"), text("backend"));
            format!("{time} {service} {backend} is {}: {}", text("condition"), text("cause"))
        }
        _ => line.to_string(),
    }
}
