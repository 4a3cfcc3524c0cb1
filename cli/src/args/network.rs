//! `sinew network`: private networks.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use sinew_control::api::Service;

use super::{duration, seconds};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkVerb {
    /// Make a network, with this node as its first admin
    ///
    /// The owner's key is made on this machine, signs the network and this node's right to admit
    /// members, and is not needed again until admins change. Keep it offline.
    Create(CreateArgs),
    /// The networks of this node
    Ls,
    /// One network: addresses, members, workloads, policy, health
    Show {
        /// Name, id, or its beginning
        network: String,
    },
    /// Make a ticket with which a node joins
    ///
    /// Only the ticket goes to stdout. It is a secret unless made --for one node: give it on through
    /// a channel that you trust, best in a file.
    Invite(NetworkInviteArgs),
    /// Join a network with a ticket
    ///
    /// Arguments can be read by every user of this machine: prefer `-` (stdin) or `@FILE`.
    Join(JoinArgs),
    /// Leave a network; its workloads on this node are detached
    Leave {
        /// Name, id, or its beginning
        network: String,
    },
    /// Members, with the version of the documents that each holds
    Members {
        /// Name, id, or its beginning
        network: String,
    },
    /// Nodes that wait for approval on this admin
    Requests {
        /// Name, id, or its beginning
        network: String,
    },
    /// Let a waiting node in
    Approve {
        /// Name, id, or its beginning
        network: String,
        /// Node id, or the beginning of a waiting one's
        member: String,
        /// Groups, in place of the ticket's
        #[arg(long = "group", value_name = "GROUP")]
        groups: Option<Vec<String>>,
    },
    /// Take back a membership, or a workload's place
    ///
    /// Members that the news has not reached go on talking to the revoked one until it does.
    Revoke {
        /// Name, id, or its beginning
        network: String,
        /// A member (node id, its beginning, name) or a workload (name)
        #[arg(value_name = "MEMBER|WORKLOAD")]
        subject: String,
    },
    /// Who may talk to whom inside a network
    #[command(subcommand)]
    Policy(PolicyVerb),
    /// Who may admit, revoke and set the policy; signed with the owner's key
    #[command(subcommand)]
    Admin(AdminVerb),
    /// Signed documents, for backups and for an owner's key on an offline machine
    #[command(subcommand)]
    Documents(DocumentsVerb),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CreateArgs {
    /// Its name on this node and in names (`WORKLOAD.NAME.sinew.internal`)
    pub(crate) name: String,
    /// IPv4 range to share out, a /24 for each member
    #[arg(long, value_name = "RANGE", default_value = "10.20.0.0/16", value_parser = range)]
    pub(crate) ipv4: Range,
    /// The owner's key; made (0600) if there is no such file [default: STATE_DIR/networks/NAME.owner.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) owner_key: Option<PathBuf>,
    /// What this node may share out [default: the lower half of --ipv4]
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) admin_range: Option<Range>,
    /// Members stop talking when they have heard of no new HEAD for seven days
    #[arg(long)]
    pub(crate) strict: bool,
}

/// An IPv4 range with prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) network: Ipv4Addr,
    pub(crate) prefix: u8,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// `10.20.0.0/16`, without host bits.
