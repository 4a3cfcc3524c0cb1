//! Faults on a link that leave the interface up: packets vanish, ICMP is filtered, rate is bounded.
//!
//! Everything drops on *input*, after the wire: a drop on output would give the sender an error
//! from `sendmsg`, and a silent fault must give no hint. Faults are elements of nftables sets,
//! so that switching one is a single atomic command.
//!
//! What a packet filter cannot do (delay, jitter, reordering) a box between two machines does:
//! see [`wan`].

pub mod wan;

use anyhow::{Context, Result};

use crate::ns::Namespace;

pub use wan::{Wan, WanFaults};

const TABLE: &str = "inet sinewlab";

/// The packet filter of one namespace, for its underlay interfaces.
#[derive(Debug)]
pub struct Faults<'a> {
    ns: &'a Namespace,
}

impl<'a> Faults<'a> {
    /// The filter of `ns`, made on first use.
    pub fn of(ns: &'a Namespace) -> Result<Self> {
        let faults = Self { ns };
        if ns.run(&["nft", "list", "table", "inet", "sinewlab"]).is_err() {
            faults.install()?;
        }
        Ok(faults)
    }

    fn install(&self) -> Result<()> {
        let chain = |hook: &str| {
            format!(
                "add chain {TABLE} {hook} {{ type filter hook {hook} priority -300; }}
                 add rule {TABLE} {hook} iifname @cut drop
                 add rule {TABLE} {hook} iifname @noicmp meta l4proto {{ icmp, icmpv6 }} drop
                 add rule {TABLE} {hook} iifname @noudp meta l4proto udp drop\n"
            )
        };
        let hole = format!("add rule {TABLE} forward oifname @hole drop");
        self.nft(&format!(
            "add table {TABLE}
             add set {TABLE} cut {{ type ifname; }}
             add set {TABLE} noicmp {{ type ifname; }}
             add set {TABLE} noudp {{ type ifname; }}
             add set {TABLE} hole {{ type ifname; }}
             {}{}{hole}",
            chain("input"),
            chain("forward"),
        ))
    }

    /// From now on nothing that arrives on `interface` is seen.
    pub fn cut(&self, interface: &str) -> Result<()> {
        self.nft(&format!("add element {TABLE} cut {{ \"{interface}\" }}"))
    }

    /// Ends [`Faults::cut`].
    pub fn heal(&self, interface: &str) -> Result<()> {
        self.nft(&format!("delete element {TABLE} cut {{ \"{interface}\" }}"))
    }

    /// A router that passes nothing on from or to `interface` any more, and says nothing.
    pub fn swallow(&self, interface: &str) -> Result<()> {
        self.nft(&format!(
            "add element {TABLE} hole {{ \"{interface}\" }}; add element {TABLE} cut {{ \"{interface}\" }}"
        ))
    }

    /// Ends [`Faults::swallow`].
    pub fn release(&self, interface: &str) -> Result<()> {
        self.nft(&format!("delete element {TABLE} hole {{ \"{interface}\" }}; delete element {TABLE} cut {{ \"{interface}\" }}"))
    }

    /// No ICMP or ICMPv6 that arrives on `interface` is seen: "packet too big" is lost.
    pub fn filter_icmp(&self, interface: &str) -> Result<()> {
        self.nft(&format!("add element {TABLE} noicmp {{ \"{interface}\" }}"))
    }

    /// From now on no UDP that arrives on `interface` is seen.
    pub fn block_udp(&self, interface: &str) -> Result<()> {
        self.nft(&format!("add element {TABLE} noudp {{ \"{interface}\" }}"))
    }

    /// Ends [`Faults::block_udp`].
    pub fn pass_udp(&self, interface: &str) -> Result<()> {
        self.nft(&format!("delete element {TABLE} noudp {{ \"{interface}\" }}"))
    }

    /// Loses `percent` of what arrives on `interface`, chosen at random.
    pub fn lose(&self, interface: &str, percent: u32) -> Result<()> {
        self.nft(&format!(
            "add rule {TABLE} input iifname \"{interface}\" numgen random mod 100 < {percent} drop"
        ))
    }

    fn nft(&self, script: &str) -> Result<()> {
        self.ns.run(&["nft", script]).map(|_| ()).with_context(|| format!("nft: {script}"))
    }
}

/// Bounds what leaves through `interface` to `mbit` Mbit/s with a short queue, so that rates on
/// different paths can be compared on one machine.
pub fn shape(ns: &Namespace, interface: &str, mbit: u32) -> Result<()> {
    let rate = format!("{mbit}mbit");
    // The bucket holds 2 ms, the queue 20 ms; both at least one super-packet.
    let burst = format!("{}", (mbit * 250).max(70_000));
    ns.run(&[
        "tc", "qdisc", "replace", "dev", interface, "root", "tbf", "rate", &rate, "burst", &burst, "latency",
        "20ms",
    ])?;
    Ok(())
}

/// Makes the namespace a plain IPv4 router (no mesh node), as a carrier's network is.
pub fn forward(ns: &Namespace) -> Result<()> {
    ns.run(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]).map(|_| ())
}
