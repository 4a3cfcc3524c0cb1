//! `wireguard-go`, the WireGuard project's own in userspace.

use std::path::Path;

use anyhow::Result;

use super::{Overlay, Peer, uapi};
use crate::stage::Stage;

pub(crate) struct WireguardGo;

impl Peer for WireguardGo {
    fn name(&self) -> &str {
        "wireguard-go"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["wireguard-go"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        uapi::start(program, &["-f", "IF"], stage)
    }
}
