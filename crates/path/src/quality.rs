//! What a path costs: one hop, the least recent RTT, a penalty for loss, and the operator's word,
//! damped so that routing hears of changes that matter and of nothing else.
//!
//! - The RTT is the least of the last eight samples: queues come and go, distance stays.
//! - Loss is counted in probes, each by its own number: an answer counts whenever it comes, so
//!   reordering is not loss and a late answer takes its loss back.
//! - A rise is told at once when it is more than 12.5 % and at least two units; a fall of that size
//!   only when it has lasted ten seconds, because an improvement told too early tightens feasibility
//!   distances and starves routes when it is taken back.

use std::collections::VecDeque;
use std::time::Duration;

use sinew_types::{Instant, Metric};

/// Cost of a path before its first measurement: 100 ms.
pub const UNKNOWN_COST: Metric = Metric::new(50);

/// RTT samples the minimum is taken over.
const SAMPLES: usize = 8;
/// Probes the loss ratio is taken over.
const OUTCOMES: usize = 64;
/// Fewer losses than this are accidents, and fewer settled probes prove nothing.
const LOSSES_MIN: u64 = 2;
const SETTLED_MIN: u64 = 8;
/// Least time an answer may take before its probe counts as lost.
const GRACE_MIN: Duration = Duration::from_secs(1);
/// What one loss costs whoever waits for the packet: a retransmission timeout (RFC 6298 floor in
/// practice), plus the round trip.
const LOSS_STALL_US: u64 = 200_000;
/// A round trip above this is none: the peer echoes the time it is computed from.
const RTT_MAX: Duration = Duration::from_secs(60);
/// How long a fall must last before it is told.
const FALL_HOLD: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Waiting,
    Answered,
    Lost,
}

#[derive(Clone, Copy, Debug)]
struct Outcome {
    id: u32,
    sent: Instant,
    fate: Fate,
}

/// A fall under observation.
#[derive(Clone, Copy, Debug)]
struct Fall {
    since: Instant,
    /// The worst value seen meanwhile: what has really been sustained.
    highest: Metric,
}

/// The measurements of one path and the cost told to routing.
#[derive(Debug)]
pub struct Quality {
    operator: Metric,
    samples: VecDeque<Duration>,
    least: Option<Duration>,
    smoothed: Option<Duration>,
    variation: Duration,
    outcomes: VecDeque<Outcome>,
    floor: Option<Metric>,
    told: Option<Metric>,
    fall: Option<Fall>,
}

impl Quality {
    /// A path to which the operator adds `cost` (rounded up to whole units; zero for none).
    pub fn new(cost: Duration) -> Self {
        Self {
            operator: units(cost.as_micros().saturating_add(unit_us() - 1)),
            samples: VecDeque::with_capacity(SAMPLES),
            least: None,
            smoothed: None,
            variation: Duration::ZERO,
            outcomes: VecDeque::with_capacity(OUTCOMES),
            floor: None,
            told: None,
            fall: None,
        }
    }

    /// Probe `id` was sent. Ids are unique among the last 64.
    pub fn on_probe_sent(&mut self, id: u32, now: Instant) {
        if self.outcomes.len() == OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(Outcome { id, sent: now, fate: Fate::Waiting });
    }

    /// Probe `id` was answered after `rtt`. Returns the cost if routing must be told a new one.
    pub fn on_probe_answered(&mut self, id: u32, rtt: Duration, now: Instant) -> Option<Metric> {
        if let Some(outcome) = self.outcomes.iter_mut().rev().find(|outcome| outcome.id == id) {
            outcome.fate = Fate::Answered;
        }
        self.on_rtt(rtt, now)
    }

    /// A round trip measured by other means (a handshake). Returns the cost if it must be told.
    pub fn on_rtt(&mut self, rtt: Duration, now: Instant) -> Option<Metric> {
        let rtt = rtt.min(RTT_MAX);
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(rtt);
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        // RFC 6298 §2.3, in integers.
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
        self.settle(now)
    }

