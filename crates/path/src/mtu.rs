//! How large a datagram the path carries, found by sending padded probes (as RFC 8899, DPLPMTUD).
//!
//! The network is not asked and not believed: a size counts when a probe of that size was answered.
//! The search climbs the sizes that links have in practice, from a base that every carrier must
//! offer; three lost probes end it, and it is tried again after ten minutes. While the path is used,
//! the size in use is confirmed now and then, and at once on any hint that it shrank; three lost
//! confirmations mean a black hole, and the search starts again from the base. A hint by itself
//! changes nothing (protocol A4: TOO_BIG starts a probe, never sets the MTU). Whoever sees that large
//! packets may be vanishing right now (a bulk flow falls silent while small probes are answered) says
//! so, and the confirmations follow each other by round trips instead of seconds. A path that does not
//! even carry the base any more is no path.

use std::time::Duration;

use sinew_types::Instant;
use sinew_wire::record::DATA_OVERHEAD;
use sinew_wire::routed::{ROUTED_OVERHEAD, WAYPOINT_LEN};

/// Datagram payload every path must carry; links below are refused (protocol A4).
pub const BASE_PAYLOAD: u16 = 1200;

/// Underlay MTUs found in practice: IPv6 minimum, nested tunnels, WireGuard, IPv4 PPPoE less options,
/// Ethernet, jumbo frames.
const UNDERLAY_MTUS: [u16; 6] = [1280, 1344, 1420, 1452, 1500, 9000];
const PROBES: u8 = 3;
const PROBE_TIMER_MIN: Duration = Duration::from_millis(1000);
const RTT_MAX: Duration = Duration::from_secs(5);
/// The same while data may be vanishing.
const URGENT_TIMER_MIN: Duration = Duration::from_millis(120);
/// A size that was confirmed so recently is not doubted again.
const URGENT_SPACING: Duration = Duration::from_secs(1);
const RAISE_AFTER: Duration = Duration::from_secs(600);
const CONFIRM_AFTER: Duration = Duration::from_secs(15);

/// How an inner packet travels over a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One record between direct peers.
    Direct,
    /// A record inside a routed record with this many waypoints.
    Routed {
        /// 0 to 4.
        waypoints: u8,
    },
}

