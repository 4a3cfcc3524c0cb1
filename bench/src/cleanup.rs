//! Nothing of a run stays on the machine: namespaces, folders, control sockets.
//!
//! Everything that a run makes carries `sinewbench-PID` in its name, so that a run ended by a
//! signal can be cleaned by itself, one ended by `kill -9` by the next, and nobody else's things
//! are touched.

use std::path::Path;

use sinew_tests::ns;

/// Family of the benchmark's namespaces.
pub(crate) const FAMILY: &str = "sinewbench";

/// Where userspace WireGuards put their control sockets, whatever namespace they are in.
pub(crate) const UAPI: &str = "/var/run/wireguard";

/// Beginning of the names of this run's WireGuard interfaces, unlike any other on the machine.
pub(crate) fn interface_prefix() -> String {
    format!("sb{}", std::process::id())
}

/// Removes what earlier runs left whose process is gone.
pub(crate) fn stale() {
    ns::clean_stale(FAMILY);
    remove_files(&std::env::temp_dir(), |name| owner(name, "sinewbench-").is_some_and(gone));
    remove_files(Path::new(UAPI), |name| owner(name, "sb").is_some_and(gone));
}

/// Removes everything of this run.
pub(crate) fn own() {
    let pid = std::process::id();
    ns::clean_all(&format!("{FAMILY}-{pid}"));
    remove_files(&std::env::temp_dir(), |name| owner(name, "sinewbench-") == Some(pid));
    remove_files(Path::new(UAPI), |name| owner(name, "sb") == Some(pid));
}

/// The process id that follows `prefix` in a name.
fn owner(name: &str, prefix: &str) -> Option<u32> {
    let rest = name.strip_prefix(prefix)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

fn remove_files(folder: &Path, matches: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&matches)) {
        let path = entry.path();
        let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_leftover_is_read_from_its_name() {
        assert_eq!(owner("sinewbench-123-sinew0", "sinewbench-"), Some(123));
        assert_eq!(owner("sb77a.sock", "sb"), Some(77));
        assert_eq!(owner("sbx.sock", "sb"), None);
        assert_eq!(owner("wg0.sock", "sb"), None);
    }
}
