//! What each verb prints, byte by byte. `SINEW_BLESS=1 cargo test -p sinew-cli` writes the expected
//! texts anew; JSON is an outside interface, so a changed or lost field there needs a reason.

use std::path::Path;

use crate::support::{Fake, samples};

/// Golden file and arguments; `URI` stands for a peer's URI.
const CASES: &[(&str, &[&str])] = &[
    ("key-show", &["key", "show"]),
    ("status", &["status"]),
    ("peers", &["peers"]),
    ("peers-wide", &["peers", "ls", "--wide"]),
    ("peers-add", &["peers", "add", "URI", "--save"]),
    ("peers-rm", &["peers", "rm", "rome"]),
    ("routes", &["routes"]),
    ("routes-all", &["routes", "all"]),
    ("routes-get", &["routes", "get", "oslo"]),
    ("sessions", &["sessions"]),
    ("ping", &["ping", "oslo", "-c", "2"]),
    ("trace", &["trace", "oslo"]),
    ("drops", &["drops"]),
    ("graph", &["graph"]),
    ("config-show", &["config", "show"]),
    ("config-reload", &["config", "reload"]),
    ("invite", &["invite"]),
    ("network-ls", &["network", "ls"]),
    ("network-show", &["network", "show", "shop"]),
    ("network-members", &["network", "members", "shop"]),
    ("network-members-wide", &["network", "members", "shop", "--wide"]),
    ("network-join", &["network", "join", "sinewnet1example"]),
    ("network-requests", &["network", "requests", "shop"]),
    ("network-approve", &["network", "approve", "shop", "ID"]),
    ("network-revoke", &["network", "revoke", "shop", "rome"]),
    ("network-leave", &["network", "leave", "shop"]),
    ("network-policy-get", &["network", "policy", "get", "shop"]),
    ("network-policy-trace", &["network", "policy", "trace", "shop", "web", "db", "tcp/22"]),
    ("workload-ls", &["workload", "ls"]),
    ("workload-ls-wide", &["workload", "ls", "--wide"]),
    ("workload-attach", &["workload", "attach", "web", "--network", "shop", "--netns", "/proc/self/ns/net"]),
    ("workload-detach", &["workload", "detach", "web"]),
    ("expose", &["expose", "web", "--network", "shop", "--port", "8080", "--via", "gw1", "--name", "app"]),
    ("expose-ls", &["expose", "ls"]),
    ("expose-ls-wide", &["expose", "ls", "--wide"]),
    ("unexpose", &["unexpose", "app"]),
    ("dns-query", &["dns", "query", "web.shop.sinew.internal"]),
    ("dns-records", &["dns", "records", "--network", "shop"]),
    ("dns-status", &["dns", "status"]),
    ("gateway-ls", &["gateway", "ls"]),
    ("gateway-ls-wide", &["gateway", "ls", "--wide"]),
    ("gateway-probe", &["gateway", "probe", "shop.example"]),
    ("gateway-log", &["gateway", "log"]),
    ("gateway-drain", &["gateway", "drain", "web:8080"]),
    ("gateway-cert", &["gateway", "cert"]),
    ("gateway-name-ls", &["gateway", "name", "ls"]),
    ("gateway-name-transfer", &["gateway", "name", "transfer", "sold", "--to", "ID"]),
];

#[test]
fn every_verb_prints_its_table_and_its_json() {
    let fake = Fake::start(samples::everything());
    let uri = format!("sinew://{}@192.0.2.2:7463", samples::node(2));
    for (name, args) in CASES {
        let args: Vec<_> = args.iter().map(|&arg| if arg == "URI" { uri.as_str() } else { arg }).collect();
        for format in ["table", "json", "jsonl"] {
            let run = fake.run(&[&args[..], &["-o", format]].concat());
            assert_eq!((run.exit, run.err.as_str()), (0, ""), "{name} -o {format}");
            golden(&format!("{name}.{format}"), &run.out);
        }
    }
    for format in ["dot", "svg"] {
        golden(&format!("graph.{format}"), &fake.run(&["graph", "-o", format]).out);
    }
}

#[test]
fn every_json_object_carries_its_schema_version() {
    let fake = Fake::start(samples::everything());
    for (name, args) in CASES.iter().filter(|(name, _)| *name != "peers-add") {
        let whole = fake.run(&[args, &["-o", "json"][..]].concat()).out;
        let lines = fake.run(&[args, &["-o", "jsonl"][..]].concat()).out;
        for text in std::iter::once(whole.as_str()).chain(lines.lines()) {
            let value: serde_json::Value =
                serde_json::from_str(text).unwrap_or_else(|_| panic!("{name}: {text}"));
            assert_eq!(value["schema_version"], 1, "{name}: {text}");
        }
    }
}

#[track_caller]
fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/golden").join(name);
    if std::env::var_os("SINEW_BLESS").is_some() {
        std::fs::write(&path, text).expect("golden files can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name} differs");
}
