//! `kill -9` of a daemon at either end of a TCP transfer: after its restart the transfer goes on.
//!
//! ```text
//!   a ───── b ───── c
//!  curl            nginx
//! ```
//! Keys, epochs and routes of the killed end are gone; its identity and address are not, so the
//! kernels' sockets never notice more than a pause.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sinew_tests::impair::shape;
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

const MIB: u64 = 1 << 20;
const FILE: u64 = 96 * MIB;
const DEADLINE: Duration = Duration::from_secs(90);
const PORT: u16 = 8080;

#[test]
fn a_transfer_survives_kill_9_of_either_end() {
    run_lab("restart", |lab| {
        lab.line(&["a", "b", "c"])?;
        for [a, b] in lab.links() {
            shape(lab.ns(&a), &interface(&b), 150)?;
            shape(lab.ns(&b), &interface(&a), 150)?;
        }
        lab.peer_links(Dial::Both)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let dir = lab.dir().join("web");
        let _nginx = Nginx::start(lab.ns("c"), &dir, PORT)?;
        let hash = payload_file(&dir.join("www/file"), FILE)?;
        let page = url(&lab.address("c")?, PORT, "file");
        let mut transfer = Transfer::start(lab.ns("a"), &page, &lab.dir().join("curl.log"))?;
        for (victim, after) in [("a", 16 * MIB), ("c", 48 * MIB)] {
            transfer.wait_bytes(after, DEADLINE)?;
            strike(lab, &mut transfer, victim)?;
        }
        let got = transfer.finish(DEADLINE)?;
        ensure!(got == (FILE, hash), "the file differs: {got:?}");
        Ok(())
    });
}

fn strike(lab: &mut Lab, transfer: &mut Transfer, victim: &str) -> Result<()> {
    lab.kill(victim);
    let killed = Instant::now();
    lab.start(victim)?;
    lab.wait_ready(victim)?;
    let silence = transfer.repaired_after(killed, 8 * MIB, DEADLINE)?;
    eprintln!("{victim} killed and restarted: {} ms of silence", silence.as_millis());
    Ok(())
}
