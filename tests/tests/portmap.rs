//! A home router that passes on ports (miniupnpd): the node asks it, is reachable then, renews, and gives
//! the port back when it stops.
//!
//! ```text
//!   a ── home ── wan ── r1 (relay)      home: masquerade with random ports, miniupnpd
//!                 └──── bhome ── b      bhome: masquerade, lets in only whom b sent to
//! ```
//! Without the mapping these two are never direct (`nat.rs`): each is a stranger to the other's router.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::impair::forward;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::process::Proc;
use sinew_tests::wait;

/// The home router's outside address. Not one of those for documentation: miniupnpd refuses to map on
/// an address that cannot be public.
const OUTSIDE: &str = "55.1.100";
const RELAY: &str = "55.2.100";
const OTHER: &str = "55.3.100";
const SOON: Duration = Duration::from_secs(20);
/// Leases of a usual router, and of one that gives short ones only.
const USUAL: (u32, u32) = (120, 86_400);
const SHORT: (u32, u32) = (6, 12);

/// Joins two machines, the second being the way out of the first.
fn way_out(lab: &Lab, inner: &str, outer: &str, net: &str, names: [&str; 2]) -> Result<()> {
    let (near, far) = (format!("{net}.2/24"), format!("{net}.254/24"));
    let near = End { ns: lab.ns(inner), interface: names[0], address: &near };
    let far = End { ns: lab.ns(outer), interface: names[1], address: &far };
    ns::connect(near, far, 1500)?;
    lab.ns(inner).ip(&["route", "add", "default", "via", &format!("{net}.254")])?;
    Ok(())
}

