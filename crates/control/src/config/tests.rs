use std::path::Path;

use sinew_types::Identity;

use super::*;

fn node(n: u8) -> NodeId {
    Identity::from_seed([n; 32]).node_id()
}

/// Reads `text` with ID and ID2 standing for two node ids.
fn read(text: &str) -> Result<ConfigFile, ConfigError> {
    let text = text.replace("ID2", &node(2).to_string()).replace("ID", &node(1).to_string());
    ConfigFile::parse(Path::new("s.toml"), text)
}

#[track_caller]
fn good(text: &str) -> Config {
    read(text).unwrap_or_else(|error| panic!("{error}")).config
}

#[test]
fn an_empty_file_is_a_router_that_listens_everywhere() {
    let config = good("");
    assert_eq!(config.node.key_file, Path::new("/var/lib/sinew/node.key"));
    assert_eq!(config.node.class, Class::Router);
    assert_eq!(config.mesh.accept, Accept::Any);
    let listen: Vec<_> = config.listen.udp.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["0.0.0.0:7463", "[::]:7463"]);
    assert_eq!(config.listen.udp, config.listen.tcp);
    assert_eq!(
        (config.tun.enabled, config.tun.mtu, config.tun.inbound),
        (true, Mtu::Auto, Inbound::Established)
    );
    assert_eq!(config.offload.udp_receive, Switch::Auto);
    assert!(config.reach.direct && config.reach.uplinks);
    assert_eq!(config.metrics.listen, None, "nobody reads what nobody asked for");
    assert_eq!(config.control.socket, Path::new(crate::DEFAULT_SOCKET));
}

#[test]
fn a_node_that_carries_nothing_for_others_is_a_stub_however_it_is_written() {
    for text in ["[node]\nclass = \"stub\"", "[transit]\nenabled = false", MANUAL] {
        let config = good(text);
        assert_eq!((config.node.class, config.transit.enabled), (Class::Stub, false), "{text}");
    }
    let config = good("[transit]\nenabled = true\nlimit = \"100 Mbit/s\"");
    assert_eq!((config.node.class, config.transit.enabled), (Class::Router, true));
    assert_eq!(config.transit.limit, "100 Mbit/s".parse().ok());
    assert_eq!(good("").transit, Transit { enabled: true, limit: None });
}

#[test]
fn a_listen_section_says_all_there_is_to_listen_on() {
    let config = good("[listen]\nudp = [\"127.0.0.1:1\"]");
    assert_eq!((config.listen.udp.len(), config.listen.tcp.len()), (1, 0));
}

#[test]
fn every_value_of_the_manual_is_taken() {
    let config = good(MANUAL);
    assert_eq!(config.node.name.as_deref(), Some("node-1"));
    assert_eq!(config.node.class, Class::Stub);
    assert_eq!(config.mesh.secret_file.as_deref(), Some(Path::new("/etc/sinew/mesh.secret")));
    assert_eq!(config.mesh.accept, Accept::Listed);
    assert_eq!(config.peers.len(), 2);
    assert_eq!((config.peers[0].cost, config.peers[1].cost), (0, 20));
    let limits = [config.peers[0].limit, config.peers[1].limit, config.peering.limit, config.transit.limit];
    assert_eq!(limits.map(|limit| limit.map_or(0, Rate::bytes_per_second)), [0, 2_500_000, 187_500_000, 0]);
    assert_eq!(config.tun.mtu, Mtu::Fixed(1400));
    let switches = Offload { tun_read: Switch::On, tun_write: Switch::Off, ..Offload::default() };
    assert_eq!(config.offload, switches);
    assert_eq!(config.metrics.listen, "127.0.0.1:9463".parse().ok());
    let forward: Vec<_> = config.dns.forward.iter().map(ToString::to_string).collect();
    assert_eq!(forward, ["corp.example to 10.0.0.53:53, [fd00::53]:5353", "secret.corp.example to nobody"]);
    let gateway = config.gateway.unwrap();
    assert_eq!(gateway.domain.as_deref(), Some("gw1.example.org"));
    assert_eq!((gateway.registrar, gateway.followers), (None, vec![node(2)]));
    assert_eq!((gateway.https.len(), gateway.tcp_ports), (2, Some((20_000, 20_999))));
    assert_eq!(gateway.accept, PublishAccept::Keys(vec![node(1)]));
    assert_eq!((gateway.per_network, gateway.grace), (3, 5));
    assert_eq!(gateway.log, AccessLog::File("/var/log/sinew/access.log".into()));
    assert_eq!(gateway.resolvers, ["192.0.2.53:53".parse().unwrap()]);
    let acme = gateway.acme.unwrap();
    assert!(acme.directory.contains("letsencrypt.org"), "the usual one");
    assert_eq!((acme.email.as_deref(), acme.dns.len()), (Some("ops@example.org"), 1));
    let Inbound::Rules(rules) = config.tun.inbound else { panic!("rules were read as something else") };
    let texts: Vec<_> = rules.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [format!("tcp/22 from {}", node(2)), "tcp/80".into(), "udp/53".into(), "icmp".into()]);
}

