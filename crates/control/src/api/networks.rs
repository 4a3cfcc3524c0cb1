//! `network`: private networks, their members, invitations and signed documents.
//!
//! Whatever the owner's key signs is made by the command line and travels as finished documents
//! ([`Hex`]); the daemon never sees that key. Whatever an admin may decide, the daemon signs with
//! the node's own.
//!
//! A request names a network by its id, the unique beginning of one, or this node's name for it.

use serde::{Deserialize, Serialize};

use super::hex::Hex;
use super::status::Health;

/// The networks of this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Networks {
    /// Ordered by name.
    pub networks: Vec<NetworkSummary>,
}

/// One line about a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSummary {
    /// The owner's public key.
    pub id: String,
    /// This node's name for it; also its label in names (`NAME.NETWORK.sinew.internal`).
    pub name: String,
    /// What this node may do in it.
    pub role: Role,
    /// Whether it works.
    pub state: NetworkState,
    /// Address plan, `10.20.0.0/16`; `null` while it is not known.
    pub ipv4: Option<String>,
    /// Address plan, `fdxx:xxxx:xxxx::/48`, derived from the id.
    pub ipv6: String,
    /// The newest HEAD this node holds; `null` while it holds none.
    pub version: Option<DocumentVersion>,
    /// Members, this node included.
    pub members_total: u64,
    /// Of these, how many this node has a live binding with, itself included.
    pub members_up: u64,
    /// Workloads of all members.
    pub workloads_total: u64,
    /// Requests that wait for `network approve` here.
    pub requests: u64,
}

/// What a node may do in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Its own subnet and workloads.
    Member,
    /// Also what the owner granted it: admitting, revoking, policy, heads.
    Admin,
}

impl Role {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
        }
    }
}

/// Whether a network works on this node (protocol A7, rollback).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkState {
    /// This node is a member and holds a HEAD that is not old.
    Ready,
    /// Not yet a member, or without the HEAD that its ticket promised.
    Joining,
    /// The newest HEAD is older than seven days: traffic goes on, nobody is admitted.
    Stale,
    /// This node was revoked, or its membership ran out.
    Revoked,
}

impl NetworkState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Joining => "joining",
            Self::Stale => "stale",
            Self::Revoked => "revoked",
        }
    }
}

/// The number of a HEAD: later eras win, then higher counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DocumentVersion {
    /// Stated by the owner's NET document.
    pub era: u16,
    /// Counts heads within the era.
    pub counter: u64,
}

/// Names one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkQuery {
    /// Id, unique beginning of one, or name.
    pub network: String,
}

/// All about one network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// As in the list.
    #[serde(flatten)]
    pub summary: NetworkSummary,
    /// This node's part of the plan, `10.20.3.0/24`.
    pub subnet_ipv4: Option<String>,
    /// This node's part of the plan, a /64.
    pub subnet_ipv6: Option<String>,
    /// When the newest HEAD was signed, RFC 3339.
    pub version_at: Option<String>,
    /// Documents held.
    pub documents: u64,
    /// What they take.
    pub documents_bytes: u64,
    /// Ordered by node id.
    pub members: Vec<Member>,
    /// Ordered by name.
    pub workloads: Vec<NetworkWorkload>,
    /// The policy in force.
    pub policy: PolicySummary,
    /// What is wrong; empty when all is well.
    pub health: Vec<Health>,
}

/// One member node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// Its key.
    pub node_id: String,
    /// Its mesh address.
    pub address: String,
    /// The name it gave itself, where this node knows it.
    pub name: Option<String>,
    /// Whether it is this node.
    pub this: bool,
    /// What it may do.
    pub role: Role,
    /// Groups it is in; workloads inherit them.
    pub groups: Vec<String>,
    /// Its part of the plan, a /24.
    pub ipv4: Option<String>,
    /// Its part of the plan, a /64.
    pub ipv6: Option<String>,
    /// Whether packets can go there and back: session and binding stand.
    pub up: bool,
    /// The HEAD it told last.
    pub version: Option<DocumentVersion>,
    /// By how many heads it is behind this node; negative when it is ahead; `null` when not known
    /// or of another era.
    pub drift: Option<i64>,
    /// When it last spoke of this network, RFC 3339.
    pub last_seen: Option<String>,
    /// When its membership ends, RFC 3339; `null` = never.
    pub expires: Option<String>,
    /// Its workloads.
    pub workloads: u64,
}

/// A workload of any member, as the documents say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkWorkload {
    /// Unique within its member; see `dns`.
    pub name: String,
    /// Its full name.
    pub dns: String,
    /// Addresses without prefix length.
    pub addresses: Vec<String>,
    /// The member that hosts it.
    pub node_id: String,
    /// Groups of its own and of its member.
    pub groups: Vec<String>,
    /// Its own key, if it has one and so may move.
    pub key: Option<String>,
}

