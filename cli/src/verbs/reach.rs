//! `why`, `netcheck` and `doctor`: which way data takes, what the network lets through, what is wrong.

use sinew_control::api::{Netcheck, Peers, Severity, Status, Why, WhyRequest};
use sinew_control::doctor::{Diagnosis, diagnose};
use sinew_control::{ApiError, Exit, paths};

use crate::client::{Client, PATIENCE};
use crate::output::Out;
use crate::render;

pub(super) async fn why(client: &Client, out: Out, target: String) -> Result<Exit, ApiError> {
    let why: Why = client.post(paths::WHY, &WhyRequest { target }, PATIENCE).await?;
    out.object(&why, || render::why(&why, out.wide))?;
    Ok(match (why.reachable, why.direct) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Degraded,
        (false, _) => Exit::Unreachable,
    })
}

pub(super) async fn netcheck(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let check: Netcheck = client.get(paths::NETCHECK).await?;
    out.object(&check, || render::netcheck(&check))?;
    Ok(Exit::Ok)
}

/// Exit code 2 if anything is worse than worth knowing.
pub(super) async fn doctor(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let status: Status = client.get(paths::STATUS).await?;
    let check: Netcheck = client.get(paths::NETCHECK).await?;
    let peers: Peers = client.get(paths::PEERS).await?;
    let diagnosis: Diagnosis = diagnose(&status, &check, &peers);
    out.list(&diagnosis, &diagnosis.findings, || render::diagnosis(&diagnosis))?;
    let bad = diagnosis.findings.iter().any(|finding| finding.severity > Severity::Info);
    Ok(if bad { Exit::Degraded } else { Exit::Ok })
}
