//! `boringtun-cli`, WireGuard in Rust.

use super::uapi::Wireguard;

pub(super) const BORINGTUN: Wireguard = Wireguard {
    name: "boringtun-cli",
    programs: &["boringtun-cli", "boringtun"],
    args: &["--foreground", "--disable-drop-privileges", "IF"],
};