/// The largest inner packet for a datagram payload of `payload` bytes (protocol A4, table).
pub const fn inner_mtu(payload: u16, shape: Shape) -> u16 {
    let overhead = match shape {
        Shape::Direct => DATA_OVERHEAD,
        Shape::Routed { waypoints } => DATA_OVERHEAD + ROUTED_OVERHEAD + WAYPOINT_LEN * waypoints as usize,
    };
    payload.saturating_sub(overhead as u16)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goal {
    /// A size above the one in use.
    Raise,
    /// The size in use, which is under suspicion or due.
    Confirm,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    goal: Goal,
    size: u16,
    tries: u8,
    /// Data may be vanishing: tries follow each other quickly.
    urgent: bool,
    /// When the last try counts as lost; `None` while the next one is to be sent.
    expires: Option<Instant>,
}

/// The packet size search of one datagram path.
#[derive(Debug)]
pub struct Search {
    overhead: u16,
    ceiling: u16,
    rtt: Duration,
    /// The size in use.
    payload: u16,
    /// Known or believed not to pass, until the next raise.
    too_big: u16,
    /// A size that somebody named, tried besides the table.
    hint: u16,
    probe: Option<Probe>,
    /// The largest size probed, so that an answer to something never asked proves nothing.
    probed: u16,
    confirmed_at: Instant,
    used_at: Option<Instant>,
    raise_at: Instant,
    /// A suspicion that came too soon after a confirmation is looked into then.
    suspect_at: Option<Instant>,
    /// Not even the base passes.
    narrow: bool,
}

impl Search {
    /// A search on a path whose headers below the payload take `overhead` bytes (28 for UDP over
    /// IPv4, 48 over IPv6, 38 more for QUIC), for payloads up to `ceiling`: the least of what the
    /// peer takes, what our own buffers hold and what the carrier says.
    pub fn new(overhead: u16, ceiling: u16, now: Instant) -> Self {
        let mut search = Self {
            overhead,
            ceiling: ceiling.max(BASE_PAYLOAD),
            rtt: Duration::ZERO,
            payload: BASE_PAYLOAD,
            too_big: u16::MAX,
            hint: 0,
            probe: None,
            probed: BASE_PAYLOAD,
            confirmed_at: now,
            used_at: None,
            raise_at: now,
            suspect_at: None,
            narrow: false,
        };
        search.climb(now);
        search
    }

    /// The largest datagram payload that may be sent now.
    pub const fn payload(&self) -> u16 {
        self.payload
    }

    /// The carrier has searched by itself (QUIC), and carries `payload` from now on: as a limit this is
    /// a fact, and a size it has found needs no probe. It finds a narrower path only after several
    /// losses, so the size in use is confirmed here as on any path. Returns whether
    /// [`Search::payload`] changed.
    pub fn on_carrier_payload(&mut self, payload: u16, now: Instant) -> bool {
        self.narrow = payload < BASE_PAYLOAD;
        self.ceiling = payload.max(BASE_PAYLOAD);
        let changed = self.payload != self.ceiling;
        self.payload = self.ceiling;
        self.probed = self.ceiling;
        self.confirmed_at = now;
        (self.too_big, self.hint, self.suspect_at) = (u16::MAX, 0, None);
        self.probe = None;
        self.climb(now);
        changed
    }

    /// Sets the round trip time, on which the probe timer depends.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(RTT_MAX);
    }

    /// Data went over the path; only then is the size worth confirming.
    pub fn on_used(&mut self, now: Instant) {
        self.used_at = Some(now);
    }

    /// The size of the probe to send now, if one is due. Counts it as sent.
    pub fn poll_probe(&mut self, now: Instant) -> Option<u16> {
        self.advance(now);
        let probe = self.probe.as_mut().filter(|probe| probe.expires.is_none())?;
        let timer = match probe.urgent {
            true => (self.rtt * 2).max(URGENT_TIMER_MIN),
            false => (self.rtt * 3).max(PROBE_TIMER_MIN),
        };
        probe.tries += 1;
        probe.expires = Some(now + timer);
        self.probed = self.probed.max(probe.size);
        Some(probe.size)
    }

    /// A probe of `size` was answered. Returns whether [`Search::payload`] changed.
    pub fn on_acked(&mut self, size: u16, now: Instant) -> bool {
        if size > self.probed || size < self.payload {
            return false;
        }
        let grown = size > self.payload;
        self.payload = size;
        self.confirmed_at = now;
        self.narrow = false;
        if self.too_big <= size {
            self.too_big = u16::MAX;
        }
        if let Some(probe) = self.probe.take_if(|probe| probe.size <= size) {
            // A confirmation must not put the next raise off.
            if probe.goal == Goal::Raise {
                self.climb(now);
            }
        }
        grown
    }

    /// The probe under way was lost for certain (the carrier said so). Returns whether
    /// [`Search::payload`] changed.
    pub fn on_lost(&mut self, now: Instant) -> bool {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.expires.is_some()) else { return false };
        probe.expires = None;
        if probe.tries < PROBES {
            return false;
        }
        let probe = *probe;
        self.probe = None;
        self.failed(probe, now)
    }

    /// The local stack refused a datagram of `size` (EMSGSIZE): a fact, not a hint. Returns whether
    /// [`Search::payload`] changed.
    pub fn on_refused(&mut self, size: u16, now: Instant) -> bool {
        if size <= BASE_PAYLOAD {
            return false;
        }
        self.too_big = self.too_big.min(size);
        if self.probe.is_some_and(|probe| probe.size >= size) {
            self.probe = None;
        }
        let shrunk = self.payload >= size;
        if shrunk {
            self.fall_back();
        }
        if self.probe.is_none() {
            self.climb(now);
        }
        shrunk
    }

    /// Somebody on the way says that only `hint` bytes pass, or large packets seem to vanish
    /// (`hint` 0). Only starts a probe: whoever says so may be lying (protocol A4, finding 32).
    pub fn on_too_big(&mut self, hint: u16, _now: Instant) {
        if self.payload <= BASE_PAYLOAD || hint >= self.payload {
            return;
        }
        self.hint = hint;
        if self.probe.is_none_or(|probe| probe.goal == Goal::Raise) {
            self.probe = Some(Probe {
                goal: Goal::Confirm,
                size: self.payload,
                tries: 0,
                urgent: false,
                expires: None,
            });
        }
    }

    /// Large packets seem to vanish, right now, while small ones pass. The size in use is asked for at
    /// once, the base as well: if that fails, the path is [too narrow](Self::is_too_narrow).
    pub fn on_suspected(&mut self, now: Instant) {
        if self.probe.is_some_and(|probe| probe.goal == Goal::Confirm && probe.urgent) {
            return;
        }
        if now.since(self.confirmed_at) < URGENT_SPACING {
            self.suspect_at = Some(self.confirmed_at + URGENT_SPACING);
            return;
        }
        self.suspect_at = None;
        let size = self.payload;
        self.probe = Some(Probe { goal: Goal::Confirm, size, tries: 0, urgent: true, expires: None });
    }

    /// The path leads over another network now: the size in use has to prove itself, and what was too
    /// large may pass.
    pub fn on_network_changed(&mut self, now: Instant) {
        (self.too_big, self.hint, self.raise_at) = (u16::MAX, 0, now);
        self.confirmed_at = self.confirmed_at.min(now - URGENT_SPACING);
        self.on_suspected(now);
    }

    /// Whether the path has ceased to carry what every path must.
    pub const fn is_too_narrow(&self) -> bool {
        self.narrow
    }

    /// Somebody on the way says that the probe of `size` went no further, and that `hint` bytes pass. A
    /// try to raise the size ends at once: who says so can keep it from arriving as well. The size in
    /// use shrinks only after as many reports as losses. Returns whether [`Search::payload`] changed.
    pub fn on_probe_too_big(&mut self, size: u16, hint: u16, now: Instant) -> bool {
        let Some(probe) = self.probe.filter(|probe| probe.expires.is_some() && probe.size == size) else {
            return false;
        };
        // A hint that was tried already is not followed by another: sizes are many.
        if hint < size && size != self.hint {
            self.hint = hint;
        }
        match probe.goal {
            Goal::Confirm => self.on_lost(now),
            Goal::Raise => {
                self.probe = None;
                self.failed(probe, now)
            }
        }
    }

    /// Time passed. Returns whether [`Search::payload`] changed; ask [`Search::poll_probe`] next.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        self.advance(now)
    }

    /// When [`Search::handle_timeout`] has something to do, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.probe {
            Some(Probe { expires: Some(at), .. }) => Some((at, "size probe")),
            Some(_) => Some((Instant::ZERO, "size probe")),
            None => {
                let confirm = self.confirm_at().map(|at| (at, "size confirmation"));
                let raise =
                    (self.suspect_at.map_or(self.raise_at, |at| at.min(self.raise_at)), "size search");
                Some(confirm.map_or(raise, |confirm| if confirm.0 < raise.0 { confirm } else { raise }))
            }
        }
    }

    fn confirm_at(&self) -> Option<Instant> {
        let used = self.used_at.filter(|&used| used > self.confirmed_at)?;
        (self.payload > BASE_PAYLOAD).then(|| used.max(self.confirmed_at + CONFIRM_AFTER))
    }

    /// Lets timers act: a lost try, a confirmation or a new search that is due.
    fn advance(&mut self, now: Instant) -> bool {
        if let Some(probe) = self.probe {
            return probe.expires.is_some_and(|at| now >= at) && self.on_lost(now);
        }
        if self.suspect_at.is_some_and(|at| now >= at) {
            self.on_suspected(now);
        } else if self.confirm_at().is_some_and(|at| now >= at) {
            self.probe = Some(Probe {
                goal: Goal::Confirm,
                size: self.payload,
                tries: 0,
                urgent: false,
                expires: None,
            });
        } else if now >= self.raise_at {
            self.too_big = u16::MAX;
            self.climb(now);
        }
        false
    }

    /// All tries of `probe` are lost. Returns whether the size in use changed.
    fn failed(&mut self, probe: Probe, now: Instant) -> bool {
        self.too_big = self.too_big.min(probe.size);
        let black_hole = probe.goal == Goal::Confirm;
        if black_hole {
            self.narrow = probe.size <= BASE_PAYLOAD;
            self.fall_back();
        }
        self.climb(now);
        black_hole
    }

    fn fall_back(&mut self) {
        self.payload = BASE_PAYLOAD;
        self.probed = BASE_PAYLOAD;
    }

    /// Starts on the next larger size, or rests until the raise timer.
    fn climb(&mut self, now: Instant) {
        let next = self.next_size();
        self.probe =
            next.map(|size| Probe { goal: Goal::Raise, size, tries: 0, urgent: false, expires: None });
        if next.is_none() {
            self.raise_at = now + RAISE_AFTER;
        }
    }

    fn next_size(&self) -> Option<u16> {
        let table = UNDERLAY_MTUS.iter().map(|mtu| mtu.saturating_sub(self.overhead));
        let jumbo = UNDERLAY_MTUS[UNDERLAY_MTUS.len() - 1];
        // A ceiling between two sizes of the table is worth a probe; 64 KB on a datagram path is not.
        let ceiling = (self.ceiling <= jumbo).then_some(self.ceiling);
        table
            .chain(ceiling)
            .chain([self.hint])
            .filter(|&size| size > self.payload && size < self.too_big && size <= self.ceiling)
            .min()
    }
}

#[cfg(test)]
mod tests;
