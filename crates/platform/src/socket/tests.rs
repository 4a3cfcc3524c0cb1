use super::*;

fn run(test: impl AsyncFnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test(directory.path()));
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_socket_has_its_mode_answers_and_goes_with_its_guard() {
    run(async |directory| {
        let path = directory.join("run/sinew/sinew.sock");
        let (listener, guard) = unix_listener(&path, 0o660, None).unwrap();
        assert_eq!((mode(&path), guard.path()), (0o660, path.as_path()));
        let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        let cred = peer_cred(&server.unwrap().0).unwrap();
        assert_eq!(cred.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(cred.gid, nix::unistd::getegid().as_raw());
        assert_eq!(cred.pid, Some(nix::unistd::getpid().as_raw()));
        assert_eq!(cred.groups.len(), nix::unistd::getgroups().unwrap().len());
        drop((client, listener, guard));
        assert!(!path.exists() && !path.parent().unwrap().exists());
        assert!(directory.join("run").exists(), "only the last directory is surely ours");
    });
}

#[test]
fn a_socket_in_use_is_left_alone() {
    run(async |directory| {
        let path = directory.join("s");
        let (_listener, _guard) = unix_listener(&path, 0o600, None).unwrap();
        assert!(matches!(unix_listener(&path, 0o600, None), Err(SocketError::InUse(_))));
        let mut full = Vec::new();
        // Also when it is too busy to answer: fill its queue until it refuses.
        while let Ok(fd) = stream_socket() {
            match connect(fd.as_raw_fd(), &UnixAddr::new(&path).unwrap()) {
                Ok(()) => full.push(fd),
                Err(errno) => {
                    assert_eq!(errno, Errno::EAGAIN);
                    break;
                }
            }
        }
        assert!(matches!(unix_listener(&path, 0o600, None), Err(SocketError::InUse(_))));
        UnixStream::connect(directory.join("t")).await.unwrap_err();
    });
}

#[test]
fn a_socket_that_a_killed_run_left_is_replaced() {
    run(async |directory| {
        let path = directory.join("s");
        // As kill -9 does: the descriptor is closed, the name stays.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (listener, _guard) = unix_listener(&path, 0o600, None).unwrap();
        let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        client.unwrap();
        server.unwrap();
    });
}

#[test]
fn a_name_is_taken_until_its_guard_is_gone_and_removed_only_by_its_owner() {
    run(async |directory| {
        let path = directory.join("s");
        let (listener, guard) = unix_listener(&path, 0o600, None).unwrap();
        drop(listener);
        assert!(matches!(unix_listener(&path, 0o600, None), Err(SocketError::InUse(_))));
        // Somebody removes and replaces it by hand: that is no longer ours to clean up.
        std::fs::rename(&path, directory.join("moved")).unwrap();
        std::fs::write(&path, b"").unwrap();
        drop(guard);
        assert!(path.exists());
    });
}

#[test]
fn what_is_no_socket_is_not_removed() {
    run(async |directory| {
        let path = directory.join("s");
        std::fs::write(&path, b"a file").unwrap();
        assert!(matches!(unix_listener(&path, 0o600, None), Err(SocketError::NotASocket(_))));
        let link = directory.join("l");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(unix_listener(&link, 0o600, None), Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    });
}

#[test]
fn impossible_names_and_groups_are_named() {
    run(async |directory| {
        let long = directory.join("x".repeat(120));
        assert!(matches!(unix_listener(&long, 0o600, None), Err(SocketError::TooLong(_))));
        let result = unix_listener(&directory.join("s"), 0o600, Some("no-such-group-here"));
        assert!(matches!(result, Err(SocketError::NoGroup(_))));
        assert!(!directory.join("s").exists());
    });
}

#[test]
fn a_group_is_set_where_that_is_possible() {
    run(async |directory| {
        let Some(gid) = group_id("daemon") else { return };
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let path = directory.join("s");
        let (_listener, _guard) = unix_listener(&path, 0o660, Some("daemon")).unwrap();
        assert_eq!((std::fs::metadata(&path).unwrap().gid(), mode(&path)), (gid, 0o660));
    });
}

#[test]
fn root_the_same_user_and_group_members_may_operate_and_nobody_else() {
    let us = nix::unistd::geteuid().as_raw();
    let stranger = PeerCred { uid: us + 1, gid: 7, pid: None, groups: vec![8, 9] };
    assert!(PeerCred { uid: 0, ..stranger.clone() }.may_operate(None));
    assert!(PeerCred { uid: us, ..stranger.clone() }.may_operate(None));
    assert!(stranger.may_operate(Some(7)) && stranger.may_operate(Some(9)));
    assert!(!stranger.may_operate(None) && !stranger.may_operate(Some(10)));
}
