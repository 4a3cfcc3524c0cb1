//! `gotatun`, the fork of boringtun that its VPN service runs.

use std::path::Path;

use anyhow::Result;

use super::{Overlay, Peer, uapi};
use crate::stage::Stage;

pub(crate) struct Gotatun;

impl Peer for Gotatun {
    fn name(&self) -> &str {
        "gotatun"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["gotatun"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        uapi::start(program, &["--foreground", "--disable-drop-privileges", "IF"], stage)
    }
}
