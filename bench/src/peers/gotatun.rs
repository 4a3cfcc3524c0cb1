//! `gotatun`, the fork of boringtun that its VPN service runs.

use super::uapi::Wireguard;

pub(super) const GOTATUN: Wireguard = Wireguard {
    name: "gotatun",
    programs: &["gotatun"],
    args: &["--foreground", "--disable-drop-privileges", "IF"],
};
