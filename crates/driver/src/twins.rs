//! Keys that two machines use, while that is seen: for one line in the log and one in the status.
//!
//! The mesh says so again and again for as long as it goes on. The first time is news; silence for
//! [`MEMORY`] means that somebody has mended it.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_control::api::{Health, Severity};
use sinew_types::{Instant, NodeId};

/// Not seen for so long: it is over.
const MEMORY: Duration = Duration::from_secs(10 * 60);
/// Keys remembered; anybody can copy a key of his own, so there may be many.
const KEPT: usize = 16;

/// What to do about it, whoever it is.
const FIX: &str = "stop sinewd on one of the two, make it a key of its own (`sinew key new FILE`, [node] key_file) and \
     start it again";

/// Keys seen at two machines, and when last.
#[derive(Debug, Default)]
pub(crate) struct Twins(BTreeMap<NodeId, Instant>);

impl Twins {
    /// Two machines use `node`'s key; whether that is news.
    pub(crate) fn note(&mut self, node: NodeId, now: Instant) -> bool {
        self.0.retain(|_, seen| now.since(*seen) < MEMORY);
        if !self.0.contains_key(&node) && self.0.len() >= KEPT {
            return false;
        }
        self.0.insert(node, now).is_none()
    }

    /// One entry for each key still seen; `own` is this node's.
    pub(crate) fn health(&self, own: &NodeId, now: Instant) -> Vec<Health> {
        let lately = self.0.iter().filter(|(_, seen)| now.since(**seen) < MEMORY);
        let entry = |node: &NodeId| Health {
            code: "duplicate_identity".to_owned(),
            severity: if node == own { Severity::Error } else { Severity::Warning },
            text: text(node, own),
            fix: FIX.to_owned(),
        };
        lately.map(|(node, _)| entry(node)).collect()
    }
}

/// What is wrong, in one line.
pub(crate) fn text(node: &NodeId, own: &NodeId) -> String {
    if node == own {
        "another machine uses this node's key; packets for it go to either".to_owned()
    } else {
        format!("two machines use the key of {node}; packets for it go to either")
    }
}

/// The same for the log, with what to do.
pub(crate) fn line(node: &NodeId, own: &NodeId) -> String {
    format!("{}: {FIX}", text(node, own))
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn id(n: u8) -> NodeId {
        Identity::from_seed([n; 32]).node_id()
    }

    fn at(minutes: u64) -> Instant {
        Instant::from_micros(minutes * 60_000_000)
    }

    #[test]
    fn it_is_news_once_and_over_after_ten_minutes_of_silence() {
        let mut twins = Twins::default();
        // minute, seen, news, shown
        for (minute, seen, news, shown) in [
            (0, true, true, 1),
            (5, true, false, 1),
            (14, true, false, 1),
            (23, false, false, 1),
            (24, false, false, 0),
            (25, true, true, 1),
        ] {
            assert_eq!(seen && twins.note(id(1), at(minute)), news, "minute {minute}");
            assert_eq!(twins.health(&id(0), at(minute)).len(), shown, "minute {minute}");
        }
    }

    #[test]
    fn whose_key_it_is_and_what_to_do_is_said() {
        let mut twins = Twins::default();
        assert!(twins.note(id(0), at(0)) && twins.note(id(1), at(0)));
        let health = twins.health(&id(0), at(1));
        let of = |words: &str| health.iter().find(|entry| entry.text.contains(words));
        assert_eq!(of("this node's key").map(|entry| entry.severity), Some(Severity::Error));
        assert_eq!(of(&id(1).to_string()).map(|entry| entry.severity), Some(Severity::Warning));
        assert!(health.iter().all(|entry| entry.fix.contains("sinew key new")));
        assert!(!line(&id(1), &id(0)).contains('\n') && line(&id(1), &id(0)).contains("sinew key new"));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut twins = Twins::default();
        let news = (0..100).filter(|&n| twins.note(id(n), at(0))).count();
        assert_eq!((news, twins.0.len()), (KEPT, KEPT));
        assert!(twins.note(id(200), at(11)), "room is made");
    }
}
