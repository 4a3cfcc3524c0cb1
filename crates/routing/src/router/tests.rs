//! The handlers, one rule at a time.

mod claims;
mod costs;
mod doubt;
mod incarnations;
mod records;
mod requests;
mod telling;
mod whole;

use std::time::Duration;

use sinew_types::{Class, DropReason, Metric, Seqno};
use sinew_wire::routing::RoutingMessage;

use crate::rules::Rule;
use crate::stats::MessageKind;
use crate::tests::puppet::{Bench, Puppet, START_MS};
use crate::tests::world::World;
use crate::{Event, Misbehaviour, Significance};

const MINUTE: Duration = Duration::from_secs(60);

fn bad(reason: DropReason) -> Result<(), Misbehaviour> {
    Err(Misbehaviour { reason, close_for: None })
}

fn close(reason: DropReason) -> Result<(), Misbehaviour> {
    Err(Misbehaviour { reason, close_for: Some(MINUTE) })
}

/// A bench whose neighbours `a` (cost 2) and `b` (cost 3) are up and have said nothing yet.
fn two() -> (Bench, Puppet, Puppet, Puppet) {
    let (mut bench, a, b, far) = (Bench::new(), Puppet::new(1), Puppet::new(2), Puppet::new(3));
    bench.up(&a, 2);
    bench.up(&b, 3);
    drop((bench.heard(&a), bench.heard(&b)));
    (bench, a, b, far)
}
