//! Installs the Debian packages whose programs are missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use sinew_tests::requirements::{PROGRAMS, RESOLVED_FOLDER, find_program, in_ci, workspace_root};

/// Needed to build, beside the programs of the labs.
const BUILD: &[(&str, &str)] = &[("cc", "gcc"), ("clang", "clang")];

/// Installs what the labs and the build need; without root it only says what is missing.
pub(crate) fn ensure() -> Result<()> {
    let all = PROGRAMS.iter().chain(BUILD);
    let mut missing: Vec<_> =
        all.filter(|(program, _)| find_program(program).is_none()).map(|(_, package)| *package).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        unpack_resolved();
        return Ok(());
    }
    let command = format!("apt-get install -y --no-install-recommends {}", missing.join(" "));
    if !nix::unistd::geteuid().is_root() || find_program("apt-get").is_none() {
        let text = format!("missing programs; as root on Debian: {command}");
        if in_ci() {
            bail!(text);
        }
        println!("{text}");
        return Ok(());
    }
    println!("$ {command}");
    let _quiet = NoServices::enter();
    apt(&["update", "-q"])?;
    let mut args = vec!["install", "-y", "-q", "--no-install-recommends"];
    args.extend(missing);
    apt(&args)?;
    unpack_resolved();
    Ok(())
}

/// Puts systemd-resolved where its lab looks for it. Unpacked, not installed: installing it
/// replaces the machine's resolv.conf. Where that fails, the lab says so and tests a stand-in.
fn unpack_resolved() {
    let folder = workspace_root().join("target").join(RESOLVED_FOLDER);
    let installed = ["/lib", "/usr/lib"].map(|lib| Path::new(lib).join("systemd/systemd-resolved"));
    if folder.join("done").exists()
        || installed.iter().any(|file| file.is_file())
        || find_program("apt-get").is_none()
    {
        return;
    }
    println!("unpacking systemd-resolved into {}", folder.display());
    let script = "set -e; apt-get download -q systemd-resolved libsystemd-shared; \
        for package in *.deb; do dpkg -x \"$package\" .; done; rm -f -- *.deb; touch done";
    let made = std::fs::create_dir_all(&folder);
    let status = made.and_then(|()| Command::new("sh").args(["-c", script]).current_dir(&folder).status());
    if !status.is_ok_and(|status| status.success()) {
        println!("systemd-resolved cannot be had here: its lab tests a stand-in only");
    }
}

fn apt(args: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(std::process::Stdio::null())
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get {} failed", args.join(" "));
    }
    Ok(())
}

/// While it lives, packages may not start services: a machine that installs nginx for a test
/// should not find a web server on port 80 afterwards.
struct NoServices(Option<&'static Path>);

impl NoServices {
    fn enter() -> Self {
        let policy = Path::new("/usr/sbin/policy-rc.d");
        if policy.exists() || std::fs::write(policy, "#!/bin/sh\nexit 101\n").is_err() {
            return Self(None);
        }
        let _ = Command::new("chmod").arg("755").arg(policy).status();
        Self(Some(policy))
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if let Some(policy) = self.0 {
            let _ = std::fs::remove_file(policy);
        }
    }
}
