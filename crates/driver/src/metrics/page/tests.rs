use super::samples::{certificate, gateway, id, node, peer, service, workloads};
use super::*;

fn lines(page: &Page) -> Vec<String> {
    page.text().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn full() -> Page {
    let (mut page, mut ledger, node) = (Page::default(), Ledger::default(), node());
    ledger.note(&node.peers);
    page.node(&node, &ledger);
    page.part("workloads", true);
    page.workloads(&workloads());
    page.part("gateway", false);
    page.gateway(&gateway());
    page
}

#[test]
fn each_number_is_where_the_manual_says() {
    let lines = lines(&full());
    let (one, two, own) = (id(1), id(2), id(9));
    for expected in [
        format!("sinew_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
        format!(
            "sinew_node_info{{node_id=\"{own}\",address=\"{}\",name=\"gw-1\",class=\"router\"}} 1",
            own.address()
        ),
        "sinew_uptime_seconds 2.5".into(),
        "sinew_ready 1".into(),
        "sinew_health{code=\"no_peer\",severity=\"warning\"} 1".into(),
        "sinew_peers{state=\"up\"} 1".into(),
        "sinew_peers{state=\"connecting\"} 1".into(),
        format!(
            "sinew_peer_info{{node_id=\"{one}\",address=\"{}\",name=\"a \\\"quoted\\\" name\",carrier=\"udp\",\
             source=\"configured\"}} 1",
            one.address()
        ),
        format!("sinew_peer_up{{node_id=\"{one}\"}} 1"),
        format!("sinew_peer_up{{node_id=\"{two}\"}} 0"),
        format!("sinew_peer_rtt_seconds{{node_id=\"{one}\"}} 0.0015"),
        format!("sinew_peer_jitter_seconds{{node_id=\"{one}\"}} 0.00025"),
        format!("sinew_peer_loss_ratio{{node_id=\"{one}\"}} 0.02"),
        format!("sinew_peer_mtu_bytes{{node_id=\"{one}\"}} 1400"),
        format!("sinew_peer_bytes_total{{node_id=\"{one}\",carrier=\"udp\",direction=\"sent\"}} 2000"),
        format!("sinew_peer_packets_total{{node_id=\"{one}\",carrier=\"udp\",direction=\"received\"}} 10"),
        "sinew_drops_total{reason=\"no_route\"} 3".into(),
        "sinew_drops_total{reason=\"forged\"} 0".into(),
        "sinew_routes 7".into(),
        "sinew_route_changes_total 4".into(),
        "sinew_sessions 1".into(),
        "sinew_handshakes_total{result=\"new\"} 1".into(),
        "sinew_control_bytes_total{type=\"update\",direction=\"sent\"} 0".into(),
        "sinew_workloads{state=\"up\"} 1".into(),
        "sinew_workload_bytes_total{id=\"w1\",workload=\"web\",network=\"shop\",direction=\"sent\"} 22"
            .into(),
        "sinew_gateway_connections_total 5".into(),
        "sinew_gateway_refused_total{reason=\"bad_hello\"} 2".into(),
        "sinew_gateway_requests_total{host=\"app.gw.test\",class=\"2xx\"} 7".into(),
        "sinew_gateway_requests_total{host=\"app.gw.test\",class=\"4xx\"} 1".into(),
        "sinew_gateway_active{host=\"app.gw.test\"} 2".into(),
        "sinew_gateway_streams_total{host=\"app.gw.test\"} 4".into(),
        "sinew_gateway_bytes_total{host=\"app.gw.test\",direction=\"received\"} 60".into(),
        "sinew_gateway_backends{host=\"app.gw.test\",condition=\"well\"} 2".into(),
        "sinew_gateway_certificate_expiry_timestamp_seconds{host=\"app.gw.test\",source=\"file\"} 86400"
            .into(),
        "sinew_gateway_names_heard_timestamp_seconds 86400".into(),
        "sinew_scrape_success{part=\"gateway\"} 0".into(),
        "sinew_scrape_left_out{what=\"peers\"} 0".into(),
    ] {
        assert!(lines.contains(&expected), "{expected}\nis not in\n{}", lines.join("\n"));
    }
    assert!(!lines.iter().any(|line| line.contains("rtt_seconds") && line.contains(&two.to_string())));
}

#[test]
fn every_family_is_said_once_there_is_something_to_say() {
    let text = full().text();
    for family in Family::ALL {
        assert!(text.contains(&format!("# TYPE {} ", family.name())), "{}", family.name());
    }
}

#[test]
fn a_node_without_anything_says_zero_where_nothing_has_happened() {
    let mut page = Page::default();
    page.node(&NodeNumbers { peers: Vec::new(), ..node() }, &Ledger::default());
    let lines = lines(&page);
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("sinew_drops_total{")).count(),
        DropReason::ALL.len()
    );
    assert!(lines.contains(&"sinew_peers{state=\"up\"} 0".to_owned()));
    assert!(lines.contains(&"sinew_handshakes_total{result=\"no_answer\"} 0".to_owned()));
}

#[test]
fn strangers_cannot_make_it_long_and_are_told_of() {
    let hosts: Vec<_> = (0..SHOWN + 5).map(|number| format!("h{number:04}.gw.test")).collect();
    let mut numbers = GatewayNumbers {
        requests: hosts.iter().map(|host| (host.clone(), [0; 5])).collect(),
        services: hosts.iter().map(|host| service(host)).collect(),
        ..gateway()
    };
    numbers.certificates.push(certificate("idle.test", "2030-01-01T00:00:00Z"));
    let mut page = Page::default();
    page.gateway(&numbers);
    let lines = lines(&page);
    let active = lines.iter().filter(|line| line.starts_with("sinew_gateway_active{")).count();
    // The sample's certificate is for a host of its own.
    assert_eq!(active, SHOWN);
    assert!(lines.contains(&"sinew_scrape_left_out{what=\"hosts\"} 7".to_owned()), "{:?}", lines.last());
    assert!(!lines.iter().any(|line| line.contains("idle.test")));

    let many = (0..=u8::MAX).flat_map(|number| [peer(number), peer(number), peer(number), peer(number)]);
    let mut page = Page::default();
    page.peers(&NodeNumbers { peers: many.collect(), ..node() }, &Ledger::default());
    let text = page.text();
    assert!(text.contains("sinew_scrape_left_out{what=\"peers\"} 24\n"), "{text}");
    assert!(text.contains("sinew_peers{state=\"up\"} 1024\n"), "a sum is of all");
}

#[test]
fn a_host_that_a_publisher_made_up_stays_inside_its_quotes() {
    let evil = "x\"} 1\nsinew_ready 0 \\";
    let mut page = Page::default();
    page.gateway(&GatewayNumbers {
        services: vec![service(evil)],
        requests: vec![(evil.into(), [0; 5])],
        ..gateway()
    });
    let text = page.text();
    assert!(text.contains("{host=\"x\\\"} 1\\nsinew_ready 0 \\\\\"}"), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("sinew_ready")));
}
