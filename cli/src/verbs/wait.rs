//! `wait`: for scripts that need the mesh to be there.

use std::time::{Duration, Instant};

use serde::Serialize;
use sinew_control::api::{PingProbe, PingRequest, Status};
use sinew_control::{ApiError, Exit, paths};

use super::{millis, status::not_ready};
use crate::args::WaitArgs;
use crate::client::Client;
use crate::output::Out;
use crate::render;

/// From one look to the next.
const INTERVAL: Duration = Duration::from_millis(200);
/// When a probe counts as lost.
const PROBE_TIMEOUT_MS: u64 = 1000;

#[derive(Serialize)]
struct Waited<'a> {
    target: &'a str,
    waited_ms: u64,
}

pub(super) async fn run(client: &Client, out: Out, args: &WaitArgs) -> Result<Exit, ApiError> {
    let started = Instant::now();
    let limit = Duration::from_secs_f64(args.timeout);
    loop {
        let left = limit.saturating_sub(started.elapsed());
        let look =
            async { if args.target == "ready" { ready(client).await } else { reached(client, args).await } };
        let missing = match tokio::time::timeout(left.max(INTERVAL), look).await {
            Ok(Ok(())) => break,
            Ok(Err(error)) if is_hopeless(&error) => return Err(error),
            Ok(Err(error)) => error,
            Err(_) => ApiError::timed_out("no answer"),
        };
        if started.elapsed() + INTERVAL >= limit {
            return Err(gave_up(missing, args.timeout));
        }
        tokio::time::sleep(INTERVAL).await;
    }
    let waited = Waited { target: &args.target, waited_ms: millis(started.elapsed().as_secs_f64()) };
    out.object(&waited, || {
        format!("{} after {}\n", render::printable(&args.target), render::age(waited.waited_ms))
    })?;
    Ok(Exit::Ok)
}

async fn ready(client: &Client) -> Result<(), ApiError> {
    let status: Status = client.get(paths::STATUS).await?;
    if status.ready { Ok(()) } else { Err(not_ready(&status)) }
}

async fn reached(client: &Client, args: &WaitArgs) -> Result<(), ApiError> {
    let request = PingRequest {
        target: args.target.clone(),
        count: 1,
        interval_ms: PROBE_TIMEOUT_MS,
        timeout_ms: PROBE_TIMEOUT_MS,
        size: 0,
        until_direct: false,
    };
    let mut lines = client.lines(paths::PING, &request).await?;
    match lines.next::<PingProbe>().await? {
        Some(probe) if probe.rtt_ms.is_some() && (probe.direct || !args.direct) => Ok(()),
        Some(probe) if probe.rtt_ms.is_some() => {
            let message = "the path is relayed";
            Err(ApiError::new("relayed", Exit::Degraded, message, "`sinew trace` shows the relays"))
        }
        Some(probe) => Err(ApiError::unreachable(probe.error.unwrap_or_else(|| "no answer".to_owned()))),
        None => Err(ApiError::unreachable("no answer")),
    }
}

/// What no waiting changes. A daemon, a name or a route may still come.
fn is_hopeless(error: &ApiError) -> bool {
    matches!(Exit::from_code(error.exit), Exit::Usage | Exit::Denied | Exit::Risk)
}

/// "Not ready" after the time is up is a time-out, whatever was missing; the rest keeps its code.
fn gave_up(missing: ApiError, seconds: f64) -> ApiError {
    let exit = match Exit::from_code(missing.exit) {
        Exit::Degraded if missing.code == "not_ready" => Exit::Unreachable,
        exit => exit,
    };
    ApiError {
        message: format!("gave up after {seconds} s: {}", missing.message),
        exit: exit.code(),
        ..missing
    }
}
