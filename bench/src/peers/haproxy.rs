//! haproxy as a gateway: ends TLS on one port, passes it on by the name in the hello on another.
//!
//! Between it and the server is the bare link.

use std::path::Path;

use anyhow::{Context, Result};
use sinew_tests::wait;

use super::{Front, Overlay, Peer, THROUGH, WebServer};
use crate::stage::{COMMAND, Scenario, Stage};

const PASSES: u16 = 8443;

pub(crate) struct Haproxy;

impl Peer for Haproxy {
    fn name(&self) -> &str {
        "haproxy"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["haproxy"]
    }

    fn version_args(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn supports(&self, scenario: Scenario) -> bool {
        scenario == Scenario::Gateway
    }

    fn start(&self, _program: &Path, _stage: &mut Stage) -> Result<Overlay> {
        anyhow::bail!("haproxy is a gateway only")
    }

    fn front(&self, program: &Path, stage: &mut Stage, server: &WebServer) -> Result<Front> {
        let behind = super::serve(stage, server)?;
        let folder = stage.dir("gw");
        // It takes chain and key from one file.
        let both = folder.join("shown.pem");
        let pem = [&server.shown.chain, &server.shown.key].map(std::fs::read);
        let [chain, key] = pem;
        std::fs::write(&both, [chain?, key?].concat())?;
        let address = stage.underlay("a", "gw");
        let config = format!(
            "global\n maxconn 8192\ndefaults\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend web\n mode http\n bind :443 ssl crt {} alpn h2,http/1.1\n option forwardfor\n \
             default_backend web\n\
             backend web\n mode http\n http-reuse always\n server a {address}:80\n\
             frontend through\n mode tcp\n bind :{PASSES}\n tcp-request inspect-delay 5s\n \
             tcp-request content accept if {{ req_ssl_hello_type 1 }}\n \
             use_backend through if {{ req_ssl_sni -i {THROUGH} }}\n\
             backend through\n mode tcp\n server a {address}:443\n",
            both.display(),
        );
        let file = folder.join("haproxy.cfg");
        std::fs::write(&file, config)?;
        let proxy = stage.spawn("gw", program, &["-db", "-f", &file.to_string_lossy()])?;
        wait::until("haproxy listens", COMMAND, || stage.ns("gw").listens(PASSES)).context(proxy.log())?;
        let daemons = super::with_children(proxy.pid());
        let _running = vec![proxy, behind];
        Ok(Front { http: Some(443), through: Some(PASSES), daemons, _running, _workloads: Vec::new() })
    }
}