const MANUAL: &str = r#"
[node]
key_file = "/var/lib/sinew/node.key"
name = "node-1"
state_dir = "/var/lib/sinew"
class = "stub"

[mesh]
secret_file = "/etc/sinew/mesh.secret"
accept = "listed"

[listen]
udp = ["0.0.0.0:7463", "[::]:7463"]
tcp = ["0.0.0.0:7463"]
quic = ["0.0.0.0:443"]
wss = ["0.0.0.0:443", "[::]:443"]

[tls]
certificate = "/etc/sinew/chain.pem"
key = "/etc/sinew/tls.key"

[proxy]
http = "http://proxy.example:3128/"

[[peer]]
uri = "sinew://ID@host:7463?via=udp,tcp"
cost = 0

[[peer]]
uri = "sinew://ID@10.0.0.2:7463?via=udp,quic"
cost = 20
limit = "20 Mbit/s"

[tun]
enabled = true
name = "sinew0"
mtu = 1400
inbound = ["tcp/22 from ID2", "tcp/80", "udp/53", "icmp"]

[offload]
tun_read = "on"
tun_write = "off"
udp_send = "auto"

[control]
socket = "/run/sinew/sinew.sock"

[metrics]
listen = "127.0.0.1:9463"

[discovery]
lan = false
interfaces = ["eth0", "wl*"]
directory = [
    "/ip4/203.0.113.5/tcp/7464/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
    "/dns/keeper.example.org/tcp/7464/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X",
]
publish = true
listen = ["0.0.0.0:7464"]
serve = "off"

[peering]
target = 4
max = 40
limit = "1.5 Gbit/s"
share = true

[dns]
enabled = false
domain = "sinew.internal"

[[dns.forward]]
domain = "Corp.Example."
servers = ["10.0.0.53", "[fd00::53]:5353"]

[[dns.forward]]
domain = "secret.corp.example"
servers = []

[gateway]
domain = "GW1.example.org."
followers = ["ID2"]
https = ["0.0.0.0:8443", "[::]:8443"]
http = ["0.0.0.0:80"]
tcp_ports = "20000-20999"
udp_ports = "20000-20999"
certificates = [{ certificate = "/etc/sinew/tls/gw.pem", key = "/etc/sinew/tls/gw.key" }]
acme = { email = "ops@example.org", dns = ["0.0.0.0:53"] }
publish = { accept = ["ID"], per_network = 3, reserved = ["billing"] }
proxies = ["10.0.0.0/8", "2001:db8::1"]
resolvers = ["192.0.2.53"]
log = "/var/log/sinew/access.log"
grace = 5
"#;

