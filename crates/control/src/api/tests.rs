//! The names of fields are the outside interface: each list here is that of the manual.

use serde_json::{Value, json};
use sinew_types::{DropReason, Identity};

use super::*;
use crate::{ApiError, Exit, Versioned};

/// Reads a whole object of the manual and writes it again: nothing may be added, lost or renamed.
#[track_caller]
fn keeps<T: serde::de::DeserializeOwned + serde::Serialize>(value: Value) {
    let typed: T = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), value);
}

#[test]
fn status_and_key_have_the_fields_of_the_manual() {
    keeps::<Versioned<Status>>(json!({
        "schema_version": 1, "node_id": "n", "address": "a", "name": null, "class": "router", "version": "v",
        "uptime_ms": 1, "ready": true, "peers_up": 1, "peers_total": 2, "routes": 3, "sessions": 4,
        "tun": "sinew0", "mtu": 1416,
        "offload": {"tun_read": "on", "tun_write": null, "udp_send": "off", "udp_receive": "on", "notes": ["n"]},
        "listeners": [{"carrier": "udp", "address": "0.0.0.0:1", "endpoints": ["10.0.0.1:1"]}],
        "reach": {"direct": true, "reflexive": ["192.0.2.1:7463"], "mapping_ipv4": "endpoint-independent",
            "mapping_ipv6": "unknown"},
        "health": [{"code": "c", "severity": "warning", "text": "t", "fix": "f"}],
    }));
    let key = serde_json::to_value(Key::of(&Identity::from_seed([1; 32]))).unwrap();
    let mut names: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["address", "node_id", "peer_id"]);
}

#[test]
fn peers_have_the_fields_of_the_manual() {
    keeps::<Versioned<Peers>>(json!({"schema_version": 1, "peers": [{
        "node_id": "n", "address": "a", "name": "x", "endpoint": "1.2.3.4:5", "carrier": "udp",
        "interface": "wan", "direction": "out", "state": "up", "configured": true, "source": "configured", "rtt_ms": 1.5, "jitter_ms": 0.5, "loss": 0.25,
        "mtu": 1416, "rx_bytes": 1, "tx_bytes": 2, "rx_rate": 3, "tx_rate": 4, "limit": 5, "uptime_ms": 5,
        "handshake_age_ms": 6, "cipher": "aes-256-gcm", "version": "1", "last_error": null,
    }]}));
}

#[test]
fn why_and_netcheck_have_the_fields_of_the_manual() {
    keeps::<Versioned<Why>>(json!({
        "schema_version": 1, "node_id": "n", "address": "a", "name": null, "reachable": true, "direct": true,
        "path": "tcp/1.2.3.4:5", "carrier": "tcp", "next_try_ms": 7,
        "reasons": [{"code": "better_failed", "text": "t", "fix": "f"}],
        "candidates": [{"carrier": "udp", "endpoint": "hub.example:5", "remote": "1.2.3.4:5",
                        "interface": null, "state": "failed", "last_try_ms": 3, "answer": "no answer", "rtt_ms": null}],
    }));
    keeps::<Versioned<Netcheck>>(json!({
        "schema_version": 1,
        "carriers": [{"carrier": "udp", "listening": true, "links": 1, "worked": 2, "failed": 3, "passes": true}],
        "ipv4": {"addresses": ["10.0.0.1"], "links": 1, "passes": null},
        "ipv6": {"addresses": [], "links": 0, "passes": false},
        "reflected": [{"address": "1.2.3.4:5", "carrier": "udp", "node_id": "n", "age_ms": 1}],
        "nat": "endpoint_dependent", "nat_text": "t",
        "finding": {
            "target": 8, "chosen": 3, "known": {"lan": 2}, "remembered": 1, "refused": {"forged": 1}, "places": ["10.0.0.1:7463 (udp)"],
            "shared": true, "lan": {"interfaces": ["eth0"], "heard": 4, "dropped": 0},
            "directory": {
                "peer_id": "12D3", "peers": 5, "connected": 2, "serving": false, "reachability": "unknown",
                "published": true, "records": 6, "refused": {},
            },
        },
        "port_mapping": {"state": "mapped", "protocol": "pcp", "gateway": "10.0.0.254",
                         "outside": "1.2.3.4:5", "lifetime_ms": 3600000},
    }));
}

#[test]
fn routes_and_sessions_have_the_fields_of_the_manual() {
    keeps::<Versioned<Routes>>(json!({"schema_version": 1, "routes": [{
        "destination": "d", "node_id": "n", "next_hop": null, "metric_ms": 4, "hops": 1, "seqno": 7,
        "feasible": true, "selected": true, "age_ms": 9, "origin": "learned",
    }]}));
    keeps::<Versioned<Sessions>>(json!({"schema_version": 1, "sessions": [{
        "node_id": "n", "address": "a", "path": "udp/1.2.3.4:5", "direct": true, "rtt_ms": 1.0, "cipher": "c",
        "rekey_age_ms": 2, "rx_bytes": 3, "tx_bytes": 4, "drops": 5,
    }]}));
}

