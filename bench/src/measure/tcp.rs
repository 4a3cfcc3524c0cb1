//! iperf3 from A to B.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sinew_tests::process;
use sinew_tests::workload::Iperf;

use crate::stage::Stage;

/// What does not count: slow start, path search, growing buffers.
const WARM_UP: Duration = Duration::from_secs(1);
/// What a run may take beyond its length.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server in B, and A to measure from.
pub(crate) struct Bench<'a> {
    stage: &'a Stage,
    target: IpAddr,
    _server: Iperf,
}

/// What one run of iperf3 gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Throughput {
    pub(crate) mbps: f64,
    /// As received, over the whole run.
    pub(crate) bytes: f64,
    /// Segments sent again; the kernel tells only the sender.
    pub(crate) retransmits: Option<f64>,
}

impl<'a> Bench<'a> {
    /// Starts the server, and warms up.
    pub(crate) fn start(stage: &'a Stage, target: IpAddr) -> Result<Self> {
        let server = Iperf::start(stage.ns("b"), &stage.dir("b"))?;
        let bench = Self { stage, target, _server: server };
        bench.run(WARM_UP, &[]).context("warm-up")?;
        Ok(bench)
    }

    /// One run.
    pub(crate) fn run(&self, length: Duration, extra: &[&str]) -> Result<Throughput> {
        let (target, seconds) = (self.target.to_string(), length.as_secs().max(1).to_string());
        let mut command = self.stage.ns("a").command("iperf3");
        command.args(["-J", "-c", &target, "-t", &seconds, "--connect-timeout", "5000"]).args(extra);
        let output = process::run(&mut command, length + PATIENCE)?;
        parse(&output.stdout).with_context(|| format!("iperf3 {}", extra.join(" ")))
    }
}

fn parse(text: &str) -> Result<Throughput> {
    let json: Value = serde_json::from_str(text).context("no JSON")?;
    if let Some(error) = json.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64);
    let rate = number("/end/sum_received/bits_per_second").context("no rate")?;
    let bytes = number("/end/sum_received/bytes").context("no bytes")?;
    if bytes <= 0.0 {
        bail!("nothing was received");
    }
    Ok(Throughput { mbps: rate / 1e6, bytes, retransmits: number("/end/sum_sent/retransmits") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_bytes_and_retransmits_are_read() {
        let text =
            r#"{"end":{"sum_sent":{"retransmits":7},"sum_received":{"bytes":125000,"bits_per_second":2e6}}}"#;
        let expected = Throughput { mbps: 2.0, bytes: 125_000.0, retransmits: Some(7.0) };
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn an_error_of_iperf3_is_passed_on() {
        let error = parse(r#"{"end":{},"error":"unable to connect"}"#).unwrap_err();
        assert!(error.to_string().contains("unable to connect"));
        assert!(parse("").is_err());
        let nothing = r#"{"end":{"sum_received":{"bytes":0,"bits_per_second":0}}}"#;
        assert!(parse(nothing).is_err());
    }
}
