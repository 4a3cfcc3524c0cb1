//! Private networks: what is signed here, what is sent, what is said.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use sinew_control::ApiError;
use sinew_control::api::{Documents, Hex, Invitation, LoadedConfig, NetworkCreate, TicketMode};
use sinew_overlay::{Owner, State};
use sinew_types::Identity;

use crate::support::{Answer, Fake, answer, finished, fresh_dir, run, samples};

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// A daemon whose state lies in `dir`.
fn at_home(dir: &Path) -> Vec<Answer> {
    let config = LoadedConfig {
        file: "/etc/sinew/sinew.toml".to_owned(),
        loaded_at: "2026-07-01T12:00:00.000Z".to_owned(),
        text: format!("[node]\nstate_dir = \"{}\"\n", dir.display()),
    };
    let mut all = samples::everything();
    all.retain(|answer| answer.to != "GET /v1/config");
    all.push(answer("GET /v1/config", 200, samples::json(config)));
    all
}

/// The owner's identity.
fn owner(key: &Path) -> Identity {
    Identity::from_seed(*sinew_platform::keyfile::load(key).expect("a key file"))
}

/// What documents amount to.
fn judged(owner: &Identity, documents: &[Hex]) -> State {
    let bytes: Vec<_> = documents.iter().map(|hex| hex.0.clone()).collect();
    Owner::read(owner, &bytes, now()).expect("sound documents").state().clone()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs()
}

fn sent_documents(fake: &Fake, to: &str) -> Vec<Hex> {
    let body: serde_json::Value = serde_json::from_str(&fake.sent_to(to)[0]).expect("JSON");
    serde_json::from_value(body["documents"].clone()).expect("documents")
}

