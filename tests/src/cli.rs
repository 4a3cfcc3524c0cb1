//! The `sinew` command as scripts see it: exit code, text, JSON.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::ns::Namespace;
use crate::process::{self, Output};
use crate::requirements::Bins;
use crate::wait;

const DEADLINE: Duration = Duration::from_secs(60);

/// `sinew` bound to one node: run inside its namespace, on its control socket.
#[derive(Debug)]
pub struct Cli<'a> {
    ns: &'a Namespace,
    socket: PathBuf,
}

impl<'a> Cli<'a> {
    /// For the daemon in `ns` that listens on `socket`.
    pub fn new(ns: &'a Namespace, socket: PathBuf) -> Self {
        Self { ns, socket }
    }

    /// Runs a verb with table output.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        self.call("table", args)
    }

    /// Runs a verb with `-o json`, whatever its exit code.
    pub fn run_json(&self, args: &[&str]) -> Result<Output> {
        self.call("json", args)
    }

    /// Runs a verb that must end with exit code 0; its JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let output = self.call("json", args)?;
        if output.code != Some(0) {
            bail!("sinew {}: exit {:?}: {}", args.join(" "), output.code, output.text().trim());
        }
        let value: Value = serde_json::from_str(&output.stdout)
            .with_context(|| format!("sinew {}: not JSON: {}", args.join(" "), output.stdout))?;
        match value.get("schema_version").and_then(Value::as_u64) {
            Some(1) => Ok(value),
            other => bail!("sinew {}: schema_version is {other:?}", args.join(" ")),
        }
    }

    /// The array under `key` of a verb's JSON.
    pub fn list(&self, args: &[&str], key: &str) -> Result<Vec<Value>> {
        match self.json(args)?.get_mut(key).map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            other => bail!("sinew {}: `{key}` is {other:?}", args.join(" ")),
        }
    }

    /// Peers whose state is up.
    pub fn peers_up(&self) -> Result<Vec<Value>> {
        let mut peers = self.list(&["peers"], "peers")?;
        peers.retain(|peer| text(peer, "state") == "up");
        Ok(peers)
    }

    /// Keys of the hops towards `target`, in order.
    pub fn trace_keys(&self, target: &str) -> Result<Vec<String>> {
        let hops = self.list(&["trace", target], "hops")?;
        Ok(hops.iter().map(|hop| text(hop, "node_id").to_owned()).collect())
    }

    /// Waits until one probe to `target` is answered.
    pub fn wait_reachable(&self, target: &str, deadline: Duration) -> Result<()> {
        wait::success(&format!("sinew ping {target} from {}", self.ns.name()), deadline, || {
            let output = self.call("json", &["ping", target, "-c", "1"])?;
            // 2 is "reachable, but relayed": that is what a mesh is for.
            if matches!(output.code, Some(0 | 2)) {
                return Ok(());
            }
            bail!("exit {:?}: {}", output.code, output.text().trim())
        })
    }

    fn call(&self, format: &str, args: &[&str]) -> Result<Output> {
        let bins = Bins::get()?;
        let mut command = self.ns.command(&bins.sinew.to_string_lossy());
        command.arg("--socket").arg(&self.socket).args(["-o", format]).args(args);
        process::run(&mut command, DEADLINE)
    }
}

/// A string field of a JSON object; empty when it is not there.
pub fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A number field of a JSON object.
pub fn number(value: &Value, key: &str) -> Option<f64> {
    value.get(key).and_then(Value::as_f64)
}
