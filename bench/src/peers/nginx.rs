//! nginx as a gateway: ends TLS and asks the server over connections that it keeps.
//!
//! Between it and the server is the bare link, on which nothing is encrypted.

use std::path::Path;

use anyhow::{Context, Result};
use sinew_tests::wait;

use super::{Front, Overlay, Peer, WebServer};
use crate::stage::{COMMAND, Scenario, Stage};

pub(crate) struct Nginx;

impl Peer for Nginx {
    fn name(&self) -> &str {
        "nginx"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["nginx"]
    }

    fn version_args(&self) -> &'static [&'static str] {
        &["-v"]
    }

    fn supports(&self, scenario: Scenario) -> bool {
        scenario == Scenario::Gateway
    }

    fn start(&self, _program: &Path, _stage: &mut Stage) -> Result<Overlay> {
        anyhow::bail!("nginx is a gateway only")
    }

    fn front(&self, program: &Path, stage: &mut Stage, server: &WebServer) -> Result<Front> {
        let behind = super::serve(stage, server)?;
        let folder = stage.dir("gw");
        let shown = folder.display();
        let config = format!(
            "daemon off; worker_processes auto; user root; pid {shown}/pid; error_log {shown}/error.log;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; {}\n keepalive_requests 1000000;\n\
             upstream web {{ server {}:80; keepalive 64; keepalive_requests 1000000; }}\n\
             server {{ listen 443 ssl http2; ssl_certificate {}; ssl_certificate_key {};\n\
             location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
             proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; }} }} }}\n",
            super::temporary(&folder),
            stage.underlay("a", "gw"),
            server.shown.chain.display(),
            server.shown.key.display(),
        );
        let file = folder.join("nginx.conf");
        std::fs::write(&file, config)?;
        let proxy = stage.spawn("gw", program, &["-c", &file.to_string_lossy()])?;
        wait::until("nginx listens", COMMAND, || stage.ns("gw").listens(443)).context(proxy.log())?;
        let daemons = super::with_children(proxy.pid());
        let _running = vec![proxy, behind];
        Ok(Front { http: Some(443), through: None, daemons, _running, _workloads: Vec::new() })
    }
}
