//! What a neighbour did wrong, in words that name the culprit.

use std::time::Duration;

use sinew_types::DropReason;
use thiserror::Error;

/// A frame held something outside the rules. Whatever in it was good has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the neighbour sent a bad routing message: {reason}")]
pub struct Misbehaviour {
    /// What the first bad value was; already counted in [`crate::Stats::drops`].
    pub reason: DropReason,
    /// Set when the adjacency must be closed, and for how long it stays so.
    pub close_for: Option<Duration>,
}
