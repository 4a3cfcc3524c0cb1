//! The machines that a subject runs on: namespaces, links, offloads.
//!
//! ```text
//!   pair    A ── veth, MTU 1500 ── B
//!   relay   A ── veth ── R ── veth ── B        A has no route to B; IP forwarding is off in R
//!   gateway client ── veth ── gw ── veth ── a  client and a have no route to each other
//!   wan     A ── veth ── box ── veth ── B      the box delays, loses and reorders frames
//! ```
//! Every round and subject gets a stage of its own, so that nothing of one measurement (route
//! caches, TCP metrics, a grown heap) reaches the next.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use sinew_tests::impair::{self, Wan as Box_};
use sinew_tests::lab::{Lab, interface};
use sinew_tests::ns::Namespace;
use sinew_tests::process::{self, Proc};

use crate::cleanup::FAMILY;

/// How long a command of the set-up may take.
pub(crate) const COMMAND: Duration = Duration::from_secs(20);

/// Which machines there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scenario {
    /// A–B.
    Pair,
    /// A–R–B.
    Relay,
    /// A client in public, a gateway, and a server behind it.
    Gateway,
}

impl Scenario {
    /// Names of the machines, from A to B.
    pub(crate) fn nodes(self) -> &'static [&'static str] {
        match self {
            Self::Pair => &["a", "b"],
            Self::Relay => &["a", "r", "b"],
            Self::Gateway => &["client", "gw", "a"],
        }
    }

    /// Name for people and JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Relay => "relay",
            Self::Gateway => "gateway",
        }
    }
}

/// What the links are like.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Wire {
    /// veth as it is: super-packets of 64 KB cross it whole.
    Gso,
    /// Single packets cross it, merged again on arrival.
    Segmented,
    /// Through the impairment box, frame by frame.
    #[value(skip)]
    Wan(Wan),
}

/// An impaired link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Wan {
    pub(crate) loss_percent: f64,
    pub(crate) rtt_ms: u32,
    pub(crate) jitter_ms: u32,
    pub(crate) reorder_percent: f64,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gso => f.write_str("gso"),
            Self::Segmented => f.write_str("segmented"),
            Self::Wan(wan) => {
                write!(f, "wan: {} % loss, {} ms RTT", wan.loss_percent, wan.rtt_ms)?;
                if wan.jitter_ms > 0 || wan.reorder_percent > 0.0 {
                    write!(f, ", {} ms jitter, {} % reordered", wan.jitter_ms, wan.reorder_percent)?;
                }
                Ok(())
            }
        }
    }
}

impl Wire {
    /// `ethtool -K` arguments for both ends of every link.
    fn offloads(self) -> &'static [&'static str] {
        match self {
            Self::Gso => &[],
            Self::Segmented => &["tx-udp-segmentation", "off", "tso", "off", "gro", "on"],
            // The box copies frames, which must be whole packets with their checksums.
            Self::Wan(_) => &["tx", "off", "tso", "off", "gso", "off", "gro", "off"],
        }
    }
}

/// The machines of one measurement.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) lab: Lab,
    /// Running while the stage stands.
    _box: Option<Box_>,
}

impl Stage {
    /// Builds namespaces and links.
    pub(crate) fn build(scenario: Scenario, wire: Wire) -> Result<Self> {
        let mut lab = Lab::new(FAMILY, scenario.name())?;
        let box_ = match wire {
            Wire::Wan(wan) => Some(impaired(&mut lab, wan)?),
            Wire::Gso | Wire::Segmented => {
                lab.line(scenario.nodes())?;
                None
            }
        };
        for node in scenario.nodes() {
            cubic(lab.ns(node))?;
        }
        offloads(&lab, wire.offloads())?;
        Ok(Self { scenario, lab, _box: box_ })
    }

