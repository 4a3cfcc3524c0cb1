//! ADD, CHECK, STATUS, VERSION: what is asked of the daemon, what is answered.

use std::path::Path;

use serde_json::{Value, json};
use sinew_control::ApiError;
use sinew_control::api::NetworkState;

use crate::support::*;

const NOWHERE: &str = "/nonexistent/sinew.sock";

fn asked(fake: &Fake) -> Value {
    serde_json::from_str(fake.sent_to(ATTACH).last().expect("the daemon was asked")).expect("JSON")
}

#[test]
fn add_attaches_the_namespace_and_tells_what_the_container_has() {
    let fake = Fake::start(vec![ok(ATTACH, attached())]);
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=prod;K8S_POD_NAME=web-0";
    let config = r#","groups":["web"],"runtimeConfig":{"ips":["10.20.1.2/24"]}"#;
    let ran = fake.run(Call { args, config, ..Call::new("ADD") });
    assert!(ran.ok, "{}", ran.out);
    let result = ran.json();
    assert_eq!(result["cniVersion"], "1.0.0");
    let interface = json!({"name": "eth0", "mac": "00:00:00:00:00:00", "sandbox": "/proc/self/ns/net"});
    assert_eq!(result["interfaces"], json!([interface]));
    assert_eq!(result["ips"][0], json!({"address": "10.20.1.2/32", "interface": 0}));
    assert_eq!(result["dns"]["search"], json!(["shop.sinew.internal"]));
    let request = asked(&fake);
    assert_eq!(
        (&request["name"], &request["tag"], &request["by"]),
        (&"web-0-prod".into(), &TAG.into(), &"cni".into())
    );
    let network = json!([{"network": "shop", "ipv4": "10.20.1.2", "interface": "eth0"}]);
    assert_eq!((&request["networks"], &request["groups"]), (&network, &json!(["web"])));
}

#[test]
fn add_in_a_chain_leaves_the_runtimes_interface_alone() {
    let fake = Fake::start(vec![ok(ATTACH, attached())]);
    let previous = r#","prevResult":{"cniVersion":"1.0.0",
        "interfaces":[{"name":"eth0","mac":"aa:bb:cc:dd:ee:ff","sandbox":"/proc/self/ns/net"}],
        "ips":[{"address":"192.0.2.5/24","interface":0}]}"#;
    let result = fake.run(Call { config: previous, ..Call::new("ADD") }).json();
    assert_eq!(asked(&fake)["networks"][0]["interface"], Value::Null);
    assert_eq!(result["ips"][0]["address"], "192.0.2.5/24");
    assert_eq!(result["ips"][1], json!({"address": "10.20.1.2/32", "interface": 1}));
}

