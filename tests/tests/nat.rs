//! Direct paths through the kernel's own translators: who finds one, how soon, and that traffic flows
//! before. Two relays stand on the public side; A and B are behind what the cell says.
//!
//! ```text
//!   a ── home router ──┐                     ┌── home router ── b
//!                      wan (routes, no mesh) ┤
//!              r1 ─────┘                     └───── r2
//! ```
//! nftables gives, in the words of RFC 4787:
//!
//! - *port-restricted*: `masquerade`, which keeps ports and lets in only whom was sent to;
//! - *full cone*: the same with the node's port forwarded to it;
//! - *address-restricted*: forwarded only for the addresses that were sent to, which a set remembers;
//! - *symmetric*: `masquerade to` a counter, so that each far end gets the next port;
//! - *symmetric, random*: `masquerade fully-random`;
//! - *CGNAT over NAT*: two of the port-restricted one behind the other.
//!
//! `SINEW_NAT_GRID=full` runs every pair of places instead of some, any other value those pairs whose
//! names have that text; `SINEW_NAT_RUNS` so often each, `SINEW_NAT_LABS` so many labs at once. The
//! end is the table that `docs/protocol/10-reach.md` shows.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::impair::forward;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{self, End, Namespace};
use sinew_tests::requirements::lab_obstacle;
use sinew_tests::{process, wait};

/// Where the relays are, each in a network of its own.
const RELAYS: [(&str, &str); 2] = [("r1", "203.0.113"), ("r2", "203.1.113")];
/// How soon a direct path must be there.
const DIRECT: Duration = Duration::from_secs(15);
const MTU: u32 = 1500;
/// Ports of the translator that gives them out in a row: more than a run needs.
const ROW: u32 = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Public,
    FullCone,
    AddressRestricted,
    PortRestricted,
    Symmetric,
    SymmetricRandom,
    Cgnat,
    UdpBlocked,
}

use Place::{
    AddressRestricted, Cgnat, FullCone, PortRestricted, Public, Symmetric, SymmetricRandom, UdpBlocked,
};

/// In the order of the table.
const PLACES: [(Place, &str); 8] = [
    (Public, "public"),
    (FullCone, "full cone"),
    (AddressRestricted, "address-restricted"),
    (PortRestricted, "port-restricted"),
    (Symmetric, "symmetric (ports in a row)"),
    (SymmetricRandom, "symmetric, random ports"),
    (Cgnat, "CGNAT over NAT"),
    (UdpBlocked, "UDP blocked"),
];

