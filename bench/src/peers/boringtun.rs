//! `boringtun-cli`, WireGuard in Rust.

use std::path::Path;

use anyhow::Result;

use super::{Overlay, Peer, uapi};
use crate::stage::Stage;

pub(crate) struct Boringtun;

impl Peer for Boringtun {
    fn name(&self) -> &str {
        "boringtun-cli"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["boringtun-cli", "boringtun"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        uapi::start(program, &["--foreground", "--disable-drop-privileges", "IF"], stage)
    }
}
