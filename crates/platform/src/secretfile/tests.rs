use std::os::unix::fs::PermissionsExt;

use super::*;

fn write(path: &Path, content: &str, mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_secret_is_written_and_read_back_in_every_spelling_of_base32() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.secret");
    let secret: [u8; 32] = std::array::from_fn(|i| (i * 37 + 5) as u8);
    create(&path, &secret).unwrap();
    assert!(matches!(create(&path, &secret), Err(KeyFileError::Exists { kind: Kind::Secret, .. })));
    assert_eq!(*load(&path).unwrap(), secret);
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.len(), 53);
    // RFC 4648, checked against coreutils' base32.
    assert!(text.starts_with("auve65ez"), "{text}");
    for spelling in
        [text.to_uppercase(), text.trim().to_owned(), format!("{}====\n", text.trim().to_uppercase())]
    {
        write(&path, &spelling, 0o600);
        assert_eq!(*load(&path).unwrap(), secret, "{spelling}");
    }
}

#[test]
fn anything_else_is_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.secret");
    let good = "a".repeat(52);
    let bad = [
        String::new(),
        "a".repeat(51),
        "a".repeat(53),
        format!("{good}="),
        good.replacen('a', "1", 1),
        format!("{}b", "a".repeat(51)),
        format!("{good} {good}"),
    ];
    for content in bad {
        write(&path, &content, 0o600);
        assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })), "{content:?}");
    }
    write(&path, &good, 0o600);
    assert_eq!(*load(&path).unwrap(), [0; 32]);
}

#[test]
fn the_rules_of_the_key_file_hold_here_too() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mesh.secret");
    let missing = load(&path).unwrap_err().to_string();
    assert!(missing.contains("head -c 32 /dev/urandom | base32"), "{missing}");
    write(&path, &"a".repeat(52), 0o644);
    assert!(matches!(load(&path), Err(KeyFileError::OpenToOthers { .. })));
}
