//! Which host is due, and how long to wait after failures. Pure: time comes in as seconds since 1970,
//! chance as a seed, what to do goes out as [`Task`]s.
//!
//! Two brakes keep a failure from becoming a hot loop. Each host has its own: its wait doubles with every
//! round through its challenges. And there is one for the authority: while it cannot be reached, nobody
//! is sent to it. A certificate that is held brakes nothing: renewal begins at two thirds of its life, or
//! when the authority says (RFC 9773), and failed renewals are repeated often enough to use what is left.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ChallengeKind, Wanted};

/// When to renew, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// After a host's first failure; doubled with each round through its challenges.
    pub retry: Duration,
    /// The longest such wait.
    pub retry_max: Duration,
    /// After the authority said that there were too many orders, unless it says for how long.
    pub limited: Duration,
    /// How often the authority is asked for its wish about a renewal, unless it says.
    pub ask: Duration,
    /// Orders under way at once.
    pub parallel: usize,
}

impl Default for Rules {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self {
            retry: Duration::from_secs(60),
            retry_max: hours(24),
            limited: hours(1),
            ask: hours(6),
            parallel: 2,
        }
    }
}

/// From when to when a certificate is good, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) from: u64,
    pub(crate) until: u64,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Order a certificate.
    Order {
        host: String,
        challenge: ChallengeKind,
        /// One is held, and it is this one's successor.
        renewal: bool,
    },
    /// Ask when the held one should be renewed.
    Ask { host: String },
}

/// Why an order failed, by who has to act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The authority cannot be reached or is out of order: time helps.
    Server(String),
    /// It has had enough of us, perhaps for so long.
    Limited(String, Option<Duration>),
    /// It does not know our account; that is made anew.
    Account(String),
    /// The proof failed, or the host may not have a certificate: its owner.
    Refused(String),
    /// This machine: files, randomness, the front.
    Local(String),
}

impl Fault {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Server(text)
            | Self::Limited(text, _)
            | Self::Account(text)
            | Self::Refused(text)
            | Self::Local(text) => text,
        }
    }
}

/// The state of a host's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostState {
    /// There is none yet, and nothing has gone wrong.
    Waiting,
    /// The first is being ordered.
    Ordering,
    /// There is one.
    Valid,
    /// There is one, and its successor is being ordered.
    Renewing,
    /// There is none, because orders fail.
    Failing,
    /// There is none and there will be none: the name or its challenges do not allow it.
    Impossible,
}

/// A host and its certificate, for people. Times are seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its name.
    pub host: String,
    /// How it stands.
    pub state: HostState,
    /// How the current or next order proves it.
    pub challenge: Option<ChallengeKind>,
    /// Beginning of the held certificate's life.
    pub not_before: Option<u64>,
    /// End of it.
    pub not_after: Option<u64>,
    /// When the next order is due; none while one is under way.
    pub next_try: Option<u64>,
    /// Orders that failed since the last that did not.
    pub failures: u32,
    /// Why the last one failed.
    pub last_error: Option<String>,
}

/// What of a host outlives a restart, beside its certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) failures: u32,
    pub(crate) next_try: u64,
    pub(crate) kind: usize,
    pub(crate) error: Option<String>,
}

#[derive(Debug)]
struct Held {
    validity: Validity,
    renew_at: u64,
    /// As the authority wished last.
    window: Option<(u64, u64)>,
    ask_at: u64,
}

#[derive(Debug, Default)]
struct Entry {
    kinds: Vec<ChallengeKind>,
    /// Which of them is next.
    kind: usize,
    held: Option<Held>,
    failures: u32,
    try_after: u64,
    error: Option<String>,
    ordering: bool,
    asking: bool,
    /// Renew now, whatever the certificate's age.
    forced: bool,
}

impl Entry {
    fn due(&self) -> u64 {
        let age = self.held.as_ref().filter(|_| !self.forced).map_or(0, |held| held.renew_at);
        age.max(self.try_after)
    }

    fn good(&self, now: u64) -> bool {
        self.held.as_ref().is_some_and(|held| held.validity.until > now)
    }

    fn challenge(&self) -> Option<ChallengeKind> {
        self.kinds.get(self.kind % self.kinds.len().max(1)).copied()
    }

    fn state(&self, now: u64) -> HostState {
        match (self.good(now), self.ordering) {
            (true, true) => HostState::Renewing,
            (true, false) => HostState::Valid,
            (false, true) => HostState::Ordering,
            (false, false) if self.kinds.is_empty() => HostState::Impossible,
            (false, false) if self.error.is_some() => HostState::Failing,
            (false, false) => HostState::Waiting,
        }
    }
}

/// All wanted hosts.
#[derive(Debug)]
pub(crate) struct Book {
    rules: Rules,
    hosts: BTreeMap<String, Entry>,
    /// Nobody is sent to the authority before.
    hold: u64,
    /// How often in a row it was out of order.
    outages: u32,
    random: u64,
}

impl Book {
    pub(crate) fn new(rules: Rules, seed: u64) -> Self {
        Self { rules, hosts: BTreeMap::new(), hold: 0, outages: 0, random: seed }
    }

