//! `ping`: probes over the mesh, each with the path it took.

use std::time::Duration;

use serde::Serialize;
use sinew_control::api::{PingProbe, PingRequest, PingSummary};
use sinew_control::{ApiError, Exit, paths};
use tokio::time::timeout;

use super::millis;
use crate::args::{Format, PingArgs};
use crate::client::{Client, Lines};
use crate::output::{self, Out};
use crate::render;

/// How much later than due a probe's line may come before the daemon counts as stuck.
const SLACK: Duration = Duration::from_secs(10);

/// Probes without `-c`.
const COUNT: u32 = 4;
/// The same with `--until-direct`: a direct path may take a moment to be found.
const UNTIL_DIRECT_COUNT: u32 = 10;

/// The whole answer as one object.
#[derive(Serialize)]
struct Report<'a> {
    target: &'a str,
    probes: &'a [PingProbe],
    #[serde(flatten)]
    summary: PingSummary,
}

pub(super) async fn run(client: &Client, out: Out, args: &PingArgs) -> Result<Exit, ApiError> {
    let request = PingRequest {
        target: args.target.clone(),
        count: args.count.unwrap_or(if args.until_direct { UNTIL_DIRECT_COUNT } else { COUNT }),
        interval_ms: millis(args.interval),
        timeout_ms: millis(args.timeout),
        size: args.size,
        until_direct: args.until_direct,
    };
    let mut lines = client.lines(paths::PING, &request).await?;
    let patience = Duration::from_secs_f64(args.interval + args.timeout) + SLACK;
    let mut session = Session::default();
    while let Some(probe) = next(&mut lines, patience).await? {
        session.take(probe, out)?;
        if args.until_direct && session.direct {
            break;
        }
    }
    session.report(out, &args.target)?;
    Ok(session.exit(args.until_direct))
}

/// The next probe; `None` at the end or when the user interrupts.
async fn next(lines: &mut Lines, patience: Duration) -> Result<Option<PingProbe>, ApiError> {
    tokio::select! {
        line = timeout(patience, lines.next()) => {
            line.map_err(|_| ApiError::timed_out("the daemon stopped reporting probes"))?
        }
        _ = tokio::signal::ctrl_c() => Ok(None),
    }
}

/// What has come so far. Probes are kept only for the one format that needs them at the end.
#[derive(Default)]
struct Session {
    probes: Vec<PingProbe>,
    summary: PingSummary,
    /// Whether the last answer came over a direct path.
    direct: bool,
}

impl Session {
    fn take(&mut self, probe: PingProbe, out: Out) -> Result<(), ApiError> {
        self.summary.add(&probe);
        if probe.rtt_ms.is_some() {
            self.direct = probe.direct;
        }
        match out.format {
            Format::Json => self.probes.push(probe),
            Format::Jsonl => output::write(&output::line(&probe))?,
            _ => output::write(&render::probe(&probe, out.wide))?,
        }
        Ok(())
    }

    fn report(&self, out: Out, target: &str) -> Result<(), ApiError> {
        let report = Report { target, probes: &self.probes, summary: self.summary };
        match out.format {
            Format::Json => output::write(&output::pretty(&report)),
            Format::Jsonl => output::write(&output::line(&self.summary)),
            _ => output::write(&render::summary(&self.summary)),
        }
    }

    /// 0 answered over a direct path · 2 some were lost, or relays carry it · 3 no answer.
    fn exit(&self, until_direct: bool) -> Exit {
        let Self { summary, direct, .. } = self;
        if summary.received == 0 {
            Exit::Unreachable
        } else if *direct && (until_direct || summary.received == summary.sent) {
            Exit::Ok
        } else {
            Exit::Degraded
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_what_came_back() {
        for (sent, received, direct, until_direct, exit) in [
            (4, 4, true, false, Exit::Ok),
            (4, 4, false, false, Exit::Degraded),
            (4, 3, true, false, Exit::Degraded),
            (4, 0, false, false, Exit::Unreachable),
            (0, 0, false, false, Exit::Unreachable),
            (9, 8, true, true, Exit::Ok),
            (9, 9, false, true, Exit::Degraded),
            (9, 0, false, true, Exit::Unreachable),
        ] {
            let summary = PingSummary { sent, received, ..PingSummary::default() };
            let session = Session { probes: vec![], summary, direct };
            assert_eq!(session.exit(until_direct), exit, "{sent} {received} {direct} {until_direct}");
        }
    }
}
