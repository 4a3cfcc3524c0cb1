//! The bare link: what the kernel does without any overlay, the ceiling.

use std::path::Path;

use anyhow::{Context, Result};
use sinew_tests::impair;

use super::{Overlay, Peer};
use crate::stage::{Scenario, Stage};

pub(crate) struct Raw;

impl Peer for Raw {
    fn name(&self) -> &str {
        "raw"
    }

    fn programs(&self) -> &'static [&'static str] {
        &[]
    }

    fn start(&self, _program: &Path, stage: &mut Stage) -> Result<Overlay> {
        let nodes = stage.nodes();
        let (last, before) = (nodes[nodes.len() - 1], nodes[nodes.len() - 2]);
        if stage.scenario == Scenario::Relay {
            // The one subject for which R's kernel forwards.
            impair::forward(stage.ns("r"))?;
            for end in ["a", "b"] {
                let via = stage.underlay("r", end);
                stage.ns(end).ip(&["route", "add", "default", "via", &via])?;
            }
        }
        let target = stage.underlay(last, before).parse().context("an address of the lab")?;
        Ok(Overlay::new(target))
    }
}
