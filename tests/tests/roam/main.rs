//! A machine that moves: another network, an interface that flaps, another default route, another address family, a peer
//! with another address; a second uplink when the first is pulled, or stays up and passes nothing. Flows survive, and
//! the link is back as soon as the network is.
//!
//! ```text
//!   a ── wan ── r ── b        r is a plain router: no mesh node, no NAT
//!        (up2) ─┘
//! ```

use std::time::{Duration, Instant};

use anyhow::Result;
use sinew_tests::impair::forward;
use sinew_tests::lab::Lab;
use sinew_tests::ns::{self, End};
use sinew_tests::wait;

mod beat;
mod moves;
mod uplinks;

const WEB: u16 = 8080;
/// Traffic again, from the network's return on (issue: reach).
const BACK: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);

/// Joins `a` to the router by one more interface; `net` is the first three numbers of its network.
fn uplink(lab: &Lab, interface: &str, net: &str) -> Result<()> {
    let (near, far) = (format!("{net}.2/24"), format!("{net}.254/24"));
    let near = End { ns: lab.ns("a"), interface, address: &near };
    let far = End { ns: lab.ns("r"), interface: &format!("r-{interface}"), address: &far };
    ns::connect(near, far, 1500)
}

/// `a` and `b` at a plain router, `a` by its first uplink.
fn topology(lab: &mut Lab) -> Result<()> {
    for name in ["a", "r", "b"] {
        lab.node(name)?;
    }
    forward(lab.ns("r"))?;
    uplink(lab, "wan", "10.78.1")?;
    lab.link("b", "r")?;
    let gateway = lab.underlay("r", "b");
    lab.ns("b").ip(&["route", "add", "default", "via", &gateway])?;
    lab.ns("a").ip(&["route", "add", "default", "via", "10.78.1.254", "metric", "100"])?;
    Ok(())
}

/// Only `a` dials, so that it is `a` who has to notice.
fn start(lab: &mut Lab) -> Result<()> {
    let uri = lab.uri("b", &lab.underlay("b", "r"))?;
    lab.key("a")?;
    lab.config("a").peers.push((uri, 0));
    lab.start_all()?;
    lab.wait_mesh()
}

/// Time that has to go by: nothing tells when it is over.
fn pass(time: Duration) -> Result<()> {
    let since = Instant::now();
    wait::until("time passes", time + SOON, || since.elapsed() >= time)
}