    /// Time passed. Returns the cost if routing must be told a new one.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Metric> {
        self.settle(now)
    }

    /// When [`Quality::handle_timeout`] has something to do, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let fall = self.fall.map(|fall| (fall.since + FALL_HOLD, "cost fell"));
        // Outcomes are in sending order: the first that waits is the first to be given up.
        let loss = self.outcomes.iter().find(|outcome| outcome.fate == Fate::Waiting);
        let loss = loss.map(|outcome| (outcome.sent + self.grace(), "probe lost"));
        fall.into_iter().chain(loss).min_by_key(|&(at, _)| at)
    }

    /// The cost told to routing; [`UNKNOWN_COST`] and the operator's part before any measurement.
    pub fn cost(&self) -> Metric {
        self.told.unwrap_or_else(|| UNKNOWN_COST.plus(self.operator))
    }

    /// The cost by the measurements as they are now: for what nobody is told, and which may fall at once.
    pub fn present(&self) -> Metric {
        self.measured().unwrap_or_else(|| self.cost())
    }

    /// The part of the cost that this node adds before sending (protocol A6): three quarters of the
    /// least RTT ever measured, at least one unit. Constant once [`Quality::fix_floor`] was called.
    pub fn floor(&self) -> Metric {
        self.floor.unwrap_or_else(|| {
            let least = self.least.unwrap_or_default();
            units(least.as_micros() * 3 / 4).max(Metric::ONE)
        })
    }

    /// Fixes the floor for an association (changing it later means announcing everything anew),
    /// and returns it. The cost never falls below it.
    pub fn fix_floor(&mut self) -> Metric {
        let floor = self.floor();
        self.floor = Some(floor);
        self.told = self.told.map(|told| told.max(floor));
        floor
    }

    /// Lets the floor follow the measurements again: the adjacency is gone.
    pub fn release_floor(&mut self) {
        self.floor = None;
    }

    /// The least of the recent RTT samples, which the cost rests on.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.samples.iter().min().copied()
    }

    /// The smoothed RTT, which timers rest on.
    pub fn srtt(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Mean deviation of the RTT.
    pub const fn jitter(&self) -> Duration {
        self.variation
    }

    /// Lost probes in thousandths of the settled ones, over the last 64.
    pub fn loss_permille(&self) -> u16 {
        let (lost, settled) = self.losses();
        u16::try_from((lost * 1000).checked_div(settled).unwrap_or(0)).unwrap_or(1000)
    }

    fn losses(&self) -> (u64, u64) {
        let settled = self.outcomes.iter().filter(|outcome| outcome.fate != Fate::Waiting).count();
        let lost = self.outcomes.iter().filter(|outcome| outcome.fate == Fate::Lost).count();
        (lost as u64, settled as u64)
    }

    fn grace(&self) -> Duration {
        (self.smoothed.unwrap_or_default() * 4 + self.variation * 4).max(GRACE_MIN)
    }

    /// Gives up probes whose time is over, then compares the cost with what was told.
    fn settle(&mut self, now: Instant) -> Option<Metric> {
        let grace = self.grace();
        for outcome in &mut self.outcomes {
            if outcome.fate == Fate::Waiting && now >= outcome.sent + grace {
                outcome.fate = Fate::Lost;
            }
        }
        let raw = self.measured()?;
        let Some(told) = self.told else {
            self.told = Some(raw);
            return Some(raw);
        };
        let next = self.damp(told, raw, now)?;
        self.fall = None;
        self.told = Some(next);
        Some(next)
    }

    /// The cost as it stands, before damping; `None` before the first RTT.
    fn measured(&self) -> Option<Metric> {
        let rtt = self.min_rtt()?.as_micros();
        let stall = u128::from(LOSS_STALL_US) + rtt;
        let (lost, settled) = self.losses();
        let penalty = if lost < LOSSES_MIN || settled < SETTLED_MIN {
            0
        } else {
            // p / (1 - p): how often a packet has to be sent again, on average.
            stall * u128::from(lost) / u128::from((settled - lost).max(1))
        };
        let cost = Metric::ONE.plus(units(rtt.saturating_add(penalty))).plus(self.operator);
        Some(self.floor.map_or(cost, |floor| cost.max(floor)))
    }

    fn damp(&mut self, told: Metric, raw: Metric, now: Instant) -> Option<Metric> {
        if raw >= told {
            self.fall = None;
            return significant(told, raw).then_some(raw);
        }
        if !significant(raw, told) {
            self.fall = None;
            return None;
        }
        let fall = self.fall.get_or_insert(Fall { since: now, highest: raw });
        fall.highest = fall.highest.max(raw);
        (now.since(fall.since) >= FALL_HOLD).then_some(fall.highest)
    }
}

/// At least two units apart, and more than 12.5 % of the smaller.
fn significant(low: Metric, high: Metric) -> bool {
    let (low, high) = (u32::from(low.units()), u32::from(high.units()));
    high - low >= 2 && (high - low) * 8 > low
}

const fn unit_us() -> u128 {
    Metric::UNIT_MS as u128 * 1000
}

/// Whole units in `us` microseconds; the hop's own unit makes up for the rounding.
fn units(us: u128) -> Metric {
    Metric::new(u16::try_from(us / unit_us()).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests;
