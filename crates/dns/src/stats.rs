//! How questions ended, counted per server.

use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

use crate::answer::Answer;

/// How one question ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    NoData,
    NoName,
    Refused,
    Malformed,
    Forwarded,
    UpstreamFailed,
    Busy,
    Unsent,
}

impl Outcome {
    pub(crate) fn of(answer: &Answer) -> Self {
        match answer.code {
            ResponseCode::NXDomain => Self::NoName,
            ResponseCode::Refused => Self::Refused,
            _ if answer.records.is_empty() => Self::NoData,
            _ => Self::Answered,
        }
    }
}

/// Names of the outcomes, in order, as metrics use them.
const NAMES: [&str; 9] = [
    "answered",
    "no_data",
    "no_name",
    "refused",
    "malformed",
    "forwarded",
    "upstream_failed",
    "busy",
    "unsent",
];

/// Counters of one server, written by its thread alone.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; NAMES.len()]);

impl Counters {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted as `outcome` could not be sent after all. Counting comes before sending,
    /// so that whoever has an answer finds it counted.
    pub(crate) fn unsent(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_sub(1, Ordering::Relaxed);
        self.count(Outcome::Unsent);
    }

    pub(crate) fn read(&self) -> Counts {
        Counts(std::array::from_fn(|at| self.0[at].load(Ordering::Relaxed)))
    }
}

/// Questions by how they ended; every question is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; NAMES.len()]);

impl Counts {
    /// Name and count, for metrics: `answered`, `no_data`, `no_name` from our own names;
    /// `refused`; `malformed`; `forwarded` and answered elsewhere; `upstream_failed` after the
    /// time-out; `busy`: too many were waiting; `unsent`: the answer found no room in the socket.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        NAMES.into_iter().zip(self.0)
    }

    /// All questions.
    pub fn queries(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Answered by ourselves, also with "no".
    pub fn answered(&self) -> u64 {
        self.get(Outcome::Answered) + self.get(Outcome::NoData) + self.get(Outcome::NoName)
    }

    /// Handed on and answered.
    pub const fn forwarded(&self) -> u64 {
        self.get(Outcome::Forwarded)
    }

    /// Refused, malformed or failed.
    pub fn failed(&self) -> u64 {
        self.queries() - self.answered() - self.forwarded()
    }

    /// This and `other` together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + other.0[at]))
    }

    const fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize]
    }
}
