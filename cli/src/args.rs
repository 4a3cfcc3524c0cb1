//! The command line; help, manual pages and shell completions all come from here.

mod gateway;
mod network;
mod publish;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub(crate) use gateway::{GatewayNameVerb, GatewayVerb};
pub(crate) use network::{
    AdminRevokeArgs, AdminVerb, CreateArgs, DocumentsVerb, GrantArgs, JoinArgs, NetworkInviteArgs,
    NetworkVerb, OwnerArgs, PolicyVerb, Range, Scope,
};
pub(crate) use publish::{
    AccessArgs, ApplyArgs, Balance, ExposeArgs, ExposeCommand, ExposeVerb, FrontArgs, Mode as PublishMode,
    ProxyHeader, UnexposeArgs,
};
pub(crate) use workload::{AttachArgs, DnsVerb, OnNetwork, PlaceArgs, RunArgs, WorkloadVerb};

/// Inspect and steer a running mesh node.
///
/// TARGET is a node id, the unique beginning of one, a mesh address, or a node's name.
#[derive(Debug, Parser)]
#[command(name = "sinew", version, max_term_width = 100, propagate_version = false)]
#[command(
    after_help = "Exit codes: 0 ok, 1 usage or configuration, 2 reachable but not as asked, 3 unreachable or \
timed out, 4 unknown peer, network or name, 5 denied, 6 daemon not running, 7 refused without --accept-risk."
)]
pub(crate) struct Args {
    /// The daemon's socket [default: $SINEW_SOCKET or /run/sinew/sinew.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,

    /// How to write the answer
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,

