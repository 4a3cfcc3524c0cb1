use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory of its own, gone afterwards.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sinew-secrets-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn private(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, text).unwrap();
        chmod(&path, 0o600);
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_key_is_made_private_and_read_back() {
    let dir = Dir::new("made");
    let path = dir.file("deep/er/node.key");
    let made = load_or_create_key(&path, &Secret::new([7; 32])).unwrap();
    assert_eq!(made.node_id(), Identity::from_seed([7; 32]).node_id());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    let again = load_or_create_key(&path, &Secret::new([8; 32])).unwrap();
    assert_eq!(again.node_id(), made.node_id());
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "a temporary file was left");
}

#[test]
fn a_key_is_never_overwritten() {
    let dir = Dir::new("kept");
    let path = dir.private("node.key", "precious");
    let error = create_key(&path, &Secret::new([1; 32])).unwrap_err();
    assert!(matches!(error, SecretError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = Dir::new("exposed");
    let path = dir.file("node.key");
    create_key(&path, &Secret::new([1; 32])).unwrap();
    for mode in [0o640, 0o604, 0o666] {
        chmod(&path, mode);
        let error = load_key(&path).unwrap_err();
        assert!(matches!(error, SecretError::Exposed { mode: seen, .. } if seen == mode), "{error}");
    }
    chmod(&path, 0o400);
    assert!(load_key(&path).is_ok());
}

#[test]
fn a_file_of_another_form_is_no_key() {
    let dir = Dir::new("form");
    let id = Identity::from_seed([1; 32]).node_id().to_string();
    let capitals = format!("sinew-key-1:{}", id.to_uppercase());
    for text in ["", "x", &id, "sinew-key-1:abc", &capitals, "sinew-key-1:é"] {
        let path = dir.private("node.key", text);
        let error = load_key(&path).unwrap_err();
        assert!(matches!(error, SecretError::Malformed { .. }), "{text:?}: {error}");
    }
    let missing = load_key(&dir.file("none")).unwrap_err().to_string();
    assert!(missing.ends_with("does not exist; `sinew key new FILE` makes a key"), "{missing}");
}

#[test]
fn a_mesh_secret_is_base32_in_either_case() {
    let dir = Dir::new("mesh");
    let path = dir.file("mesh.secret");
    create_mesh_secret(&path, &Secret::new([0xa5; 32])).unwrap();
    assert_eq!(*load_mesh_secret(&path).unwrap(), [0xa5; 32]);
    let text = std::fs::read_to_string(&path).unwrap();
    let padded = dir.private("padded", &format!("{}====\n", text.trim().to_uppercase()));
    assert_eq!(*load_mesh_secret(&padded).unwrap(), [0xa5; 32]);
    let short = dir.private("short", "abc");
    assert!(matches!(load_mesh_secret(&short), Err(SecretError::Malformed { .. })));
}

#[test]
fn a_key_that_cannot_be_made_says_so() {
    let path = Path::new("/proc/sinew-no-such/node.key");
    let error = load_or_create_key(path, &Secret::new([1; 32])).unwrap_err();
    assert!(matches!(error, SecretError::NotMade { .. }), "{error}");
}
