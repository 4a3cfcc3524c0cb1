//! Has the host's systemd-resolved ask us for our domain, and leaves it as it was.
//!
//! All of it happens before the daemon gives up its privileges, and the connection to the system bus
//! is closed again before that, with the thread it was made on: services on the bus obey root, so that a connection which outlives
//! the start would be worth more than the capabilities given up (`platform::confine` refuses to make
//! one for the same reason). Nothing is lost by it: what is set hangs on our device, which the kernel
//! removes with its last descriptor, after a clean end and after `kill -9` alike, and resolved forgets
//! it in the same moment. A restart of resolved itself keeps it.
//!
//! The journal is for a device that outlives us all the same. It is a file of its own, since the store
//! has a thread and so opens later; it is written before the change and removed when the device is
//! seen to be gone.

use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sinew_control::api::{Health, Severity};
use sinew_dns::resolved::{HostResolver, LinkChange};
use tokio::time::timeout;
use tracing::{info, warn};

/// File inside the state folder.
const JOURNAL: &str = "resolved.journal";
/// Longest journal that is read: an interface's name and number.
const JOURNAL_MAX: u64 = 64;
/// How long all of it may take. A bus that hangs must not keep the mesh down.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long an ended thread may take to disappear.
const GONE: Duration = Duration::from_secs(1);

/// How the host's own programs come to ask us.
pub(crate) struct HostAsks {
    /// `systemd-resolved` or `none`, as `sinew dns status` says it.
    pub(crate) by: &'static str,
    /// Why not, where it should.
    pub(crate) health: Option<Health>,
}

impl HostAsks {
    pub(crate) const NOT: Self = Self { by: "none", health: None };
}

/// What is to be asked where.
pub(crate) struct Wanted<'a> {
    /// Our interface, which is up.
    pub(crate) interface: &'a str,
    pub(crate) index: u32,
    pub(crate) server: IpAddr,
    pub(crate) domain: &'a str,
}

/// Undoes what an earlier run left, and has resolved, where it runs, ask us. `None`: only undoes.
pub(crate) fn set(state_dir: &Path, wanted: Option<Wanted<'_>>) -> HostAsks {
    let journal = state_dir.join(JOURNAL);
    let left = read(&journal).as_deref().and_then(LinkChange::from_journal);
    if left.is_none() && wanted.is_none() {
        return HostAsks::NOT;
    }
    // With a thread and a runtime of its own, after which no thread and no connection is left.
    let told = std::thread::scope(|scope| scope.spawn(|| block_on(talk(&journal, left, wanted))).join());
    alone_again();
    match told {
        Ok(Ok(by)) => HostAsks { by, health: None },
        Ok(Err(error)) => failed(&error),
        Err(_) => failed("the attempt broke off"),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let done = runtime.block_on(async { timeout(PATIENCE, work).await });
    done.unwrap_or_else(|_| Err("no answer within five seconds".to_owned()))
}

/// A thread that was waited for is still listed for a moment, and whoever gives up privileges counts.
fn alone_again() {
    let began = std::time::Instant::now();
    let threads = || std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    while threads() > 1 && began.elapsed() < GONE {
        std::thread::yield_now();
    }
}

fn failed(why: &str) -> HostAsks {
    warn!("the host does not ask for our names: {why}");
    let health = Health {
        code: "host_resolver".to_owned(),
        severity: Severity::Warning,
        text: format!("names do not resolve on this machine itself: {why}"),
        fix: "see `systemctl status systemd-resolved`, then restart sinewd".to_owned(),
    };
    HostAsks { by: "none", health: Some(health) }
}

async fn talk(
    journal: &Path,
    left: Option<LinkChange>,
    wanted: Option<Wanted<'_>>,
) -> Result<&'static str, String> {
    let Some(resolved) = HostResolver::find().await.map_err(|error| error.to_string())? else {
        // Where there is none, there is nothing to undo in it.
        forget(journal);
        return Ok("none");
    };
    change(&resolved, journal, left, wanted).await
}

async fn change(
    resolved: &HostResolver,
    journal: &Path,
    left: Option<LinkChange>,
    wanted: Option<Wanted<'_>>,
) -> Result<&'static str, String> {
    if let Some(left) = left {
        let undone = resolved.undo(&left).await.map_err(|error| error.to_string())?;
        if undone {
            info!("systemd-resolved: took back what a run that was killed had set");
        }
        forget(journal);
    }
    let Some(wanted) = wanted else { return Ok("none") };
    let change = LinkChange::new(wanted.index, wanted.interface);
    write(journal, &change.journal()).map_err(|error| format!("{}: {error}", journal.display()))?;
    let set = resolved.set(&change, &[wanted.server], &[wanted.domain.to_owned()]).await;
    set.map_err(|error| error.to_string())?;
    info!(domain = wanted.domain, interface = wanted.interface, "systemd-resolved asks us");
    Ok("systemd-resolved")
}

/// After the device is closed: nothing of ours is left in resolved once the interface is gone.
pub(crate) fn end(state_dir: &Path) {
    let journal = state_dir.join(JOURNAL);
    let left = read(&journal).as_deref().and_then(LinkChange::from_journal);
    if left.is_some_and(|left| !left.is_there()) {
        forget(&journal);
    }
}

fn read(journal: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(journal).ok()?;
    io::Read::read_to_end(&mut io::Read::take(file, JOURNAL_MAX), &mut bytes).ok()?;
    Some(bytes)
}

fn write(journal: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = journal.parent().map(PathBuf::from).unwrap_or_default();
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = File::create(journal)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn forget(journal: &Path) {
    match std::fs::remove_file(journal) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            warn!(%error, "cannot remove {}", journal.display());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_stays_as_long_as_the_interface_does() {
        let dir = tempfile::tempdir().unwrap();
        let journal = dir.path().join("state").join(JOURNAL);
        let folder = journal.parent().unwrap();
        for (interface, index, stays) in [("lo", 1, true), ("sinew0", u32::MAX, false)] {
            let change = LinkChange::new(index, interface);
            write(&journal, &change.journal()).unwrap();
            assert_eq!(read(&journal).as_deref().and_then(LinkChange::from_journal), Some(change));
            end(folder);
            assert_eq!(journal.exists(), stays, "{interface}");
        }
        end(folder);
    }
}
