//! Which files the daemon may see: Landlock, as far as the kernel has it.
//!
//! Walking a path and asking for a file's attributes stay allowed; opening, listing, making and
//! removing do not, but in the folders named here.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use super::{Fence, Gap};

/// The newest rules that were tried; what an older kernel lacks is left out.
const KNOWN: ABI = ABI::V6;

/// What name resolution reads: its configuration, wherever /etc/resolv.conf leads, and the
/// libraries that nsswitch.conf names, loaded at the first question.
const SYSTEM: &[&str] = &[
    "/etc",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/usr/share/ca-certificates",
    "/nix/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/connman",
    "/dev/urandom",
    "/proc/self",
    "/proc/sys/net",
    "/sys/fs/cgroup",
];

/// Only what the fence names, from here on.
pub(super) fn restrict(fence: &Fence) -> Option<Gap> {
    let status = match apply(fence) {
        Ok(status) => status,
        Err(error) => return Some(Gap::Files(error.to_string())),
    };
    match status {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => {
            Some(Gap::Files("this kernel has only some of Landlock".to_owned()))
        }
        RulesetStatus::NotEnforced => {
            Some(Gap::Files("this kernel has no Landlock, or it is not switched on".to_owned()))
        }
    }
}

fn apply(fence: &Fence) -> Result<RulesetStatus, RulesetError> {
    // What does not exist is left out by the library.
    let read = SYSTEM.iter().map(Path::new).chain(fence.read.iter().map(AsRef::as_ref));
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(path_beneath_rules(read, reading))?
        .add_rules(path_beneath_rules(&fence.write, reading | writing()))?
        .add_rules(path_beneath_rules(["/dev/null"], reading | AccessFs::WriteFile))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Regular files and folders; no devices, sockets or programs.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::MakeSym
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer
}