#[test]
fn probes_have_the_fields_of_the_manual() {
    keeps::<Versioned<Trace>>(json!({
        "schema_version": 1, "node_id": "n", "address": "a", "reached": true, "error": null,
        "hops": [{"node_id": "n", "address": "a", "name": null, "carrier": "tcp", "rtt_ms": 1.0, "loss": 0.0,
                  "mtu": 1280}],
    }));
    keeps::<Versioned<PingSummary>>(json!({
        "schema_version": 1, "sent": 3, "received": 2, "min_ms": 1.0, "avg_ms": 1.5, "max_ms": 2.0,
    }));
}

#[test]
fn networks_have_the_fields_of_the_manual() {
    let version = json!({"era": 1, "counter": 17});
    let mut network = json!({
        "schema_version": 1, "id": "i", "name": "shop", "role": "admin", "state": "ready", "ipv4": "10.20.0.0/16",
        "ipv6": "fd00::/48", "version": version, "members_total": 2, "members_up": 1, "workloads_total": 1, "requests": 0,
    });
    keeps::<Versioned<NetworkSummary>>(network.clone());
    let more = json!({
        "subnet_ipv4": "10.20.0.0/24", "subnet_ipv6": null, "version_at": "t", "documents": 5,
        "documents_bytes": 900, "members": [{
            "node_id": "n", "address": "a", "name": null, "this": true, "role": "member", "groups": ["g"],
            "ipv4": null, "ipv6": null, "up": true, "version": version, "drift": -1, "last_seen": null,
            "expires": null, "workloads": 1,
        }],
        "workloads": [{"name": "w", "dns": "d", "addresses": ["a"], "node_id": "n", "groups": [], "key": null}],
        "policy": {"default": "deny", "rules": 2, "author": null, "issued": null}, "health": [],
    });
    network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    keeps::<Versioned<Network>>(network);
    keeps::<Versioned<Invitation>>(json!({
        "schema_version": 1, "ticket": "sinewnet1x", "mode": "counted", "network": "shop", "uses": 1,
        "expires": "t", "acceptors": ["n"], "note": "n",
    }));
    keeps::<Versioned<PolicyVerdicts>>(json!({
        "schema_version": 1, "warnings": [{"rule": 1, "text": "t"}], "verdicts": [{
            "from": "web", "to": "db", "service": "tcp/5432", "allowed": false, "rule": 2, "why": "w",
            "ends": [{"node_id": "n", "side": "to", "allowed": false, "version": version}],
        }],
    }));
}

#[test]
fn workloads_and_names_have_the_fields_of_the_manual() {
    keeps::<Versioned<Workloads>>(json!({"schema_version": 1, "workloads": [{
        "id": "i", "name": "web", "network": "shop", "addresses": ["10.20.0.2"], "netns": "/run/x", "pid": 7,
        "state": "up", "rx_bytes": 1, "tx_bytes": 2, "interface": "sinew0", "mtu": 1380, "by": "run",
        "tag": null, "key": null, "lease_until": null, "resolvers": ["10.20.0.1"], "search": ["s"],
    }]}));
    keeps::<Versioned<DnsAnswer>>(json!({
        "schema_version": 1, "name": "web.shop.sinew.internal", "status": "NOERROR", "source": "network shop",
        "why": "w", "duration_ms": 0.5,
        "records": [{"name": "n", "type": "A", "ttl_ms": 5000, "data": "10.20.0.2", "network": "shop",
                     "node_id": null}],
    }));
    keeps::<Versioned<DnsStatus>>(json!({
        "schema_version": 1, "enabled": true, "domain": "sinew.internal", "host": "systemd-resolved",
        "upstreams": ["192.0.2.53"], "forward": [{"domain": "corp.example", "servers": []}], "health": [],
        "servers": [{"scope": "host", "address": "a", "networks": [], "search": [], "queries": 3, "answered": 1,
                     "forwarded": 1, "failed": 1}],
    }));
}

#[test]
fn what_comes_back_on_the_attach_socket_is_an_attachment_or_a_refusal() {
    let answer = AttachAnswer {
        id: "i".into(),
        name: "web".into(),
        interfaces: vec![],
        resolvers: vec!["10.20.0.1".parse().unwrap()],
        search: vec!["shop.sinew.internal".into()],
    };
    let read = |value: &Value| attach_answer(value.to_string().as_bytes());
    let good = serde_json::to_value(Versioned::new(&answer)).unwrap();
    assert_eq!(read(&good), Ok(answer));
    let refusal = ApiError::workload_exists("web");
    assert_eq!(read(&serde_json::to_value(Versioned::new(&refusal)).unwrap()), Err(refusal));
    let mut later = good;
    later["schema_version"] = 2.into();
    assert!(read(&later).unwrap_err().message.contains("schema version 2"));
    assert_eq!(attach_answer(b"").unwrap_err().code, "bad_answer");
}

#[test]
fn a_ticket_never_shows_in_a_log() {
    let request = JoinRequest { ticket: "sinewnet1secret".into(), name: None, timeout_ms: 1 };
    assert!(!format!("{request:?}").contains("secret"));
}