/// The packet filter of a home router: the tables and chains that miniupnpd expects, and a translator
/// behind them.
fn rules(nat: &str) -> String {
    format!(
        "table inet filter {{
           chain miniupnpd {{ }}
           chain prerouting_miniupnpd {{ }}
           chain postrouting_miniupnpd {{ }}
           chain forward {{ type filter hook forward priority 0; policy drop;
             jump miniupnpd; ct state established,related accept; iifname \"lan\" accept; }}
           chain prerouting {{ type nat hook prerouting priority -100; jump prerouting_miniupnpd; }}
           chain postrouting {{ type nat hook postrouting priority 100;
             jump postrouting_miniupnpd; oifname \"wan\" {nat}; }}
         }}"
    )
}

fn topology(lab: &mut Lab) -> Result<()> {
    for name in ["a", "home", "wan", "r1", "bhome", "b"] {
        lab.node(name)?;
    }
    way_out(lab, "a", "home", "192.168.1", ["wan", "lan"])?;
    way_out(lab, "home", "wan", OUTSIDE, ["wan", "to-home"])?;
    way_out(lab, "b", "bhome", "192.168.2", ["wan", "lan"])?;
    way_out(lab, "bhome", "wan", OTHER, ["wan", "to-bhome"])?;
    way_out(lab, "r1", "wan", RELAY, ["wan", "to-r1"])?;
    for router in ["home", "bhome", "wan"] {
        forward(lab.ns(router))?;
    }
    lab.ns("home").run(&["nft", &rules("masquerade fully-random")])?;
    lab.ns("bhome").run(&["nft", &rules("masquerade")])?;
    lab.key("r1")?;
    for name in ["a", "b"] {
        lab.key(name)?;
        let uri = lab.uri("r1", &format!("{RELAY}.2"))?;
        lab.config(name).peers.push((uri, 0));
    }
    Ok(())
}

/// `lease`: how long a mapping by PCP may be at least and at most, seconds.
fn miniupnpd(lab: &Lab, upnp: bool, lease: (u32, u32)) -> Result<Proc> {
    let dir = lab.dir().join("home");
    let conf = dir.join("miniupnpd.conf");
    std::fs::write(
        &conf,
        format!(
            "ext_ifname=wan\nlistening_ip=lan\nhttp_port=0\nenable_natpmp={1}\nenable_upnp={2}\nsecure_mode=yes\n\
             lease_file={0}/leases\nuuid=00000000-0000-0000-0000-000000000001\nserial=1\nmodel_number=1\n\
             min_lifetime={3}\nmax_lifetime={4}\n\
             upnp_table_name=filter\nupnp_nat_table_name=filter\nupnp_forward_chain=miniupnpd\n\
             upnp_nat_chain=prerouting_miniupnpd\nupnp_nat_postrouting_chain=postrouting_miniupnpd\n\
             allow 1024-65535 192.168.1.0/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            dir.display(),
            if upnp { "no" } else { "yes" },
            if upnp { "yes" } else { "no" },
            lease.0,
            lease.1,
        ),
    )?;
    let mut command = lab.ns("home").command("miniupnpd");
    command.args(["-d", "-f"]).arg(&conf).arg("-P").arg(dir.join("miniupnpd.pid"));
    let mut proc = Proc::spawn(&mut command, &dir.join("miniupnpd.log"))?;
    let port = if upnp { "sport = :1900" } else { "sport = :5351" };
    let listens = || lab.ns("home").run(&["ss", "-Hlnu", port]).is_ok_and(|out| !out.is_empty());
    wait::until("miniupnpd listens", SOON, || listens() || !proc.running())?;
    ensure!(proc.running(), "miniupnpd ended (upnp {upnp}): {}", proc.log());
    Ok(proc)
}

fn mapping(lab: &Lab) -> Result<serde_json::Value> {
    Ok(lab.cli("a").json(&["netcheck"])?["port_mapping"].clone())
}

fn forwarded(lab: &Lab) -> Result<String> {
    lab.ns("home").run(&["nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd"])
}

#[test]
fn a_mapped_port_makes_a_hard_pair_direct_and_is_given_back_at_the_end() {
    run_lab("portmap", |lab| {
        topology(lab)?;
        let mut router = miniupnpd(lab, false, USUAL)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let mapped = || mapping(lab).is_ok_and(|mapping| text(&mapping, "state") == "mapped");
        wait::until("the port is mapped", SOON, mapped).with_context(|| router.log())?;
        let shown = mapping(lab)?;
        let outside = text(&shown, "outside").to_owned();
        ensure!(outside == format!("{OUTSIDE}.2:7463"), "{shown}");
        ensure!(text(&shown, "protocol") == "pcp", "{shown}");
        ensure!(forwarded(lab)?.contains("dnat"), "{}", forwarded(lab)?);
        let status = lab.cli("a").json(&["status"])?;
        ensure!(
            status["listeners"].to_string().contains(&outside),
            "others can be told: {}",
            status["listeners"]
        );

        let b = lab.address("b")?;
        let ping = lab.cli("a").run(&["ping", &b, "--until-direct", "-c", "15"])?;
        ensure!(ping.code == Some(0), "not direct: {}", ping.text());
        let at_b = lab.cli("b").list(&["sessions"], "sessions")?;
        let id = lab.key("a")?.node_id;
        let path =
            at_b.iter().find(|session| text(session, "node_id") == id).map(|s| text(s, "path").to_owned());
        ensure!(path.as_deref() == Some(&format!("udp/{outside}")), "b reaches a at {path:?}");

        ensure!(lab.stop("a")? == Some(0), "a stopped badly");
        wait::until("the port is given back", SOON, || {
            forwarded(lab).is_ok_and(|rules| !rules.contains("dnat"))
        })?;

        lab.config("a").extra = "[reach]\nport_mapping = false\n".to_owned();
        lab.start("a")?;
        lab.wait_ready("a")?;
        let shown = mapping(lab)?;
        ensure!(text(&shown, "state") == "off", "{shown}");
        ensure!(router.running() && !forwarded(lab)?.contains("dnat"), "asked for all the same");
        Ok(())
    });
}

#[test]
fn a_router_that_speaks_upnp_alone_passes_on_a_port_and_gets_it_back() {
    run_lab("portmap3", |lab| {
        topology(lab)?;
        let router = miniupnpd(lab, true, USUAL)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let mapped = || mapping(lab).is_ok_and(|mapping| text(&mapping, "state") == "mapped");
        wait::until("the port is mapped", SOON, mapped).with_context(|| router.log())?;
        let shown = mapping(lab)?;
        ensure!(text(&shown, "protocol") == "upnp", "{shown}");
        let outside = text(&shown, "outside").to_owned();
        ensure!(outside.starts_with(&format!("{OUTSIDE}.2:")), "{shown}");
        let b = lab.address("b")?;
        let ping = lab.cli("a").run(&["ping", &b, "--until-direct", "-c", "15"])?;
        ensure!(ping.code == Some(0), "not direct: {}", ping.text());
        ensure!(forwarded(lab)?.contains("dnat"), "{}", forwarded(lab)?);
        ensure!(lab.stop("a")? == Some(0), "a stopped badly");
        wait::until("the port is given back", SOON, || {
            forwarded(lab).is_ok_and(|rules| !rules.contains("dnat"))
        })
    });
}

fn stands(lab: &Lab) -> bool {
    forwarded(lab).is_ok_and(|rules| rules.contains("dnat"))
}

#[test]
fn a_short_lease_is_renewed_in_time_and_ends_without_the_node() {
    run_lab("portmap4", |lab| {
        topology(lab)?;
        let mut router = miniupnpd(lab, false, SHORT)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let mapped = || mapping(lab).is_ok_and(|mapping| text(&mapping, "state") == "mapped");
        wait::until("the port is mapped", SOON, mapped).with_context(|| router.log())?;
        let shown = mapping(lab)?;
        ensure!(shown["lifetime_ms"] == 12_000, "{shown}");
        let (since, lease) = (Instant::now(), Duration::from_secs(SHORT.1.into()));
        wait::until("three leases pass", lease * 5, || since.elapsed() > lease * 3 || !stands(lab))?;
        ensure!(stands(lab), "not renewed: gone after {:?}", since.elapsed());
        ensure!(text(&mapping(lab)?, "outside") == text(&shown, "outside"), "{}", mapping(lab)?);

        // The router itself would have ended it: whoever is killed gives nothing back.
        lab.kill("a");
        wait::until("the lease ends", lease * 4, || !stands(lab)).with_context(|| router.log())?;
        ensure!(router.running(), "miniupnpd ended: {}", router.log());
        Ok(())
    });
}
