//! `sinew workload` and `sinew dns`: what runs on private networks, and how it is named.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, Subcommand};
use sinew_control::api::{AttachService, Transport};

#[derive(Debug, Subcommand)]
pub(crate) enum WorkloadVerb {
    /// Run a program on private networks, in a network namespace of its own
    ///
    /// It sees loopback and the networks named, nothing else of this machine's network. Signals are
    /// passed on; the exit code is the program's, or 128+N if signal N ended it. Needs root.
    Run(RunArgs),
    /// Put an existing namespace, or a virtual machine, on private networks
    Attach(AttachArgs),
    /// Take a workload off its networks
    Detach {
        /// Name or id
        workload: String,
    },
    /// The workloads of this node
    Ls,
    /// Run a program inside a workload's network namespace
    Exec {
        /// Name or id
        workload: String,
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
}

/// `--network N` or `N=10.20.0.7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OnNetwork {
    pub(crate) network: String,
    pub(crate) ipv4: Option<Ipv4Addr>,
}

fn on_network(text: &str) -> Result<OnNetwork, String> {
    let (network, ipv4) = match text.split_once('=') {
        None => (text, None),
        Some((network, ip)) => (
            network,
            Some(ip.parse().map_err(|_| format!("`{ip}` is no IPv4 address; write NETWORK=10.20.0.7"))?),
        ),
    };
    if network.is_empty() {
        return Err("which network? NETWORK or NETWORK=10.20.0.7".to_owned());
    }
    Ok(OnNetwork { network: network.to_owned(), ipv4 })
}

fn service(text: &str) -> Result<AttachService, String> {
    let wrong = || format!("`{text}` is no service; write NAME=tcp/PORT or NAME=udp/PORT");
    let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (protocol, port) = rest.split_once('/').ok_or_else(wrong)?;
    let protocol = match protocol {
        "tcp" => Transport::Tcp,
        "udp" => Transport::Udp,
        _ => return Err(wrong()),
    };
    let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
    Ok(AttachService { name: name.to_owned(), protocol, port })
}

/// What `run` and `attach` have in common.
#[derive(Debug, ClapArgs)]
pub(crate) struct PlaceArgs {
    /// Its name, a DNS label
    pub(crate) name: String,
    /// A network, and the address there if it matters; repeatable, the first one's names go first
    #[arg(long = "network", value_name = "NETWORK[=IP]", required = true, value_parser = on_network)]
    pub(crate) networks: Vec<OnNetwork>,
    /// One of its node's groups, for the policy; repeatable [default: all of them]
    #[arg(long = "group", value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// A service it offers, found as `_NAME._tcp` (SRV), such as http=tcp/80; repeatable
    #[arg(long = "service", value_name = "NAME=tcp/PORT", value_parser = service)]
    pub(crate) services: Vec<AttachService>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The workload's own key (made by `sinew key new`): with it the workload keeps its address on
    /// whichever node it runs; this command renews its lease
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, ClapArgs)]
#[command(group = ArgGroup::new("what").required(true).multiple(false))]
pub(crate) struct AttachArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// A network namespace, such as /run/netns/web
    #[arg(long, value_name = "PATH", group = "what")]
    pub(crate) netns: Option<PathBuf>,
    /// The namespace of a process; ends with the process
    #[arg(long, group = "what")]
    pub(crate) pid: Option<u32>,
    /// A TAP interface of this name for a virtual machine
    #[arg(long, value_name = "IFACE", group = "what")]
    pub(crate) tap: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DnsVerb {
    /// Ask for a name as a program would, and see who answered and why
    ///
    /// Exit code 0: there are records; 4: there are none; 3: nobody answered.
    Query {
        /// Full or short name
        name: String,
        /// A, AAAA, SRV, PTR, … [default: A and AAAA]
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// As this workload asks
        #[arg(long, value_name = "WORKLOAD")]
        workload: Option<String>,
    },
    /// The records that this node answers by itself
    Records {
        /// Of one network only
        #[arg(long)]
        network: Option<String>,
    },
    /// How names are served here
    Status,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_may_come_with_an_address() {
        let both = OnNetwork { network: "shop".to_owned(), ipv4: Some(Ipv4Addr::new(10, 20, 0, 7)) };
        assert_eq!(on_network("shop=10.20.0.7"), Ok(both));
        assert!(on_network("shop").is_ok_and(|on| on.ipv4.is_none()));
        for wrong in ["", "=10.20.0.7", "shop=", "shop=x"] {
            assert!(on_network(wrong).is_err(), "{wrong}");
        }
    }
}