#[test]
fn add_again_replaces_what_an_interrupted_one_left() {
    let taken = refused(ATTACH, ApiError::workload_exists("web"));
    let fake = Fake::start(vec![taken.clone(), ok(ATTACH, attached()), workloads(&[TAG]), detached()]);
    let ran = fake.run(Call::new("ADD"));
    assert!(ran.ok, "{}", ran.out);
    assert_eq!(fake.sent_to("POST /v1/workloads/detach"), [format!(r#"{{"workload":"{TAG}"}}"#)]);
    // Somebody else's name is not taken away.
    let fake = Fake::start(vec![taken, workloads(&["cni:pods:other:eth0"]), detached()]);
    assert_eq!(fake.run(Call::new("ADD")).code(), 11);
    assert!(fake.sent_to("POST /v1/workloads/detach").is_empty());
}

#[test]
fn what_add_refuses_has_the_code_of_the_specification() {
    let unknown = Fake::start(vec![refused(ATTACH, ApiError::unknown_network("shop"))]);
    let ran = unknown.run(Call::new("ADD"));
    assert_eq!(ran.code(), 7);
    let error = ran.json();
    assert_eq!((&error["cniVersion"], &error["msg"]), (&"1.0.0".into(), &"no network `shop` here".into()));
    let nobody = run(Path::new(NOWHERE), Call::new("ADD"));
    assert_eq!(nobody.code(), 11);
    assert!(
        nobody.json()["msg"].as_str().is_some_and(|msg| msg.starts_with("no sinew daemon runs at")),
        "{}",
        nobody.out
    );
    for (call, code) in [
        (Call { netns: None, ..Call::new("ADD") }, 4),
        (Call { netns: Some(Path::new("/nonexistent")), ..Call::new("ADD") }, 4),
        (Call { netns: Some(Path::new("/proc/self/status")), ..Call::new("ADD") }, 4),
        (Call { args: "nonsense", ..Call::new("ADD") }, 4),
        (Call { version: "0.3.1", ..Call::new("ADD") }, 1),
        (Call { config: r#","ipam":{"type":"host-local"}"#, ..Call::new("ADD") }, 7),
        (Call { config: r#","prevResult":5"#, ..Call::new("ADD") }, 6),
        (Call { config: ",", ..Call::new("ADD") }, 6),
        (Call::new("ADDD"), 4),
    ] {
        assert_eq!(run(Path::new(NOWHERE), call).code(), code);
    }
}

#[test]
fn check_compares_the_container_with_what_add_told() {
    let Some(ns) = Namespace::create() else { return };
    let path = ns.path();
    let fake = Fake::start(vec![ok(ATTACH, attached()), workloads(&[TAG]), networks(NetworkState::Ready)]);
    let added = fake.run(Call { netns: Some(&path), ..Call::new("ADD") });
    let previous = format!(r#","prevResult":{}"#, added.out.trim());
    let check = || fake.run(Call { netns: Some(&path), config: &previous, ..Call::new("CHECK") });
    let fine = check();
    assert!(fine.ok && fine.out.is_empty(), "{}", fine.out);
    for (change, undo, said) in [
        (
            "route del 10.20.0.0/16 dev eth0",
            "route add 10.20.0.0/16 dev eth0",
            "no route to 10.20.0.0/16 over eth0",
        ),
        ("addr del 10.20.1.2/32 dev eth0", "addr add 10.20.1.2/32 dev eth0", "eth0 does not have 10.20.1.2"),
        ("link del eth0", "", "interface eth0 is not there"),
    ] {
        ns.ip(change);
        let found = check();
        assert_eq!(found.code(), 101, "{change}");
        assert!(found.out.contains(said), "{change}: {}", found.out);
        if !undo.is_empty() {
            ns.ip(undo);
        }
    }
    let without = fake.run(Call { netns: Some(&path), ..Call::new("CHECK") });
    assert_eq!(without.code(), 7, "CHECK without prevResult");
    let forgotten = Fake::start(vec![workloads(&[]), networks(NetworkState::Ready)]);
    assert_eq!(
        forgotten.run(Call { netns: Some(&path), config: &previous, ..Call::new("CHECK") }).code(),
        101
    );
}

#[test]
fn status_says_whether_a_container_could_be_added() {
    let ran = Fake::start(vec![networks(NetworkState::Ready)]).run(Call::new("STATUS"));
    assert!(ran.ok && ran.out.is_empty(), "{}", ran.out);
    assert_eq!(Fake::start(vec![networks(NetworkState::Joining)]).run(Call::new("STATUS")).code(), 50);
    assert_eq!(run(Path::new(NOWHERE), Call::new("STATUS")).code(), 50);
    let empty = ok("GET /v1/networks", sinew_control::api::Networks { networks: vec![] });
    assert_eq!(Fake::start(vec![empty]).run(Call::new("STATUS")).code(), 50);
}

#[test]
fn version_lists_what_is_spoken_and_a_person_gets_help() {
    let ran = run(Path::new(NOWHERE), Call::new("VERSION"));
    assert_eq!(ran.json()["supportedVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    assert_eq!(program(&[], "").code(), 4);
    for argument in ["--version", "--help"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sinew-cni"))
            .arg(argument)
            .output()
            .expect("it runs");
        assert!(output.status.success() && output.stdout.starts_with(b"sinew-cni "), "{argument}");
    }
}
