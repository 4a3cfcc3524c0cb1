//! How a mesh's secret travels from the file that holds it (`sinew-platform` reads it) to the node.

use zeroize::Zeroizing;

/// A 32-byte secret, erased on drop.
pub type Secret = Zeroizing<[u8; 32]>;