impl Place {
    /// The packet filter of a home router whose inside is `lan`, with the host at .2.
    fn rules(self, lan: &str) -> String {
        // A number from `numgen` would have its bytes in the host's order; a map's are ports.
        let row: Vec<_> = (0..ROW).map(|n| format!("{n} : {}", 20_000 + n)).collect();
        let nat = match self {
            SymmetricRandom => "masquerade fully-random".to_owned(),
            Symmetric => format!(
                "meta l4proto udp masquerade to :numgen inc mod {ROW} map {{ {} }}; oifname \"wan\" masquerade",
                row.join(", ")
            ),
            _ => "masquerade".to_owned(),
        };
        let forwarded = |whom: &str| format!("iifname \"wan\" udp dport 7463 {whom} dnat to {lan}.2");
        let forwarded = match self {
            FullCone => forwarded(""),
            AddressRestricted => forwarded("ip saddr @sent"),
            _ => String::new(),
        };
        let blocked = if self == UdpBlocked { "meta l4proto udp drop" } else { "" };
        format!(
            "table ip lab {{
               set sent {{ type ipv4_addr; flags dynamic,timeout; timeout 2m; }}
               chain note {{ type filter hook postrouting priority 0;
                 oifname \"wan\" meta l4proto udp update @sent {{ ip daddr }}; }}
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

/// Why `from` reaches `to` as it does: the reasons' words.
fn reasons(lab: &Lab, from: &str, to: &str) -> Result<Vec<String>> {
    // The verb's exit code says that the way is no direct one.
    let why = lab.cli(from).run_json(&["why", &lab.address(to)?])?;
    let why: serde_json::Value = serde_json::from_str(&why.stdout).context(why.text())?;
    let reasons = why["reasons"].as_array().context("no reasons")?;
    Ok(reasons.iter().map(|reason| text(reason, "code").to_owned()).collect())
}

/// A pair that only relays can join hears why.
fn says_why(lab: &Lab, (a, b): Cell) -> Result<()> {
    let words: &[&str] = match (PLACES[a].0 == UdpBlocked || PLACES[b].0 == UdpBlocked, promised((a, b))) {
        (true, _) => &["unanswered", "nothing_fit", "no_own_address"],
        (false, Promise::Relayed) => &["both_symmetric"],
        _ => return Ok(()),
    };
    wait::until("the reason of the relays", DIRECT, || {
        [("a", "b"), ("b", "a")].into_iter().all(|(from, to)| {
            let said = reasons(lab, from, to).unwrap_or_default();
            said.first().is_some_and(|code| code == "relayed")
                && said.iter().any(|code| words.contains(&code.as_str()))
        })
    })
    .with_context(|| format!("{:?} {:?}", reasons(lab, "a", "b"), reasons(lab, "b", "a")))
}

/// What a pair of places came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first packet's round trip, over relays, the ping's own start included.
    first: Duration,
    /// Until both ways were direct, if they ever were.
    direct: Option<Duration>,
}

/// One packet gets through over relays at once; then A talks to B until both ways are direct.
fn talk(lab: &mut Lab, most: Duration) -> Result<Run> {
    let target = lab.address("b")?;
    let start = Instant::now();
    let first = process::run_ok(lab.ns("a").command("ping").args(["-6", "-c1", "-W1", &target]), most);
    first.context("the first packet, over relays")?;
    let first = start.elapsed();
    let mut flow = lab.ns("a").command("ping");
    flow.args(["-6", "-q", "-i0.1", "-w60", &target]).stdout(std::process::Stdio::null());
    let mut flow = flow.spawn()?;
    let start = Instant::now();
    let both = || Ok::<_, anyhow::Error>(is_direct(lab, "a", "b")? && is_direct(lab, "b", "a")?);
    let found = wait::value("a direct path", most, || both().ok().filter(|direct| *direct));
    let took = start.elapsed();
    flow.kill()?;
    flow.wait()?;
    Ok(Run { first, direct: found.ok().map(|_| took) })
}

/// A pair of places, as numbers in [`PLACES`], the first not after the second.
type Cell = (usize, usize);

fn name((a, b): Cell) -> String {
    format!("{} × {}", PLACES[a].1, PLACES[b].1)
}

/// Builds both places and talks once. An error: the lab could not be built, or the first packet was lost.
fn run_once(cell: Cell) -> Result<Run, String> {
    let mut run = None;
    let lab = catch_unwind(AssertUnwindSafe(|| {
        run_lab("nat", |lab| {
            public(lab)?;
            home(lab, "a", 0, PLACES[cell.0].0)?;
            home(lab, "b", 1, PLACES[cell.1].0)?;
            lab.start_all()?;
            lab.wait_mesh()?;
            let done = run.insert(talk(lab, DIRECT)?);
            says_why(lab, cell)?;
            if is_wrong(cell, done) {
                for (name, other) in [("a", "b"), ("b", "a")] {
                    let id = lab.key(other)?.node_id;
                    let sessions = lab.cli(name).list(&["sessions"], "sessions")?;
                    let session = sessions.iter().find(|session| session["node_id"] == id.as_str());
                    let reach = &lab.cli(name).json(&["status"])?["reach"];
                    eprintln!("{}, at {name}: {reach}; {session:?}", self::name(cell));
                }
            }
            Ok(())
        });
    }));
    let said = |panic: Box<dyn std::any::Any + Send>| {
        panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "panicked".to_owned())
    };
    lab.map_err(said).and_then(|()| run.ok_or_else(|| "labs cannot run here".to_owned()))
}

/// Runs every cell so often, some labs at once: nearly all of a run is waiting.
fn run_grid(cells: &[Cell], runs: usize, labs: usize) -> BTreeMap<Cell, Vec<Result<Run, String>>> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<Cell, Vec<_>>::new()));
    let work = || {
        while let Some(&cell) = Some(next.fetch_add(1, Ordering::Relaxed))
            .filter(|at| *at < cells.len() * runs)
            .and_then(|at| cells.get(at % cells.len()))
        {
            let run = run_once(cell);
            eprintln!("{}: {run:?}", name(cell));
            done.lock().expect("no holder panics").entry(cell).or_default().push(run);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..labs {
            scope.spawn(work);
        }
    });
    done.into_inner().expect("no holder panics")
}

/// "direct 20/20, 1.8 s" with the median, or "relayed 20/20".
fn summary(runs: &[Result<Run, String>]) -> String {
    let mut took: Vec<_> = runs.iter().flatten().filter_map(|run| run.direct).collect();
    took.sort();
    match took.get(took.len() / 2) {
        Some(median) => format!("direct {}/{}, {:.1} s", took.len(), runs.len(), median.as_secs_f64()),
        None => format!("relayed {}/{}", runs.iter().flatten().count(), runs.len()),
    }
}

fn table(done: &BTreeMap<Cell, Vec<Result<Run, String>>>) -> String {
    let names = PLACES.map(|(_, name)| name).join(" | ");
    let mut text = format!("| | {names} |\n|{}\n", " --- |".repeat(PLACES.len() + 1));
    for (row, (_, name)) in PLACES.iter().enumerate() {
        let cell = |column| done.get(&(column, row)).map_or_else(String::new, |runs| summary(runs));
        let cells: Vec<_> = (0..PLACES.len()).map(cell).collect();
        text += &format!("| {name} | {} |\n", cells.join(" | "));
    }
    let first = done.values().flatten().flatten().map(|run| run.first).max().unwrap_or_default();
    text + &format!("slowest first packet: {:.2} s\n", first.as_secs_f64())
}

/// What is promised of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Promise {
    Direct,
    Relayed,
    /// Scattered knocks find a path in 98 of 100 searches (A10.8).
    Likely,
    /// Two that count meet if they are in step.
    Nothing,
}

