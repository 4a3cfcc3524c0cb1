//! Which device of this node a packet came from or goes to.

use core::fmt;

/// A device that packets are read from and written to: the node's own, or that of one workload.
///
/// The shell around a node chooses the numbers; a number is used again only after the device that
/// had it was taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

impl InterfaceId {
    /// The node's own TUN, where the mesh itself comes out.
    pub const NODE: Self = Self(0);
}

impl fmt::Display for InterfaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
