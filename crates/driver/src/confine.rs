//! What the daemon needs once it stands, and so what is left to it.
//!
//! Nothing after this point makes devices, binds listeners, forces buffers or reads a secret. What
//! is read again: the configuration (reload), what name resolution needs. What is written: the
//! state, and the configuration (`peers add --save`). Whatever still takes privileges is asked of
//! the helper.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use sinew_control::config::{AccessLog, ConfigFile};
use sinew_platform::confine::{self, ConfineError, Fence, Gap};
use tracing::info;

/// Folders that hold other things than ours. A configuration file there is read, and saving it is
/// refused: the right to write is one to the whole folder.
const SHARED: &[&str] = &[
    "/",
    "/etc",
    "/home",
    "/opt",
    "/root",
    "/run",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/local",
    "/usr/local/etc",
    "/var",
    "/var/lib",
    "/var/tmp",
];

/// Gives up the rest, for good. Call it while there is one thread.
pub(crate) fn confine(file: &ConfigFile) -> Result<Vec<Gap>, ConfineError> {
    // Later there is no right to make it. If it cannot be made, whoever needs it says why.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&file.config.node.state_dir);
    if let Some(folder) = log_folder(file) {
        let _ = DirBuilder::new().recursive(true).mode(0o750).create(folder);
    }
    let gaps = confine::daemon(&fence(file))?;
    for gap in &gaps {
        info!("{}; {}", gap.text(), gap.fix());
    }
    Ok(gaps)
}

/// Where the gateway's access log is, and nothing else.
fn log_folder(file: &ConfigFile) -> Option<&Path> {
    match &file.config.gateway.as_ref()?.log {
        AccessLog::File(path) => path.parent(),
        AccessLog::Off | AccessLog::Stderr => None,
    }
}

fn fence(file: &ConfigFile) -> Fence {
    // A symbolic link is followed when the file is read, and when it is saved.
    let real = std::fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
    let folder = |path: &Path| path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    let (mut read, mut write) = (vec![folder(&file.path)], vec![file.config.node.state_dir.clone()]);
    let own = folder(&real);
    if SHARED.iter().any(|shared| Path::new(shared) == own) {
        read.push(own)
    } else {
        write.push(own)
    }
    if let Some(gateway) = &file.config.gateway {
        read.extend(crate::gateway::folders(&gateway.certificates));
    }
    // Its configuration is refused if others have files there.
    write.extend(log_folder(file).map(Path::to_owned));
    Fence { read, write, local_services: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> Fence {
        let text = "[node]\nkey_file = \"/k\"\nstate_dir = \"/var/lib/sinew\"\n".to_owned();
        fence(&ConfigFile::parse(Path::new(path), text).unwrap())
    }

    #[test]
    fn the_configuration_is_written_only_in_a_folder_of_its_own() {
        let state = PathBuf::from("/var/lib/sinew");
        let own = of("/no/such/folder/s.toml");
        assert_eq!(own.write, [state.clone(), "/no/such/folder".into()]);
        for shared in ["/etc/s.toml", "/s.toml", "/root/s.toml"] {
            let fence = of(shared);
            assert_eq!(fence.write, std::slice::from_ref(&state), "{shared}");
            assert!(fence.read.contains(&PathBuf::from(shared).parent().unwrap().to_owned()));
        }
    }
}