/// Each mistake of `mistakes.txt`: a file's text, then `=> ` and what people see. The expected lines
/// are written anew by `SINEW_BLESS=1 cargo test -p sinew-control`; read the difference before committing.
#[test]
fn every_mistake_has_its_line() {
    let (mut text, mut written) = (String::new(), String::new());
    for line in include_str!("mistakes.txt").lines() {
        if line.starts_with("=> ") {
            let said = read(text.trim()).expect_err(&text).to_string();
            written.push_str(&format!("{text}=> {}\n", said.replace(&node(1).to_string(), "ID")));
            text.clear();
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    if std::env::var_os("SINEW_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/mistakes.txt");
        std::fs::write(path, &written).unwrap();
    } else {
        let differing =
            include_str!("mistakes.txt").lines().zip(written.lines()).find(|(want, got)| want != got);
        assert_eq!(differing, None, "(expected, said)");
    }
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once_in_its_order() {
    let error = read("[tun]\nmtu = 9\n[node]\nclass = \"x\"\n[listen]\nudp = [\"y\"]").unwrap_err();
    let lines: Vec<_> = error.diagnostics.iter().map(|d| (d.line, d.key.as_str())).collect();
    assert_eq!(lines, [(Some(2), "tun.mtu"), (Some(4), "node.class"), (Some(6), "listen.udp")]);
}

#[test]
fn a_file_that_cannot_be_read_says_why() {
    let said = |path: &str| ConfigFile::read(Path::new(path)).unwrap_err().to_string();
    assert_eq!(
        said("/nonexistent/s.toml"),
        "/nonexistent/s.toml: cannot be read: no such file or directory; name the file with --config"
    );
    assert!(said("/proc/self").starts_with("/proc/self: cannot be read: is a directory"));
}

#[test]
fn the_nodes_own_key_is_no_peer() {
    let file = read("[[peer]]\nuri = \"sinew://ID2@h:1\"\n[[peer]]\nuri = \"sinew://ID@h:1\"").unwrap();
    assert_eq!(file.check_identity(&node(3)), Ok(()));
    assert_eq!(
        file.check_identity(&node(1)).unwrap_err().to_string(),
        "s.toml:4: peer.uri: this is the node's own key; \
         put the other node's URI here (`sinew invite` on it prints it)"
    );
}

#[test]
fn a_peer_added_live_obeys_the_rules_of_the_file() {
    let uri = |n: u8, tail: &str| format!("sinew://{}@{tail}", node(n));
    assert!(check_peer(&node(1), &uri(2, "h:1"), 5).is_ok());
    for (uri, cost, said) in [
        (uri(1, "h:1"), 0, "this is the node's own key"),
        (uri(2, "h:1?via=smoke"), 0, "unknown carrier `smoke`"),
        (uri(2, "[fd3f::1]:1"), 0, "fd3f::1 is a mesh address"),
        (uri(2, "h:1"), 3000, "cost 3000 is more than 2000 ms"),
    ] {
        let error = check_peer(&node(1), &uri, cost).unwrap_err();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn the_list_of_keys_and_the_schema_agree() {
    for key in keys::KEYS {
        let mut steps: Vec<_> = key.path.split('.').collect();
        let name = steps.pop().unwrap();
        let header = if steps == ["peer"] { "[[peer]]".to_owned() } else { format!("[{}]", steps.join(".")) };
        // An array of tables fits no key, so a known key is refused for its type alone.
        let error = read(&format!("{header}\n{name} = [[{{}}]]")).unwrap_err().to_string();
        assert!(error.contains("invalid type"), "{}: {error}", key.path);
    }
}

#[test]
fn each_change_is_told_with_its_effect() {
    let old =
        good("[node]\nname = \"a\"\n[[peer]]\nuri = \"sinew://ID@h:1\"\n[[peer]]\nuri = \"sinew://ID2@h:1\"");
    let new = good(
        "[node]\nclass = \"stub\"\n[tun]\nmtu = 1300\ninbound = \"all\"\n\
         [offload]\nudp_send = \"off\"\n[metrics]\nlisten = \"[::1]:1\"\n[[peer]]\nuri = \"sinew://ID@h:1\"\ncost = 7\n[[peer]]\nuri = \"sinew://ID2@h:2\"",
    );
    let text = |value: Option<String>| value.unwrap_or_default();
    let changes: Vec<_> =
        diff(&old, &new).into_iter().map(|c| (c.key, text(c.old), text(c.new), c.effect)).collect();
    let uri = |n: u8, port: u16| format!("sinew://{}@h:{port}?via=udp,tcp", node(n));
    let row =
        |key: &str, old: &str, new: &str, effect| (key.to_owned(), old.to_owned(), new.to_owned(), effect);
    let first = uri(1, 1);
    let expected = [
        row("node.name", "a", "", Effect::Restart),
        row("node.class", "router", "stub", Effect::Restart),
        row("transit.enabled", "true", "false", Effect::Restart),
        row("tun.mtu", "auto", "1300", Effect::Restart),
        row("tun.inbound", "established", "all", Effect::Live),
        row("offload.udp_send", "auto", "off", Effect::Restart),
    ];
    assert_eq!(changes[..6], expected);
    let cost = row("peer.cost", &format!("0 ({first})"), &format!("7 ({first})"), Effect::Live);
    assert!(changes.contains(&cost));
    assert!(changes.contains(&row("peer.uri", &uri(2, 1), "", Effect::Live)), "its node is still a peer");
    assert!(changes.contains(&row("peer.uri", "", &uri(2, 2), Effect::Live)));
    // What nobody set goes with the class.
    assert!(changes.contains(&row("peering.target", "8", "2", Effect::Live)));
    assert!(changes.contains(&row("peering.share", "true", "false", Effect::Restart)));
    assert!(changes.contains(&row("metrics.listen", "", "[::1]:1", Effect::Restart)));
    assert_eq!(changes.len(), 12);
    let gone = diff(&old, &good("[node]\nname = \"a\"\n[[peer]]\nuri = \"sinew://ID@h:1\""));
    assert_eq!((gone.len(), gone[0].effect), (1, Effect::Reconnects));
    assert_eq!(diff(&new, &new), []);
}

#[test]
fn limits_change_in_a_running_node() {
    let old =
        good("[transit]\nlimit = \"1 Mbit/s\"\n[[peer]]\nuri = \"sinew://ID@h:1\"\nlimit = \"3 Mbit/s\"");
    let new = good(
        "[transit]\nlimit = \"2 Mbit/s\"\n[peering]\nlimit = \"9 Mbit/s\"\n[[peer]]\nuri = \"sinew://ID@h:1\"",
    );
    let changes: Vec<_> = diff(&old, &new).into_iter().map(|c| (c.key, c.old, c.new, c.effect)).collect();
    let text = |text: &str| Some(text.to_owned());
    let peer = format!("3 Mbit/s (sinew://{}@h:1?via=udp,tcp)", node(1));
    assert_eq!(
        changes,
        [
            ("transit.limit".into(), text("1 Mbit/s"), text("2 Mbit/s"), Effect::Live),
            ("peering.limit".into(), None, text("9 Mbit/s"), Effect::Live),
            ("peer.limit".into(), Some(peer), None, Effect::Live),
        ]
    );
}

mod editing;

#[test]
fn the_gateway_and_the_mesh_share_a_port_when_both_name_the_same_address() {
    let shared = "[listen]\nwss = [\"0.0.0.0:443\", \"0.0.0.0:8443\"]\n\
                  [gateway]\nhttps = [\"0.0.0.0:443\", \"[::]:443\"]";
    let config = good(shared);
    let gateway = config.gateway.as_ref().unwrap();
    assert_eq!(gateway.shared(&config.listen), ["0.0.0.0:443".parse().unwrap()]);
    for (wss, key) in [("10.0.0.1:443", "https"), ("0.0.0.0:80", "http")] {
        let text = format!(
            "[listen]\nwss = [\"{wss}\"]\n[gateway]\nhttps = [\"0.0.0.0:443\"]\nhttp = [\"0.0.0.0:80\"]"
        );
        let said = read(&text).unwrap_err().to_string();
        assert!(said.contains(&format!("gateway.{key}")) && said.contains("overlaps"), "{said}");
    }
}

#[test]
fn changes_of_the_gateway_say_whether_they_need_a_restart() {
    let old = good("[gateway]\ndomain = \"gw.test\"\nhttps = [\"0.0.0.0:443\"]");
    let new = good(
        "[gateway]\ndomain = \"gw2.test\"\nhttps = [\"0.0.0.0:443\"]\ngrace = 1\n\
         registrar = \"ID2\"\n\
         certificates = [{ certificate = \"/a\", key = \"/b\" }]\npublish = { accept = [] }",
    );
    let changes: Vec<_> = diff(&old, &new).into_iter().map(|change| (change.key, change.effect)).collect();
    let row = |key: &str, effect| (key.to_owned(), effect);
    assert_eq!(
        changes,
        [
            row("gateway.domain", Effect::Restart),
            row("gateway.registrar", Effect::Restart),
            row("gateway.certificates.certificate", Effect::Live),
            row("gateway.publish.accept", Effect::Live),
            row("gateway.grace", Effect::Live),
        ]
    );
    let gone = diff(&old, &good(""));
    assert!(gone.iter().any(|change| change.key == "gateway.https" && change.effect == Effect::Restart));
}
