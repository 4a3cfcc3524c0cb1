//! Workloads: what the daemon is asked for, and what happens to the program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sinew_control::ApiError;
use sinew_control::api::{LeaseTerms, Leased};
use sinew_overlay::Lease;
use sinew_types::{Identity, NetworkId};

use crate::support::{ATTACH, Fake, answer, finished, run, samples};

/// Namespaces need root; elsewhere these tests have nothing to look at.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| std::os::unix::fs::MetadataExt::uid(&meta) == 0)
}

fn asked(fake: &Fake) -> Value {
    serde_json::from_str(fake.sent_to(ATTACH).first().expect("the daemon was asked")).expect("JSON")
}

#[test]
fn attaching_a_namespace_asks_for_what_the_arguments_say() {
    let fake = Fake::start(samples::everything());
    let networks = ["--network", "shop=10.20.1.7", "--network", "lab", "--group", "web"];
    let rest = ["--netns", "/proc/self/ns/net", "--service", "http=tcp/80"];
    let run = fake.run(&[&["workload", "attach", "web"][..], &networks, &rest].concat());
    assert_eq!(run.exit, 0, "{}", run.err);
    let request = asked(&fake);
    assert_eq!(request["services"], serde_json::json!([{"name": "http", "protocol": "tcp", "port": 80}]));
    for wrong in ["http", "http=80", "http=sctp/80", "http=tcp/0", "http=tcp/70000"] {
        let run = fake.run(&["workload", "attach", "web", "--network", "shop", "--service", wrong]);
        assert!(run.exit == 1 && run.err.contains("NAME=tcp/PORT"), "{wrong}: {}", run.err);
    }
    assert_eq!(
        (&request["schema_version"], &request["name"], &request["by"]),
        (&1.into(), &"web".into(), &"attach".into())
    );
    assert_eq!(
        (&request["networks"][0]["network"], &request["networks"][0]["ipv4"]),
        (&"shop".into(), &"10.20.1.7".into())
    );
    assert_eq!(
        (&request["networks"][1]["network"], &request["networks"][1]["ipv4"]),
        (&"lab".into(), &Value::Null)
    );
    assert_eq!(
        (&request["groups"][0], &request["watch"], &request["tap"]),
        (&"web".into(), &Value::Null, &false.into())
    );
}

#[test]
fn attaching_a_process_names_it_for_good_and_a_tap_names_its_interface() {
    let fake = Fake::start(samples::everything());
    let pid = std::process::id().to_string();
    assert_eq!(fake.run(&["workload", "attach", "web", "--network", "shop", "--pid", &pid]).exit, 0);
    let watch = asked(&fake)["watch"].clone();
    assert_eq!(watch["pid"], std::process::id());
    assert!(watch["start_ticks"].as_u64().is_some_and(|ticks| ticks > 0), "{watch}");
    let gone = fake.run(&["workload", "attach", "web", "--network", "shop", "--pid", "4194999"]);
    assert_eq!(gone.exit, 1);
    assert!(gone.err.contains("process 4194999: "), "{}", gone.err);

    let fake = Fake::start(samples::everything());
    assert_eq!(fake.run(&["workload", "attach", "vm", "--network", "shop", "--tap", "tap7"]).exit, 0);
    let request = asked(&fake);
    assert_eq!((&request["tap"], &request["networks"][0]["interface"]), (&true.into(), &"tap7".into()));
}

#[test]
fn a_refused_attachment_and_an_absent_daemon_have_their_exit_codes() {
    let refusal = ApiError::unknown_network("x");
    let fake = Fake::start(vec![answer(ATTACH, 404, samples::json(refusal))]);
    let attach = ["workload", "attach", "web", "--network", "x", "--netns", "/proc/self/ns/net"];
    let refused = fake.run(&attach);
    assert_eq!(refused.exit, 4);
    assert!(refused.err.starts_with("sinew: no network `x` here\n"), "{}", refused.err);
    assert_eq!(run(Path::new("/nonexistent/sinew.sock"), &attach).exit, 6);
    let unknown = Fake::start(samples::everything()).run(&["workload", "exec", "nobody", "--", "true"]);
    assert_eq!(unknown.exit, 4);
}

