//! Namespaces that are kept alive by a name: `<runtime folder>/netns/<id>`.
//!
//! A pin is a mount of the namespace on an empty file, as `ip netns` makes it: whoever may enter
//! namespaces can open it, and it is there until somebody unmounts it, with or without a daemon.
//! The folder is a mount of its own with shared propagation, so that a mount namespace made later
//! (by a container runtime, say) learns of the unmount; otherwise its copy of the pin would keep a
//! namespace of ours alive. The folder goes with the last pin.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use sinew_platform::netns::is_network_namespace;

use crate::codec::{Id, Why};
use crate::failure::Failure;

/// Others have no business with the names in here.
const MODE: u32 = 0o700;

/// The folder of pins.
#[derive(Debug)]
pub(crate) struct Pins {
    folder: PathBuf,
}

/// A pin that is undone unless it is kept.
#[derive(Debug)]
pub(crate) struct Pin<'a> {
    pins: &'a Pins,
    id: &'a Id,
    kept: bool,
}

impl Pin<'_> {
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What fails here fails again, and is told, on the next detach.
            let _ = self.pins.remove(self.id);
        }
    }
}

impl Pins {
    pub(crate) fn below(runtime: &Path) -> Self {
        Self { folder: runtime.join("netns") }
    }

    fn path(&self, id: &Id) -> PathBuf {
        self.folder.join(id.as_str())
    }

    /// The namespace that is pinned under `id`.
    pub(crate) fn open(&self, id: &Id) -> Result<OwnedFd, Failure> {
        let path = self.path(id);
        let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path);
        let unknown = |what| Failure::new(Why::Unknown, format!("workload `{id}` {what}"));
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unknown("is not attached here")),
            Err(error) => Err(Failure::step(format_args!("open {}", path.display()), error)),
            Ok(file) if is_network_namespace(file.as_fd()) => Ok(file.into()),
            Ok(_) => Err(unknown("has no namespace any more")),
        }
    }

    /// Gives a namespace its name.
    pub(crate) fn add<'a>(&'a self, id: &'a Id, namespace: BorrowedFd<'_>) -> Result<Pin<'a>, Failure> {
        self.make_folder().inspect_err(|_| self.remove_empty_folder())?;
        let path = self.path(id);
        let step = |action| {
            let text = format!("{action} {}", path.display());
            move |error| Failure::step(text, error)
        };
        let make = || OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if self.open(id).is_ok() {
                    return Err(taken(id));
                }
                // The name outlived its namespace: a crash between two steps, or a reboot.
                self.remove(id)?;
                self.make_folder()?;
                drop(make().map_err(step("make"))?);
            }
            result => drop(result.map_err(step("make"))?),
        }
        let pin = Pin { pins: self, id, kept: false };
        let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        mount(Some(source.as_str()), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| step("mount a namespace on")(errno.into()))?;
        Ok(pin)
    }

    /// Forgets a name; one that is not there is as good. The namespace ends with whatever else
    /// keeps it.
    pub(crate) fn remove(&self, id: &Id) -> Result<(), Failure> {
        let path = self.path(id);
        loop {
            match umount2(&path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                // Whoever mounted on it twice is undone twice.
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(Failure::step(format_args!("unmount {}", path.display()), errno)),
            }
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::step(format_args!("remove {}", path.display()), error))
            }
            _ => {
                self.remove_empty_folder();
                Ok(())
            }
        }
    }

    /// Names whose namespace lives, in order.
    pub(crate) fn list(&self) -> Result<Vec<Id>, Failure> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result
                .map_err(|error| Failure::step(format_args!("list {}", self.folder.display()), error))?,
        };
        let names = entries.flatten().filter_map(|entry| Id::new(entry.file_name().to_str()?));
        let mut ids: Vec<_> = names.filter(|id| self.open(id).is_ok()).collect();
        ids.sort();
        Ok(ids)
    }

    fn make_folder(&self) -> Result<(), Failure> {
        let shown = self.folder.display();
        let step = |action: &str| {
            let text = format!("{action} {shown}");
            move |error: io::Error| Failure::step(text, error)
        };
        match DirBuilder::new().recursive(false).mode(MODE).create(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(step("make")(error)),
            _ => {}
        }
        let meta = fs::symlink_metadata(&self.folder).map_err(step("examine"))?;
        let ours = meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0;
        if !ours {
            let text = format!("{shown} is not a folder that only this user can write: remove it");
            return Err(Failure::new(Why::Failed, text));
        }
        let share = || {
            let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
            mount(None::<&str>, &self.folder, None::<&str>, flags, None::<&str>)
        };
        match share() {
            // Not a mount of its own yet.
            Err(Errno::EINVAL) => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(&self.folder), &self.folder, None::<&str>, flags, None::<&str>)
                    .and_then(|()| share())
                    .map_err(|errno| step("mount")(errno.into()))
            }
            result => result.map_err(|errno| step("share")(errno.into())),
        }
    }

    fn remove_empty_folder(&self) {
        let empty = fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_none());
        if empty {
            let _ = umount2(&self.folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// The id is in use.
pub(crate) fn taken(id: &Id) -> Failure {
    Failure::new(Why::Taken, format!("workload `{id}` is attached already: detach it first"))
}
