//! `wireguard-go`, the WireGuard project's own in userspace.

use super::uapi::Wireguard;

pub(super) const WIREGUARD_GO: Wireguard =
    Wireguard { name: "wireguard-go", programs: &["wireguard-go"], args: &["-f", "IF"] };