    /// Takes over what is wanted now. Returns which hosts are new and which are gone.
    pub(crate) fn set_hosts(&mut self, wanted: &[Wanted]) -> (Vec<String>, Vec<String>) {
        let mut before = std::mem::take(&mut self.hosts);
        let mut fresh = Vec::new();
        for Wanted { host, challenges } in wanted {
            let (kinds, error) = usable(host, challenges);
            let known = before.remove(host);
            if known.is_none() {
                fresh.push(host.clone());
            }
            let changed = known.as_ref().is_none_or(|known| known.kinds != kinds);
            let mut entry = known.unwrap_or_default();
            if changed {
                // Another way may succeed: not after the wait that the old one has earned.
                (entry.kind, entry.failures, entry.try_after, entry.error) = (0, 0, 0, error);
                entry.kinds = kinds;
            }
            self.hosts.insert(host.clone(), entry);
        }
        (fresh, before.into_keys().collect())
    }

    /// A certificate was found on disk.
    pub(crate) fn held(&mut self, host: &str, validity: Validity) {
        let renew_at = self.two_thirds(validity);
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.held = Some(Held { validity, renew_at, window: None, ask_at: 0 });
    }

    /// What was written down before a restart.
    pub(crate) fn remembered(&mut self, host: &str, memory: &Memory, now: u64) {
        let longest = self.rules.retry_max.as_secs();
        let Some(entry) = self.hosts.get_mut(host) else { return };
        if entry.kinds.is_empty() {
            return;
        }
        entry.failures = memory.failures;
        // A clock that went back must not make it wait for years.
        entry.try_after = memory.next_try.min(now.saturating_add(longest));
        entry.kind = memory.kind;
        entry.error.clone_from(&memory.error);
    }

    /// What to write down.
    pub(crate) fn memory(&self) -> BTreeMap<String, Memory> {
        let worth = |entry: &&Entry| entry.failures > 0;
        let memory = |entry: &Entry| Memory {
            failures: entry.failures,
            next_try: entry.try_after,
            kind: entry.kind,
            error: entry.error.clone(),
        };
        let each = self.hosts.iter().filter(|(_, entry)| worth(entry));
        each.map(|(host, entry)| (host.clone(), memory(entry))).collect()
    }

