//! `[metrics]`: where programs read this node's numbers; nowhere unless it is said.

use std::net::SocketAddr;

use super::check::overlap;
use super::diagnose::Problems;
use super::{Config, schema};

/// `[metrics]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where Prometheus text is served; none: nowhere. Whoever reaches it may read.
    pub listen: Option<SocketAddr>,
}

const KEY: &str = "metrics.listen";

pub(super) fn metrics(raw: Option<schema::Endpoint>, problems: &mut Problems<'_>) -> Metrics {
    let Some(text) = raw.and_then(|raw| raw.listen) else { return Metrics::default() };
    let listen = text.parse().ok();
    if listen.is_none() {
        problems.bad_value(KEY, format!("`{}` is not an address with port", text.escape_debug()));
    }
    Metrics { listen }
}

/// A socket that the kernel would refuse beside the others, or a port that would be handed out.
pub(super) fn collisions(config: &Config, problems: &mut Problems<'_>) {
    let Some(own) = config.metrics.listen else { return };
    let none = (&Vec::new(), &Vec::new(), None);
    let (https, http, ports) =
        config.gateway.as_ref().map_or(none, |gateway| (&gateway.https, &gateway.http, gateway.tcp_ports));
    let others = [
        ("listen.tcp", &config.listen.tcp),
        ("listen.wss", &config.listen.wss),
        ("discovery.listen", &config.discovery.listen),
        ("gateway.https", https),
        ("gateway.http", http),
    ];
    let each = others.into_iter().flat_map(|(key, list)| list.iter().map(move |addr| (key, *addr)));
    for (key, other) in each.filter(|(_, other)| overlap(own, *other)) {
        let problem = format!("{own} overlaps with {other} of {key}");
        problems.add(KEY, problem, "give one of them another port");
    }
    if ports.is_some_and(|(first, last)| (first..=last).contains(&own.port())) {
        let problem = format!("{own} lies in the range of gateway.tcp_ports");
        problems.add(KEY, problem, "take another port");
    }
}
