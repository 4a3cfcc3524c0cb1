//! Exit codes, and the one line that goes with each of them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Answer, Fake, answer, fresh_dir, run, samples};
use sinew_control::ApiError;

/// A whole node id.
const NODE: &str = "rkeohxlubhyzl7ks3mwtzos5olfgocn7dwkbeg7toseadnapn5oa";

fn refuses(to: &str, error: ApiError) -> Answer {
    answer(to, error.http_status(), samples::json(error))
}

#[test]
fn without_a_daemon_every_verb_ends_with_6_and_the_next_step() {
    let socket = Path::new("/nonexistent/sinew.sock");
    let verbs: &[&[&str]] = &[
        &["key", "show"],
        &["status"],
        &["status", "--check", "live"],
        &["peers"],
        &["peers", "rm", "x"],
        &["routes"],
        &["sessions"],
        &["ping", "x"],
        &["trace", "x"],
        &["drops"],
        &["graph"],
        &["config", "reload"],
        &["invite"],
        &["wait", "ready", "--timeout", "0.3"],
        &["network", "ls"],
        &["network", "create", "shop"],
        &["network", "join", "sinewnet1x"],
        &["network", "policy", "get", "shop"],
        &["network", "admin", "grant", "shop", NODE],
        &["workload", "ls"],
        &["workload", "exec", "web", "--", "true"],
        &["dns", "status"],
    ];
    for verb in verbs {
        let run = run(socket, verb);
        assert_eq!((run.exit, run.out.as_str()), (6, ""), "{verb:?}");
        assert!(run.err.contains("no daemon runs at /nonexistent/sinew.sock\n"), "{}", run.err);
        assert!(run.err.contains("sinewd --config FILE"), "{}", run.err);
    }
}

#[test]
fn a_socket_that_nobody_serves_any_more_counts_as_no_daemon() {
    let dir = fresh_dir();
    let socket = dir.join("s");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a fresh directory has room"));
    assert_eq!(run(&socket, &["status"]).exit, 6);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn a_daemon_that_dies_over_a_request_counts_as_gone() {
    let fake = Fake::start(vec![]);
    let run = fake.run(&["status"]);
    assert_eq!(run.exit, 6);
    assert!(run.err.starts_with("sinew: the daemon closed the connection\n"), "{}", run.err);
}

#[test]
fn wrong_usage_ends_with_1() {
    let socket = Path::new("/nonexistent/sinew.sock");
    let wrong: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["status", "--nonsense"],
        &["ping"],
        &["ping", "x", "-i", "-1"],
        &["-o", "yaml", "status"],
        &["-o", "svg", "status"],
        &["peers", "add", "http://x"],
        &["peers", "add", "sinew://abc@[fd3f::1]:1"],
        &["completions", "cobol"],
        &["key", "show", "/nonexistent/node.key"],
        &["config", "check", "/nonexistent/sinew.toml"],
        &["network", "create", "Shop"],
        &["network", "create", "shop", "--ipv4", "10.20.0.1/16"],
        &["network", "create", "shop", "--ipv4", "10.20.0.0/24"],
        &["network", "invite", "shop", "--uses", "0"],
        &["network", "invite", "shop", "--for", NODE, "--bearer"],
        &["network", "invite", "shop", "--expires", "1w"],
        &["network", "join", "@/nonexistent"],
        &["network", "admin", "grant", "shop", "abc"],
        &["network", "policy", "trace", "shop", "a", "b", "sctp/1"],
        &["network", "policy", "trace", "shop", "a", "b", "tcp/1-9"],
        &["network", "policy", "check", "/nonexistent/policy.toml"],
        &["workload", "run", "web", "--", "true"],
        &["workload", "run", "web", "--network", "shop"],
        &["workload", "attach", "web", "--network", "shop"],
        &["workload", "attach", "web", "--network", "shop", "--pid", "1", "--netns", "/x"],
        &["workload", "attach", "web", "--network", "shop", "--netns", "/nonexistent"],
        &["workload", "attach", "web", "--network", "a", "--network", "b", "--tap", "tap0"],
    ];
    for verb in wrong {
        assert_eq!(run(socket, verb).exit, 1, "{verb:?}");
    }
    for verb in [&["--help"][..], &["--version"], &["peers", "--help"]] {
        assert_eq!(run(socket, verb).exit, 0, "{verb:?}");
    }
}

