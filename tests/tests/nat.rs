//! Direct paths through the kernel's own translators: who finds one, how soon, and that traffic flows
//! before. Two relays stand on the public side; A and B are behind what the cell says.
//!
//! ```text
//!   a ── home router ──┐                     ┌── home router ── b
//!                      wan (routes, no mesh) ┤
//!              r1 ─────┘                     └───── r2
//! ```
//! nftables gives: `masquerade` (port-preserving, endpoint-independent in effect, lets in only whom
//! was sent to), `masquerade fully-random` (another port for each far end), and a port forwarded by
//! hand beside masquerade (anybody may come in). The grid over all of RFC 4787 is the simulator's.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::impair::forward;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{self, End, Namespace};
use sinew_tests::{process, wait};

/// Where the relays are, each in a network of its own.
const RELAYS: [(&str, &str); 2] = [("r1", "203.0.113"), ("r2", "203.1.113")];
/// How soon a direct path must be there.
const DIRECT: Duration = Duration::from_secs(15);
const MTU: u32 = 1500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Public,
    FullCone,
    PortRestricted,
    SymmetricRandom,
    Cgnat,
    UdpBlocked,
}

use Place::{Cgnat, FullCone, PortRestricted, Public, SymmetricRandom, UdpBlocked};

impl Place {
    /// The packet filter of a home router whose inside is `lan`, with the host at .2.
    fn rules(self, lan: &str) -> String {
        let (nat, forwarded) = match self {
            SymmetricRandom => ("masquerade fully-random", String::new()),
            FullCone => ("masquerade", format!("iifname \"wan\" udp dport 7463 dnat to {lan}.2")),
            _ => ("masquerade", String::new()),
        };
        let blocked = if self == UdpBlocked { "meta l4proto udp drop" } else { "" };
        format!(
            "table ip lab {{
               chain out {{ type nat hook postrouting priority 100; oifname \"wan\" {nat}; }}
               chain in {{ type nat hook prerouting priority -100; {forwarded}; }}
               chain own {{ type filter hook input priority 0; iifname \"wan\" drop; }}
               chain through {{ type filter hook forward priority 0; policy drop;
                 {blocked};
                 ct state established,related accept; ct status dnat accept; iifname \"lan\" accept; }}
             }}"
        )
    }
}

/// Joins two machines of a lab, the second being the way out of the first.
fn uplink(lab: &Lab, inner: &str, outer: &str, net: &str, names: [&str; 2]) -> Result<()> {
    let (near, far) = (format!("{net}.2/24"), format!("{net}.254/24"));
    let near = End { ns: lab.ns(inner), interface: names[0], address: &near };
    let far = End { ns: lab.ns(outer), interface: names[1], address: &far };
    ns::connect(near, far, MTU)?;
    lab.ns(inner).ip(&["route", "add", "default", "via", &format!("{net}.254")])?;
    Ok(())
}

fn translate(ns: &Namespace, place: Place, lan: &str) -> Result<()> {
    forward(ns)?;
    ns.run(&["nft", &place.rules(lan)]).map(|_| ())
}

/// The public side: a router without a mesh node, and two relays that know each other.
fn public(lab: &mut Lab) -> Result<()> {
    lab.node("wan")?;
    forward(lab.ns("wan"))?;
    for (name, net) in RELAYS {
        lab.node(name)?;
        uplink(lab, name, "wan", net, ["wan", &format!("to-{name}")])?;
    }
    knows_relays(lab, "r1")
}

/// Configures both relays, or the other one, as peers.
fn knows_relays(lab: &mut Lab, name: &str) -> Result<()> {
    lab.key(name)?;
    for (relay, net) in RELAYS.into_iter().filter(|(relay, _)| *relay != name) {
        let uri = lab.uri(relay, &format!("{net}.2"))?;
        lab.config(name).peers.push((uri, 0));
    }
    Ok(())
}

/// A host with everything between it and the public side.
fn home(lab: &mut Lab, name: &str, number: usize, place: Place) -> Result<()> {
    lab.node(name)?;
    let (outside, lan) = (format!("198.51.{}", 100 + number), format!("192.168.{}", 1 + number));
    let (router, carrier) = (format!("n{name}"), format!("c{name}"));
    let to = format!("to-{name}");
    if place == Public {
        uplink(lab, name, "wan", &outside, ["wan", &to])?;
    } else {
        lab.node(&router)?;
        uplink(lab, name, &router, &lan, ["wan", "lan"])?;
        translate(lab.ns(&router), place, &lan)?;
        if place == Cgnat {
            lab.node(&carrier)?;
            let shared = format!("100.64.{number}");
            uplink(lab, &router, &carrier, &shared, ["wan", "lan"])?;
            translate(lab.ns(&carrier), PortRestricted, &shared)?;
            uplink(lab, &carrier, "wan", &outside, ["wan", &to])?;
        } else {
            uplink(lab, &router, "wan", &outside, ["wan", &to])?;
        }
    }
    if place == UdpBlocked {
        lab.via = "tcp".to_owned();
    }
    let result = knows_relays(lab, name);
    lab.via = "udp".to_owned();
    result
}

/// Whether `from`'s session with `to` has a direct path that data takes.
fn is_direct(lab: &Lab, from: &str, to: &str) -> Result<bool> {
    let id = lab.key(to)?.node_id;
    let sessions = lab.cli(from).list(&["sessions"], "sessions")?;
    Ok(sessions.iter().any(|session| session["node_id"] == id.as_str() && session["direct"] == true))
}

/// One packet gets through over relays at once; then A talks to B until both ways are direct.
fn talk(lab: &mut Lab, most: Duration) -> Result<Option<Duration>> {
    let target = lab.address("b")?;
    let first = process::run_ok(lab.ns("a").command("ping").args(["-6", "-c1", "-W1", &target]), most);
    first.context("the first packet, over relays")?;
    let mut flow = lab.ns("a").command("ping");
    flow.args(["-6", "-q", "-i0.1", "-w60", &target]).stdout(std::process::Stdio::null());
    let mut flow = flow.spawn()?;
    let start = Instant::now();
    let both = || Ok::<_, anyhow::Error>(is_direct(lab, "a", "b")? && is_direct(lab, "b", "a")?);
    let found = wait::value("a direct path", most, || both().ok().filter(|direct| *direct));
    let took = start.elapsed();
    flow.kill()?;
    flow.wait()?;
    Ok(found.ok().map(|_| took))
}

fn cell(a: Place, b: Place, expected: bool) -> String {
    let mut line = format!("{a:?} and {b:?}: not run");
    run_lab("nat", |lab| {
        public(lab)?;
        home(lab, "a", 0, a)?;
        home(lab, "b", 1, b)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let took = talk(lab, DIRECT)?;
        line = match took {
            Some(took) => format!("{a:?} and {b:?}: direct after {:.1} s", took.as_secs_f64()),
            None => format!("{a:?} and {b:?}: relayed"),
        };
        ensure!(
            took.is_some() == expected,
            "{line}; status of a: {}",
            lab.cli("a").json(&["status"])?["reach"]
        );
        Ok(())
    });
    line
}

/// What the simulator's table says of these, on the kernel. `SINEW_NAT_GRID=full`: every pair.
#[test]
fn pairs_find_the_path_that_their_translators_allow() {
    let places = [Public, FullCone, PortRestricted, SymmetricRandom, Cgnat, UdpBlocked];
    let rank = |place: Place| places.iter().position(|one| *one == place).unwrap_or_default();
    let expected = |a: Place, b: Place| {
        let hard = |place| matches!(place, SymmetricRandom);
        let open = |place| rank(place) <= rank(FullCone);
        let blocked = a == UdpBlocked || b == UdpBlocked;
        !blocked && (open(a) || open(b) || !hard(a) && !hard(b))
    };
    let full = std::env::var("SINEW_NAT_GRID").is_ok_and(|value| value == "full");
    let some = [
        (PortRestricted, PortRestricted),
        (FullCone, SymmetricRandom),
        (PortRestricted, SymmetricRandom),
        (Cgnat, PortRestricted),
        (UdpBlocked, Public),
    ];
    let all = places.iter().flat_map(|a| places.iter().map(move |b| (*a, *b)));
    let all: Vec<_> = all.filter(|(a, b)| rank(*a) <= rank(*b)).collect();
    let cells = if full { all } else { some.to_vec() };
    let table: Vec<_> = cells.into_iter().map(|(a, b)| cell(a, b, expected(a, b))).collect();
    eprintln!("{}", table.join("\n"));
}

#[test]
fn two_behind_one_router_that_does_not_turn_around_talk_on_their_own_network() {
    run_lab("lan", |lab| {
        public(lab)?;
        for name in ["router", "a", "b"] {
            lab.node(name)?;
        }
        uplink(lab, "router", "wan", "198.51.100", ["wan", "to-router"])?;
        let router = lab.ns("router");
        router.ip(&["link", "add", "lan", "type", "bridge"])?;
        router.ip(&["addr", "add", "192.168.1.254/24", "dev", "lan"])?;
        router.ip(&["link", "set", "lan", "up"])?;
        for (number, name) in ["a", "b"].into_iter().enumerate() {
            let (address, port) = (format!("192.168.1.{}/24", number + 2), format!("port-{name}"));
            let near = End { ns: lab.ns(name), interface: "wan", address: &address };
            let far = End { ns: lab.ns("router"), interface: &port, address: "169.254.9.9/32" };
            ns::connect(near, far, MTU)?;
            let router = lab.ns("router");
            router.ip(&["addr", "flush", "dev", &port])?;
            router.ip(&["link", "set", &port, "master", "lan"])?;
            lab.ns(name).ip(&["route", "add", "default", "via", "192.168.1.254"])?;
        }
        translate(lab.ns("router"), PortRestricted, "192.168.1")?;
        for name in ["a", "b"] {
            knows_relays(lab, name)?;
        }
        lab.start_all()?;
        lab.wait_mesh()?;
        let took = talk(lab, DIRECT)?.context("no direct path")?;
        eprintln!("on one network: direct after {:.1} s", took.as_secs_f64());
        ensure!(took <= Duration::from_secs(3), "{took:?}");
        let sessions = lab.cli("a").list(&["sessions"], "sessions")?;
        let id = lab.key("b")?.node_id;
        let path = sessions.iter().find(|session| session["node_id"] == id.as_str());
        let path = path.and_then(|session| session["path"].as_str().map(str::to_owned));
        ensure!(path.as_deref() == Some("udp/192.168.1.3:7463"), "{path:?}");
        Ok(())
    });
}

#[test]
fn a_path_that_dies_falls_back_to_relays_and_a_node_may_forbid_it() {
    run_lab("fallback", |lab| {
        public(lab)?;
        home(lab, "a", 0, PortRestricted)?;
        home(lab, "b", 1, Public)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        talk(lab, DIRECT)?.context("no direct path")?;
        // Between the two homes nothing passes any more; both still reach the relays.
        let drop = "table ip cut {
            chain c {
              type filter hook forward priority -10
              ip saddr 198.51.100.0/24 ip daddr 198.51.101.0/24 drop
              ip saddr 198.51.101.0/24 ip daddr 198.51.100.0/24 drop
            }
        }";
        lab.ns("wan").run(&["nft", drop])?;
        let target = lab.address("b")?;
        let pings = ["-6", "-c20", "-i0.1", "-W1", &target];
        let out = process::run(lab.ns("a").command("ping").args(pings), Duration::from_secs(20))?;
        let received = out.stdout.split(", ").find_map(|part| part.strip_suffix(" received"));
        let received: u32 = received.and_then(|text| text.parse().ok()).context(out.stdout.clone())?;
        ensure!(received >= 10, "more than a second of silence: {}", out.stdout);
        wait::until("relayed", Duration::from_secs(5), || {
            is_direct(lab, "a", "b").is_ok_and(|direct| !direct)
        })?;
        lab.ns("wan").run(&["nft", "delete table ip cut"])?;
        lab.config("b").extra = "[reach]\ndirect = false\n".to_owned();
        lab.stop("b")?;
        lab.start("b")?;
        lab.wait_mesh()?;
        ensure!(talk(lab, Duration::from_secs(8))?.is_none(), "b forbids it");
        Ok(())
    });
}
