//! `status` and `invite`, which both read what the node says of itself.

use serde::Serialize;
use sinew_control::api::{Listener, Status};
use sinew_control::{ApiError, Exit, paths};
use sinew_types::PeerUri;

use crate::args::{Check, InviteArgs, StatusArgs};
use crate::client::Client;
use crate::output::{self, Out};
use crate::render;

pub(super) async fn run(client: &Client, out: Out, args: &StatusArgs) -> Result<Exit, ApiError> {
    let status: Status = client.get(paths::STATUS).await?;
    match args.check {
        None => {
            out.object(&status, || render::status(&status))?;
            Ok(Exit::Ok)
        }
        Some(Check::Live) => Ok(Exit::Ok),
        Some(Check::Ready) if status.ready => Ok(Exit::Ok),
        Some(Check::Ready) => Err(not_ready(&status)),
    }
}

/// The worst finding says why.
pub(super) fn not_ready(status: &Status) -> ApiError {
    let worst = status.health.iter().max_by_key(|finding| finding.severity);
    let (text, fix) = worst.map_or(("", ""), |finding| (finding.text.as_str(), finding.fix.as_str()));
    let message = if text.is_empty() { "not ready".to_owned() } else { format!("not ready: {text}") };
    ApiError::new("not_ready", Exit::Degraded, message, fix)
}

#[derive(Serialize)]
struct Invitation {
    node_id: String,
    uris: Vec<String>,
}

pub(super) async fn invite(client: &Client, out: Out, args: &InviteArgs) -> Result<Exit, ApiError> {
    let status: Status = client.get(paths::STATUS).await?;
    let uris = uris(&status.node_id, &status.listeners, args.host.as_deref());
    if uris.is_empty() {
        let hint = "name one with --host HOST, or set [listen] udp, tcp, quic or wss";
        return Err(ApiError::new(
            "no_endpoint",
            Exit::Degraded,
            "no other machine can reach this node",
            hint,
        ));
    }
    for uri in &uris {
        uri.parse::<PeerUri>().map_err(|error| ApiError::invalid(error.to_string(), ""))?;
    }
    let invitation = Invitation { node_id: status.node_id, uris };
    out.object(&invitation, || invitation.uris.iter().map(|uri| format!("{uri}\n")).collect())?;
    if !status.ready && out.format == crate::args::Format::Table {
        output::note("this node is not ready yet: `sinew status`");
    }
    Ok(Exit::Ok)
}

/// One URI for each endpoint, its carriers together, in the order of the listeners.
fn uris(node: &str, listeners: &[Listener], host: Option<&str>) -> Vec<String> {
    let mut endpoints: Vec<(String, Vec<&str>)> = Vec::new();
    for listener in listeners {
        let own = match host {
            Some(host) => {
                listener.address.rsplit_once(':').map(|(_, port)| at_host(host, port)).into_iter().collect()
            }
            None => listener.endpoints.clone(),
        };
        for endpoint in own {
            let carrier = listener.carrier.as_str();
            match endpoints.iter_mut().find(|(known, _)| *known == endpoint) {
                Some((_, carriers)) if carriers.contains(&carrier) => {}
                Some((_, carriers)) => carriers.push(carrier),
                None => endpoints.push((endpoint, vec![carrier])),
            }
        }
    }
    endpoints.iter().map(|(at, carriers)| format!("sinew://{node}@{at}?via={}", carriers.join(","))).collect()
}

fn at_host(host: &str, port: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(carrier: &str, address: &str, endpoints: &[&str]) -> Listener {
        let endpoints = endpoints.iter().map(|&e| e.to_owned()).collect();
        Listener { carrier: carrier.to_owned(), address: address.to_owned(), endpoints }
    }

    #[test]
    fn an_invitation_joins_the_carriers_of_an_endpoint() {
        let listeners = [
            listener("udp", "0.0.0.0:7463", &["10.0.0.1:7463", "192.0.2.1:7463"]),
            listener("udp", "[::]:7463", &["[2001:db8::1]:7463"]),
            listener("tcp", "0.0.0.0:7463", &["10.0.0.1:7463", "192.0.2.1:7463"]),
        ];
        assert_eq!(
            uris("N", &listeners, None),
            [
                "sinew://N@10.0.0.1:7463?via=udp,tcp",
                "sinew://N@192.0.2.1:7463?via=udp,tcp",
                "sinew://N@[2001:db8::1]:7463?via=udp",
            ]
        );
        assert_eq!(
            uris("N", &listeners, Some("relay.example.org")),
            ["sinew://N@relay.example.org:7463?via=udp,tcp"]
        );
        assert_eq!(uris("N", &listeners, Some("2001:db8::9")), ["sinew://N@[2001:db8::9]:7463?via=udp,tcp"]);
        assert!(uris("N", &[], Some("x")).is_empty());
    }
}