    /// Names of the machines, from A to B.
    pub(crate) fn nodes(&self) -> &'static [&'static str] {
        self.scenario.nodes()
    }

    /// Machines next to `node`.
    pub(crate) fn neighbours(&self, node: &str) -> Vec<&'static str> {
        let nodes = self.nodes();
        let next = |pair: &[&'static str]| match pair {
            [x, y] if *x == node => Some(*y),
            [x, y] if *y == node => Some(*x),
            _ => None,
        };
        nodes.windows(2).filter_map(next).collect()
    }

    /// TCP addresses that `node` dials: of its neighbours nearer to B, so that each link is dialled once.
    pub(crate) fn dialled(&self, node: &str, port: u16) -> Vec<String> {
        let place = |name: &str| self.nodes().iter().position(|other| *other == name);
        let onward = self.neighbours(node).into_iter().filter(|peer| place(peer) > place(node));
        onward.map(|peer| format!("tcp://{}:{port}", self.underlay(peer, node))).collect()
    }

    /// `at`'s IPv4 address on its link with `towards`.
    pub(crate) fn underlay(&self, at: &str, towards: &str) -> String {
        if self._box.is_some() {
            return if at == "a" { WAN_A.into() } else { WAN_B.into() };
        }
        self.lab.underlay(at, towards)
    }

    /// A machine's namespace.
    pub(crate) fn ns(&self, node: &str) -> &Namespace {
        self.lab.ns(node)
    }

    /// A machine's folder, removed with the stage.
    pub(crate) fn dir(&self, node: &str) -> PathBuf {
        self.lab.dir().join(node)
    }

    /// Starts a daemon on a machine, in a session of its own, as services are. The kernel shares the cores out
    /// among sessions first (`sched_autogroup`): one that shares the load generator's waits for it.
    pub(crate) fn spawn(&self, node: &str, program: &Path, args: &[&str]) -> Result<Proc> {
        let mut command = self.ns(node).command("setsid");
        command.arg("--").arg(program).args(args);
        Proc::spawn(&mut command, &self.dir(node).join("daemon.log"))
    }

    /// Runs a program outside of any namespace to its end; its standard output.
    pub(crate) fn tool(program: &Path, args: &[&str]) -> Result<String> {
        process::run_ok(process::command(&program.to_string_lossy()).args(args), COMMAND)
    }
}

const WAN_A: &str = "10.77.0.1";
const WAN_B: &str = "10.77.0.2";

/// A and B on one subnet, with the box in the middle.
fn impaired(lab: &mut Lab, wan: Wan) -> Result<Box_> {
    lab.line(&["a", "box", "b"])?;
    let (to_a, to_b, to_box) = (interface("a"), interface("b"), interface("box"));
    let middle = lab.ns("box");
    for end in [&to_a, &to_b] {
        middle.ip(&["addr", "flush", "dev", end])?;
    }
    lab.ns("b").ip(&["addr", "flush", "dev", &to_box])?;
    lab.ns("b").ip(&["addr", "add", &format!("{WAN_B}/24"), "dev", &to_box])?;
    let one_way = Duration::from_micros(u64::from(wan.rtt_ms) * 500);
    let faults = impair::WanFaults {
        delay: one_way,
        jitter: Duration::from_millis(wan.jitter_ms.into()),
        loss: wan.loss_percent / 100.0,
        burst: 1.0,
        reorder: wan.reorder_percent / 100.0,
    };
    Box_::start(middle, [&to_a, &to_b], faults)
}

/// TCP's congestion control is the same on every machine that the benchmark runs on.
///
/// A namespace may change to an algorithm only while the host allows that one to everybody; where
/// it does not, it does for the moment of the change.
fn cubic(ns: &Namespace) -> Result<()> {
    const KEY: &str = "net.ipv4.tcp_congestion_control";
    const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    if ns.run(&["sysctl", "-n", KEY])?.trim() == "cubic" {
        return Ok(());
    }
    let set = || ns.run(&["sysctl", "-qw", &format!("{KEY}=cubic")]);
    if set().is_ok() {
        return Ok(());
    }
    let allowed = std::fs::read_to_string(ALLOWED).context(ALLOWED)?;
    std::fs::write(ALLOWED, format!("{} cubic", allowed.trim())).context("this kernel has no TCP cubic")?;
    let done = set();
    std::fs::write(ALLOWED, allowed.trim()).context(ALLOWED)?;
    done.map(|_| ()).context("TCP cubic")
}

fn offloads(lab: &Lab, features: &[&str]) -> Result<()> {
    if features.is_empty() {
        return Ok(());
    }
    for [a, b] in lab.links() {
        for (at, towards) in [(&a, &b), (&b, &a)] {
            let interface = interface(towards);
            let mut argv = vec!["ethtool", "-K", &interface];
            argv.extend_from_slice(features);
            lab.ns(at).run(&argv).with_context(|| format!("offloads of {at}"))?;
        }
    }
    Ok(())
}

/// Gives a machine the address `address`/`prefix` on an interface and brings that up.
pub(crate) fn address(ns: &Namespace, interface: &str, address: IpAddr, prefix: u8, mtu: u32) -> Result<()> {
    ns.ip(&["addr", "add", &format!("{address}/{prefix}"), "dev", interface])?;
    ns.ip(&["link", "set", interface, "mtu", &mtu.to_string(), "up"]).map(|_| ())
}
