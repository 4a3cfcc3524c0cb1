//! One port 443 for the web and for the mesh: a node that can get out by nothing else joins through a gateway, and
//! the gateway's services answer at the same port.
//!
//! ```text
//!   client ──── gw ─────── a      gw: https and wss at 0.0.0.0:443
//!   sinewd      [gateway]  web    from client only TCP to port 443 comes through
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::gateway::Gateway;
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::process::{self, run_ok};
use sinew_tests::sinewd::PORT;
use sinew_tests::tenant::{SOON, Workload, nginx, words};
use sinew_tests::wait;

const PAGE: &str = "a page of the web\n";
const MINUTE: Duration = Duration::from_secs(60);

fn start(lab: &mut Lab) -> Result<Gateway> {
    lab.line(&["client", "gw", "a"])?;
    let listen = format!("udp = [\"0.0.0.0:{PORT}\"]\nwss = [\"0.0.0.0:443\"]\n");
    lab.config("gw").listen = listen;
    let key = lab.key("gw")?;
    let uri = format!("sinew://{}@{}:443?via=wss", key.node_id, lab.underlay("gw", "client"));
    lab.key("client")?;
    lab.config("client").peers.push((uri, 0));
    let rules = format!(
        "table inet only443 {{ chain c {{ type filter hook input priority 0; policy accept; \
         iifname \"{}\" meta l4proto != tcp drop; iifname \"{0}\" tcp dport != 443 drop; }}; }}",
        interface("client")
    );
    run_ok(lab.ns("gw").command("nft").arg(rules), MINUTE)?;
    Gateway::run(lab, "")
}

fn carrier(lab: &Lab) -> Option<String> {
    let peers = lab.cli("client").peers_up().ok()?;
    peers.first().map(|peer| text(peer, "carrier").to_owned())
}

#[test]
fn the_mesh_and_the_web_share_port_443() {
    run_lab("port443", |lab| {
        let gateway = start(lab)?;
        ensure!(carrier(lab).as_deref() == Some("wss"), "{:?}", carrier(lab));
        let ping = ["-6", "-n", "-c", "3", "-W", "5", &lab.address("a")?];
        run_ok(lab.ns("client").command("ping").args(ping), MINUTE)?;
        let _web = Workload::start(lab, "a", "shop", "web", &words(&nginx(&lab.dir().join("web"), PAGE)?))?;
        gateway.expose(lab, "web", &["--port", "80", "--name", "app"])?;
        let page = gateway.curl(lab, &gateway.trust.chain, &["--fail", "https://app.gw.test/"])?;
        ensure!(page == PAGE, "{page}");
        // A name that nobody has published is neither's.
        let mut other = gateway.client(lab, &["other.gw.test"], "curl")?;
        let said = process::run(other.args(["-sSk", "https://other.gw.test/"]), MINUTE)?;
        ensure!(said.code == Some(35), "{:?} {}", said.code, said.text());
        // Who asks for no name and speaks no WebSocket learns nothing.
        let nameless = format!("https://{}/", gateway.address);
        let mut command = lab.ns("client").command("curl");
        let said = process::run(command.args(["-sSk", "--max-time", "20", &nameless]), MINUTE)?;
        ensure!(said.code != Some(0) && !said.stdout.contains("page"), "{:?} {}", said.code, said.text());
        // The gateway's services change while the mesh's connection lives on.
        lab.cli("gw").json(&["config", "reload"])?;
        gateway.expose(lab, "web", &["--port", "80", "--name", "again"])?;
        wait::until("the second name", SOON, || {
            let url = "https://again.gw.test/";
            gateway.curl(lab, &gateway.trust.chain, &["--fail", url]).is_ok_and(|page| page == PAGE)
        })?;
        run_ok(lab.ns("client").command("ping").args(ping), MINUTE).context("after a reload")?;
        Ok(())
    });
}
