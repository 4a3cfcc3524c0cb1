//! Configurations that are refused, and what survives a change.

use super::*;
use crate::backend::Condition;

pub(crate) fn parse(text: &str) -> Config {
    toml::from_str(text).unwrap_or_else(|error| panic!("{error}"))
}

const GOOD: &str = r#"
    [[listeners]]
    address = "127.0.0.1:443"
    protocol = "https"
    [[listeners]]
    address = "127.0.0.1:5000"
    protocol = "tcp"
    service = "port"
    [[services]]
    name = "web"
    mode = "http"
    hosts = ["a.example", "*.b.example"]
    backends = [{ target = "10.0.0.1:80" }, { target = "10.0.0.2:80", weight = 3 }]
    check = { path = "/health", interval = 0.5 }
    [[services]]
    name = "port"
    mode = "tcp"
    backends = [{ target = "10.0.0.1:5432" }]
    [timeouts]
    idle = 30
"#;

fn build(config: Config, before: &Snapshot) -> Result<Snapshot, ConfigError> {
    Snapshot::build(config, before, &Certificates::new(), 2)
}

#[test]
fn a_configuration_in_toml_becomes_tables() {
    let snapshot = build(parse(GOOD), &Snapshot::default()).unwrap();
    assert_eq!(snapshot.site("x.b.example").unwrap().first().unwrap().name.as_ref(), "web");
    assert_eq!(snapshot.config.timeouts.idle.as_secs(), 30);
    assert_eq!(snapshot.config.services[0].check.as_ref().unwrap().interval.as_millis(), 500);
}

#[test]
fn what_is_wrong_is_said_all_at_once() {
    for (from, to, said) in [
        ("mode = \"http\"\n    hosts = [\"a.example\", \"*.b.example\"]", "mode = \"http\"", "needs a host"),
        ("a.example", "A.example", "lower case"),
        ("a.example", "10.1.2.3", "no host name"),
        ("weight = 3", "weight = 0", "weight"),
        ("weight = 3", "weight = 1001", "weight"),
        ("10.0.0.2:80", "10.0.0.1:80", "twice"),
        ("service = \"port\"", "service = \"web\"", "another mode"),
        ("service = \"port\"", "service = \"none\"", "does not exist"),
        ("service = \"port\"", "", "needs a service"),
        ("name = \"port\"", "name = \"web\"", "taken"),
        ("interval = 0.5", "fall = 0", "above 0"),
        ("mode = \"tcp\"", "mode = \"tcp\"\n paths = [\"/x\"]", "for mode http"),
        ("mode = \"tcp\"", "mode = \"tcp\"\n access = { client_ca = \"x\" }", "for mode http"),
    ] {
        let changed = GOOD.replace(from, to);
        assert_ne!(changed, GOOD, "{from}");
        let Err(error) = build(parse(&changed), &Snapshot::default()) else { panic!("{to}: accepted") };
        assert!(error.to_string().contains(said), "{to}: {error}");
    }
}

#[test]
fn hosts_whose_services_disagree_before_the_path_is_known_are_refused() {
    let other = r#"
    [[services]]
    name = "other"
    mode = "http"
    hosts = ["a.example"]
    paths = ["/other"]
    backends = [{ target = "x" }]
    "#;
    let good = build(
        parse(&format!("{GOOD}{other}").replace("[timeouts]\n    idle = 30", "")),
        &Snapshot::default(),
    );
    assert!(good.is_ok());
    let text = format!("{GOOD}{other}").replace("[timeouts]\n    idle = 30", "");
    let text = text.replace(
        "mode = \"http\"\n    hosts = [\"a.example\"]\n    paths = [\"/other\"]",
        "mode = \"tls-passthrough\"\n    hosts = [\"a.example\"]",
    );
    let Err(error) = build(parse(&text), &Snapshot::default()) else { panic!("accepted") };
    assert!(error.to_string().contains("taken"), "{error}");
}

#[test]
fn health_and_counts_survive_a_change_and_end_with_their_backend() {
    let first = build(parse(GOOD), &Snapshot::default()).unwrap();
    let web = first.services["web"].clone();
    web.picker.backends().for_each(|backend| assert!(backend.set_down(true)));
    web.tally.status("a.example", 200);
    let second = build(parse(&GOOD.replace("10.0.0.2:80", "10.0.0.3:80")), &first).unwrap();
    let now = std::time::Instant::now();
    let states: Vec<_> =
        second.services["web"].picker.backends().map(|backend| backend.condition(now)).collect();
    assert_eq!(states, [Condition::Down, Condition::Well]);
    assert_eq!(second.services["web"].tally.hosts()[0].1, [0, 1, 0, 0, 0]);
    let unchecked = GOOD.replace("check = { path = \"/health\", interval = 0.5 }", "");
    let third = build(parse(&unchecked), &second).unwrap();
    assert!(third.services["web"].picker.backends().all(|backend| backend.condition(now) == Condition::Well));
}
