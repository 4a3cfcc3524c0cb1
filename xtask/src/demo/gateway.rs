//! The demo's public gateway: one page of the private network, and nothing else of it, for somebody
//! outside with a plain browser.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, ensure};
use sinew_tests::front::Pair;
use sinew_tests::lab::Lab;
use sinew_tests::process;
use sinew_tests::tenant::SOON;
use sinew_tests::wait;

use super::network::{NETWORK, PAGE};
use super::{heading, indent};

const DOMAIN: &str = "gw.example.test";
const HOST: &str = "hello.gw.example.test";
/// Somebody's machine that has never heard of a mesh.
pub(super) const OUTSIDE: &str = "outside";

const PICTURE: &str = "
     outside              c                            b
   ┌──────────┐ https   ┌───────────┐ sealed, c to b ┌───────┐
   │ curl     ├─────────┤ gateway   ╞════════════════╡ web   │    hello.gw.example.test
   └──────────┘         └───────────┘                └───────┘
";

/// Wires the person outside to `c` and makes `c` a gateway. Before the daemons start.
pub(super) fn prepare(lab: &mut Lab) -> Result<()> {
    lab.node(OUTSIDE)?;
    lab.link(OUTSIDE, "c")?;
    let pair = Pair::make(lab.dir(), "gateway", &[&format!("*.{DOMAIN}")])?;
    let address = lab.underlay("c", OUTSIDE);
    lab.config("c").extra = format!(
        "\n[gateway]\ndomain = \"{DOMAIN}\"\nhttps = [\"{address}:443\"]\nhttp = [\"{address}:80\"]\n\
         certificates = [{{ certificate = \"{}\", key = \"{}\" }}]\n",
        pair.chain.display(),
        pair.key.display()
    );
    Ok(())
}

/// Publishes `web` and takes it back.
pub(super) fn show(lab: &Lab) -> Result<()> {
    heading("A public gateway on c, for one page of the private network");
    println!("{PICTURE}");
    let gateway = lab.key("c")?.node_id;
    let expose =
        ["expose", "web", "--network", NETWORK, "--port", "80", "--via", &gateway, "--name", "hello"];
    let output = lab.cli("b").run(&expose)?;
    println!("  b$ sinew expose web --port 80 --via c --name hello\n{}", indent(&output.stdout));
    ensure!(output.code == Some(0), "sinew expose: {}", output.text());
    let page = wait::success("the page comes through the gateway", SOON, || fetch(lab))?;
    println!("  outside$ curl https://{HOST}/\n{}", indent(&page));
    ensure!(page == PAGE, "another page came back");
    let listed = lab.cli("c").run(&["gateway", "ls"])?;
    println!("  c$ sinew gateway ls\n{}", indent(&listed.stdout));
    ensure!(listed.code == Some(0), "sinew gateway ls: {}", listed.text());
    ensure!(lab.cli("c").list(&["network", "ls"], "networks")?.is_empty(), "c is a member of a network");
    withdraw(lab)
}

fn fetch(lab: &Lab) -> Result<String> {
    process::run_ok(curl(lab, HOST).args(["--fail", "-m", "5"]).arg(format!("https://{HOST}/")), SOON)
}

/// curl of the person outside, who finds the gateway behind this name.
pub(super) fn curl(lab: &Lab, host: &str) -> Command {
    let mut command = lab.ns(OUTSIDE).command("curl");
    command.args(["-sS", "--noproxy", "*", "--cacert"]).arg(certificate(lab));
    command.arg("--resolve").arg(format!("{host}:443:{}", lab.underlay("c", OUTSIDE)));
    command
}

fn certificate(lab: &Lab) -> PathBuf {
    lab.dir().join("gateway.pem")
}

fn withdraw(lab: &Lab) -> Result<()> {
    lab.cli("b").json(&["unexpose", "hello"])?;
    let begun = Instant::now();
    wait::until("nothing comes any more", SOON, || fetch(lab).is_err())?;
    println!(
        "  b$ sinew unexpose hello: outside gets nothing any more, {:.2} s after",
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}