#[test]
fn a_refusal_of_the_daemon_keeps_its_code_and_its_hint() {
    let fake = Fake::start(vec![
        refuses("POST /v1/ping", ApiError::unknown_target("x")),
        refuses("POST /v1/trace", ApiError::unreachable("no route to oslo")),
        refuses("POST /v1/peers/rm", ApiError::denied("only root may change peers")),
        refuses("POST /v1/config/reload", ApiError::bad_config("s.toml:3: node.nmae: unknown key")),
    ]);
    for (verb, exit, said) in [
        (&["ping", "x"][..], 4, "sinew: `x` is not known here\n       `sinew peers` and"),
        (&["trace", "x"], 3, "sinew: no route to oslo\n       `sinew trace` shows"),
        (&["peers", "rm", "x"], 5, "sinew: only root may change peers\n       run it as root"),
        (&["config", "reload"], 1, "sinew: s.toml:3: node.nmae: unknown key\n       nothing was changed"),
    ] {
        let run = fake.run(verb);
        assert_eq!((run.exit, run.out.as_str()), (exit, ""), "{verb:?}");
        assert!(run.err.starts_with(said), "{}", run.err);
    }
    let run = fake.run(&["ping", "x", "-o", "json"]);
    let error: serde_json::Value = serde_json::from_str(&run.err).expect("errors are JSON when answers are");
    assert_eq!((&error["schema_version"], &error["code"]), (&1.into(), &"unknown_target".into()));
}

#[test]
fn ping_says_by_its_exit_what_came_back() {
    let lost = |seq| samples::probe(seq, None, false);
    let (relayed, direct) = (samples::probe(1, Some(1.0), false), samples::probe(2, Some(1.0), true));
    for (probes, args, exit) in [
        (vec![relayed.clone(), direct.clone()], &["ping", "x"][..], 0),
        (vec![direct.clone(), relayed.clone()], &["ping", "x"], 2),
        (vec![direct.clone(), lost(2)], &["ping", "x"], 2),
        (vec![lost(1), lost(2)], &["ping", "x"], 3),
        (vec![lost(1), direct, relayed.clone()], &["ping", "x", "--until-direct"], 0),
        (vec![relayed], &["ping", "x", "--until-direct"], 2),
        (vec![], &["ping", "x"], 3),
    ] {
        let fake = Fake::start(vec![answer("POST /v1/ping", 200, samples::stream(&probes))]);
        let run = fake.run(args);
        assert_eq!(run.exit, exit, "{args:?}: {}", run.out);
    }
}

#[test]
fn ping_asks_for_what_the_arguments_say() {
    let fake = Fake::start(samples::everything());
    fake.run(&["ping", "oslo", "-c", "7", "-i", "0.2", "-W", "1.5", "--size", "900", "--until-direct"]);
    let asked =
        r#"{"target":"oslo","count":7,"interval_ms":200,"timeout_ms":1500,"size":900,"until_direct":true}"#;
    assert_eq!(fake.sent_to("POST /v1/ping"), [asked]);
}

#[test]
fn a_trace_that_does_not_arrive_shows_its_hops_and_ends_with_3() {
    let fake = Fake::start(vec![answer("POST /v1/trace", 200, samples::json(samples::trace(false)))]);
    let run = fake.run(&["trace", "oslo"]);
    assert_eq!((run.exit, run.out.lines().count()), (3, 3));
    assert!(run.err.starts_with("sinew: oslo was not reached: rome has no route to it\n"), "{}", run.err);
}

#[test]
fn an_unreachable_destination_ends_with_3() {
    let fake =
        Fake::start(vec![answer("POST /v1/routes/get", 200, samples::json(samples::route_answer(false)))]);
    assert_eq!(fake.run(&["routes", "get", "oslo"]).exit, 3);
}

#[test]
fn status_check_is_a_probe() {
    let ready = Fake::start(samples::everything());
    assert_eq!(ready.run(&["status", "--check", "ready"]).exit, 0);
    let fake = Fake::start(vec![answer("GET /v1/status", 200, samples::json(samples::status(false)))]);
    let run = fake.run(&["status", "--check", "ready"]);
    assert_eq!((run.exit, run.out.as_str()), (2, ""));
    assert!(run.err.starts_with("sinew: not ready: none of 2 configured peers is up\n"), "{}", run.err);
    assert_eq!(fake.run(&["status", "--check", "live"]).exit, 0);
    assert!(fake.run(&["status"]).out.ends_with(
        "\nerror: none of 2 configured peers is up [no_peers]\n  `sinew peers` shows the last error of each\n"
    ));
}

