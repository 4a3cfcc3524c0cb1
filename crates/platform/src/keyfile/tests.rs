use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;

const ONES: &str = "0101010101010101010101010101010101010101010101010101010101010101";

/// A directory of this test's own.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_new_key_is_private_complete_and_read_back() {
    let directory = directory();
    let path = directory.path().join("a/b/node.key");
    let made = create(&path).unwrap();
    assert_eq!(*load(&path).unwrap(), *made);
    let meta = fs::symlink_metadata(&path).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.len(), meta.nlink()), (0o600, 65, 1));
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
    assert_eq!(entries(path.parent().unwrap()), std::slice::from_ref(&path), "nothing temporary is left");
    assert_ne!(*create(&directory.path().join("other")).unwrap(), *made);
}

#[test]
fn a_key_is_never_overwritten() {
    let directory = directory();
    let path = directory.path().join("node.key");
    write(&path, b"precious", 0o600);
    assert!(matches!(create(&path), Err(KeyFileError::Exists { .. })));
    std::os::unix::fs::symlink("nowhere", directory.path().join("link")).unwrap();
    assert!(matches!(create(&directory.path().join("link")), Err(KeyFileError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"precious");
    assert_eq!(entries(directory.path()).len(), 2);
}

#[test]
fn the_race_for_the_name_is_lost_without_damage() {
    let directory = directory();
    let path = directory.path().join("node.key");
    let makers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || *load_or_create(&path).unwrap())
        })
        .collect();
    let seeds: Vec<_> = makers.into_iter().map(|maker| maker.join().unwrap()).collect();
    assert!(seeds.iter().all(|seed| *seed == seeds[0]), "all use the one that won");
    assert_eq!(entries(directory.path()), [path]);
}

#[test]
fn the_first_start_makes_a_key_and_the_second_reads_it() {
    let directory = directory();
    let path = directory.path().join("node.key");
    assert!(matches!(load(&path), Err(KeyFileError::Missing { .. })));
    let first = load_or_create(&path).unwrap();
    assert_eq!(*load_or_create(&path).unwrap(), *first);
}

#[test]
fn a_key_that_others_can_reach_is_refused_with_the_remedy() {
    let directory = directory();
    let path = directory.path().join("node.key");
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777] {
        write(&path, ONES.as_bytes(), mode);
        let error = load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::OpenToOthers { mode: m, .. } if m == mode), "{error}");
        assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        assert!(load_or_create(&path).is_err(), "and not replaced either");
    }
    for mode in [0o600, 0o400] {
        write(&path, ONES.as_bytes(), mode);
        assert_eq!(*load(&path).unwrap(), [1; 32]);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn a_key_of_another_user_is_refused() {
    let directory = directory();
    let path = directory.path().join("node.key");
    write(&path, ONES.as_bytes(), 0o600);
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    nix::unistd::chown(&path, Some(65_534.into()), None).unwrap();
    let error = load(&path).unwrap_err();
    assert!(matches!(error, KeyFileError::ForeignOwner { owner: 65_534, us: 0, .. }), "{error}");
}

#[test]
fn links_directories_and_pipes_are_refused_without_waiting() {
    let directory = directory();
    let target = directory.path().join("target");
    write(&target, ONES.as_bytes(), 0o600);
    let (link, pipe) = (directory.path().join("link"), directory.path().join("pipe"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&link, &pipe, &socket, &directory.path().to_owned()] {
        let error = load(path).unwrap_err();
        assert!(matches!(error, KeyFileError::NotRegular { .. }), "{}: {error}", path.display());
    }
}

#[test]
fn only_64_hexadecimal_digits_are_a_key() {
    let directory = directory();
    let path = directory.path().join("node.key");
    let good = [ONES.to_owned(), format!("{ONES}\n"), format!("{ONES}\r\n")];
    for content in good {
        write(&path, content.as_bytes(), 0o600);
        assert_eq!(*load(&path).unwrap(), [1; 32], "{content:?}");
    }
    write(&path, "0123456789abcdefABCDEF0000000000".repeat(2).as_bytes(), 0o600);
    assert_eq!(load(&path).unwrap()[..9], [1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xab]);
    let bad = [
        String::new(),
        "\n".into(),
        ONES[1..].into(),
        format!("{ONES}0"),
        format!("{ONES}\n\n"),
        ONES.replace('1', "g"),
    ];
    for content in bad.iter().map(String::as_bytes).chain([&[1; 32][..], &[b'0'; 4096]]) {
        write(&path, content, 0o600);
        let error = load(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Malformed { .. }), "{error}");
    }
}

#[test]
fn a_path_without_a_name_or_a_place_is_an_error() {
    assert!(matches!(load(Path::new("")), Err(KeyFileError::Missing { .. })));
    assert!(create(Path::new("/")).is_err());
    assert!(create(Path::new("/proc/no/node.key")).is_err());
}