#[test]
fn a_program_runs_in_its_own_namespace_and_its_exit_code_is_ours() {
    if !is_root() {
        return;
    }
    let fake = Fake::start(samples::everything());
    let script = "ip -br link | cut -d' ' -f1; grep nameserver /etc/resolv.conf; exit 7";
    let ran = fake.run(&["workload", "run", "web", "--network", "shop", "--", "sh", "-c", script]);
    let resolver = if Path::new("/etc/resolv.conf").exists() { "nameserver 10.20.1.1\n" } else { "" };
    assert_eq!((ran.exit, ran.out), (7, format!("lo\n{resolver}")), "{}", ran.err);
    let request = asked(&fake);
    assert_eq!(request["by"], "run");
    assert!(request["watch"]["pid"].is_u64(), "{request}");
    assert_eq!(fake.sent_to("POST /v1/workloads/detach"), [r#"{"workload":"w1"}"#]);
}

#[test]
fn a_program_that_cannot_start_is_detached_again() {
    if !is_root() {
        return;
    }
    let fake = Fake::start(samples::everything());
    let ran = fake.run(&["workload", "run", "web", "--network", "shop", "--", "/nonexistent"]);
    assert_eq!(ran.exit, 1);
    assert!(ran.err.starts_with("sinew: cannot run /nonexistent: "), "{}", ran.err);
    assert_eq!(fake.sent_to("POST /v1/workloads/detach").len(), 1);
}

/// `sinew workload run` around a program that says when it is there.
fn supervised(fake: &Fake, script: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
    command.arg("--socket").arg(&fake.socket).args(["workload", "run", "web", "--network", "shop", "--"]);
    let here = fake.dir.join("here");
    command.args(["sh", "-c", script, "sh"]).arg(&here);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program was built");
    until(|| here.exists());
    child
}

fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What it left, or a failure instead of a test without end.
fn ended(mut child: Child) -> crate::support::Run {
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("it is ours").is_none() {
        if Instant::now() > deadline {
            child.kill().expect("it runs");
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    finished(child.wait_with_output().expect("it ended"))
}

fn kill(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn signals_reach_the_program_and_how_it_ends_is_told() {
    if !is_root() {
        return;
    }
    let fake = Fake::start(samples::everything());
    let child = supervised(&fake, "trap 'echo got; exit 3' TERM; : > \"$1\"; while :; do sleep 0.05; done");
    kill(&child, "-TERM");
    let first = ended(child);
    assert_eq!((first.exit, first.out.as_str()), (3, "got\n"), "{}", first.err);

    let fake = Fake::start(samples::everything());
    let child = supervised(&fake, ": > \"$1\"; exec sleep 1000");
    // Not HUP: whoever runs the tests may have it ignored, and that is inherited.
    kill(&child, "-USR1");
    assert_eq!(ended(child).exit, 128 + 10);
    assert_eq!(fake.sent_to("POST /v1/workloads/detach").len(), 1);
}

#[test]
fn a_program_does_not_outlive_its_killed_supervisor() {
    if !is_root() {
        return;
    }
    let fake = Fake::start(samples::everything());
    let mut child = supervised(&fake, "echo $$ > \"$1.tmp\"; mv \"$1.tmp\" \"$1\"; exec sleep 1000");
    let pid = std::fs::read_to_string(fake.dir.join("here")).expect("it was written");
    child.kill().expect("it runs");
    child.wait().expect("it was killed");
    let stat = format!("/proc/{}/stat", pid.trim());
    let is_dead = || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z ")) || !Path::new(&stat).exists()
    };
    until(is_dead);
}

#[test]
fn a_namespace_does_not_stay_pinned_when_the_daemon_went_first() {
    if !is_root() {
        return;
    }
    // It attaches, and is gone when asked to detach.
    let answers = samples::everything().into_iter().filter(|answer| answer.to == ATTACH);
    let fake = Fake::start(answers.collect());
    let pin = sinew_control::api::pinned_namespace(&fake.socket, "w1");
    std::fs::create_dir_all(pin.parent().expect("it has one")).expect("the directory is ours");
    std::fs::write(&pin, "").expect("the directory is ours");
    assert_eq!(fake.run(&["workload", "run", "web", "--network", "shop", "--", "true"]).exit, 0);
    assert!(!pin.parent().expect("it has one").exists(), "the pin stays");
}

#[test]
fn exec_runs_a_program_inside_a_workload() {
    if !is_root() {
        return;
    }
    let fake = Fake::start(samples::everything());
    let ran = fake.run(&["workload", "exec", "web", "--", "sh", "-c", "readlink /proc/self/ns/net; exit 5"]);
    // The samples' workload lives in this very namespace.
    let here = std::fs::read_link("/proc/self/ns/net").expect("it has one");
    assert_eq!((ran.exit, ran.out), (5, format!("{}\n", here.display())), "{}", ran.err);
}

#[test]
fn a_workload_with_a_key_signs_a_lease_for_this_host_and_no_other_terms() {
    if !is_root() {
        return;
    }
    let (host, network) = (Identity::from_seed([1; 32]), NetworkId::new(samples::node(9)));
    let dir = crate::support::fresh_dir();
    let file = dir.join("web.key");
    let workload = Identity::from_seed(*sinew_platform::keyfile::create(&file).expect("room for a key"));
    let terms = |key: &Identity, seconds: u64| {
        let lease = Lease {
            network: *network.as_bytes(),
            workload: *key.node_id().as_bytes(),
            host: *host.node_id().as_bytes(),
            generation: 1,
            seq: 4,
            issued: 1000,
            expires: 1000 + seconds,
        };
        let terms = LeaseTerms {
            network: network.to_string(),
            key: key.node_id().to_string(),
            host: host.node_id().to_string(),
            generation: 1,
            seq: 4,
            issued: 1000,
            expires: 1000 + seconds,
            consent: lease.consent(&host).to_vec().into(),
        };
        answer("POST /v1/workloads/lease/terms", 200, samples::json(terms))
    };
    let run_with = |terms| {
        let fake = Fake::start([samples::everything(), vec![terms]].concat());
        let file = file.to_str().expect("text");
        let ran = fake.run(&["workload", "run", "web", "--network", "shop", "--key", file, "--", "true"]);
        (fake, ran)
    };
    let (fake, ran) = run_with(terms(&workload, 600));
    assert_eq!(ran.exit, 0, "{}", ran.err);
    let request = asked(&fake);
    assert_eq!(request["key"], workload.node_id().to_string());
    let bytes: sinew_control::api::Hex =
        serde_json::from_value(request["leases"][0].clone()).expect("a lease");
    let read = sinew_overlay::Unverified::parse(&bytes.0, &network).expect("an ATTACH");
    let signed = read.verify(&mut sinew_overlay::KeyRing::default()).expect("signed by both");
    assert_eq!((signed.author, signed.document.seq), (workload.node_id(), 4));
    assert!(fake.sent_to("POST /v1/workloads/lease").is_empty(), "nothing to renew yet");
    // A lease of three seconds is renewed after one.
    let renewed =
        answer("POST /v1/workloads/lease", 200, samples::json(Leased { id: "w1".into(), until: "t".into() }));
    let fake = Fake::start([samples::everything(), vec![terms(&workload, 3), renewed]].concat());
    let path = file.to_str().expect("text");
    let ran = fake.run(&["workload", "run", "web", "--network", "shop", "--key", path, "--", "sleep", "2.5"]);
    assert_eq!((ran.exit, ran.err.as_str()), (0, ""));
    assert!(!fake.sent_to("POST /v1/workloads/lease").is_empty(), "the lease was not renewed");
    for (terms, why) in [
        (terms(&workload, 601), "they last too long"),
        (terms(&Identity::from_seed([7; 32]), 600), "they are for another key"),
    ] {
        let (_, ran) = run_with(terms);
        assert_eq!(ran.exit, 5);
        assert!(ran.err.contains(why), "{}", ran.err);
    }
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}
