//! DEL and GC: nothing may stay, whatever was lost before.

use std::path::Path;

use sinew_control::ApiError;
use sinew_control::api::{pinned_namespace, tombstones};

use crate::support::*;

#[test]
fn del_succeeds_whatever_is_gone_already() {
    let fake = Fake::start(vec![detached()]);
    let ran = fake.run(Call::new("DEL"));
    assert!(ran.ok && ran.out.is_empty(), "{}", ran.out);
    assert_eq!(fake.sent_to("POST /v1/workloads/detach"), [format!(r#"{{"workload":"{TAG}"}}"#)]);
    let unknown = Fake::start(vec![refused("POST /v1/workloads/detach", ApiError::unknown_workload(TAG))]);
    for netns in [None, Some(Path::new("/run/netns/long-gone"))] {
        assert!(unknown.run(Call { netns, ..Call::new("DEL") }).ok);
    }
    let denied = Fake::start(vec![refused("POST /v1/workloads/detach", ApiError::denied("no"))]);
    assert_eq!(denied.run(Call::new("DEL")).code(), 100);
}

#[test]
fn del_without_a_daemon_succeeds_and_leaves_word() {
    let dir = tempfile::tempdir().expect("room");
    let socket = dir.path().join("run/sinew.sock");
    // After a reboot not even the directory is there.
    for netns in [None, Some(Path::new("/run/netns/long-gone"))] {
        let ran = run(&socket, Call { netns, ..Call::new("DEL") });
        assert!(ran.ok, "{}", ran.out);
    }
    assert!(tombstones(&socket).join(TAG).exists());
}

#[test]
fn del_without_a_daemon_takes_the_pin_and_the_interface_away() {
    let Some(ns) = Namespace::create() else { return };
    let fake = Fake::start(vec![ok(ATTACH, attached())]);
    assert!(fake.run(Call { netns: Some(&ns.path()), ..Call::new("ADD") }).ok);
    let pin = pinned_namespace(&fake.socket(), "w1");
    std::fs::create_dir_all(pin.parent().expect("it has one")).expect("room");
    std::fs::write(&pin, "").expect("room");
    let mounted = std::process::Command::new("mount").arg("--bind").arg(ns.path()).arg(&pin).status();
    assert!(mounted.expect("mount runs").success());
    // The daemon is gone, and the runtime has forgotten the namespace's name: the pin leads there.
    let socket = fake.socket();
    std::fs::remove_file(&socket).expect("it is ours");
    let ran = run(&socket, Call { netns: None, ..Call::new("DEL") });
    assert!(ran.ok, "{}", ran.out);
    assert!(!pin.exists(), "the pin holds the namespace");
    assert!(!ns.ip("-br link").contains("eth0"), "{}", ns.ip("-br link"));
    assert!(tombstones(&socket).join(TAG).exists());
}

#[test]
fn gc_ends_what_this_network_made_and_the_runtime_does_not_know() {
    let stale = "cni:pods:dead:eth0";
    let answers = vec![workloads(&[TAG, stale, "cni:others:dead:eth0", "mine"]), detached()];
    let fake = Fake::start(answers.clone());
    let valid = r#","cni.dev/valid-attachments":[{"containerID":"c0ffee","ifname":"eth0"}]"#;
    let ran = fake.run(Call { config: valid, version: "1.1.0", ..Call::new("GC") });
    assert!(ran.ok, "{}", ran.out);
    assert_eq!(fake.sent_to("POST /v1/workloads/detach"), [format!(r#"{{"workload":"{stale}"}}"#)]);
    let nothing_said = Fake::start(answers);
    assert_eq!(nothing_said.run(Call { version: "1.1.0", ..Call::new("GC") }).code(), 7);
    assert!(nothing_said.sent_to("POST /v1/workloads/detach").is_empty());
}
