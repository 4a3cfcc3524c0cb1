//! `workload`: processes, containers and machines on private networks.
//!
//! Attaching needs the descriptor of a network namespace, which HTTP cannot carry. So it has a door
//! of its own: a unix socket beside the control socket ([`attach_socket`]), a connection a request.
//! The asker closes its sending side after the question, the daemon everything after the answer:
//!
//! ```text
//! asker  ─▶ Versioned<AttachRequest> as JSON + SCM_RIGHTS [namespace] or [namespace, pidfd of `watch`]
//! daemon ─▶ Versioned<AttachAnswer> or Versioned<ApiError>
//! ```
//! Holding the namespace's descriptor is the authority to attach it (protocol A9); the daemon looks
//! up nobody's path or pid. Everything else goes over the API as usual.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::hex::Hex;
use crate::error::ApiError;
use crate::{SCHEMA_VERSION, Versioned};

/// Longest question or answer on the attach socket.
pub const ATTACH_MESSAGE_MAX: usize = 64 * 1024;

/// Where to attach, beside the control socket.
pub fn attach_socket(control: &Path) -> PathBuf {
    beside(control, "attach.sock")
}

/// What a workload must not see, for it leads out of its networks: the daemon's sockets; where nothing else
/// is beside them, the whole folder, for a daemon that starts again makes them anew.
pub fn leading_out(control: &Path) -> Vec<PathBuf> {
    match control.parent() {
        Some(folder) if control == Path::new(crate::DEFAULT_SOCKET) => vec![folder.to_owned()],
        _ => vec![control.to_owned(), attach_socket(control)],
    }
}

/// The folder of pinned namespaces, beside the control socket.
pub fn pins(control: &Path) -> PathBuf {
    beside(control, "netns")
}

/// A path that belongs to one daemon though several have their control sockets in one folder: that of
/// `sinew.sock` is called `name`, that of `alice.sock` `alice.name`.
fn beside(control: &Path, name: &str) -> PathBuf {
    match control.file_stem() {
        Some(stem) if stem != "sinew" => {
            let mut whole = stem.to_owned();
            whole.push(".");
            whole.push(name);
            control.with_file_name(whole)
        }
        _ => control.with_file_name(name),
    }
}

/// Where the daemon pins the namespace of an attachment, beside the control socket. This is the pin of
/// its first interface; the others have `.1`, `.2` and so on behind the id.
pub fn pinned_namespace(control: &Path, id: &str) -> PathBuf {
    pins(control).join(id)
}

/// The pins of all interfaces of an attachment.
pub fn interface_pins(control: &Path, id: &str, interfaces: usize) -> Vec<PathBuf> {
    let first = pinned_namespace(control, id);
    let pin = |at| if at == 0 { first.clone() } else { first.with_file_name(format!("{id}.{at}")) };
    (0..interfaces.max(1)).map(pin).collect()
}

/// Where a plugin keeps what it needs to clean up without a daemon.
pub fn plugin_notes(control: &Path) -> PathBuf {
    beside(control, "cni")
}

/// Where a plugin leaves word of an attachment it could not detach because no daemon ran: an empty
/// file named by the attachment's tag. The daemon detaches and removes each at start.
pub fn tombstones(control: &Path) -> PathBuf {
    beside(control, "detached")
}

/// Attaches a namespace to networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachRequest {
    /// A DNS label, unique among this node's workloads. Attaching a name that is attached already
    /// is refused (`workload_exists`).
    pub name: String,
    /// At least one; the first is the one whose domain is searched first.
    pub networks: Vec<AttachNetwork>,
    /// Of its member's groups those that it has; empty = all. Others do not count: nobody gives itself
    /// groups.
    #[serde(default)]
    pub groups: Vec<String>,
    /// What it offers, for SRV records; at most 64.
    #[serde(default)]
    pub services: Vec<AttachService>,
    /// The workload's own key (a node id), whose holder sends leases; so it may move between nodes.
    #[serde(default)]
    pub key: Option<String>,
    /// Signed ATTACH documents that name this node ([`LeaseTerms`]), one for each network; with `key`
    /// only.
    #[serde(default)]
    pub leases: Vec<Hex>,
    /// A TAP device for a virtual machine in the given namespace instead of a TUN.
    #[serde(default)]
    pub tap: bool,
    /// The process whose end ends the attachment; `null` = only `detach` does.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// Who asks, for lists.
    pub by: AttachedBy,
    /// A word by which the asker finds the attachment again; unique on this node.
    #[serde(default)]
    pub tag: Option<String>,
}

/// A service of a workload: `_NAME._PROTOCOL.WORKLOAD…` SRV.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachService {
    /// A DNS label, such as `http`.
    pub name: String,
    /// How it is spoken to.
    pub protocol: Transport,
    /// Port.
    pub port: u16,
}

/// A transport protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Its number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// One network to attach to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachNetwork {
    /// Id, unique beginning of one, or name.
    pub network: String,
    /// A free address of this member's /24; `null` = the one it had before, else a free one.
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// Interface name; `null` = the daemon's choice (`sinew0`, `sinew1`, …).
    #[serde(default)]
    pub interface: Option<String>,
}

