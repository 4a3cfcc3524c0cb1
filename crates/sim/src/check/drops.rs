//! Without an attacker some reasons to drop a packet cannot come up. If one does, a machine
//! misunderstands another, or itself.

use sinew_types::{DropReason, Drops, Instant};

use super::Violation;

/// What honest hosts never make each other count, whatever the links do.
const NEVER: &[DropReason] = &[
    DropReason::Malformed,
    DropReason::UnknownType,
    DropReason::Forged,
    DropReason::BadLane,
    DropReason::BadMac1,
    DropReason::BadHandshake,
    DropReason::SelfHandshake,
    DropReason::NotListed,
    DropReason::TableFull,
    DropReason::HopLimit,
    DropReason::NotATransit,
    DropReason::Nested,
    DropReason::EcnDrop,
    DropReason::BadInner,
    DropReason::SourceSpoofed,
    DropReason::NotForUs,
    DropReason::InboundClosed,
    DropReason::BadOffload,
    DropReason::NotOurSource,
    DropReason::NotMesh,
    DropReason::SendQueue,
    DropReason::TunQueue,
    DropReason::LaneExhausted,
    DropReason::Unsupported,
    DropReason::ForgedOrigin,
    DropReason::UnprovenMetric,
    DropReason::BadControl,
];

/// Looks at the counters of one host.
pub(crate) fn look(host: usize, drops: &Drops, now: Instant) -> Result<(), Violation> {
    for &reason in NEVER {
        let count = drops.get(reason);
        if count > 0 {
            let text = format!("host {host} dropped {count} packets as `{reason}`, and nobody attacks");
            return Err(Violation::new(now, "drops", text));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_is_accepted_and_malice_is_not() {
        let mut drops = Drops::default();
        for weather in [DropReason::Replayed, DropReason::NoRoute, DropReason::UnknownIndex] {
            drops.count(weather);
        }
        assert!(look(0, &drops, Instant::ZERO).is_ok());
        drops.count(DropReason::Forged);
        assert!(look(0, &drops, Instant::ZERO).is_err());
    }
}