/// One line about the policy in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicySummary {
    /// What happens to packets that no rule names.
    pub default: super::policy::Action,
    /// Number of rules.
    pub rules: u64,
    /// Who signed it; `null` = none was ever set.
    pub author: Option<String>,
    /// When, RFC 3339.
    pub issued: Option<String>,
}

/// Takes over a network that was just made: NET, GRANT and HEAD signed by its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkCreate {
    /// A DNS label that no other network of this node has.
    pub name: String,
    /// Signed documents.
    pub documents: Vec<Hex>,
}

/// A network that this node is now in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkCreated {
    /// The owner's public key.
    pub id: String,
    /// This node's name for it.
    pub name: String,
    /// Address plan.
    pub ipv4: Option<String>,
    /// Address plan.
    pub ipv6: String,
}

/// Asks for a ticket. Only on an admin with scope `admit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Which network.
    pub network: String,
    /// The node it is for (a node id): a pinned ticket, which holds no secret.
    #[serde(default, rename = "for")]
    pub for_node: Option<String>,
    /// How many may join with it; ignored for pinned tickets.
    #[serde(default = "one")]
    pub uses: u32,
    /// How long it is good for.
    pub expires_ms: u64,
    /// Groups of those who join with it.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Joining waits for `network approve`.
    #[serde(default)]
    pub approval: bool,
    /// A ticket that admits by itself, with owner and admins offline.
    #[serde(default)]
    pub bearer: bool,
}

const fn one() -> u32 {
    1
}

/// What a ticket relies on (protocol A7, tickets).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketMode {
    /// For one node; carries its membership, signed.
    Pinned,
    /// Redeemed at an admin, who counts.
    Counted,
    /// Whoever holds it is in.
    Bearer,
}

impl TicketMode {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pinned => "pinned",
            Self::Counted => "counted",
            Self::Bearer => "bearer",
        }
    }
}

/// A ticket, and what it can promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// `sinewnet1…`; a secret unless pinned.
    pub ticket: String,
    /// What it relies on.
    pub mode: TicketMode,
    /// The network.
    pub network: String,
    /// How many may join with it.
    pub uses: u32,
    /// Until when, RFC 3339.
    pub expires: String,
    /// Nodes that redeem it; empty for pinned and bearer tickets.
    pub acceptors: Vec<String>,
    /// What this mode can promise and what not, in one line.
    pub note: String,
}

/// Joins a network. The answer comes when the node is a member, waits for approval, or was
/// refused: `bad_ticket` (1), `join_refused` (5), `join_unanswered` (3).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// `sinewnet1…`.
    pub ticket: String,
    /// This node's name for the network; without one the network's own.
    #[serde(default)]
    pub name: Option<String>,
    /// How long to wait for the acceptor.
    pub timeout_ms: u64,
}

/// A ticket may be a secret: it never reaches a log.
impl std::fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinRequest")
            .field("name", &self.name)
            .field("timeout_ms", &self.timeout_ms)
            .finish_non_exhaustive()
    }
}

/// How joining ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The network's id.
    pub network: String,
    /// This node's name for it.
    pub name: String,
    /// `ready`, or `joining` when an admin must approve first.
    pub state: NetworkState,
    /// This node's part of the plan, once it is known.
    pub subnet_ipv4: Option<String>,
    /// This node's part of the plan, once it is known.
    pub subnet_ipv6: Option<String>,
}

/// Requests that wait for approval on this admin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRequests {
    /// Oldest first.
    pub requests: Vec<PendingMember>,
}

/// A node that redeemed a ticket with approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingMember {
    /// Its key.
    pub node_id: String,
    /// Its mesh address.
    pub address: String,
}

/// Approves a waiting node, or admits a known one outright.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approve {
    /// Which network.
    pub network: String,
    /// Node id or the unique beginning of a waiting one's.
    pub member: String,
    /// Groups, in place of the ticket's.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
}

/// Takes back a membership, or a workload's address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Which network.
    pub network: String,
    /// A member (node id, unique beginning of one, name) or a workload (name).
    pub subject: String,
}

/// What became of a change that was signed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkChanged {
    /// The network's id.
    pub network: String,
    /// Key of the member or workload it is about; `null` when about the network.
    pub subject: Option<String>,
    /// Whether anything changed; false when it was so already.
    pub changed: bool,
    /// This node's version with the change.
    pub version: Option<DocumentVersion>,
    /// Members that had acknowledged it when the answer was given.
    pub reached: u64,
    /// Members in all, without this node; the rest hear of it from each other.
    pub members: u64,
}

/// Every document of a network, for the owner's offline machine and for backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// The network's id.
    pub network: String,
    /// This node's name for it.
    pub name: String,
    /// Signed documents.
    pub documents: Vec<Hex>,
}

/// Hands in documents that were signed elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentsImport {
    /// Which network.
    pub network: String,
    /// Signed documents. All are judged before any is taken.
    pub documents: Vec<Hex>,
}
