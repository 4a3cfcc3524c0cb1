//! Prometheus' text format, and the list of everything that is said in it.
//!
//! A family is one name with its type and its line of help. [`Sheet`] holds values by family and labels, so that no
//! series can be there twice, which scrapers refuse; written out, all is in a fixed order.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What may be done with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It only grows, until the daemon starts again.
    Counter,
    /// It is as it is.
    Gauge,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

macro_rules! families {
    ($($id:ident = $kind:ident $name:literal $help:literal;)+) => {
        /// Everything there is; docs/operating/metrics.md has a row for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Family { $($id),+ }

        impl Family {
            /// Name, kind and help.
            const fn about(self) -> (&'static str, Kind, &'static str) {
                match self { $(Self::$id => ($name, Kind::$kind, $help)),+ }
            }

            #[cfg(test)]
            pub(super) const ALL: &'static [Self] = &[$(Self::$id),+];

            #[cfg(test)]
            pub(super) const fn name(self) -> &'static str {
                self.about().0
            }
        }
    };
}

families! {
    BuildInfo = Gauge "sinew_build_info" "Version of the daemon; always 1.";
    NodeInfo = Gauge "sinew_node_info" "Who this node is; always 1.";
    Uptime = Gauge "sinew_uptime_seconds" "Time since the daemon started.";
    Ready = Gauge "sinew_ready" "1 if no peers are configured or one is up, else 0.";
    Health = Gauge "sinew_health" "Findings of `sinew status`, by code and severity.";
    Peers = Gauge "sinew_peers" "Direct peers by state.";
    PeerInfo = Gauge "sinew_peer_info" "A peer, where it comes from, and the carrier in use; always 1.";
    PeerUp = Gauge "sinew_peer_up" "1 if the link to the peer carries data, else 0.";
    PeerRtt = Gauge "sinew_peer_rtt_seconds" "Round trip to the peer, smoothed.";
    PeerJitter = Gauge "sinew_peer_jitter_seconds" "Mean deviation of the round trip.";
    PeerLoss = Gauge "sinew_peer_loss_ratio" "Share of probes lost on the way to the peer and back.";
    PeerMtu = Gauge "sinew_peer_mtu_bytes" "Largest inner packet that the path to the peer carries.";
    PeerBytes = Counter "sinew_peer_bytes_total" "Bytes of records on links, by peer, carrier and direction.";
    PeerPackets = Counter "sinew_peer_packets_total" "Records on links, by peer, carrier and direction.";
    Drops = Counter "sinew_drops_total" "Packets, records and messages that went no further, by reason.";
    Routes = Gauge "sinew_routes" "Destinations that can be reached.";
    RouteChanges = Counter "sinew_route_changes_total" "Times that a destination got another next hop, its first, or none.";
    Sessions = Gauge "sinew_sessions" "Sessions that can carry data.";
    Handshakes = Counter "sinew_handshakes_total" "Attempts to agree on keys, by how they ended.";
    ControlBytes = Counter "sinew_control_bytes_total" "Bytes of routing messages, by type and direction.";
    ControlMessages = Counter "sinew_control_messages_total" "Routing messages, by type and direction.";
    Workloads = Gauge "sinew_workloads" "Attached workloads by state, one for each network.";
    WorkloadBytes = Counter "sinew_workload_bytes_total" "Bytes of packets that a workload received and sent.";
    GatewayConnections = Counter "sinew_gateway_connections_total" "Connections of clients to the gateway.";
    GatewayRefused = Counter "sinew_gateway_refused_total" "Connections and datagrams that the gateway turned away, by reason.";
    GatewayRequests = Counter "sinew_gateway_requests_total" "Responses to clients, by host and class of status.";
    GatewayActive = Gauge "sinew_gateway_active" "Requests, streams and flows under way, by host.";
    GatewayStreams = Counter "sinew_gateway_streams_total" "Streams and flows, by host.";
    GatewayBytes = Counter "sinew_gateway_bytes_total" "Bytes of clients without headers, by host and direction.";
    GatewayBackends = Gauge "sinew_gateway_backends" "Backends by host and condition.";
    GatewayCertificate = Gauge "sinew_gateway_certificate_expiry_timestamp_seconds" "End of the certificate for a host, Unix time.";
    GatewayNamesHeard = Gauge "sinew_gateway_names_heard_timestamp_seconds" "When the registrar's list was heard last, Unix time.";
    ScrapeSuccess = Gauge "sinew_scrape_success" "1 if this part answered in time, else 0 and its numbers are missing.";
    ScrapeLeftOut = Gauge "sinew_scrape_left_out" "Peers, workloads and hosts beyond the number that is shown.";
}

