//! `gateway ls|probe|log|drain|cert|name`.

use std::time::Duration;

use sinew_control::api::{
    GatewayCertificates, GatewayDrain, GatewayDrained, GatewayLog, GatewayLogQuery, GatewayNames,
    GatewayProbe, GatewayProbed, GatewayStatus, GatewayTransfer,
};
use sinew_control::{ApiError, Exit, paths};

use crate::args::{Format, GatewayNameVerb, GatewayVerb};
use crate::client::{Client, PATIENCE};
use crate::output::{self, Out};
use crate::render;

/// A probe dials each backend in turn, five seconds each at most.
const PROBE_PATIENCE: Duration = Duration::from_secs(90);
/// How long one question for new lines may wait.
const FOLLOW_MS: u64 = 25_000;

pub(super) async fn run(client: &Client, out: Out, verb: GatewayVerb) -> Result<Exit, ApiError> {
    match verb {
        GatewayVerb::Ls => list(client, out).await,
        GatewayVerb::Probe { host } => {
            let answer: GatewayProbed =
                client.post(paths::GATEWAY_PROBE, &GatewayProbe { host }, PROBE_PATIENCE).await?;
            out.object(&answer, || render::gateway::probed(&answer, out.wide))?;
            let good = answer.probes.iter().filter(|probe| probe.error.is_none()).count();
            Ok(match good {
                0 => Exit::Unreachable,
                good if good == answer.probes.len() => Exit::Ok,
                _ => Exit::Degraded,
            })
        }
        GatewayVerb::Log { follow, host, lines } => log(client, out, follow, host, lines).await,
        GatewayVerb::Drain { backend, host, undo } => {
            let drain = GatewayDrain { backend, host, undo };
            let answer: GatewayDrained = client.post(paths::GATEWAY_DRAIN, &drain, PATIENCE).await?;
            out.object(&answer, || render::gateway::drained(&answer, undo))?;
            Ok(Exit::Ok)
        }
        GatewayVerb::Cert => {
            let answer: GatewayCertificates = client.get(paths::GATEWAY_CERTIFICATES).await?;
            let all = &answer.certificates;
            out.list(&answer, all, || render::gateway::certificates(all))?;
            let missing = all.iter().any(|certificate| certificate.problem.is_some());
            Ok(if missing { Exit::Degraded } else { Exit::Ok })
        }
        GatewayVerb::Name(verb) => names(client, out, verb).await,
    }
}

async fn list(client: &Client, out: Out) -> Result<Exit, ApiError> {
    let answer: GatewayStatus = client.get(paths::GATEWAY).await?;
    out.list(&answer, &answer.services, || render::gateway::services(&answer, out.wide))?;
    for health in &answer.health {
        output::note(&format!("{}\n       {}", health.text, health.fix));
    }
    Ok(if answer.health.is_empty() { Exit::Ok } else { Exit::Degraded })
}

async fn names(client: &Client, out: Out, verb: GatewayNameVerb) -> Result<Exit, ApiError> {
    let answer: GatewayNames = match verb {
        GatewayNameVerb::Ls => client.get(paths::GATEWAY_NAMES).await?,
        GatewayNameVerb::Transfer { name, to } => {
            let transfer = GatewayTransfer { name, to: Some(to) };
            client.post(paths::GATEWAY_TRANSFER, &transfer, PATIENCE).await?
        }
        GatewayNameVerb::Cancel { name } => {
            let transfer = GatewayTransfer { name, to: None };
            client.post(paths::GATEWAY_TRANSFER, &transfer, PATIENCE).await?
        }
    };
    out.object(&answer, || render::gateway::names(&answer, out.wide))?;
    Ok(Exit::Ok)
}

async fn log(
    client: &Client,
    out: Out,
    follow: bool,
    host: Option<String>,
    lines: u32,
) -> Result<Exit, ApiError> {
    let mut query = GatewayLogQuery { after: None, limit: Some(lines), host, wait_ms: 0 };
    loop {
        let patience = PATIENCE + Duration::from_millis(query.wait_ms);
        let answer: GatewayLog = client.post(paths::GATEWAY_LOG, &query, patience).await?;
        if !follow {
            out.list(&answer, &answer.lines, || render::gateway::log(&answer.lines))?;
            return Ok(Exit::Ok);
        }
        // Line by line, also as JSON: an end never comes.
        match out.format {
            Format::Json | Format::Jsonl => {
                output::write(&answer.lines.iter().map(output::line).collect::<String>())?;
            }
            _ => output::write(&render::gateway::log(&answer.lines))?,
        }
        query = GatewayLogQuery { after: Some(answer.next), limit: None, wait_ms: FOLLOW_MS, ..query };
    }
}