    pub(crate) fn wants(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    /// Orders for this host as soon as its brakes allow; `false` if it is not wanted.
    pub(crate) fn renew(&mut self, host: &str) -> bool {
        self.hosts.get_mut(host).map(|entry| entry.forced = true).is_some()
    }

    /// Something to do, if anything is. Hosts without a certificate come first.
    pub(crate) fn next(&mut self, now: u64) -> Option<Task> {
        let busy = self.hosts.values().filter(|entry| entry.ordering || entry.asking).count();
        if now < self.hold || busy >= self.rules.parallel {
            return None;
        }
        let free = |entry: &Entry| !entry.ordering && !entry.asking && !entry.kinds.is_empty();
        let due = self.hosts.iter_mut().filter(|(_, entry)| free(entry) && entry.due() <= now);
        if let Some((host, entry)) = due.min_by_key(|(_, entry)| (entry.good(now), entry.due())) {
            let challenge = entry.challenge()?;
            entry.ordering = true;
            return Some(Task::Order { host: host.clone(), challenge, renewal: entry.good(now) });
        }
        let ask = |entry: &Entry| entry.held.as_ref().is_some_and(|held| held.ask_at <= now);
        let (host, entry) = self.hosts.iter_mut().find(|(_, entry)| free(entry) && ask(entry))?;
        entry.asking = true;
        Some(Task::Ask { host: host.clone() })
    }

    /// When [`Book::next`] has something, if nothing else happens.
    pub(crate) fn timeout(&self) -> Option<u64> {
        let each = self.hosts.values().filter(|entry| !entry.ordering && !entry.asking);
        let each = each.filter(|entry| !entry.kinds.is_empty());
        let first = each.map(|entry| match &entry.held {
            Some(held) => entry.due().min(held.ask_at),
            None => entry.due(),
        });
        first.min().map(|first| first.max(self.hold))
    }

    /// An order has succeeded.
    pub(crate) fn issued(&mut self, host: &str, validity: Validity, now: u64) {
        // An authority whose certificates are old when they are new must not be asked in a loop.
        let renew_at = self.two_thirds(validity).max(now + self.rules.retry.as_secs().max(1));
        self.outages = 0;
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.held = Some(Held { validity, renew_at, window: None, ask_at: now });
        (entry.ordering, entry.forced) = (false, false);
        (entry.failures, entry.try_after, entry.error) = (0, 0, None);
    }

    /// An order has failed.
    pub(crate) fn failed(&mut self, host: &str, fault: &Fault, now: u64) {
        let retry = self.rules.retry.as_secs().max(1);
        let wait = match fault {
            Fault::Server(_) => {
                self.outages = self.outages.saturating_add(1);
                let longest = self.rules.retry_max.as_secs().min(3600);
                self.hold = now + self.spread(doubled(retry, self.outages - 1, longest));
                retry
            }
            Fault::Account(_) => {
                self.hold = now + self.spread(retry);
                retry
            }
            Fault::Limited(_, after) => {
                let wait = after.unwrap_or(self.rules.limited).as_secs().max(retry);
                // Others may still be served; slowly.
                self.hold = self.hold.max(now + retry);
                wait + self.spread(retry)
            }
            Fault::Refused(_) | Fault::Local(_) => self.refused(host, now),
        };
        let Some(entry) = self.hosts.get_mut(host) else { return };
        (entry.ordering, entry.try_after) = (false, now + wait);
        entry.error = Some(fault.text().to_owned());
        if matches!(fault, Fault::Refused(_) | Fault::Local(_) | Fault::Limited(..)) {
            self.outages = 0;
            entry.failures = entry.failures.saturating_add(1);
        }
        if matches!(fault, Fault::Refused(_)) {
            entry.kind = (entry.kind + 1) % entry.kinds.len().max(1);
        }
    }

    /// How long a host waits that has just failed once more.
    fn refused(&mut self, host: &str, now: u64) -> u64 {
        let (retry, longest) = (self.rules.retry.as_secs().max(1), self.rules.retry_max.as_secs());
        let Some(entry) = self.hosts.get(host) else { return retry };
        let rounds = entry.failures / u32::try_from(entry.kinds.len().max(1)).unwrap_or(1);
        let mut wait = doubled(retry, rounds, longest);
        if let Some(held) = &entry.held
            && held.validity.until > now
        {
            wait = wait.min(((held.validity.until - now) / 4).max(retry));
        }
        self.spread(wait)
    }

    /// The authority's wish: from when to when to renew, and after how long to ask again.
    pub(crate) fn asked(&mut self, host: &str, wish: Option<((u64, u64), Duration)>, now: u64) {
        let random = self.chance();
        let usual = self.rules.ask.as_secs().max(1);
        let Some(entry) = self.hosts.get_mut(host) else { return };
        entry.asking = false;
        let Some(held) = &mut entry.held else { return };
        let Some((window, after)) = wish else {
            held.ask_at = now + usual;
            return;
        };
        held.ask_at = now + after.as_secs().clamp(60, 24 * 3600);
        if held.window == Some(window) || window.1 < window.0 {
            return;
        }
        held.window = Some(window);
        let picked = window.0 + random % (window.1 - window.0 + 1);
        let Validity { from, until } = held.validity;
        // Whatever it wishes: there must be time left to fail and try again.
        held.renew_at = picked.min(until.saturating_sub(until.saturating_sub(from) / 10));
    }

    /// Everybody, by name.
    pub(crate) fn status(&self, now: u64) -> Vec<HostStatus> {
        let status = |(host, entry): (&String, &Entry)| {
            let idle = !entry.ordering && !entry.kinds.is_empty();
            HostStatus {
                host: host.clone(),
                state: entry.state(now),
                challenge: entry.challenge(),
                not_before: entry.held.as_ref().map(|held| held.validity.from),
                not_after: entry.held.as_ref().map(|held| held.validity.until),
                next_try: idle.then(|| entry.due().max(self.hold)),
                failures: entry.failures,
                last_error: entry.error.clone(),
            }
        };
        self.hosts.iter().map(status).collect()
    }

    /// Two thirds of a life, and up to a fiftieth more: not all at once that were ordered at once.
    fn two_thirds(&mut self, validity: Validity) -> u64 {
        let life = validity.until.saturating_sub(validity.from);
        validity.from + life / 3 * 2 + self.chance() % (life / 50 + 1)
    }

    /// Three to five quarters of a wait.
    fn spread(&mut self, wait: u64) -> u64 {
        (wait - wait / 4 + self.chance() % (wait / 2 + 1)).max(1)
    }

    /// The next of a repeatable row of numbers (splitmix64).
    fn chance(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

fn doubled(wait: u64, times: u32, longest: u64) -> u64 {
    wait.checked_shl(times.min(32)).unwrap_or(longest).min(longest.max(wait))
}

/// The challenges that can prove `host`, or why none can.
fn usable(host: &str, challenges: &[ChallengeKind]) -> (Vec<ChallengeKind>, Option<String>) {
    let name = host.strip_prefix("*.");
    if !is_host(name.unwrap_or(host)) {
        return (Vec::new(), Some("not a host name for which certificates are given".to_owned()));
    }
    let mut kinds: Vec<ChallengeKind> = Vec::new();
    for kind in challenges.iter().filter(|kind| name.is_none() || **kind == ChallengeKind::Dns01) {
        if !kinds.contains(kind) {
            kinds.push(*kind);
        }
    }
    let error = kinds.is_empty().then(|| match name {
        Some(_) => "a wildcard needs dns-01".to_owned(),
        None => "no challenge is allowed".to_owned(),
    });
    (kinds, error)
}

/// Lower case, at least two labels, no address: what goes into a certificate, and into a file name.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
