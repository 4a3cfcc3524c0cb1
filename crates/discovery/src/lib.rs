//! Finding nodes: announcements on the networks that this host is on, and a directory over libp2p.
//!
//! Both carry signed node records (protocol A12) to the loop and take this node's own from it; neither
//! decides anything. [`lan`] is multicast DNS with the whole record in it, since libp2p's speaks on all
//! interfaces and can carry nothing but its own addresses; it costs one socket for each interface and family.
//! [`directory`] is libp2p (Kademlia, AutoNAT, identify), on a thread of its own, started only if it is
//! configured.

pub mod directory;
pub mod lan;

use sinew_directory::Source;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// A node record, not judged yet.
    pub record: Vec<u8>,
    /// Where it was heard.
    pub source: Source,
}
