//! Whom to ask. That they are asked, and for how long, is `tests/serve.rs`.

use super::*;

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn addresses(list: &[&str]) -> Vec<SocketAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn the_servers_of_a_resolv_conf_are_read_as_libc_does() {
    let cases: [(&str, &[&str]); 6] = [
        ("", &[]),
        ("nameserver 192.0.2.1\n", &["192.0.2.1:53"]),
        (
            "# nameserver 192.0.2.9\n;nameserver 192.0.2.8\nsearch a\nnameserver\t2001:db8::1 # x",
            &["[2001:db8::1]:53"],
        ),
        (
            "nameserver\nnameserver x\nnameserver 192.0.2.1 192.0.2.2\nnameservers 192.0.2.3",
            &["192.0.2.1:53"],
        ),
        ("nameserver fe80::1%1", &["[fe80::1%1]:53"]),
        (
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4",
            &["192.0.2.1:53", "192.0.2.2:53", "192.0.2.3:53"],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(name_servers(text), addresses(expected), "{text:?}");
    }
}

#[test]
fn the_longest_rule_wins_and_an_empty_one_asks_nobody() {
    let rule = |domain, servers: &[&str]| Rule::new(domain, addresses(servers)).unwrap();
    let forwarder = Forwarder::new(Upstream {
        servers: Servers::Fixed(addresses(&["192.0.2.1:53"])),
        rules: vec![
            rule("corp.example", &["192.0.2.2:53"]),
            rule("lab.Corp.example.", &["192.0.2.3:5353"]),
            rule("blocked.example", &[]),
        ],
    });
    let cases: [(&str, &[&str]); 5] = [
        ("example", &["192.0.2.1:53"]),
        ("a.CORP.example", &["192.0.2.2:53"]),
        ("lab.corp.example", &["192.0.2.3:5353"]),
        ("xcorp.example", &["192.0.2.1:53"]),
        ("a.blocked.example", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(forwarder.servers_for(&name(text)), addresses(expected), "{text}");
    }
}

#[test]
fn our_own_address_is_never_asked() {
    let forwarder = Forwarder::new(Upstream {
        servers: Servers::Fixed(addresses(&["127.0.0.5:53", "127.0.0.5:5353", "192.0.2.1:53"])),
        rules: vec![Rule::new("loop.example", addresses(&["127.0.0.5:53"])).unwrap()],
    });
    let own = addresses(&["127.0.0.5:53"])[0];
    forwarder.add_own(own);
    assert_eq!(forwarder.default_servers(), addresses(&["127.0.0.5:5353", "192.0.2.1:53"]));
    assert_eq!(forwarder.servers_for(&name("a.loop.example")), []);
    forwarder.remove_own(own);
    assert_eq!(forwarder.default_servers().len(), 3);
}

#[test]
fn a_changed_resolv_conf_is_read_again_and_a_missing_one_is_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolv.conf");
    let forwarder = Forwarder::new(Upstream { servers: Servers::ResolvConf(path.clone()), rules: vec![] });
    // As if the last look had been long ago.
    let look = || {
        if let Some(state) = forwarder.file.lock().unwrap().as_mut() {
            state.checked = std::time::Instant::now().checked_sub(RECHECK).unwrap();
        }
        forwarder.default_servers()
    };
    assert_eq!(look(), []);
    std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
    assert_eq!(look(), addresses(&["192.0.2.1:53"]));
    // As a DHCP client does: another file under the name.
    let new = folder.path().join("new");
    std::fs::write(&new, "nameserver 192.0.2.2\n").unwrap();
    std::fs::rename(&new, &path).unwrap();
    assert_eq!(look(), addresses(&["192.0.2.2:53"]));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(look(), []);
}
