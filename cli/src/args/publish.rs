//! `sinew expose`, `unexpose`, `apply`: services that gateways offer to people outside.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use sinew_control::api::{ExposeBackend, PublishRate};
use sinew_control::publish_file::backend;

use super::seconds;

#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct ExposeCommand {
    #[command(subcommand)]
    pub(crate) verb: Option<ExposeVerb>,
    /// Beside the others, not around them: clap finds an optional group by its own arguments alone.
    #[command(flatten)]
    pub(crate) args: Option<ExposeArgs>,
    #[command(flatten)]
    pub(crate) front: FrontArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ExposeVerb {
    /// The services that this node publishes, and what their gateways say
    Ls,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExposeArgs {
    /// The workload that serves, by its name in the network
    pub(crate) workload: String,
    /// Its network [default: the only one that has such a workload]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// The workload's port
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) port: u16,
    /// The gateway: node id, its beginning, mesh address or name
    #[arg(long, value_name = "GATEWAY")]
    pub(crate) via: String,
    /// A name under the gateway's own domain, first come; repeatable
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// A domain name of your own, once a TXT record proves it; repeatable
    #[arg(long = "host", value_name = "FQDN")]
    pub(crate) hosts: Vec<String>,
    /// How people reach it
    #[arg(long, value_name = "MODE", default_value = "http")]
    pub(crate) mode: Mode,
    /// What this node calls the service [default: its first host, else the workload's name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) service: Option<String>,
    /// One more backend, and its share of the clients; repeatable
    #[arg(long = "backend", value_name = "WORKLOAD:PORT[*WEIGHT]", value_parser = backend)]
    pub(crate) backends: Vec<ExposeBackend>,
    /// Who answers an authority's questions over HTTP (http-01), where TLS goes through unread
    #[arg(long, value_name = "WORKLOAD:PORT", value_parser = aside)]
    pub(crate) acme_http: Option<ExposeBackend>,
    /// Seconds to wait for the gateway's answer
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) wait: f64,
    /// Only say what would change
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What the gateway does with requests.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Requests")]
pub(crate) struct FrontArgs {
    /// Only paths under this one (whole segments); repeatable
    #[arg(long = "path", value_name = "/PATH")]
    pub(crate) paths: Vec<String>,
    /// Over plain HTTP too, without a redirect to HTTPS
    #[arg(long)]
    pub(crate) plain: bool,
    /// Backends speak HTTP/2 without TLS, as gRPC servers do
    #[arg(long)]
    pub(crate) h2c: bool,
    /// How a backend is picked
    #[arg(long, value_name = "HOW")]
    pub(crate) balance: Option<Balance>,
    /// Ask backends for this path, and leave out those that do not answer 2xx or 3xx
    #[arg(long, value_name = "/PATH")]
    pub(crate) check: Option<String>,
    /// Tell backends the client's address by the PROXY protocol
    #[arg(long, value_name = "VERSION")]
    pub(crate) proxy_header: Option<ProxyHeader>,
    /// Largest request body, bytes
    #[arg(long, value_name = "BYTES")]
    pub(crate) body_max: Option<u64>,
    /// The public port that is wished for; modes tcp and udp
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) public_port: Option<u16>,
}

/// Who may come in.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Ask for passwords: lines `USER:$argon2id$…` of a file, or of standard input
    #[arg(long, value_name = "FILE|-")]
    pub(crate) basic: Option<PathBuf>,
    /// Let another workload decide on every request: 2xx lets it through
    #[arg(long, value_name = "WORKLOAD:PORT/PATH", value_parser = forward)]
    pub(crate) forward_auth: Option<Forward>,
    /// Headers of its 2xx that backends get, in place of any that clients send, such as `X-Auth-Request-User`
    #[arg(long, value_name = "HEADER,...", value_delimiter = ',', requires = "forward_auth")]
    pub(crate) forward_auth_copy: Vec<String>,
    /// Clients must show a certificate of this authority (PEM)
    #[arg(long, value_name = "FILE")]
    pub(crate) client_ca: Option<PathBuf>,
    /// Only these addresses or ranges; repeatable
    #[arg(long, value_name = "RANGE")]
    pub(crate) allow: Vec<String>,
    /// Not these; repeatable
    #[arg(long, value_name = "RANGE")]
    pub(crate) deny: Vec<String>,
    /// Requests a second of one client on average, and at once after a pause
    #[arg(long, value_name = "N/BURST", value_parser = rate)]
    pub(crate) rate: Option<PublishRate>,
}

/// How people reach a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// HTTPS ends at the gateway
    Http,
    /// TLS goes through unread
    TlsPassthrough,
    /// A TCP port of its own
    Tcp,
    /// A UDP port of its own
    Udp,
}

/// How a backend is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balance {
    /// One after the other
    RoundRobin,
    /// The one with the fewest requests
    LeastConnections,
    /// A client stays, by a cookie
    StickyCookie,
    /// A client address stays
    StickyAddress,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyHeader {
    /// A line of text
    V1,
    /// Binary
    V2,
}

/// `auth:9091/api/verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) backend: ExposeBackend,
    pub(crate) path: String,
}

fn forward(text: &str) -> Result<Forward, String> {
    let (place, path) = text.split_once('/').ok_or("write WORKLOAD:PORT/PATH")?;
    Ok(Forward { backend: aside(place)?, path: format!("/{path}") })
}

/// A backend that gets no clients.
fn aside(text: &str) -> Result<ExposeBackend, String> {
    Ok(ExposeBackend { weight: 0, ..backend(text)? })
}

fn rate(text: &str) -> Result<PublishRate, String> {
    let wrong = || format!("`{text}` is no rate; write N/BURST, such as 10/50");
    let (per_second, burst) = text.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.parse::<u32>().ok().filter(|&n| n > 0).ok_or_else(wrong);
    Ok(PublishRate { per_second: number(per_second)?, burst: number(burst)? })
}

#[derive(Debug, ClapArgs)]
pub(crate) struct UnexposeArgs {
    /// The service: what this node calls it, one of its hosts, or its id
    #[arg(value_name = "NAME|ID")]
    pub(crate) service: String,
    /// Its network, where several have one of that name
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Seconds to wait for the gateway's word; the service is cut off here at once in any case
    #[arg(long, value_name = "S", default_value_t = 5.0, value_parser = seconds)]
    pub(crate) wait: f64,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ApplyArgs {
    /// A TOML file of services, `-` for standard input
    pub(crate) file: PathBuf,
    /// Only say what would change; exit code 2 if anything would
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Take back what this node publishes in the file's networks and the file does not name
    #[arg(long)]
    pub(crate) prune: bool,
    /// Seconds to wait for each gateway's answer
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    pub(crate) wait: f64,
}
