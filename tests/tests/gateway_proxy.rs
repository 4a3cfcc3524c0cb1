//! A load balancer in front of a gateway, and servers behind it, that tell each other about clients by PROXY headers
//! (versions 1 and 2): haproxy before, nginx behind. Whoever is no configured proxy is not believed.
//!
//! ```text
//!   client ────── lb ────────── gw ────────── a   network "shop": web (nginx, wants PROXY headers)
//!   curl, openssl haproxy       [gateway]
//!                 and router    believes lb
//! ```
//! The client reaches the gateway by haproxy's ports on lb, and past it, since lb routes too.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::impair::forward;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Output, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(60);
/// haproxy's ports by the version that it speaks to the gateway.
const FRONTS: [(u16, &str); 2] = [(8441, "send-proxy"), (8442, "send-proxy-v2")];

struct Stage {
    gateway: Gateway,
    balancer: String,
    client: String,
    _haproxy: Proc,
}

fn start(lab: &mut Lab) -> Result<Stage> {
    lab.line(&["client", "lb", "gw", "a"])?;
    let (client, balancer) = (lab.underlay("client", "lb"), lab.underlay("lb", "client"));
    forward(lab.ns("lb"))?;
    lab.ns("client").ip(&["route", "add", "default", "via", &balancer])?;
    lab.ns("gw").ip(&["route", "add", &client, "via", &lab.underlay("lb", "gw")])?;
    let believed = lab.underlay("lb", "gw");
    let more = format!("proxies = [\"{believed}\"]\nproxy_protocol = true\ntcp_ports = \"20000-20009\"\n");
    let gateway = Gateway::run_behind(lab, "lb", &more)?;
    let mut text = "global\n    maxconn 100\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
                    timeout client 30s\n    timeout server 30s\n"
        .to_owned();
    for (port, header) in FRONTS {
        text += &format!(
            "listen p{port}\n    bind 0.0.0.0:{port}\n    server gw {}:443 {header}\n",
            gateway.address
        );
    }
    text += &format!(
        "listen p8443\n    bind 0.0.0.0:8443\n    server gw {}:20000 send-proxy-v2\n",
        gateway.address
    );
    let file = lab.dir().join("haproxy.cfg");
    std::fs::write(&file, text)?;
    let mut command = lab.ns("lb").command("haproxy");
    let haproxy = Proc::spawn(command.arg("-db").arg("-f").arg(&file), &lab.dir().join("haproxy.log"))?;
    wait::until("haproxy listens", SOON, || lab.ns("lb").listens(8443))?;
    Ok(Stage { gateway, balancer, client, _haproxy: haproxy })
}

/// nginx that wants PROXY headers, and says whom they, and those of HTTP, name as its client.
fn server(lab: &Lab) -> Result<Workload> {
    let said = "return 200 \"$proxy_protocol_addr|$http_x_forwarded_for\"";
    let servers = format!(
        "server {{ listen 8080 proxy_protocol; listen [::]:8080 proxy_protocol; location / {{ {said}; }} }}"
    );
    let nginx = tenant::nginx_with(&lab.dir().join("web"), &servers)?;
    Workload::start(lab, "a", NETWORK, "web", &words(&nginx))
}

impl Stage {
    /// What the server says of who asks, by curl of the client at a port of `at`.
    fn asked(&self, lab: &Lab, host: &str, (at, port): (&str, u16)) -> Result<Output> {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(&self.gateway.trust.chain);
        command.args(["--connect-to", &format!("{host}:443:{at}:{port}"), &format!("https://{host}/")]);
        // Its own word about itself counts for nothing.
        process::run(command.args(["-H", "X-Forwarded-For: 192.0.2.66"]), DEADLINE)
    }

    /// First bytes of the client to the gateway itself, as from a proxy that nobody has named; what comes back.
    fn spoofed(&self, lab: &Lab, port: u16) -> Result<Vec<u8>> {
        let at = SocketAddr::new(self.gateway.address.parse()?, port);
        let said =
            format!("PROXY TCP4 192.0.2.66 {} 4711 {port}\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", at.ip());
        lab.ns("client").enter(|| {
            let mut stream = TcpStream::connect_timeout(&at, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            // It may be closed while this is being said.
            let _ = stream.write_all(said.as_bytes());
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
                _ => Ok(answer),
            }
        })?
    }
}

#[test]
fn clients_behind_a_balancer_are_known_by_their_own_addresses_and_nobody_else_is_believed() {
    run_lab("gwproxy", |lab| {
        let stage = start(lab)?;
        let _server = server(lab)?;
        for (name, header) in [("one", "v1"), ("two", "v2")] {
            let options = ["--port", "8080", "--name", name, "--proxy-header", header];
            stage.gateway.expose(lab, "web", &options)?;
            stage.gateway.reaches(lab, &format!("{name}.gw.test"))?;
        }
        let expected = format!("{0}|{0}", stage.client);
        for host in ["one.gw.test", "two.gw.test"] {
            for (port, header) in FRONTS {
                let said = stage.asked(lab, host, (&stage.balancer, port))?;
                ensure!(said.stdout == expected, "{host} by {header}: {}", said.text());
            }
            // Past the balancer no header is needed, and none is believed.
            let said = stage.asked(lab, host, (&stage.gateway.address, 443))?;
            ensure!(said.stdout == expected, "{host} directly: {}", said.text());
        }
        a_port(lab, &stage)?;
        let refused = || -> Result<u64> {
            let listed = lab.cli("gw").json(&["gateway", "ls"])?;
            Ok(listed["refused"]["bad_hello"].as_u64().unwrap_or_default())
        };
        let before = refused()?;
        let answer = stage.spoofed(lab, 443)?;
        ensure!(answer.is_empty(), "a spoofed header was answered: {}", String::from_utf8_lossy(&answer));
        wait::until("it is counted", SOON, || refused().is_ok_and(|now| now > before))
    });
}

/// A service at a port of its own: the header of the balancer ends at the gateway, and the server gets the gateway's.
fn a_port(lab: &Lab, stage: &Stage) -> Result<()> {
    stage.gateway.expose(
        lab,
        "web",
        &["--port", "8080", "--mode", "tcp", "--public-port", "20000", "--proxy-header", "v2"],
    )?;
    let url = format!("http://{}:8443/", stage.balancer);
    let ask = |url: &str| {
        let mut command = lab.ns("client").command("curl");
        process::run(command.args(["-sS", "--max-time", "10", url]), DEADLINE)
    };
    wait::until("the port answers", SOON, || ask(&url).is_ok_and(|said| said.code == Some(0)))?;
    let said = ask(&url)?;
    ensure!(said.stdout == format!("{}|", stage.client), "by the balancer: {}", said.text());
    let said = ask(&format!("http://{}:20000/", stage.gateway.address))?;
    ensure!(said.stdout == format!("{}|", stage.client), "directly: {}", said.text());
    Ok(())
}
