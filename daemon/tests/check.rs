//! What the daemon says and how it ends before it touches the host: `--check`, and wrong usage.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sinew_platform::keyfile;
use sinew_types::{Identity, NodeId};

/// A directory with a configuration file, gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str, toml: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("sinewd-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        let dir = Self(dir);
        let text = format!("[node]\nkey_file = \"{}\"\n{toml}", dir.file("node.key").display());
        std::fs::write(dir.file("s.toml"), text).expect("the directory is ours");
        dir
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the node's key.
    fn key(&self) -> NodeId {
        let seed = keyfile::create(&self.file("node.key")).expect("there is no key yet");
        Identity::from_seed(*seed).node_id()
    }

    fn check(&self) -> (i32, String) {
        sinewd(&["--config", path(&self.file("s.toml")), "--check"])
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are text")
}

/// Exit code and stderr.
fn sinewd(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sinewd")).args(args).output().expect("it was built");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into())
}

#[test]
fn usage_and_version() {
    assert_eq!(sinewd(&["--version"]).0, 0);
    assert_eq!(sinewd(&["--help"]).0, 0);
    let page = Command::new(env!("CARGO_BIN_EXE_sinewd")).arg("--man").output().expect("it was built");
    let page = String::from_utf8_lossy(&page.stdout);
    assert!(page.contains(".TH sinewd 8") && page.contains("\\-\\-log\\-level"), "{page}");
    for wrong in [
        &[][..],
        &["--config", "x", "--man"],
        &["--config"],
        &["--config", "x", "--nonsense"],
        &["--config", "x", "--log-format", "xml"],
    ] {
        assert_eq!(sinewd(wrong).0, 1, "{wrong:?}");
    }
    let (exit, said) = sinewd(&["--config", "x", "--log-level", "sinew=loud"]);
    assert_eq!(exit, 1);
    assert!(said.starts_with("sinewd: --log-level sinew=loud: "), "{said}");
}

#[test]
fn a_good_file_passes_and_no_key_is_made_by_checking() {
    let dir = Dir::new("good", "name = \"paris\"\n");
    assert_eq!(dir.check(), (0, String::new()));
    assert!(!dir.file("node.key").exists());
}

#[test]
fn each_mistake_is_one_line_and_exit_1() {
    let dir = Dir::new("bad", "nmae = \"paris\"\n");
    let line =
        format!("sinewd: {}:3: node.nmae: unknown key; did you mean `name`?\n", dir.file("s.toml").display());
    assert_eq!(dir.check(), (1, line));
    let (exit, said) = sinewd(&["--config", "/nonexistent/s.toml"]);
    let line = "sinewd: /nonexistent/s.toml: cannot be read: no such file or directory; name the file with --config\n";
    assert_eq!((exit, said.as_str()), (1, line));
}

#[test]
fn the_own_key_as_a_peer_is_refused() {
    let dir = Dir::new("own", "");
    let toml = std::fs::read_to_string(dir.file("s.toml")).expect("it was written");
    let peer = format!("{toml}[[peer]]\nuri = \"sinew://{}@192.0.2.1:7463\"\n", dir.key());
    std::fs::write(dir.file("s.toml"), peer).expect("the directory is ours");
    let (exit, said) = dir.check();
    assert_eq!(exit, 1);
    assert!(said.contains("s.toml:4: peer.uri: this is the node's own key; "), "{said}");
}

#[test]
fn secrets_that_others_can_read_or_that_are_none_are_refused() {
    let dir = Dir::new("open", "");
    dir.key();
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.file("node.key"), open).expect("the file is ours");
    let (exit, said) = dir.check();
    assert_eq!((exit, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("s.toml: node.key_file: ") && said.contains("open to others"), "{said}");
    let dir = Dir::new("secret", "[mesh]\nsecret_file = \"/nonexistent/mesh.secret\"\n");
    let (exit, said) = dir.check();
    assert_eq!((exit, said.lines().count()), (1, 1), "{said}");
    assert!(said.contains("mesh.secret_file: ") && said.contains("does not exist"), "{said}");
}

#[test]
fn a_key_that_cannot_be_made_is_the_hosts_fault() {
    let dir = Dir::new("nokey", "");
    let text = "[node]\nkey_file = \"/proc/sinew-no-such/node.key\"\n";
    std::fs::write(dir.file("s.toml"), text).expect("the directory is ours");
    let (exit, said) = sinewd(&["--config", path(&dir.file("s.toml"))]);
    assert_eq!((exit, said.lines().count()), (2, 1), "{said}");
    assert!(said.contains("node.key_file: ") && said.contains("/proc/sinew-no-such/node.key"), "{said}");
}