#[test]
fn a_body_stands_beside_its_version() {
    let drops = Drops { total: 3, drops: vec![DropCount { reason: "forged".into(), count: 3 }] };
    let text = serde_json::to_string(&Versioned::new(drops)).unwrap();
    assert_eq!(text, r#"{"schema_version":1,"total":3,"drops":[{"reason":"forged","count":3}]}"#);
    let back: Versioned<Drops> = serde_json::from_str(&text).unwrap();
    assert_eq!((back.schema_version, back.body.total), (1, 3));
}

#[test]
fn requests_refuse_what_they_do_not_know() {
    assert!(serde_json::from_str::<PeerAdd>(r#"{"uri":"x"}"#).is_ok());
    assert!(serde_json::from_str::<PeerAdd>(r#"{"uri":"x","svae":true}"#).is_err());
}

#[test]
fn counted_drops_become_their_words() {
    let mut counted = sinew_types::Drops::default();
    counted.add(DropReason::Replayed, 2);
    counted.count(DropReason::HopLimit);
    let drops = Drops::from(&counted);
    let words: Vec<_> = drops.drops.iter().map(|drop| (drop.reason.as_str(), drop.count)).collect();
    assert_eq!((drops.total, words), (3, vec![("replayed", 2), ("hop_limit", 1)]));
}

#[test]
fn a_summary_counts_what_came_back() {
    let mut summary = PingSummary::default();
    for (seq, rtt_ms) in [(1, Some(2.0)), (2, None), (3, Some(4.0)), (4, Some(6.0))] {
        let node_id = String::new();
        summary.add(&PingProbe { seq, node_id, rtt_ms, path: None, direct: true, error: None });
    }
    let expected =
        PingSummary { sent: 4, received: 3, min_ms: Some(2.0), avg_ms: Some(4.0), max_ms: Some(6.0) };
    assert_eq!(summary, expected);
}

#[test]
fn each_failure_has_its_exit_code_and_http_status() {
    for (error, exit, status) in [
        (ApiError::bad_request(""), Exit::Usage, 400),
        (ApiError::invalid("", ""), Exit::Usage, 400),
        (ApiError::bad_config(""), Exit::Usage, 400),
        (ApiError::unknown_target(""), Exit::Unknown, 404),
        (ApiError::unknown_network(""), Exit::Unknown, 404),
        (ApiError::unknown_member("", ""), Exit::Unknown, 404),
        (ApiError::unknown_workload(""), Exit::Unknown, 404),
        (ApiError::unknown_name(""), Exit::Unknown, 404),
        (ApiError::ambiguous_network("", ""), Exit::Usage, 400),
        (ApiError::network_exists(""), Exit::Usage, 400),
        (ApiError::workload_exists(""), Exit::Usage, 400),
        (ApiError::not_admin("", ""), Exit::Denied, 403),
        (ApiError::refused(""), Exit::Denied, 403),
        (ApiError::network_not_ready("", ""), Exit::Degraded, 503),
        (ApiError::bad_ticket(""), Exit::Usage, 400),
        (ApiError::join_refused(""), Exit::Denied, 403),
        (ApiError::join_unanswered(""), Exit::Unreachable, 504),
        (ApiError::bad_namespace(""), Exit::Usage, 400),
        (ApiError::unreachable(""), Exit::Unreachable, 504),
        (ApiError::timed_out(""), Exit::Unreachable, 504),
        (ApiError::denied(""), Exit::Denied, 403),
        (ApiError::unsupported(""), Exit::Usage, 501),
        (ApiError::no_such_resource(""), Exit::Usage, 404),
        (ApiError::internal(""), Exit::Degraded, 500),
    ] {
        assert_eq!((Exit::from_code(error.exit), error.http_status()), (exit, status), "{}", error.code);
    }
    for code in 0..=7 {
        assert_eq!(Exit::from_code(code).code(), code);
    }
}

#[test]
fn of_a_daemon_with_a_folder_of_its_own_the_folder_is_hidden_and_of_others_the_sockets() {
    let hidden = |control: &str| leading_out(std::path::Path::new(control));
    assert_eq!(hidden("/run/sinew/sinew.sock"), [std::path::Path::new("/run/sinew")]);
    let sockets = ["/tmp/alice.sock", "/tmp/alice.attach.sock"].map(std::path::Path::new);
    assert_eq!(hidden("/tmp/alice.sock"), sockets);
}

#[test]
fn daemons_with_their_sockets_in_one_folder_have_paths_of_their_own() {
    for (control, attach, pin, tombs) in [
        ("/run/sinew/sinew.sock", "/run/sinew/attach.sock", "/run/sinew/netns/w", "/run/sinew/detached"),
        ("/x/alice.sock", "/x/alice.attach.sock", "/x/alice.netns/w", "/x/alice.detached"),
    ] {
        let control = std::path::Path::new(control);
        assert_eq!(attach_socket(control), std::path::Path::new(attach));
        assert_eq!(pinned_namespace(control, "w"), std::path::Path::new(pin));
        assert_eq!(pins(control).parent(), control.parent());
        assert_eq!(tombstones(control), std::path::Path::new(tombs));
    }
}
