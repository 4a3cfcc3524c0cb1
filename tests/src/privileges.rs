//! What a process may do, as the kernel sees it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// One value of `/proc/<pid>/status`.
pub fn status(pid: u32, key: &str) -> Result<String> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line =
        text.lines().find_map(|line| line.strip_prefix(key)).with_context(|| format!("{key} in {path}"))?;
    Ok(line.trim_start_matches(':').trim().to_owned())
}

/// The processes that `pid` started and that still run.
pub fn children(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&child| status(child, "PPid").is_ok_and(|parent| parent == pid.to_string())).collect()
}

/// Every thread of a process has this value.
pub fn every_thread(pid: u32, key: &str, value: &str) -> Result<()> {
    let tasks = format!("/proc/{pid}/task");
    for task in fs::read_dir(&tasks).with_context(|| tasks.clone())?.flatten() {
        let thread = task.file_name().to_string_lossy().parse()?;
        let found = status(thread, key)?;
        ensure!(found == value, "thread {thread} of {pid} has {key} {found} instead of {value}");
    }
    Ok(())
}

/// What a process holds: the targets of its descriptors.
pub fn descriptors(pid: u32) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&folder).with_context(|| folder.clone())?.flatten();
    let targets = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(targets.map(|target| target.to_string_lossy().into_owned()).collect())
}

/// Sockets of a process that lead to the network, or that watch it.
pub fn network_sockets(pid: u32) -> Result<Vec<String>> {
    let mut known = BTreeSet::new();
    for table in ["tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "packet", "netlink"] {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net").join(table));
        let words = text.unwrap_or_default();
        known.extend(words.split_whitespace().map(|word| format!("socket:[{word}]")));
    }
    Ok(descriptors(pid)?.into_iter().filter(|target| known.contains(target)).collect())
}

/// How many mounts this process sees.
pub fn mounts() -> Result<usize> {
    Ok(fs::read_to_string("/proc/self/mountinfo")?.lines().count())
}