/// A process, told apart from later ones with its number. Its pidfd comes as the second descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Process id, as the daemon sees it.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`, so that a restarted daemon finds the same process or none.
    pub start_ticks: u64,
}

/// Who attached a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachedBy {
    /// `sinew workload run`.
    Run,
    /// `sinew workload attach`.
    Attach,
    /// The CNI plugin.
    Cni,
}

impl AttachedBy {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Attach => "attach",
            Self::Cni => "cni",
        }
    }
}

/// What the namespace has now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachAnswer {
    /// Names the attachment; also the pinned namespace's file.
    pub id: String,
    /// The workload.
    pub name: String,
    /// In the order of the request.
    pub interfaces: Vec<AttachedInterface>,
    /// Name servers inside the namespace; empty when DNS is off.
    pub resolvers: Vec<IpAddr>,
    /// Search domains, `shop.sinew.internal`.
    pub search: Vec<String>,
}

/// One interface inside a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedInterface {
    /// Its name there.
    pub interface: String,
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// With prefix length.
    pub addresses: Vec<String>,
    /// Destinations that go there, with prefix length.
    pub routes: Vec<String>,
    /// Its MTU.
    pub mtu: u32,
    /// Hardware address; `null` for a TUN, which has none.
    pub mac: Option<String>,
}

/// Reads what came back over the attach socket.
///
/// # Errors
/// The daemon's refusal, or `bad_answer` when it is not understood.
pub fn attach_answer(message: &[u8]) -> Result<AttachAnswer, ApiError> {
    if let Ok(refused) = serde_json::from_slice::<Versioned<ApiError>>(message) {
        return Err(refused.body);
    }
    match serde_json::from_slice::<Versioned<AttachAnswer>>(message) {
        Ok(answer) if answer.schema_version == SCHEMA_VERSION => Ok(answer.body),
        Ok(answer) => {
            Err(ApiError::bad_answer(&format!("it speaks schema version {}", answer.schema_version)))
        }
        Err(error) => Err(ApiError::bad_answer(&error.to_string())),
    }
}

/// The workloads of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workloads {
    /// One for each workload and network, ordered by name.
    pub workloads: Vec<Workload>,
}

/// One workload on one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// The attachment; the same for all networks of a workload.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Name of the network.
    pub network: String,
    /// Addresses without prefix length.
    pub addresses: Vec<String>,
    /// Path that opens its namespace; `null` for a machine's TAP on this host.
    pub netns: Option<String>,
    /// The process it lives as long as.
    pub pid: Option<u32>,
    /// What it is doing.
    pub state: WorkloadState,
    /// Received by the workload.
    pub rx_bytes: u64,
    /// Sent by the workload.
    pub tx_bytes: u64,
    /// Interface name inside.
    pub interface: String,
    /// MTU of the interface.
    pub mtu: u32,
    /// Who attached it.
    pub by: AttachedBy,
    /// The asker's word for it.
    pub tag: Option<String>,
    /// Its own key, if it may move.
    pub key: Option<String>,
    /// When its lease ends, RFC 3339; `null` without a key.
    pub lease_until: Option<String>,
    /// Name servers inside.
    pub resolvers: Vec<String>,
    /// Search domains inside.
    pub search: Vec<String>,
}

/// What a workload is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadState {
    /// Packets flow.
    Up,
    /// Attached; the network is not ready yet.
    Waiting,
    /// The newest lease names another node, or ran out: no packet passes here.
    Moved,
    /// The namespace or its interface is gone; `detach` clears it.
    Broken,
}

impl WorkloadState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Waiting => "waiting",
            Self::Moved => "moved",
            Self::Broken => "broken",
        }
    }
}

/// Ends an attachment, with all its interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detach {
    /// Name, id or tag.
    pub workload: String,
}

/// What was ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detached {
    /// The attachment.
    pub id: String,
    /// The workload.
    pub name: String,
}

/// Asks for what the key of a workload has to sign so that this node may carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseQuery {
    /// Id, unique beginning of one, or name.
    pub network: String,
    /// The workload's key, a node id.
    pub key: String,
}

/// The terms of a lease, with the host's consent (protocol A7.9). Signed by the workload's key, they
/// are an ATTACH document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// The network's id.
    pub network: String,
    /// The workload's key.
    pub key: String,
    /// This node.
    pub host: String,
    /// Above what revocations name.
    pub generation: u32,
    /// Above every lease of this workload that this node knows.
    pub seq: u64,
    /// From when, seconds since 1970.
    pub issued: u64,
    /// Until when, seconds since 1970; at most 600 later.
    pub expires: u64,
    /// This node's signature.
    pub consent: Hex,
}

/// Renews the leases of a workload with a key of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseRenewal {
    /// Name, id or tag.
    pub workload: String,
    /// Signed ATTACH documents with higher sequence numbers.
    pub leases: Vec<Hex>,
}

/// The leases in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// The attachment.
    pub id: String,
    /// When the first of them ends, RFC 3339.
    pub until: String,
}
