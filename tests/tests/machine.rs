//! A virtual machine on a private network, behind the TAP device that its hypervisor opened.
//!
//! ```text
//!   vm eth0 ══ socat (the hypervisor) ══ tap0 ▶ a ───── b      network "shop"
//!                                                       └ web (nginx)
//! ```
//! The guest is a namespace that has nothing but the interface; frames go through user space.

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::process::Proc;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const PAGE: &str = "<h1>shop</h1>\n";

/// The guest, and the two halves of its hypervisor.
struct Machine {
    guest: Namespace,
    _host_side: Proc,
    _guest_side: Proc,
}

fn machine(lab: &Lab, host: &str) -> Result<Machine> {
    let guest = Namespace::create(&format!("{}-vm", lab.ns(host).name()))?;
    // Persistent, as management software makes it: `socat` gives up when its device goes down for a move.
    lab.ns(host).ip(&["tuntap", "add", "tap0", "mode", "tap"])?;
    let half = |ns: &Namespace, device: &str, own: &str, other: &str| -> Result<Proc> {
        let path = |name: &str| lab.dir().join(name).display().to_string();
        let mut command = ns.command("socat");
        command.args(["-b", "70000"]);
        command.arg(format!("TUN,tun-type=tap,iff-no-pi,tun-name={device}"));
        command.arg(format!("UNIX-SENDTO:{},bind={}", path(other), path(own)));
        Proc::spawn(&mut command, &lab.dir().join(format!("{own}.log")))
    };
    let host_side = half(lab.ns(host), "tap0", "hypervisor.host", "hypervisor.guest")?;
    let guest_side = half(&guest, "eth0", "hypervisor.guest", "hypervisor.host")?;
    for (ns, device) in [(lab.ns(host), "tap0"), (&guest, "eth0")] {
        wait::success("the hypervisor has opened its device", SOON, || ns.ip(&["link", "show", device]))?;
    }
    Ok(Machine { guest, _host_side: host_side, _guest_side: guest_side })
}

impl Machine {
    /// Sets the guest up as its owner would from what `attach` printed.
    fn configure(&self, attached: &serde_json::Value) -> Result<()> {
        let interface = attached.pointer("/interfaces/0").context("no interface")?;
        self.guest.ip(&["link", "set", "lo", "up"])?;
        self.guest.ip(&["link", "set", "eth0", "mtu", &interface["mtu"].to_string(), "up"])?;
        for address in interface["addresses"].as_array().context("no addresses")? {
            let address = address.as_str().unwrap_or_default();
            self.guest.ip(&["addr", "add", address, "dev", "eth0", "nodad"])?;
        }
        let resolvers = attached["resolvers"].as_array().context("no resolvers")?;
        for gateway in resolvers.iter().filter_map(|one| one.as_str()) {
            let family = if gateway.contains(':') { "-6" } else { "-4" };
            self.guest.ip(&[family, "route", "add", gateway, "dev", "eth0"])?;
            for route in interface["routes"].as_array().context("no routes")? {
                let route = route.as_str().unwrap_or_default();
                if route.contains(':') == gateway.contains(':') {
                    self.guest
                        .ip(&[family, "route", "add", route, "via", gateway, "dev", "eth0", "onlink"])?;
                }
            }
        }
        Ok(())
    }

    fn fetches(&self, address: &str) -> bool {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let argv = ["curl", "-gsS", "--fail", "--noproxy", "*", "-m", "1", &format!("http://{host}/")];
        self.guest.run(&argv).is_ok_and(|page| page == PAGE)
    }
}

fn attach(lab: &Lab) -> Result<serde_json::Value> {
    lab.cli("a").json(&["workload", "attach", "machine", "--network", "shop", "--tap", "tap0"])
}

#[test]
fn a_virtual_machine_is_a_workload_like_any_other() {
    run_lab("machine", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::Both)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", "10.20.0.0/16", "a", &["b"])?;
        let nginx = tenant::nginx(&lab.dir().join("web"), PAGE)?;
        let web = Workload::start(lab, "b", "shop", "web", &words(&nginx))?;
        let before = lab.ns("a").snapshot()?;
        let machine = machine(lab, "a")?;
        let attached = attach(lab)?;
        machine.configure(&attached)?;
        let servers = web.addresses(lab)?;
        for address in &servers {
            wait::until("the guest gets the page", SOON, || machine.fetches(address))?;
        }
        for resolver in attached["resolvers"].as_array().context("no resolvers")? {
            let server = format!("@{}", resolver.as_str().unwrap_or_default());
            let said =
                machine.guest.run(&["dig", "+short", "+time=2", &server, "web.shop.sinew.internal"])?;
            ensure!(said.trim() == servers[0], "{server} says {said}");
        }
        // The other way, by name.
        web.run(lab, &["ping", "-n", "-q", "-c", "1", "-W", "2", "machine"])?;
        ensure!(lab.ns("a").ip(&["link", "show", "tap0"]).is_err(), "the host still has the guest's device");
        lab.kill("a");
        lab.start("a")?;
        lab.wait_ready("a")?;
        wait::until("after a restart as before", SOON, || machine.fetches(&servers[0]))?;
        lab.cli("a").json(&["workload", "detach", "machine"])?;
        ensure!(!machine.fetches(&servers[0]), "detached, and still connected");
        lab.ns("a").ip(&["link", "show", "tap0"]).context("the device is not given back")?;
        drop(machine);
        lab.ns("a").ip(&["link", "del", "tap0"])?;
        wait::until("the host is as it was", SOON, || lab.ns("a").snapshot().is_ok_and(|now| now == before))?;
        let twice = lab.cli("a").run(&["workload", "attach", "x", "--network", "shop", "--tap", "tap9"])?;
        ensure!(twice.code == Some(1) && twice.text().contains("tap9"), "{}", twice.text());
        let left = lab.cli("a").list(&["workload", "ls"], "workloads")?;
        ensure!(left.is_empty(), "{:?}", left.iter().map(|one| text(one, "name")).collect::<Vec<_>>());
        Ok(())
    });
}
