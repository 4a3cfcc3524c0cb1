//! `sinew gateway`: what this node serves to people outside.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayVerb {
    /// Services, their backends and their traffic
    ///
    /// Exit code 0: all is well; 2: something is not, and standard error says what.
    Ls,
    /// Dial every backend of a host just now, through the mesh, and say what came of it
    ///
    /// Exit code 0: all answer; 2: some do not; 3: none does.
    Probe {
        /// A host, or tcp/PORT, udp/PORT
        host: String,
    },
    /// Requests, streams and changes of backends, newest last
    Log {
        /// Go on with new ones
        #[arg(short, long)]
        follow: bool,
        /// Only of this host or service
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// How many of the last ones
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: u32,
    },
    /// Give a backend no new clients; what it has it may finish
    ///
    /// Names are those of workloads: every network and service that has one of that name is meant, unless --host
    /// says which.
    Drain {
        /// WORKLOAD or WORKLOAD:PORT, of all networks; or a node id for all that it carries
        backend: String,
        /// Only of this host or service
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Give it clients again
        #[arg(long)]
        undo: bool,
    },
    /// Certificates in use, and hosts that lack one
    ///
    /// Exit code 0: every host has one; 2: some have none.
    Cert,
    /// Names, own domains and ports, and whose they are
    #[command(subcommand)]
    Name(GatewayNameVerb),
}

#[derive(Debug, Subcommand)]
pub(crate) enum GatewayNameVerb {
    /// List them
    Ls,
    /// Give a name to another network, a week from now
    Transfer {
        /// The name below the gateway's domain
        name: String,
        /// Id of the network that gets it
        #[arg(long, value_name = "NETWORK")]
        to: String,
    },
    /// Leave a name where it is after all
    Cancel {
        /// The name below the gateway's domain
        name: String,
    },
}