#[test]
fn a_new_network_is_signed_by_a_key_that_only_its_owner_can_read() {
    let dir = fresh_dir();
    let fake = Fake::start(at_home(&dir));
    let made = fake.run(&["network", "create", "shop", "--ipv4", "10.20.0.0/16"]);
    assert_eq!(made.exit, 0, "{}", made.err);
    let key = dir.join("networks/shop.owner.key");
    assert!(made.out.contains(&format!("owner key  {}\n", key.display())), "{}", made.out);
    assert!(made.err.contains("offline"), "{}", made.err);
    assert_eq!(std::fs::metadata(&key).expect("it was made").permissions().mode() & 0o777, 0o600);
    let sent = fake.sent_to("POST /v1/networks/create");
    let request: NetworkCreate = serde_json::from_str(&sent[0]).expect("a request");
    let state = judged(&owner(&key), &request.documents);
    // The samples' daemon has the first key.
    let admin = state.admin(&samples::node(1)).expect("this node is its admin");
    assert_eq!(admin.grant.numbers, (1, 127));
    let member = state.member(&samples::node(1)).expect("this node is a member");
    assert!(member.is_valid());
    assert_eq!(member.name.as_ref().map(ToString::to_string), Some("paris".to_owned()));
    assert_eq!(state.head.as_ref().map(|head| (head.pair, head.digest)), Some(((0, 1), state.digest)));
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn a_refused_network_leaves_no_key_behind_and_a_given_key_stays() {
    let dir = fresh_dir();
    let refusal = ApiError::network_exists("shop");
    let mut answers = at_home(&dir);
    answers.retain(|answer| answer.to != "POST /v1/networks/create");
    answers.push(answer("POST /v1/networks/create", refusal.http_status(), samples::json(&refusal)));
    let fake = Fake::start(answers);
    let run = fake.run(&["network", "create", "shop"]);
    assert_eq!(run.exit, 1);
    assert!(run.err.starts_with("sinew: this node has a network `shop` already\n"), "{}", run.err);
    assert!(!dir.join("networks/shop.owner.key").exists());
    let given = dir.join("mine.key");
    sinew_platform::keyfile::create(&given).expect("room for a key");
    assert_eq!(fake.run(&["network", "create", "shop", "--owner-key", text(&given)]).exit, 1);
    assert!(given.exists());
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn an_admin_is_made_and_unmade_on_a_machine_without_a_daemon() {
    let dir = fresh_dir();
    let fake = Fake::start(at_home(&dir));
    assert_eq!(fake.run(&["network", "create", "shop"]).exit, 0);
    let key = dir.join("networks/shop.owner.key");
    let owner = owner(&key);
    let documents = sent_documents(&fake, "POST /v1/networks/create");
    let exported = dir.join("shop.documents");
    let file = |documents: &[Hex]| {
        let name = "shop".to_owned();
        samples::json(Documents { network: owner.node_id().to_string(), name, documents: documents.to_vec() })
    };
    std::fs::write(&exported, file(&documents)).expect("the directory is ours");
    let (signed, second) = (dir.join("signed"), samples::node(2).to_string());
    let nowhere = dir.join("none");
    let offline = ["--owner-key", text(&key), "--documents", text(&exported), "--sign-to", text(&signed)];
    let grant = [&["network", "admin", "grant", "shop", &second, "--scope", "admit"][..], &offline].concat();
    let done = run(&nowhere, &grant);
    assert_eq!(done.exit, 0, "{}", done.err);
    assert!(done.out.contains("hand it in with `sinew network documents import"), "{}", done.out);

    let read = |path: &Path| -> Documents {
        let text = std::fs::read_to_string(path).expect("it was written");
        serde_json::from_str::<sinew_control::Versioned<Documents>>(&text).expect("documents").body
    };
    let all = [documents, read(&signed).documents].concat();
    let admin = judged(&owner, &all).admin(&samples::node(2)).copied().expect("an admin");
    assert_eq!((admin.grant.scopes, admin.grant.numbers), (1, (128, 191)));

    let imported = fake.run(&["network", "documents", "import", "shop", text(&signed)]);
    assert_eq!(imported.exit, 0, "{}", imported.err);
    assert_eq!(sent_documents(&fake, "POST /v1/networks/documents/import"), read(&signed).documents);

    std::fs::write(&exported, file(&all)).expect("the directory is ours");
    let revoke = [&["network", "admin", "revoke", "shop", &second][..], &offline].concat();
    assert_eq!(run(&nowhere, &revoke).exit, 0);
    let all = [all, read(&signed).documents].concat();
    assert!(judged(&owner, &all).admin(&samples::node(2)).is_none());

    let other = dir.join("other.key");
    sinew_platform::keyfile::create(&other).expect("room for a key");
    let with = ["--owner-key", text(&other), "--documents", text(&exported), "--sign-to", text(&signed)];
    let refused = run(&nowhere, &[&["network", "admin", "grant", "shop", &second][..], &with].concat());
    assert_eq!(refused.exit, 5);
    assert!(refused.err.contains("is not the key of shop's owner"), "{}", refused.err);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn an_invitation_leaves_the_ticket_alone_on_stdout() {
    let fake = Fake::start(samples::everything());
    let run = fake.run(&["network", "invite", "shop", "--uses", "1", "--expires", "2h", "--group", "web"]);
    assert_eq!((run.exit, run.out.as_str()), (0, "sinewnet1example\n"));
    for said in [
        "counted ticket for shop, for one node, until 2026",
        "strictly single use",
        "a channel that you trust",
    ] {
        assert!(run.err.contains(said), "{}", run.err);
    }
    let asked = r#"{"network":"shop","for":null,"uses":1,"expires_ms":7200000,"groups":["web"],"approval":false,"bearer":false}"#;
    assert_eq!(fake.sent_to("POST /v1/networks/invite"), [asked]);
    let json = fake.run(&["network", "invite", "shop", "-o", "json"]);
    assert_eq!(json.err, "");
    assert!(json.out.contains("\"ticket\": \"sinewnet1example\""), "{}", json.out);
}

#[test]
fn a_pinned_ticket_is_not_called_a_secret() {
    let pinned = Invitation {
        ticket: "sinewnet1pinned".to_owned(),
        mode: TicketMode::Pinned,
        network: "shop".to_owned(),
        uses: 1,
        expires: "2026-07-01T12:00:00.000Z".to_owned(),
        acceptors: vec![],
        note: String::new(),
    };
    let fake = Fake::start(vec![answer("POST /v1/networks/invite", 200, samples::json(pinned))]);
    let run = fake.run(&["network", "invite", "shop", "--for", &samples::node(2).to_string()]);
    assert!(run.err.contains("for that node only") && !run.err.contains("a channel"), "{}", run.err);
}

#[test]
fn a_ticket_is_read_from_a_file_or_from_stdin() {
    let fake = Fake::start(samples::everything());
    let file = fake.dir.join("ticket");
    std::fs::write(&file, "sinewnet1file\n").expect("the directory is ours");
    assert_eq!(fake.run(&["network", "join", &format!("@{}", file.display())]).exit, 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_sinew"));
    command.arg("--socket").arg(&fake.socket).args(["network", "join", "-", "--name", "work"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program was built");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"  sinewnet1stdin  \n").expect("it reads");
    drop(stdin);
    assert_eq!(finished(child.wait_with_output().expect("it ends")).exit, 0);
    let sent = fake.sent_to("POST /v1/networks/join");
    assert!(sent[0].contains(r#""ticket":"sinewnet1file","name":null,"timeout_ms":30000"#), "{}", sent[0]);
    assert!(sent[1].contains(r#""ticket":"sinewnet1stdin","name":"work""#), "{}", sent[1]);
}

#[test]
fn what_a_network_refuses_has_its_exit_code_and_its_hint() {
    let refuses = |to: &str, error: ApiError| answer(to, error.http_status(), samples::json(error));
    let fake = Fake::start(vec![
        refuses("POST /v1/networks/show", ApiError::unknown_network("x")),
        refuses("POST /v1/networks/join", ApiError::join_refused("it was used already")),
        refuses("POST /v1/networks/invite", ApiError::not_admin("shop", "admit")),
        refuses("POST /v1/networks/leave", ApiError::join_unanswered("paris")),
    ]);
    for (verb, exit, said) in [
        (&["network", "show", "x"][..], 4, "no network `x` here\n       `sinew network ls`"),
        (&["network", "join", "sinewnet1x"], 5, "the ticket was refused: it was used already\n"),
        (&["network", "invite", "shop"], 5, "it lacks the scope `admit`\n       run it on an admin"),
        (&["network", "leave", "shop"], 3, "nobody who accepts this ticket answers: paris\n"),
    ] {
        let run = fake.run(verb);
        assert_eq!((run.exit, run.out.as_str()), (exit, ""), "{verb:?}");
        assert!(run.err.contains(said), "{}", run.err);
    }
}

/// A policy of one rule, with the two tests that the samples' verdicts answer.
const POLICY: &str = r#"default = "deny"

[[rule]]
from  = "group:web"
to    = "workload:db"
allow = ["tcp/5432"]

[[test]]
from  = "workload:web"
to    = "workload:db"
allow = ["tcp/5432"]
deny  = ["tcp/22"]
"#;

#[test]
fn a_policy_is_checked_tested_and_only_then_set() {
    let mut answers = samples::everything();
    answers.retain(|answer| answer.to != "POST /v1/networks/policy/trace");
    answers.push(answer("POST /v1/networks/policy/trace", 200, samples::json(samples::verdicts(false))));
    let fake = Fake::start(answers);
    let file = fake.dir.join("p.toml");
    std::fs::write(&file, POLICY).expect("the directory is ours");
    let path = text(&file);
    assert_eq!(fake.run(&["network", "policy", "check", path]).out, format!("{path}: ok\n"));
    let against = fake.run(&["network", "policy", "check", path, "--network", "shop"]);
    let warned = format!("{path}:3: warning: no member is in group `web`\n{path}: ok\n");
    assert_eq!((against.exit, against.out), (0, warned));
    let tested = fake.run(&["network", "policy", "test", "shop", path]);
    assert_eq!(tested.exit, 0);
    assert!(tested.out.contains("workload:web to workload:db tcp/22 is denied"), "{}", tested.out);
    let set = fake.run(&["network", "policy", "set", "shop", path]);
    assert_eq!(set.exit, 0, "{}", set.err);
    assert_eq!(set.err, format!("sinew: {path}:3: no member is in group `web`\n"));
    let sent = fake.sent_to("POST /v1/networks/policy/set");
    let rule = r#"{"from":["group:web"],"to":["workload:db"],"action":"allow","services":["tcp/5432"]}"#;
    assert_eq!(sent, [format!(r#"{{"network":"shop","policy":{{"default":"deny","rules":[{rule}]}}}}"#)]);
    let traced = fake.run(&["network", "policy", "trace", "shop", "web", "db", "tcp/22"]);
    assert_eq!(traced.exit, 5, "a flow that is denied");
}

#[test]
fn a_policy_whose_tests_fail_is_not_set() {
    let fake = Fake::start(samples::everything());
    let file = fake.dir.join("p.toml");
    std::fs::write(&file, POLICY).expect("the directory is ours");
    let path = text(&file);
    let set = fake.run(&["network", "policy", "set", "shop", path]);
    assert_eq!(set.exit, 1);
    let said =
        format!("{path}:8: a test of this policy fails: workload:web to workload:db tcp/22 is allowed");
    assert!(set.err.contains(&said), "{}", set.err);
    assert!(fake.sent_to("POST /v1/networks/policy/set").is_empty());
    let tested = fake.run(&["network", "policy", "test", "shop", path, "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&tested.out).expect("JSON");
    assert_eq!((tested.exit, &value["ok"], &value["tests"][1]["ok"]), (1, &false.into(), &false.into()));
}

#[test]
fn a_mistake_in_a_policy_has_line_and_column_with_or_without_a_daemon() {
    let dir = fresh_dir();
    let file = dir.join("p.toml");
    std::fs::write(&file, "[[rule]]\nfrom = \"web\"\nto = \"any\"\nallow = [\"any\"]\n").expect("it is ours");
    let (nowhere, path) = (dir.join("none"), text(&file));
    let checked = run(&nowhere, &["network", "policy", "check", path]);
    assert_eq!(checked.exit, 1);
    assert!(
        checked.out.starts_with(&format!("{path}:2:8: `web` names nobody; write any,")),
        "{}",
        checked.out
    );
    let json = run(&nowhere, &["network", "policy", "check", path, "-o", "json"]);
    let value: serde_json::Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!((&value["problems"][0]["line"], &value["problems"][0]["column"]), (&2.into(), &8.into()));
    let set = run(&nowhere, &["network", "policy", "set", "shop", path]);
    assert_eq!(set.exit, 1);
    assert!(set.err.contains(":2:8: `web` names nobody"), "{}", set.err);
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}

#[test]
fn documents_are_written_as_they_came() {
    let fake = Fake::start(samples::everything());
    let file = fake.dir.join("d");
    assert_eq!(fake.run(&["network", "documents", "export", "shop", text(&file)]).exit, 0);
    let out = fake.run(&["network", "documents", "export", "shop"]).out;
    assert_eq!(std::fs::read_to_string(&file).expect("it was written"), out);
    assert!(out.contains("\"0102ff\""), "{out}");
    std::fs::write(&file, "{}").expect("the directory is ours");
    let refused = fake.run(&["network", "documents", "import", "shop", text(&file)]);
    assert_eq!(refused.exit, 1);
    assert!(refused.err.contains("holds no documents"), "{}", refused.err);
}
