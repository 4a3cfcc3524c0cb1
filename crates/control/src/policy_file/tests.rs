use super::*;

fn parse(text: &str) -> Result<PolicyFile, Vec<String>> {
    let mistakes = |found: Vec<Mistake>| found.iter().map(ToString::to_string).collect();
    PolicyFile::parse(Path::new("p.toml"), text).map_err(mistakes)
}

const EXAMPLE: &str = r#"
default = "deny"

[[rule]]
from  = ["group:web", "group:api"]
to    = "workload:db"
allow = ["tcp/5432", "icmp", "tcp/5433"]

[[rule]]
from  = "any"
to    = "member:paris"
deny  = ["udp/5000-5100"]

[[test]]
from  = "workload:web1"
to    = "workload:db"
allow = ["tcp/5432"]
deny  = ["tcp/22"]
"#;

#[test]
fn a_file_becomes_rules_and_tests() {
    let file = parse(EXAMPLE).unwrap();
    assert_eq!(file.policy.default, Action::Deny);
    let rules: Vec<_> = file
        .policy
        .rules
        .iter()
        .map(|rule| format!("{} {:?} {:?}", ends(&rule.from), rule.action, rule.services.len()))
        .collect();
    assert_eq!(
        rules,
        [
            "[\"group:web\", \"group:api\"] Allow 2",
            "[\"group:web\", \"group:api\"] Allow 1",
            "\"any\" Deny 1"
        ]
    );
    assert_eq!(file.rule_lines, [4, 4, 9], "one rule for each protocol");
    let tests: Vec<_> = file.tests.iter().map(|t| (t.flow.port, t.expect, t.line)).collect();
    assert_eq!(tests, [(Some(5432), Action::Allow, 14), (Some(22), Action::Deny, 14)]);
    assert_eq!(parse("").unwrap().policy, Policy::default());
}

#[test]
fn a_policy_that_is_written_out_reads_the_same() {
    let policy = parse(EXAMPLE).unwrap().policy;
    let text = write(&policy);
    assert_eq!(parse(&text).unwrap().policy, policy);
    assert!(
        text.starts_with("default = \"deny\"\n\n[[rule]]\nfrom  = [\"group:web\", \"group:api\"]\n"),
        "{text}"
    );
}

#[test]
fn every_mistake_has_its_place_and_its_remedy() {
    let rule = |body: &str| format!("[[rule]]\n{body}\n");
    for (text, mistake) in [
        ("default = \"maybe\"".to_owned(), "p.toml:1:11: unknown value `maybe`; write \"allow\" or \"deny\""),
        (
            "defalut = \"deny\"".to_owned(),
            "p.toml:1:1: unknown key `defalut`; known here: default, [[rule]], [[test]]",
        ),
        (rule("from = \"any\"\nwho = 1"), "p.toml:3:1: unknown key `who`; known here: from, to, allow, deny"),
        (
            rule("from = \"web\"\nto = \"any\"\nallow = [\"any\"]"),
            "p.toml:2:8: `web` names nobody; write any, group:NAME, workload:NAME or member:NODE",
        ),
        (
            rule("from = \"any\"\nto = \"any\"\nallow = [\"tcp/80\", \"tcp/0\"]"),
            "p.toml:4:20: `tcp/0` is no port or range of ports; write any, tcp, tcp/80, udp/5000-5100, icmp or a protocol's number",
        ),
        (
            rule("to = \"any\"\nallow = [\"any\"]"),
            "p.toml:1:1: no `from`; add from = \"any\" to mean everybody",
        ),
        (
            rule("from = \"any\"\nto = \"any\""),
            "p.toml:1:1: a rule without effect; add allow = [\"tcp/80\"] or deny = [\"any\"]",
        ),
        (
            rule("from = \"any\"\nto = \"any\"\nallow = [\"any\"]\ndeny = [\"any\"]"),
            "p.toml:5:8: a rule with both `allow` and `deny`; make two rules, in the order you mean",
        ),
        (
            rule("from = \"any\"\nto = \"any\"\ndeny = []"),
            "p.toml:4:8: an empty list applies to nothing; write [\"any\"] to mean everything",
        ),
        (
            "[[test]]\nfrom = \"any\"\nto = \"any\"\nallow = [\"tcp\"]".to_owned(),
            "p.toml:4:10: a test asks about one flow; name one protocol and port, such as \"tcp/80\"",
        ),
    ] {
        assert_eq!(parse(&text), Err(vec![mistake.to_owned()]), "{text}");
    }
}

#[test]
fn all_mistakes_are_found_at_once_and_syntax_errors_alone() {
    let text = "default = \"x\"\n[[rule]]\nfrom = \"y\"\nto = \"z\"\nallow = [\"q\"]\n";
    assert_eq!(parse(text).unwrap_err().len(), 4);
    let syntax = parse("[[rule]]\nfrom = any\n").unwrap_err();
    assert!(syntax.len() == 1 && syntax[0].starts_with("p.toml:2:8: "), "{syntax:?}");
    assert_eq!(parse("default = 5").unwrap_err().len(), 1);
}
