//! Two processes: the one that faces the network may do nothing, the one that may does not face it.
//!
//! ```text
//!   a ───── b
//! ```

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::privileges::{children, descriptors, every_thread, network_sockets, status};
use sinew_tests::process::Proc;
use sinew_tests::requirements::Bins;
use sinew_tests::wait;
use sinew_tests::workload::ping;

const DEADLINE: Duration = Duration::from_secs(20);
const NONE: &str = "0000000000000000";
/// CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_SYS_ADMIN: bits 10, 12 and 21.
const HELPERS: &str = "0000000000201400";

/// Daemon and helper of a machine.
fn pair(lab: &mut Lab, name: &str) -> Result<(u32, u32)> {
    let daemon = lab.daemon(name)?.process().pid();
    match children(daemon)[..] {
        [helper] => Ok((daemon, helper)),
        ref all => anyhow::bail!("not one child: {all:?}"),
    }
}

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()
}

fn runs(pid: u32) -> bool {
    status(pid, "State").is_ok_and(|state| !state.starts_with('Z'))
}

#[test]
fn the_daemon_keeps_no_capability_and_the_helper_three_and_no_network() {
    run_lab("caps", |lab| {
        start(lab)?;
        let (daemon, helper) = pair(lab, "a")?;
        for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
            every_thread(daemon, set, NONE)?;
        }
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            every_thread(helper, set, HELPERS)?;
        }
        for pid in [daemon, helper] {
            every_thread(pid, "NoNewPrivs", "1")?;
            every_thread(pid, "Seccomp", "2")?;
        }
        ensure!(status(helper, "Name")? == "sinewd-helper", "{}", status(helper, "Name")?);
        ensure!(status(helper, "Threads")? == "1", "the helper works on nothing now");
        // Were the tables of sockets not read right, the daemon would have none either.
        ensure!(!network_sockets(daemon)?.is_empty(), "the daemon has sockets");
        ensure!(network_sockets(helper)?.is_empty(), "{:?}", network_sockets(helper)?);
        let held = descriptors(helper)?;
        let sockets = held.iter().filter(|target| target.starts_with("socket:")).count();
        ensure!(sockets == 1, "the connection to the daemon and nothing else: {held:?}");
        ensure!(!held.iter().any(|target| target.contains("node.key")), "{held:?}");
        ensure!(!held.iter().any(|target| target.contains("tun")), "{held:?}");
        let health = lab.cli("a").list(&["status"], "health")?;
        let gap = health.iter().find(|entry| text(entry, "code").starts_with("no_"));
        ensure!(gap.is_none(), "{gap:?}");
        Ok(())
    });
}

#[test]
fn kill_9_of_the_daemon_ends_the_helper_and_leaves_no_name() {
    run_lab("orphan", |lab| {
        start(lab)?;
        let clean = lab.ns("a").snapshot()?;
        let (_, helper) = pair(lab, "a")?;
        lab.kill("a");
        wait::until("the helper ends", DEADLINE, || !runs(helper))?;
        ensure!(!lab.config("a").socket().exists(), "the control socket's name is still there");
        let after = lab.ns("a").snapshot()?;
        ensure!(after != clean && !after.contains("sinew0"), "left behind:\n{after}");
        Ok(())
    });
}

#[test]
fn a_folder_that_was_made_for_the_socket_goes_with_it() {
    run_lab("folder", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        let folder = lab.dir().join("run/sinew");
        fs::create_dir(lab.dir().join("run"))?;
        let file = lab.config("a").clone();
        let toml = file.toml().replace(
            &format!("socket = \"{}\"", file.socket().display()),
            &format!("socket = \"{}/sinew.sock\"", folder.display()),
        );
        fs::write(file.file(), toml)?;
        let bin = Bins::get()?.sinewd.to_string_lossy().into_owned();
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let mut command = lab.ns("a").daemon_command(&bin);
            command.arg("--config").arg(file.file());
            let mut daemon = Proc::spawn(&mut command, &file.log())?;
            wait::until("the socket is there", DEADLINE, || folder.join("sinew.sock").exists())?;
            wait::until("it is confined", DEADLINE, || {
                status(daemon.pid(), "Seccomp").is_ok_and(|s| s == "2")
            })?;
            daemon.signal(signal)?;
            daemon.wait(DEADLINE)?;
            // After a clean stop it is gone with the daemon; after a kill the helper needs a moment.
            ensure!(signal == Signal::SIGKILL || !folder.exists(), "{signal}: {}", folder.display());
            wait::until("the folder goes", DEADLINE, || !folder.exists())?;
        }
        Ok(())
    });
}

#[test]
fn signals_for_the_daemon_do_not_end_the_helper_before_it() {
    run_lab("signals", |lab| {
        start(lab)?;
        let (_, helper) = pair(lab, "a")?;
        // As a terminal or a service manager sends them: to all processes at once.
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1] {
            kill(Pid::from_raw(i32::try_from(helper)?), signal)?;
        }
        let target = lab.address("b")?;
        ensure!(ping(lab.ns("a"), &target, 3, 10)?.received == 3, "the mesh goes on");
        ensure!(runs(helper), "the helper has ended");
        ensure!(lab.stop("a")? == Some(0), "no clean stop");
        ensure!(!runs(helper), "the helper outlives the daemon");
        Ok(())
    });
}

/// A hosts file for one namespace, as `ip netns exec` lays it over the machine's.
struct Hosts(PathBuf);

impl Hosts {
    fn new(namespace: &str, text: &str) -> Result<Self> {
        let folder = PathBuf::from("/etc/netns").join(namespace);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("hosts"), text)?;
        Ok(Self(folder))
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        // Empty unless others use it.
        let _ = fs::remove_dir("/etc/netns");
    }
}

#[test]
fn a_peer_by_name_is_found_by_a_daemon_without_privileges() {
    run_lab("names", |lab| {
        lab.line(&["a", "b"])?;
        let address = lab.underlay("b", "a");
        let _hosts =
            Hosts::new(lab.ns("a").name(), &format!("127.0.0.1 localhost\n{address} peer.example.test\n"))?;
        let uri = lab.uri("b", "peer.example.test")?;
        lab.key("a")?;
        lab.start("b")?;
        let mut file = lab.config("a").clone();
        file.peers.push((uri, 0));
        file.write()?;
        let mut command = lab.ns("a").command(&Bins::get()?.sinewd.to_string_lossy());
        command.arg("--config").arg(file.file());
        let _daemon = Proc::spawn(&mut command, &file.log())?;
        let b = lab.address("b")?;
        wait::success("a daemon", DEADLINE, || {
            lab.cli("a").wait_reachable(&b, DEADLINE).context("b by its name")
        })
    });
}
