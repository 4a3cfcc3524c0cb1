//! What happened to workloads while no daemon ran.
//!
//! A container runtime removes containers whenever it likes. Its plugin then takes the interface away
//! by itself and leaves word here, a file for each attachment (control API, `tombstones`).

use std::fs::DirEntry;
use std::path::Path;

use sinew_control::api::tombstones;

use super::MAX_WORKLOADS;

/// Tags of workloads that were ended. Their word is taken away: call it while this process still
/// may.
pub(crate) fn ended_meanwhile(control: &Path) -> Vec<String> {
    let Ok(found) = std::fs::read_dir(tombstones(control)) else { return Vec::new() };
    let taken = |entry: DirEntry| {
        std::fs::remove_file(entry.path()).ok()?;
        entry.file_name().into_string().ok()
    };
    // More than there can be workloads; the rest is for the next start.
    found.flatten().take(4 * MAX_WORKLOADS).filter_map(taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_of_what_ended_without_us_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("sinew.sock");
        assert!(ended_meanwhile(&control).is_empty());
        std::fs::create_dir(tombstones(&control)).unwrap();
        std::fs::write(tombstones(&control).join("cni:pods:c1:eth0"), "").unwrap();
        assert_eq!(ended_meanwhile(&control), ["cni:pods:c1:eth0"]);
        assert!(ended_meanwhile(&control).is_empty());
    }
}
