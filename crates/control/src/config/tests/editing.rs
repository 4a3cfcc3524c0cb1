use std::os::unix::fs::PermissionsExt as _;

use super::*;

const FILE: &str = r#"# top
[node]
name = "a" # kept

# the first
[[peer]] # one
uri = "sinew://ID@h:1"

# inside
cost = 3

# the second
[[peer]]
uri = "sinew://ID2@h:1"

# the device
[tun]
mtu = 1300
"#;

fn named(text: &str) -> String {
    text.replace(&node(1).to_string(), "ID").replace(&node(2).to_string(), "ID2")
}

fn peer(n: u8, tail: &str, cost: u16) -> Peer {
    Peer { uri: format!("sinew://{}@{tail}", node(n)).parse().unwrap(), cost, limit: None }
}

#[test]
fn a_new_peer_is_appended_and_all_else_stays() {
    let edited = add_peer(&read(FILE).unwrap(), &peer(3, "x:9", 4)).unwrap();
    let block = format!("\n[[peer]]\nuri = \"sinew://{}@x:9?via=udp,tcp\"\ncost = 4\n", node(3));
    assert_eq!(named(&edited.text), format!("{FILE}{block}"));
    assert_eq!(edited.config.peers.len(), 3);
}

#[test]
fn a_known_peer_is_left_or_replaced() {
    let file = read(FILE).unwrap();
    assert_eq!(add_peer(&file, &peer(2, "h:1", 0)).unwrap(), file);
    let edited = add_peer(&file, &peer(2, "h:1?via=tcp", 0)).unwrap();
    assert_eq!(edited.config.peers.len(), 2);
    assert_eq!(edited.config.peers[1], peer(2, "h:1?via=tcp", 0));
}

#[test]
fn a_limit_is_written_with_its_peer() {
    let limited = Peer { limit: "1.5 Mbit/s".parse().ok(), ..peer(2, "h:1", 7) };
    let edited = add_peer(&read(FILE).unwrap(), &limited).unwrap();
    assert!(edited.text.ends_with("cost = 7\nlimit = \"1.5 Mbit/s\"\n"), "{}", edited.text);
    assert_eq!(edited.config.peers[1], limited);
}

#[test]
fn a_removed_peer_takes_its_lines_along_and_nothing_else() {
    let edited = remove_peer(&read(FILE).unwrap(), &node(1)).unwrap();
    let block = "[[peer]] # one\nuri = \"sinew://ID@h:1\"\n\n# inside\ncost = 3\n";
    assert_eq!(named(&edited.text), FILE.replace(block, ""));
    let none = remove_peer(&edited, &node(2)).unwrap();
    assert_eq!(none.config.peers, []);
    assert!(none.text.ends_with("# the second\n\n# the device\n[tun]\nmtu = 1300\n"));
    assert_eq!(remove_peer(&none, &node(2)).unwrap(), none);
}

#[test]
fn added_and_removed_again_leaves_the_file_as_it_was() {
    for text in ["", "# only a comment", "[node]\nname = \"a\"\n", FILE] {
        let file = read(text).unwrap();
        let added = add_peer(&file, &peer(3, "x:9", 4)).unwrap();
        let back = remove_peer(&added, &node(3)).unwrap();
        assert_eq!(back.text.trim_end(), file.text.trim_end());
    }
}

#[test]
fn an_unusual_layout_is_refused_and_never_mangled() {
    for text in [
        "peer = [{ uri = \"sinew://ID@h:1\" }]",
        "[node]\nkey_file = '''\n[[peer]]\n'''\n[[peer]]\nuri = \"sinew://ID@h:1\"",
        "[[\"peer\"]]\nuri = \"sinew://ID@h:1\"",
        "[[peer]]\nuri = \"sinew://ID@h:1\"\n[node]\nkey_file = '''\n[[peer]]'''",
    ] {
        let file = read(text).unwrap();
        assert!(matches!(remove_peer(&file, &node(1)), Err(EditError::Layout { .. })), "{text}");
    }
}

#[test]
fn saving_replaces_the_file_whole_with_its_permissions() {
    let dir = std::env::temp_dir().join(format!("sinew-edit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("s.toml");
    std::fs::write(&path, "# mine\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let edited = add_peer(&ConfigFile::read(&path).unwrap(), &peer(2, "h:1", 0)).unwrap();
    save(&edited).unwrap();
    assert_eq!(ConfigFile::read(&path).unwrap(), edited);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "a temporary file was left");
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(save(&edited).unwrap_err().to_string().contains("no such file"));
}
