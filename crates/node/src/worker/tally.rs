//! Counting once per batch instead of once per record.
//!
//! The records of a batch come from one source and mostly under one epoch; a relay passes most of
//! them on to one neighbour. Their sums go to the shared counters when the batch ends or the run
//! is broken. What the first record of a run means (life, a new source) is said at once.

use sinew_session::{Arrival, Notice, OpenEpoch};
use sinew_types::MeshAddr;

use super::{Report, View, Worker};

/// Records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) records: u64,
    pub(super) bytes: usize,
}

impl Sum {
    pub(super) const fn one(bytes: usize) -> Self {
        Self { records: 1, bytes }
    }

    const fn add(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }
}

/// Records in a row that opened under one epoch and came the same way.
#[derive(Clone, Copy, Debug)]
struct Heard {
    index: u32,
    addr: MeshAddr,
    from: Arrival,
    sum: Sum,
}

/// The runs of the batch at hand.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Straight from the link, and inside of what came from it.
    heard: [Option<Heard>; 2],
    /// Passed on to this neighbour.
    passed: Option<(MeshAddr, Sum)>,
}

impl Worker {
    /// What every opened record means for its session: life, perhaps confirmation, perhaps a new place.
    pub(super) fn received(
        &mut self,
        view: &View<'_>,
        epoch: &OpenEpoch,
        from: Arrival,
        first: bool,
        bytes: usize,
    ) {
        let (index, addr) = (epoch.index(), *epoch.addr());
        let run = usize::from(matches!(from, Arrival::Routed { .. }));
        if let Some(heard) = &mut self.tally.heard[run]
            && heard.index == index
            && heard.from == from
            && !first
        {
            heard.sum.add(bytes);
            return;
        }
        if let Some(ended) = self.tally.heard[run].take() {
            self.account_heard(view, &ended);
        }
        if first {
            self.reports.push(Report::Notice(Notice::Confirmed { index, from }));
        }
        self.account_heard(view, &Heard { index, addr, from, sum: Sum::one(bytes) });
        // Until the machine knows of the epoch, each of its records says so again.
        if !first {
            self.tally.heard[run] = Some(Heard { index, addr, from, sum: Sum::default() });
        }
    }

    fn account_heard(&mut self, view: &View<'_>, heard: &Heard) {
        let Heard { index, addr, from, sum } = *heard;
        let Some(session) = view.keys.session(&addr).filter(|_| sum.records > 0) else { return };
        let now = view.now.as_micros();
        session.traffic.on_received(now, sum.records, sum.bytes);
        let Arrival::Direct(path) = from else { return };
        if session.path == Some(path) {
            // Only what came over this very path says that it lives; a detour says nothing of it.
            if let Some(link) = view.links.get(&addr) {
                link.traffic.on_received(now, sum.records, sum.bytes);
            }
        } else if !session.knows(&path) {
            self.reports.push(Report::Notice(Notice::NewSource { index, from: path, bytes: sum.bytes }));
        }
    }

    /// A record of somebody else went on to the neighbour `link`.
    pub(super) fn passed_on(&mut self, view: &View<'_>, link: &MeshAddr, bytes: usize) {
        if let Some((last, sum)) = &mut self.tally.passed
            && last == link
        {
            return sum.add(bytes);
        }
        if let Some((ended, sum)) = self.tally.passed.replace((*link, Sum::one(bytes))) {
            self.account_link(view, &ended, sum);
        }
    }

    /// Ends the batch's runs: their sums must not outlive the view they were made under.
    pub(super) fn settle(&mut self, view: &View<'_>) {
        let Tally { heard, passed } = core::mem::take(&mut self.tally);
        for run in heard.iter().flatten() {
            self.account_heard(view, run);
        }
        if let Some((link, sum)) = passed {
            self.account_link(view, &link, sum);
        }
    }

    /// Accounts for what went out on a link and wakes the watch on its liveness.
    pub(super) fn account_link(&mut self, view: &View<'_>, addr: &MeshAddr, sum: Sum) {
        if let Some(link) = view.links.get(addr) {
            link.traffic.on_sent(view.now.as_micros(), sum.records, sum.bytes);
            if link.wake() {
                self.reports.push(Report::Active { peer: *addr });
            }
        }
    }
}
