//! The harness itself, on the bare underlay: links carry, faults are silent, captures see, and
//! nothing is left behind. A lab that proves something about the mesh rests on these.
//!
//! ```text
//!   a ───── b
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sinew_tests::capture::Capture;
use sinew_tests::impair;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{LAB_FAMILY, clean_stale};
use sinew_tests::process;
use sinew_tests::workload::{Iperf, Nginx, PAYLOAD_MARK, Sshd, Transfer, fetch, payload_file, ping, url};

const DEADLINE: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;

fn namespaces() -> String {
    process::run_ok(process::command("ip").args(["netns", "list"]), DEADLINE).unwrap_or_default()
}

#[test]
fn a_link_carries_a_file_and_a_capture_on_it_sees_the_payload() {
    run_lab("capture", |lab| {
        lab.line(&["a", "b"])?;
        let dir = lab.dir().join("web");
        let _nginx = Nginx::start(lab.ns("b"), &dir, 8080)?;
        let hash = payload_file(&dir.join("www/file"), 4 * MIB)?;
        let capture = Capture::start(lab.ns("a"), "to-b", &lab.dir().join("a.pcap"))?;
        let target = lab.underlay("b", "a");
        let got = fetch(lab.ns("a"), &url(&target, 8080, "file"), &lab.dir().join("curl.log"), DEADLINE)?;
        ensure!(got == (4 * MIB, hash), "transfer differs: {got:?}");
        let pcap = capture.stop()?;
        // The positive control of every "no plaintext" test: in the clear the mark is found.
        let seen = pcap.scan(&[PAYLOAD_MARK])?[0];
        ensure!(seen as u64 > 4 * MIB / 16 * 9 / 10, "only {seen} marks seen, {} packets lost", pcap.dropped);
        ensure!(pcap.count("tcp.port == 8080")? > 0, "tshark sees no packet");
        Ok(())
    });
}

#[test]
fn a_cut_is_silent_and_a_healed_link_carries_on() {
    run_lab("cut", |lab| {
        lab.line(&["a", "b"])?;
        for (from, to) in [("a", "b"), ("b", "a")] {
            impair::shape(lab.ns(from), &format!("to-{to}"), 100)?;
        }
        let dir = lab.dir().join("web");
        let _nginx = Nginx::start(lab.ns("b"), &dir, 8080)?;
        let hash = payload_file(&dir.join("www/file"), 16 * MIB)?;
        let page = url(&lab.underlay("b", "a"), 8080, "file");
        let mut transfer = Transfer::start(lab.ns("a"), &page, &lab.dir().join("curl.log"))?;
        transfer.wait_bytes(2 * MIB, DEADLINE)?;
        lab.cut("a", "b")?;
        let cut = Instant::now();
        let up = lab.ns("a").ip(&["link", "show", "to-b"])?;
        ensure!(up.contains("state UP"), "the interface went down: {up}");
        let lost = ping(lab.ns("a"), &lab.underlay("b", "a"), 3, 50)?;
        ensure!(lost.received == 0, "a cut link answered: {lost:?}");
        lab.heal("a", "b")?;
        let silence = transfer.repaired_after(cut, MIB, DEADLINE)?;
        ensure!(silence > Duration::from_millis(100), "no silence was measured: {silence:?}");
        ensure!(transfer.finish(DEADLINE)? == (16 * MIB, hash), "transfer differs");
        Ok(())
    });
}

#[test]
fn loss_is_about_what_was_asked_for() {
    run_lab("loss", |lab| {
        lab.line(&["a", "b"])?;
        impair::Faults::of(lab.ns("b"))?.lose("to-a", 30)?;
        let report = ping(lab.ns("a"), &lab.underlay("b", "a"), 300, 2)?;
        let lost = report.sent - report.received;
        ensure!((45..=150).contains(&lost), "{lost} of {} lost", report.sent);
        Ok(())
    });
}

#[test]
fn a_shaped_link_has_the_rate_it_was_given() {
    run_lab("shape", |lab| {
        lab.line(&["a", "b"])?;
        impair::shape(lab.ns("a"), "to-b", 200)?;
        let server = Iperf::start(lab.ns("b"), lab.dir())?;
        let rate = server.measure(lab.ns("a"), &lab.underlay("b", "a"), 3)?;
        ensure!((150e6..210e6).contains(&rate), "{:.0} Mbit/s", rate / 1e6);
        Ok(())
    });
}

#[test]
fn ssh_works_between_two_machines() {
    run_lab("ssh", |lab| {
        lab.line(&["a", "b"])?;
        let sshd = Sshd::start(lab.ns("b"), &lab.dir().join("ssh"))?;
        let line = format!("{} root@{} echo hello", sshd.client(), lab.underlay("b", "a"));
        let said = lab.ns("a").run(&["sh", "-c", &line])?;
        ensure!(said.trim() == "hello", "{said}");
        Ok(())
    });
}

#[test]
fn a_thread_inside_a_namespace_opens_its_sockets_there() {
    run_lab("enter", |lab| {
        lab.line(&["a", "b"])?;
        let address = lab.underlay("b", "a");
        let inside = lab.ns("b").enter(|| std::net::UdpSocket::bind((address.as_str(), 9)).is_ok())?;
        ensure!(inside, "cannot bind the namespace's own address inside it");
        ensure!(std::net::UdpSocket::bind((address.as_str(), 9)).is_err(), "it exists outside as well");
        Ok(())
    });
}

#[test]
fn a_failed_lab_leaves_no_namespace_process_or_file() {
    if sinew_tests::requirements::lab_obstacle().is_some() {
        run_lab("cleanup", |_| Ok(()));
        return;
    }
    let mut seen = None;
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        run_lab("cleanup", |lab| {
            lab.line(&["a", "b"])?;
            seen = Some((lab.ns("a").name().to_owned(), lab.dir().to_owned()));
            anyhow::bail!("on purpose")
        });
    }));
    assert!(failed.is_err(), "the lab's failure did not fail the test");
    let (name, dir) = seen.expect("the lab ran");
    assert!(!namespaces().contains(&name), "{name} is still there");
    assert!(!dir.exists(), "{} is still there", dir.display());
}

#[test]
fn namespaces_of_a_dead_run_are_removed_and_those_of_a_live_one_kept() {
    run_lab("stale", |lab| {
        lab.node("a")?;
        // A pid that no Linux gives out.
        let dead = Lab::at(format!("{LAB_FAMILY}-4194305-dead"), lab.dir().join("dead"))?;
        let mut dead = std::mem::ManuallyDrop::new(dead);
        dead.node("x")?;
        ensure!(namespaces().contains("sinewlab-4194305-dead-x"), "not made");
        clean_stale(LAB_FAMILY);
        let left = namespaces();
        ensure!(!left.contains("sinewlab-4194305-dead-x"), "the dead run's namespace stayed");
        ensure!(left.contains(lab.ns("a").name()), "a live run's namespace was taken away");
        Ok(())
    });
}

#[test]
fn every_program_of_the_labs_names_its_package() -> Result<()> {
    for (program, package) in sinew_tests::requirements::PROGRAMS {
        ensure!(!program.is_empty() && !package.is_empty(), "{program}: {package}");
    }
    Ok(())
}