fn range(text: &str) -> Result<Range, String> {
    const FORM: &str = "a range such as 10.20.0.0/16";
    let (network, prefix) = text.split_once('/').ok_or(FORM)?;
    let network: Ipv4Addr = network.parse().map_err(|_| FORM)?;
    let prefix: u8 = prefix
        .parse()
        .ok()
        .filter(|prefix| (8..=24).contains(prefix))
        .ok_or("a range from /8 to /24: each member gets a /24 of it")?;
    let mask = u32::MAX << (32 - u32::from(prefix));
    let base = Ipv4Addr::from_bits(network.to_bits() & mask);
    if base == network {
        Ok(Range { network, prefix })
    } else {
        Err(format!("{text} is an address inside {base}/{prefix}: write that"))
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct NetworkInviteArgs {
    /// Name, id, or its beginning
    pub(crate) network: String,
    /// For this node only: the ticket is no secret then, and works with the admins offline
    #[arg(long = "for", value_name = "NODEID", conflicts_with_all = ["uses", "approval", "bearer"])]
    pub(crate) for_node: Option<String>,
    /// How many nodes may join with it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) uses: u32,
    /// How long it is good for (90s, 30m, 12h, 7d)
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// A group of those who join with it; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Joining waits for `network approve` on this node
    #[arg(long, conflicts_with = "bearer")]
    pub(crate) approval: bool,
    /// Whoever holds it is in, with owner and admins offline; cannot be limited to one use
    #[arg(long)]
    pub(crate) bearer: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JoinArgs {
    /// `-` (stdin), `@FILE`, or the ticket itself
    pub(crate) ticket: String,
    /// This node's name for the network [default: the network's own]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Seconds to wait for an admin
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) timeout: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// The policy in force, in the form that `set` takes
    Get {
        /// Name, id, or its beginning
        network: String,
    },
    /// Put a policy in force, if its own tests pass
    #[command(after_help = POLICY_FORM)]
    Set {
        /// Name, id, or its beginning
        network: String,
        /// The policy's file, `-` for stdin
        file: PathBuf,
    },
    /// Judge a policy's file, without changing anything
    #[command(after_help = POLICY_FORM)]
    Check {
        /// The policy's file, `-` for stdin
        file: PathBuf,
        /// Also look for groups, workloads and members that this network does not have
        #[arg(long)]
        network: Option<String>,
    },
    /// Run the tests in a policy's file against a network, without changing anything
    #[command(after_help = POLICY_FORM)]
    Test {
        /// Name, id, or its beginning
        network: String,
        /// The policy's file, `-` for stdin
        file: PathBuf,
    },
    /// What happens to a flow, and which rule says so
    ///
    /// Exit code 0: allowed at both ends; 5: denied.
    Trace {
        /// Name, id, or its beginning
        network: String,
        /// Who begins it: a workload, an address, or a selector such as group:web
        from: String,
        /// Whom it is for
        to: String,
        /// `tcp/80`, `udp/53`, `icmp`, …
        service: Service,
        /// By this file instead of the policy in force
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

const POLICY_FORM: &str = r#"The file:
  default = "deny"         # or "allow"

  [[rule]]                 # in order: the first that fits decides
  from  = "group:web"      # any, group:NAME, workload:NAME, member:NODE
  to    = "workload:db"
  allow = ["tcp/5432"]     # or deny = [...]; any, tcp, udp/5000-5100, icmp, a protocol's number

  [[test]]                 # what must be so
  from  = "workload:web1"
  to    = "workload:db"
  allow = ["tcp/5432"]
  deny  = ["tcp/22"]"#;

/// What a grant may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Scope {
    /// Admit members
    Admit,
    /// Revoke members and workloads
    Revoke,
    /// Set the policy
    Policy,
    /// Sign the daily HEAD
    Head,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AdminVerb {
    /// Make a node an admin
    Grant(GrantArgs),
    /// Take it back
    ///
    /// What the admin signed would be void with it, since a thief of its key can backdate. So the
    /// members it admitted and its policy are signed again with the owner's key in the same step,
    /// but for those to --drop. What it revoked stays revoked.
    Revoke(AdminRevokeArgs),
}

/// How the owner signs: here, or with documents carried to an offline machine and back.
#[derive(Debug, ClapArgs)]
pub(crate) struct OwnerArgs {
    /// The owner's key [default: STATE_DIR/networks/NETWORK.owner.key]
    #[arg(long, value_name = "FILE")]
    pub(crate) owner_key: Option<PathBuf>,
    /// Work on documents from `network documents export`, without a daemon
    #[arg(long, value_name = "FILE", requires = "sign_to")]
    pub(crate) documents: Option<PathBuf>,
    /// Write what was signed to a file for `network documents import`, instead of handing it in
    #[arg(long, value_name = "FILE")]
    pub(crate) sign_to: Option<PathBuf>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GrantArgs {
    /// Name, id, or its beginning
    pub(crate) network: String,
    /// The node id of the new admin
    pub(crate) node: String,
    /// What it may share out; not what another admin has [default: half of what is left]
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) range: Option<Range>,
    /// What it may do
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "admit,revoke,policy,head")]
    pub(crate) scope: Vec<Scope>,
    /// Longest membership it may grant [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) longest: Option<Duration>,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AdminRevokeArgs {
    /// Name, id, or its beginning
    pub(crate) network: String,
    /// The node id of the admin
    pub(crate) node: String,
    /// A member it admitted that is not to stay; repeatable
    #[arg(long, value_name = "NODEID")]
    pub(crate) drop: Vec<String>,
    /// None of those it admitted stays
    #[arg(long, conflicts_with = "drop")]
    pub(crate) drop_all: bool,
    #[command(flatten)]
    pub(crate) owner: OwnerArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DocumentsVerb {
    /// Write all documents of a network
    Export {
        /// Name, id, or its beginning
        network: String,
        /// Where to, stdout without it
        file: Option<PathBuf>,
    },
    /// Hand in documents that were signed elsewhere
    Import {
        /// Name, id, or its beginning
        network: String,
        /// A file of `export` or `--sign-to`, `-` for stdin
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn a_range_has_no_host_bits_and_room_for_a_member() {
        assert_eq!(range("10.20.0.0/16").map(|range| range.to_string()), Ok("10.20.0.0/16".to_owned()));
        assert!(range("10.20.1.0/16").unwrap_err().contains("10.20.0.0/16: write that"));
        for wrong in ["10.20.0.0", "10.20.0.0/25", "10.20.0.0/x", "fd00::/48", "10.0.0.0/7"] {
            assert!(range(wrong).is_err(), "{wrong}");
        }
    }
}