#[test]
fn wait_ends_when_there_is_what_was_waited_for() {
    let fake = Fake::start(samples::everything());
    assert_eq!(fake.run(&["wait", "ready"]).exit, 0);
    assert_eq!(fake.run(&["wait", "oslo"]).exit, 0);
    // The first probe of the samples came over a relay.
    let relayed = fake.run(&["wait", "oslo", "--direct", "--timeout", "0.3"]);
    assert_eq!(relayed.exit, 2);
    assert!(relayed.err.starts_with("sinew: gave up after 0.3 s: the path is relayed\n"), "{}", relayed.err);
    let fake = Fake::start(vec![
        answer("GET /v1/status", 200, samples::json(samples::status(false))),
        refuses("POST /v1/ping", ApiError::unknown_target("x")),
    ]);
    assert_eq!(fake.run(&["wait", "ready", "--timeout", "0.3"]).exit, 3);
    assert_eq!(fake.run(&["wait", "x", "--timeout", "0.3"]).exit, 4);
}

#[test]
fn a_daemon_of_another_schema_is_named_as_such() {
    let fake = Fake::start(vec![answer("GET /v1/drops", 200, r#"{"schema_version":2,"losses":[]}"#)]);
    let run = fake.run(&["drops"]);
    assert_eq!(run.exit, 1);
    assert!(run.err.contains("it speaks schema version 2\n"), "{}", run.err);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let fake = Fake::start(samples::everything());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sinew"))
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    drop(child.stdout.take());
    let run = crate::support::finished(child.wait_with_output().expect("the program ends"));
    assert_eq!((run.exit, run.err.as_str()), (0, ""));
    drop(fake);
}

#[test]
fn keys_are_made_once_shown_and_refused_when_exposed() {
    let dir = fresh_dir();
    let file = dir.join("node.key");
    let file = file.to_str().expect("temporary paths are text");
    let socket = dir.join("none");
    let made = run(&socket, &["key", "new", file, "-o", "json"]);
    assert_eq!(made.exit, 0);
    assert_eq!(run(&socket, &["key", "show", file, "-o", "json"]).out, made.out);
    let again = run(&socket, &["key", "new", file]);
    assert_eq!(again.exit, 1);
    assert!(again.err.contains("exists already"), "{}", again.err);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let exposed = run(&socket, &["key", "show", file]);
    assert_eq!(exposed.exit, 1);
    assert!(exposed.err.contains("is open to others (mode 644): `chmod 600"), "{}", exposed.err);
    let secret = dir.join("mesh.secret");
    assert_eq!(run(&socket, &["key", "secret", secret.to_str().expect("text")]).exit, 0);
    assert_eq!(std::fs::metadata(&secret).expect("it was made").permissions().mode() & 0o777, 0o600);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn a_configuration_is_checked_and_compared() {
    let fake = Fake::start(samples::everything());
    let file = fake.dir.join("s.toml");
    let path = file.to_str().expect("temporary paths are text");
    std::fs::write(&file, "[node]\nname = \"lyon\"\n[tun]\nmtu = 1400\n").expect("the directory is ours");
    assert_eq!(fake.run(&["config", "check", path]).out, format!("{path}: ok\n"));
    let diff = fake.run(&["config", "diff", path]);
    assert_eq!(diff.exit, 0);
    let rows: Vec<Vec<_>> = diff.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["node.name", "paris", "lyon", "needs", "a", "restart"]);
    assert_eq!(rows[2], ["tun.mtu", "auto", "1400", "needs", "a", "restart"]);
    std::fs::write(&file, "[node]\nnmae = \"lyon\"\n").expect("the directory is ours");
    let check = fake.run(&["config", "check", path]);
    let line = format!("{path}:2: node.nmae: unknown key; did you mean `name`?\n");
    assert_eq!((check.exit, check.out), (1, line));
    let json = fake.run(&["config", "check", path, "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&value["ok"], &value["problems"][0]["line"]), (&false.into(), &2.into()));
}

#[test]
fn completions_and_manual_pages_know_every_verb() {
    let dir = fresh_dir();
    let socket = dir.join("none");
    let man = dir.join("man/man1");
    assert_eq!(run(&socket, &["man", man.to_str().expect("text")]).exit, 0);
    for verb in [
        "key", "status", "peers", "routes", "sessions", "ping", "trace", "drops", "graph", "config",
        "invite", "wait", "network", "workload", "dns",
    ] {
        assert!(man.join(format!("sinew-{verb}.1")).exists(), "no page for {verb}");
        for shell in ["bash", "zsh", "fish"] {
            assert!(run(&socket, &["completions", shell]).out.contains(verb), "{shell} does not know {verb}");
        }
    }
    let page = std::fs::read_to_string(man.join("sinew.1")).expect("it was written");
    assert!(page.contains("Exit codes"), "{page}");
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}
