//! The verdict on one routed packet: ours, on to a neighbour, or no further.
//!
//! A pure function of the table, the node's class and the opened header. The rule that matters is
//! the watermark: a hop forwards only if its own feasibility distance is strictly better than the
//! last hop's, so a stale table or a bug becomes a counted drop and not a loop.

use sinew_types::{Class, DropReason, MeshAddr, Rank};
use sinew_wire::error::ErrorCode;
use sinew_wire::routed::{RoutedHeader, Watermark};

use crate::fib::Fib;

/// What to do with a routed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The body is for this node.
    Local,
    /// Seal it for this neighbour, with [`forwarded`]'s header.
    Forward {
        /// The neighbour.
        next_hop: MeshAddr,
        /// This node's feasibility distance, for the next one to beat.
        watermark: Watermark,
    },
    /// Drop and count it, and tell the source if there is a code for it.
    Refuse(DropReason, Option<ErrorCode>),
}

/// Judges a packet that came in with `header`.
pub fn transit(fib: &Fib, class: Class, header: &RoutedHeader) -> Verdict {
    if header.dst == fib.local() {
        return Verdict::Local;
    }
    // Routing §4.1: a stub never transits.
    if class == Class::Stub {
        return Verdict::Refuse(DropReason::NotATransit, Some(ErrorCode::NoRoute));
    }
    // Modes other than plain next-hop forwarding belong to later versions.
    if header.mode != 0 {
        return Verdict::Refuse(DropReason::Unsupported, None);
    }
    // Protocol A4: a loop through a liar ends by the hop limit only.
    if header.hop_limit <= 1 {
        return Verdict::Refuse(DropReason::HopLimit, Some(ErrorCode::HopLimit));
    }
    let Some(entry) = fib.get(&header.dst) else {
        return Verdict::Refuse(DropReason::NoRoute, Some(ErrorCode::NoRoute));
    };
    // Routing §4.4.6: strictly smaller, by (seqno, FD).
    if !beats(entry.fd, header.watermark) {
        return Verdict::Refuse(DropReason::Watermark, Some(ErrorCode::Watermark));
    }
    Verdict::Forward { next_hop: entry.next_hop, watermark: Watermark::of(entry.fd) }
}

/// The header for the next hop: one hop less, this node's watermark, the adjacency of the link to it.
pub fn forwarded(header: &RoutedHeader, watermark: Watermark, adj: u8) -> RoutedHeader {
    RoutedHeader { hop_limit: header.hop_limit.saturating_sub(1), watermark, adj, ..*header }
}

/// Whether `own` is strictly better than the last hop's watermark. Only the low 32 bits of the
/// sequence number travel: milliseconds, which wrap after 49 days, so they are compared as serial
/// numbers (RFC 1982); records live 30 minutes, half the circle is 24 days.
fn beats(own: Rank, watermark: Watermark) -> bool {
    if watermark.fd == Watermark::WORST.fd {
        return true;
    }
    let newer = own.seqno.low32().wrapping_sub(watermark.seqno);
    match newer {
        0 => own.metric.units() < watermark.fd,
        _ => newer < 1 << 31,
    }
}

#[cfg(test)]
mod tests;