fn promised((a, b): Cell) -> Promise {
    let (a, b) = (PLACES[a].0, PLACES[b].0);
    let either = |place| a == place || b == place;
    let open = |place| matches!(place, Public | FullCone | AddressRestricted);
    let one_place = |place| matches!(place, PortRestricted | Cgnat);
    match (either(UdpBlocked), open(a) || open(b), either(SymmetricRandom)) {
        (true, ..) => Promise::Relayed,
        (false, true, _) => Promise::Direct,
        (false, false, true) if one_place(a) || one_place(b) => Promise::Likely,
        (false, false, true) => Promise::Relayed,
        (false, false, false) if a == Symmetric && b == Symmetric => Promise::Nothing,
        (false, false, false) => Promise::Direct,
    }
}

fn is_wrong(cell: Cell, run: &Run) -> bool {
    match promised(cell) {
        Promise::Direct | Promise::Likely => run.direct.is_none(),
        Promise::Relayed => run.direct.is_some(),
        Promise::Nothing => false,
    }
}

/// How many of so many runs may be wrong: where chance decides, more than four of 20 come once in 20,000
/// times, and three of three once in 100,000.
fn forgiven(cell: Cell, runs: usize) -> usize {
    if promised(cell) == Promise::Likely { 2 + runs / 10 } else { 0 }
}

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What the simulator's table says of these, on the kernel.
#[test]
fn pairs_find_the_path_that_their_translators_allow() {
    if lab_obstacle().is_some() {
        return run_lab("nat", |_| Ok(()));
    }
    let at = |place| PLACES.iter().position(|(one, _)| *one == place).expect("all are there");
    let some = [
        (PortRestricted, PortRestricted),
        (AddressRestricted, SymmetricRandom),
        // Thrice, since chance decides.
        (PortRestricted, SymmetricRandom),
        (PortRestricted, SymmetricRandom),
        (PortRestricted, SymmetricRandom),
        (Symmetric, SymmetricRandom),
        (PortRestricted, Symmetric),
        (PortRestricted, Cgnat),
        (Public, UdpBlocked),
    ];
    let all = || (0..PLACES.len()).flat_map(|b| (0..=b).map(move |a| (a, b)));
    let cells: Vec<Cell> = match std::env::var("SINEW_NAT_GRID").as_deref() {
        Ok("full") => all().collect(),
        Ok(part) => all().filter(|cell| name(*cell).contains(part)).collect(),
        Err(_) => some.iter().map(|&(a, b)| (at(a), at(b))).collect(),
    };
    let done = run_grid(&cells, setting("SINEW_NAT_RUNS", 1), setting("SINEW_NAT_LABS", 2));
    eprintln!("{}", table(&done));
    let broken = |cell: Cell, run: &Result<Run, String>| run.as_ref().map_or(true, |run| is_wrong(cell, run));
    let wrong = done.iter().filter_map(|(&cell, runs)| {
        let wrong: Vec<_> = runs.iter().filter(|run| broken(cell, run)).collect();
        (wrong.len() > forgiven(cell, runs.len())).then(|| format!("{}: {wrong:?}", name(cell)))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Two homes in one: `a` and `b` on a network behind one router, which sends nothing that is for itself back in.
fn one_home(lab: &mut Lab) -> Result<()> {
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
    translate(lab.ns("router"), PortRestricted, "192.168.1")
}

#[test]
fn two_behind_one_router_that_know_nobody_are_linked_on_their_own_network() {
    run_lab("lan-alone", |lab| {
        public(lab)?;
        one_home(lab)?;
        for name in ["a", "b"] {
            lab.key(name)?;
            lab.config(name).finds = true;
            lab.start(name)?;
        }
        lab.wait_ready("a")?;
        lab.wait_ready("b")?;
        let (ready, target) = (Instant::now(), lab.address("b")?);
        lab.cli("a").wait_reachable(&target, DIRECT)?;
        let took = ready.elapsed();
        eprintln!("on one network, without a configuration: linked after {:.2} s", took.as_secs_f64());
        ensure!(took <= Duration::from_secs(3), "{took:?}");
        let peers = lab.cli("a").peers_up()?;
        ensure!(peers.len() == 1 && text(&peers[0], "endpoint") == "192.168.1.3:7463", "{peers:?}");
        Ok(())
    });
}

#[test]
fn two_behind_one_router_that_does_not_turn_around_talk_on_their_own_network() {
    run_lab("lan", |lab| {
        public(lab)?;
        one_home(lab)?;
        for name in ["a", "b"] {
            knows_relays(lab, name)?;
        }
        lab.start_all()?;
        lab.wait_mesh()?;
        let took = talk(lab, DIRECT)?.direct.context("no direct path")?;
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
        talk(lab, DIRECT)?.direct.context("no direct path")?;
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
        ensure!(talk(lab, Duration::from_secs(8))?.direct.is_none(), "b forbids it");
        let said = [reasons(lab, "a", "b")?, reasons(lab, "b", "a")?];
        ensure!(said == [["relayed", "declined"], ["relayed", "direct_off"]], "{said:?}");
        Ok(())
    });
}
