//! What needs no raw packets: asking name servers, and knocking at the daemon's own doors.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use anyhow::{Result, ensure};
use sinew_tests::lab::Lab;
use sinew_tests::requirements::Bins;
use sinew_tests::tenant::SOON;
use sinew_tests::{ns, process};

use crate::{Stage, resolvers};

/// What the spy's name server, and others', tell it about the other tenant.
pub(crate) fn ask(lab: &Lab, stage: &Stage) -> Result<()> {
    let dig = |args: &str| -> Result<String> {
        let argv: Vec<_> = ["dig", "+tries=1", "+timeout=1"].into_iter().chain(args.split(' ')).collect();
        Ok(stage.spy.exec(lab, &argv)?.text())
    };
    let good = dig("fellow.shop.sinew.internal AAAA")?;
    ensure!(good.contains(&stage.at.fellow.1.to_string()), "its own names: {good}");
    let mut questions = vec![
        "vault A",
        "vault.bank.sinew.internal A",
        "vault.bank.sinew.internal AAAA",
        "vault.bank.sinew.internal ANY",
        "vault.shop.sinew.internal A",
        "bank.sinew.internal ANY",
        "bank.sinew.internal AXFR",
        "_http._tcp.vault.bank.sinew.internal SRV",
        "+subnet=10.20.3.2/32 vault.bank.sinew.internal A",
    ];
    let reverse: Vec<_> = stage.at.bank.iter().map(|(_, v6)| format!("-x {v6}")).collect();
    questions.extend(reverse.iter().map(String::as_str));
    for question in questions {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&format!("{transport} {question}"))?;
            let told = said.contains("ANSWER SECTION") || said.contains("ADDITIONAL SECTION");
            let refused = said.contains("status: ") || said.contains("Transfer failed");
            ensure!(!told && refused, "{question}, {transport}: {said}");
        }
    }
    let servers = [&stage.at.resolvers[..], &stage.at.mesh, &stage.at.underlay].concat();
    let own = resolvers(lab, "b", "spy")?;
    for server in servers.iter().filter(|server| !own.contains(server)) {
        let said = dig(&format!("@{server} vault.bank.sinew.internal A"))?;
        ensure!(!said.contains("status: "), "{server} answers: {said}");
    }
    Ok(())
}

/// Root of the container kind: everything but the right to change what it sees.
const CONTAINED: [&str; 4] = [
    "setpriv",
    "--bounding-set=-sys_admin,-sys_ptrace,-sys_module,-sys_rawio,-dac_read_search",
    "--inh-caps=-all",
    "--",
];

/// Ways to the daemon that are not packets.
pub(crate) fn knock(lab: &mut Lab, stage: &Stage) -> Result<()> {
    let socket = lab.dir().join("b/sinew.sock").display().to_string();
    let attach = lab.dir().join("b/attach.sock").display().to_string();
    let daemon = lab.daemon("b")?.process().pid();
    let sinew = Bins::get()?.sinew.display().to_string();
    let paths =
        [socket.clone(), attach, format!("/proc/{daemon}/root{socket}"), format!("/proc/1/root{socket}")];
    for path in &paths {
        let call: Vec<&str> = CONTAINED.into_iter().chain([&*sinew, "--socket", path, "status"]).collect();
        let inside = stage.spy.exec(lab, &call)?;
        ensure!(inside.code != Some(0) && !inside.stdout.contains("fd3f:"), "{path}: {}", inside.text());
    }
    let call: Vec<&str> =
        CONTAINED[1..].iter().copied().chain([&*sinew, "--socket", &socket, "status"]).collect();
    let mut outside = lab.ns("b").command(CONTAINED[0]);
    let outside = process::run(outside.args(&call), SOON)?;
    ensure!(outside.code == Some(0), "the same from outside: {}", outside.text());
    let leave: Vec<&str> =
        CONTAINED.into_iter().chain(["nsenter", "--target", "1", "--net", "true"]).collect();
    ensure!(stage.spy.exec(lab, &leave)?.code != Some(0), "it can leave");

    let name = SocketAddr::from_abstract_name(format!("sinew-test-{}", std::process::id()))?;
    let listener = lab.ns("b").enter(|| UnixListener::bind_addr(&name))??;
    ensure!(lab.ns("b").enter(|| UnixStream::connect_addr(&name))?.is_ok(), "from the machine itself");
    let inside = ns::enter(&stage.spy.netns(lab)?, || UnixStream::connect_addr(&name))?;
    ensure!(inside.is_err(), "abstract sockets of the machine are reached");
    drop(listener);
    Ok(())
}