/// Values by family and labels.
#[derive(Debug, Default)]
pub(super) struct Sheet(BTreeMap<Family, BTreeMap<String, f64>>);

impl Sheet {
    /// Says how much it is.
    pub(super) fn set(&mut self, family: Family, labels: &[(&str, &str)], value: f64) {
        self.0.entry(family).or_default().insert(written(labels), value);
    }

    /// Adds to what was said before under the same labels.
    pub(super) fn add(&mut self, family: Family, labels: &[(&str, &str)], value: u64) {
        *self.0.entry(family).or_default().entry(written(labels)).or_default() += value as f64;
    }

    /// The text, families in the order of the list, those without a value left out.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (family, series) in &self.0 {
            let (name, kind, help) = family.about();
            // Writing to a string cannot fail.
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {}", kind.as_str());
            for (labels, value) in series {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        }
        text
    }
}

fn written(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let mut text = String::from("{");
    for (at, (name, value)) in labels.iter().enumerate() {
        let between = if at == 0 { "" } else { "," };
        let _ = write!(text, "{between}{name}=\"");
        escape(value, &mut text);
        text.push('"');
    }
    text.push('}');
    text
}

/// Values come from other people: hosts from publishers, names from nodes.
fn escape(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => into.push_str("\\\\"),
            '"' => into.push_str("\\\""),
            '\n' => into.push_str("\\n"),
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_and_values_are_written_as_the_format_wants_them() {
        for (labels, expected) in [
            (&[][..], ""),
            (&[("state", "up")], "{state=\"up\"}"),
            (&[("a", "x\\y"), ("b", "\"q\"\n")], "{a=\"x\\\\y\",b=\"\\\"q\\\"\\n\"}"),
            (&[("name", "größe {,} =")], "{name=\"größe {,} =\"}"),
        ] {
            assert_eq!(written(labels), expected);
        }
        let mut sheet = Sheet::default();
        for (value, expected) in [
            (0.0, "0"),
            (1.5, "1.5"),
            (0.000_25, "0.00025"),
            (1e15, "1000000000000000"),
            (3e-9, "0.000000003"),
        ] {
            sheet.set(Family::Uptime, &[], value);
            let text = sheet.text();
            assert_eq!(text.lines().last(), Some(format!("sinew_uptime_seconds {expected}").as_str()));
        }
    }

    #[test]
    fn a_series_is_there_once_and_families_come_in_their_order() {
        let mut sheet = Sheet::default();
        sheet.add(Family::Drops, &[("reason", "b")], 2);
        sheet.add(Family::Drops, &[("reason", "a")], 1);
        sheet.add(Family::Drops, &[("reason", "b")], 3);
        sheet.set(Family::Ready, &[], 0.0);
        sheet.set(Family::Ready, &[], 1.0);
        let lines: Vec<_> = sheet.text().lines().map(str::to_owned).collect();
        assert_eq!(
            lines,
            [
                "# HELP sinew_ready 1 if no peers are configured or one is up, else 0.",
                "# TYPE sinew_ready gauge",
                "sinew_ready 1",
                "# HELP sinew_drops_total Packets, records and messages that went no further, by reason.",
                "# TYPE sinew_drops_total counter",
                "sinew_drops_total{reason=\"a\"} 1",
                "sinew_drops_total{reason=\"b\"} 5",
            ]
        );
    }

    #[test]
    fn names_say_what_they_count() {
        let mut names = BTreeSet::new();
        for family in Family::ALL {
            let (name, kind, help) = family.about();
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("sinew_"), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
            assert!(help.ends_with('.') && !help.contains(['\n', '\\']), "{name}: {help}");
        }
    }

    const DOCS: &str = include_str!("../../../../docs/operating/metrics.md");

    #[test]
    fn the_manual_has_a_row_for_each_family_with_its_type_and_no_other() {
        let row = |line: &'static str| {
            let mut cells = line.strip_prefix("| `sinew_")?.split(" | ");
            Some((cells.next()?.trim_end_matches('`'), cells.next()?))
        };
        let rows: Vec<_> =
            DOCS.lines().filter_map(row).map(|(name, kind)| format!("sinew_{name} {kind}")).collect();
        let mut of_code: Vec<_> = Family::ALL
            .iter()
            .map(|family| format!("{} {}", family.name(), family.about().1.as_str()))
            .collect();
        let mut of_manual = rows;
        of_code.sort();
        of_manual.sort();
        assert_eq!(of_manual, of_code);
    }
}