    /// Tables with all columns and whole keys
    #[arg(long, global = true)]
    pub(crate) wide: bool,

    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON object
    Json,
    /// One JSON object per line
    Jsonl,
    /// Graphviz (only `graph`)
    Dot,
    /// A picture (only `graph`)
    Svg,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make and show node keys and mesh secrets
    #[command(subcommand)]
    Key(KeyVerb),
    /// This node: identity, peers, health
    Status(StatusArgs),
    /// Direct neighbours: list, add, remove
    Peers(PeersArgs),
    /// Where packets go
    Routes(RoutesArgs),
    /// End-to-end sessions
    Sessions,
    /// Ask a node for an answer, and see which path it took
    ///
    /// Exit code 0: answered over a direct path; 2: relayed, or some probes were lost; 3: no answer.
    Ping(PingArgs),
    /// Every hop on the way to a node, with its key
    Trace(TraceArgs),
    /// Why data to a node takes the way it takes, and what became of every other way
    ///
    /// Exit code 0: direct; 2: over relays; 3: unreachable.
    Why {
        /// Whom it is about
        target: String,
    },
    /// What the network under this node lets through, and how peers see its address
    Netcheck,
    /// What is wrong, what it comes from, and what to do
    ///
    /// Exit code 0: nothing worth a warning; 2: something.
    Doctor,
    /// Dropped packets by reason
    Drops,
    /// The topology this node knows (-o dot, svg or json)
    Graph,
    /// Check, compare, show and reload the configuration
    #[command(subcommand)]
    Config(ConfigVerb),
    /// The URI under which others add this node as a peer
    Invite(InviteArgs),
    /// Private networks: who is in, and who may talk to whom
    #[command(subcommand)]
    Network(NetworkVerb),
    /// Programs, containers and machines on private networks
    #[command(subcommand)]
    Workload(WorkloadVerb),
    /// Publish a workload's port through a gateway, or list what is published
    ///
    /// People outside the mesh reach exactly this port of this workload, through this one gateway. Exit code
    /// 0: served; 2: the gateway waits for something, such as a TXT record, which is printed; 3: the gateway
    /// does not answer, it is tried again; 5: refused.
    Expose(Box<ExposeCommand>),
    /// Take a published service back; its connections end at once
    Unexpose(UnexposeArgs),
    /// Publish what a file says, and say what that changes
    ///
    /// Applied twice it changes nothing the second time. Exit code as of `expose`, the gravest of all
    /// services; with --dry-run 2 if anything would change.
    Apply(ApplyArgs),
    /// What this node serves to people outside
    #[command(subcommand)]
    Gateway(GatewayVerb),
    /// Names of workloads and nodes
    #[command(subcommand)]
    Dns(DnsVerb),
    /// Wait until this node is ready or a node answers
    Wait(WaitArgs),
    /// Completions for a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the manual pages into a directory
    Man {
        /// Where to, made if missing
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// Make a node key (mode 0600); never overwrites
    New {
        /// Where to write it
        file: PathBuf,
    },
    /// Show the public names of a key file, or of the running node
    Show {
        /// A key file
        file: Option<PathBuf>,
    },
    /// Make a mesh secret, which every node of a closed mesh holds; never overwrites
    Secret {
        /// Where to write it
        file: PathBuf,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct StatusArgs {
    /// Say only by the exit code: 0 if so, 2 if not, 6 without a daemon
    #[arg(long, value_name = "WHAT")]
    pub(crate) check: Option<Check>,
}

/// What `status --check` asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Check {
    /// The daemon answers
    Live,
    /// Everything configured is up, and a peer if any is configured
    Ready,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeersArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<PeersVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeersVerb {
    /// List them
    Ls,
    /// Connect to a peer, without a restart
    Add {
        /// `sinew://NODEID@host:port?via=udp,tcp` (`sinew invite` on the peer prints it)
        uri: String,
        /// Milliseconds added to the metric
        #[arg(long, value_name = "MS", default_value_t = 0)]
        cost: u16,
        /// Also write it into the configuration file
        #[arg(long)]
        save: bool,
    },
    /// Let a peer go, without a restart
    Rm {
        /// Node id, its beginning, name or address
        #[arg(value_name = "ID")]
        target: String,
        /// Also take it out of the configuration file
        #[arg(long)]
        save: bool,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RoutesArgs {
    #[command(subcommand)]
    pub(crate) verb: Option<RoutesVerb>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoutesVerb {
    /// The route in use for each destination (default)
    Selected,
    /// Every route that neighbours have told
    All,
    /// How packets to one destination go, and why
    Get {
        /// Mesh address, node id, its beginning, or name
        #[arg(value_name = "ADDR")]
        target: String,
    },
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PingArgs {
    /// Whom to ask
    pub(crate) target: String,
    /// How many probes; 0 = until interrupted [default: 4, with --until-direct 10]
    #[arg(short, value_name = "N")]
    pub(crate) count: Option<u32>,
    /// Seconds from one to the next
    #[arg(short, value_name = "S", default_value_t = 1.0, value_parser = seconds)]
    pub(crate) interval: f64,
    /// Seconds after which a probe is lost
    #[arg(short = 'W', value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub(crate) timeout: f64,
    /// Payload of each probe in bytes
    #[arg(long, value_name = "B", default_value_t = 56)]
    pub(crate) size: u16,
    /// Stop at the first answer over a direct path
    #[arg(long)]
    pub(crate) until_direct: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TraceArgs {
    /// Whom to reach
    pub(crate) target: String,
    /// Seconds to wait for each hop
    #[arg(short = 'W', value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    pub(crate) timeout: f64,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigVerb {
    /// Judge a file, or the one the daemon runs on
    Check {
        /// Configuration file
        file: Option<PathBuf>,
    },
    /// What differs from what the daemon runs on, and what each difference would do
    Diff {
        /// Configuration file [default: the daemon's]
        file: Option<PathBuf>,
    },
    /// What the daemon runs on
    Show,
    /// Read the file again, without dropping a session
    Reload,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InviteArgs {
    /// Host name or address that others reach this machine under [default: its interfaces' addresses]
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct WaitArgs {
    /// `ready`, or whom to reach
    pub(crate) target: String,
    /// Seconds to wait at most
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = seconds)]
    pub(crate) timeout: f64,
    /// Until the path to it is direct
    #[arg(long)]
    pub(crate) direct: bool,
}

/// A positive number of seconds, at most a day.
fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "a number of seconds, such as 0.2".to_owned())?;
    if (0.001..=86_400.0).contains(&number) {
        Ok(number)
    } else {
        Err("from 0.001 to 86400 seconds".to_owned())
    }
}

/// `90s`, `30m`, `12h`, `7d`: from a second to ten years.
fn duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "a time such as 90s, 30m, 12h or 7d";
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(FORM.to_owned()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| FORM)?;
    let seconds = number.saturating_mul(unit);
    if (1..=3650 * 86_400).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("from 1s to 3650d".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(super::duration(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "s", "7", "0s", "-1d", "1.5h", "9999d", "99999999999999999999d", "7w", "1é"] {
            assert!(super::duration(wrong).is_err(), "{wrong}");
        }
    }
}
