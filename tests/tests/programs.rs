//! What people do with a mesh: ssh, rsync, iperf3, over one relay.
//!
//! ```text
//!   a ───── b ───── c
//!  ssh             sshd
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::process;
use sinew_tests::workload::{Iperf, Sshd, payload_file};

const MIB: u64 = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(120);

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b", "c"])?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()
}

#[test]
fn ssh_runs_a_command_on_the_far_machine() {
    run_lab("ssh", |lab| {
        start(lab)?;
        let sshd = Sshd::start(lab.ns("c"), &lab.dir().join("ssh"))?;
        let target = lab.address("c")?;
        let line = format!("{} root@{target} ip -br addr show sinew0", sshd.client());
        let said = lab.ns("a").run(&["sh", "-c", &line])?;
        ensure!(said.contains(&target), "the command ran elsewhere: {said}");
        Ok(())
    });
}

#[test]
fn rsync_copies_a_folder_intact() {
    run_lab("rsync", |lab| {
        start(lab)?;
        let sshd = Sshd::start(lab.ns("c"), &lab.dir().join("ssh"))?;
        let (from, to) = (lab.dir().join("from"), lab.dir().join("to"));
        std::fs::create_dir_all(&from)?;
        for number in 0..40 {
            payload_file(&from.join(format!("file{number}")), number * 20_011)?;
        }
        payload_file(&from.join("large"), 64 * MIB)?;
        let mut command = lab.ns("a").command("rsync");
        command.args(["-a", "--checksum", "-e", &sshd.client()]);
        command.arg(format!("{}/", from.display()));
        command.arg(format!("root@[{}]:{}/", lab.address("c")?, to.display()));
        process::run_ok(&mut command, DEADLINE)?;
        let mut compare = process::command("diff");
        process::run_ok(compare.arg("-r").arg(&from).arg(&to), DEADLINE)?;
        Ok(())
    });
}

#[test]
fn iperf3_runs_both_ways() {
    run_lab("iperf", |lab| {
        start(lab)?;
        for (from, to) in [("a", "c"), ("c", "a")] {
            let server = Iperf::start(lab.ns(to), lab.dir())?;
            let rate = server.measure(lab.ns(from), &lab.address(to)?, 3)?;
            eprintln!("{from} to {to} over b: {:.0} Mbit/s", rate / 1e6);
            ensure!(rate > 50e6, "{from} to {to}: {:.1} Mbit/s", rate / 1e6);
        }
        Ok(())
    });
}
