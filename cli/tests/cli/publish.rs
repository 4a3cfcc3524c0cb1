//! Publishing: what the daemon is asked for, what is refused before, and the exit codes.

use serde_json::{Value, json};
use sinew_control::api::{Exposed, Publication, PublicationState};

use crate::support::{Fake, Run, answer, samples};

const EXPOSE: &str = "POST /v1/publications/expose";

fn expose(fake: &Fake, options: &[&str]) -> Run {
    let args = ["expose", "web", "--network", "shop", "--port", "8080", "--via", "gw1"];
    fake.run(&[&args[..], options].concat())
}

fn asked(fake: &Fake) -> Value {
    serde_json::from_str(fake.sent_to(EXPOSE).first().expect("the daemon was asked")).expect("JSON")
}

fn answering(publication: Publication) -> Fake {
    let exposed = Exposed { change: "changed".to_owned(), differences: Vec::new(), publication };
    Fake::start(vec![answer(EXPOSE, 200, samples::json(exposed))])
}

#[test]
fn exposing_asks_for_what_the_arguments_say() {
    let fake = Fake::start(samples::everything());
    let users = fake.dir.join("users");
    std::fs::write(&users, "# people\nann:$argon2id$v=19$x\n").expect("a file");
    let users = users.display().to_string();
    let options = [
        "--name",
        "app",
        "--host",
        "www.example.org",
        "--backend",
        "web2:8081*3",
        "--check",
        "/up",
        "--basic",
        &users,
        "--forward-auth",
        "auth:9091/verify",
        "--forward-auth-copy",
        "X-Auth-Request-User,X-Auth-Request-Groups",
        "--rate",
        "10/50",
        "--h2c",
        "--wait",
        "2",
    ];
    let run = expose(&fake, &options);
    assert_eq!(run.exit, 0, "{}", run.err);
    let request = asked(&fake);
    assert_eq!(request["hosts"], json!(["app", "www.example.org"]));
    assert_eq!(
        request["backends"],
        json!([
            {"workload": "web", "port": 8080, "weight": 1},
            {"workload": "web2", "port": 8081, "weight": 3},
            {"workload": "auth", "port": 9091, "weight": 0},
        ])
    );
    let settings = &request["settings"];
    assert_eq!((&settings["protocol"], &settings["check"]["path"]), (&json!("h2c"), &json!("/up")));
    assert_eq!(settings["access"]["basic"], json!([{"name": "ann", "hash": "$argon2id$v=19$x"}]));
    assert_eq!(
        settings["access"]["forward"],
        json!({"path": "/verify", "copy": ["X-Auth-Request-User", "X-Auth-Request-Groups"]})
    );
    assert_eq!(settings["access"]["rate"], json!({"per_second": 10, "burst": 50}));
    assert_eq!((&request["wait_ms"], &request["mode"]), (&json!(2000), &json!("http")));
}

#[test]
fn what_cannot_be_meant_is_refused_before_the_daemon_is_asked() {
    let fake = Fake::start(samples::everything());
    let plain = fake.dir.join("plain");
    std::fs::write(&plain, "ann:secret\n").expect("a file");
    let plain = plain.display().to_string();
    for (options, word) in [
        (&[][..], "--name or a --host"),
        (&["--name", "a", "--mode", "tcp"], "port of their own"),
        (&["--mode", "tcp", "--plain"], "mode http"),
        (&["--name", "a", "--public-port", "20000"], "tcp and udp"),
        (&["--name", "a", "--backend", "web2"], "WORKLOAD:PORT"),
        (&["--name", "a", "--rate", "10"], "N/BURST"),
        (&["--name", "a", "--allow", "10.0.0.0/33"], "10.0.0.0/33"),
        (&["--name", "a", "--path", "api"], "begin with /"),
        (&["--name", "a", "--basic", &plain], "Argon2"),
        (&["--name", "a", "--forward-auth-copy", "X-User"], "--forward-auth <"),
        (
            &["--name", "a", "--forward-auth", "a:1/", "--forward-auth-copy", "X User"],
            "`X User` is no header",
        ),
        (&["--name", "a", "--forward-auth", "a:1/", "--forward-auth-copy", "A,Host"], "`Host` is no header"),
    ] {
        let run = expose(&fake, options);
        assert_eq!(run.exit, 1, "{options:?}");
        assert!(run.err.contains(word) && !run.err.contains("secret"), "{options:?}: {}", run.err);
    }
    assert_eq!(fake.sent_to(EXPOSE), Vec::<String>::new());
    let nothing = fake.run(&["expose"]);
    assert_eq!(nothing.exit, 1, "{}", nothing.err);
}

#[test]
fn the_exit_code_says_how_a_service_stands_and_what_to_do() {
    for (state, exit) in [
        (PublicationState::Live, 0),
        (PublicationState::Sending, 2),
        (PublicationState::Pending, 2),
        (PublicationState::Unreachable, 3),
        (PublicationState::Refused, 5),
        (PublicationState::Void, 5),
    ] {
        let fake = answering(Publication { state, ..samples::publish::live() });
        assert_eq!(expose(&fake, &["--name", "app"]).exit, exit, "{state:?}");
    }
    let run = expose(&answering(samples::publish::pending()), &["--host", "www.example.org"]);
    assert!(run.out.contains("set _sinew.www.example.org TXT \"ivxw2k\""), "{}", run.out);
}

#[test]
fn a_file_is_looked_at_whole_and_then_applied_in_its_order() {
    let fake = Fake::start(samples::everything());
    let file = fake.dir.join("services.toml");
    std::fs::write(
        &file,
        "network = 'shop'\nvia = 'gw1'\n[[service]]\nhosts = ['app']\nbackends = ['web:8080']\n",
    )
    .expect("a file");
    let file = file.display().to_string();
    let planned = fake.run(&["apply", &file, "--dry-run"]);
    // It would be created.
    assert_eq!(planned.exit, 2, "{}", planned.err);
    assert_eq!(asked(&fake)["dry_run"], true);
    let applied = fake.run(&["apply", &file]);
    assert_eq!(applied.exit, 0, "{}", applied.err);
    let dry: Vec<Value> =
        fake.sent_to(EXPOSE).iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    assert_eq!(dry.iter().map(|body| body["dry_run"] == true).collect::<Vec<_>>(), [true, true, false]);
    std::fs::write(&file, "network = 'shop'\n[[service]]\nbackends = ['web']\n").expect("a file");
    let wrong = fake.run(&["apply", &file]);
    assert!(wrong.exit == 1 && wrong.err.contains("services.toml:2: "), "{}", wrong.err);
}
