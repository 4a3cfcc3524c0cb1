//! `ping` and `trace`: asking the mesh itself instead of believing a table.

use serde::{Deserialize, Serialize};

/// Sends probes to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PingRequest {
    /// Node id, unique beginning of one, mesh address or name.
    pub target: String,
    /// How many; 0 means until the client hangs up.
    pub count: u32,
    /// From one to the next.
    pub interval_ms: u64,
    /// When a probe counts as lost.
    pub timeout_ms: u64,
    /// Bytes of inner payload.
    pub size: u16,
    /// Stop at the first answer over a direct path.
    #[serde(default)]
    pub until_direct: bool,
}

/// One probe: a line of the answer to `ping`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingProbe {
    /// From 1.
    pub seq: u32,
    /// Node that was asked; empty if nobody has said whose the address is.
    pub node_id: String,
    /// Round trip; `null` when no answer came.
    pub rtt_ms: Option<f64>,
    /// The path it took, as in [`Session::path`](super::Session::path).
    pub path: Option<String>,
    /// Whether that path is direct.
    pub direct: bool,
    /// Why there was no answer.
    pub error: Option<String>,
}

/// What came of all probes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PingSummary {
    /// Probes sent.
    pub sent: u32,
    /// Probes answered.
    pub received: u32,
    /// Fastest answer.
    pub min_ms: Option<f64>,
    /// Mean of the answers.
    pub avg_ms: Option<f64>,
    /// Slowest answer.
    pub max_ms: Option<f64>,
}

impl PingSummary {
    /// Takes one more probe into account.
    pub fn add(&mut self, probe: &PingProbe) {
        self.sent += 1;
        let Some(rtt) = probe.rtt_ms else { return };
        let sum = self.avg_ms.unwrap_or(0.0) * f64::from(self.received) + rtt;
        self.received += 1;
        self.min_ms = Some(self.min_ms.map_or(rtt, |min| min.min(rtt)));
        self.max_ms = Some(self.max_ms.map_or(rtt, |max| max.max(rtt)));
        self.avg_ms = Some(sum / f64::from(self.received));
    }
}

/// Asks every hop toward a node to name itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// Node id, unique beginning of one, mesh address or name.
    pub target: String,
    /// How long to wait for each hop.
    pub timeout_ms: u64,
}

/// The way to a node, hop by hop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Address of the target.
    pub address: String,
    /// Node id of the target; empty if nobody has said whose the address is.
    pub node_id: String,
    /// Whether the last hop is the target.
    pub reached: bool,
    /// Why it ended before; `null` when reached.
    pub error: Option<String>,
    /// This node first, the target last.
    pub hops: Vec<TraceHop>,
}

/// One hop, by its own signed word.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TraceHop {
    /// Public key that signed the answer.
    pub node_id: String,
    /// Mesh address.
    pub address: String,
    /// The name it gave itself.
    pub name: Option<String>,
    /// Carrier of the link that leads to it; `null` for this node itself.
    pub carrier: Option<String>,
    /// Round trip from this node to the hop.
    pub rtt_ms: Option<f64>,
    /// Share of questions to it that stayed unanswered, 0 to 1.
    pub loss: Option<f64>,
    /// Largest inner packet of the link that leads to it.
    pub mtu: Option<u32>,
}
