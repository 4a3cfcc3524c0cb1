//! What each command does.

use std::net::IpAddr;
use std::path::Path;

use sinew_control::api::{
    AttachNetwork, AttachRequest, AttachedBy, NetworkState, NetworkSummary, Workload, WorkloadState,
};
use sinew_control::{ApiError, Exit};

use crate::config::Config;
use crate::daemon::Daemon;
use crate::error::{CniError, Code};
use crate::inside::{self, Inside};
use crate::invocation::{Command, Invocation};
use crate::notes;

/// Shortest beginning of a network's id that names it, as everywhere.
const SHORTEST_PREFIX: usize = 4;

/// Carries out a request; the answer is what goes to stdout.
pub(crate) fn run(config: &Config, invocation: &Invocation) -> Result<String, CniError> {
    let daemon = Daemon::at(&config.socket);
    match invocation.command {
        Command::Add => add(config, invocation, &daemon),
        Command::Del => del(config, invocation, &daemon),
        Command::Check => check(config, invocation, &daemon),
        Command::Status => status(config, &daemon),
        Command::Gc => gc(config, &daemon),
        Command::Version => Err(CniError::new(Code::Environment, "VERSION is answered before", "")),
    }
}

fn netns(invocation: &Invocation) -> Result<&Path, CniError> {
    let missing = || CniError::new(Code::Environment, "CNI_NETNS is not set", "");
    invocation.netns.as_deref().ok_or_else(missing)
}

// --- ADD ---

fn add(config: &Config, invocation: &Invocation, daemon: &Daemon) -> Result<String, CniError> {
    let path = netns(invocation)?;
    let namespace = inside::open(path)?;
    let tag = config.tag(&invocation.container, &invocation.interface);
    let request = request(config, invocation, &tag)?;
    let fd = std::os::fd::AsFd::as_fd(&namespace);
    let answer = match daemon.attach(&request, fd) {
        // What an interrupted ADD of this very container left makes room; another's name does not.
        Err(error) if error.code == "workload_exists" && is_attached(daemon, &tag)? => {
            daemon.detach(&tag)?;
            daemon.attach(&request, fd)?
        }
        result => result?,
    };
    notes::remember(&config.socket, &tag, &answer);
    let mut outcome = config.previous.clone().unwrap_or_default();
    outcome.add(&answer, path, &config.version);
    Ok(outcome.json(&config.version))
}

fn is_attached(daemon: &Daemon, tag: &str) -> Result<bool, ApiError> {
    Ok(daemon.workloads()?.iter().any(|workload| workload.tag.as_deref() == Some(tag)))
}

fn request(config: &Config, invocation: &Invocation, tag: &str) -> Result<AttachRequest, CniError> {
    // In a chain CNI_IFNAME is the interface that an earlier plugin made.
    let taken =
        config.previous.as_ref().is_some_and(|previous| previous.has_interface(&invocation.interface));
    let mut first = Some((config.ipv4(invocation)?, (!taken).then(|| invocation.interface.clone())));
    let network = |network: &String| {
        let (ipv4, interface) = first.take().unwrap_or_default();
        AttachNetwork { network: network.clone(), ipv4, interface }
    };
    Ok(AttachRequest {
        name: config.workload(invocation)?,
        networks: config.networks.iter().map(network).collect(),
        groups: config.groups.clone(),
        services: Vec::new(),
        key: None,
        leases: Vec::new(),
        tap: false,
        watch: None,
        by: AttachedBy::Cni,
        tag: Some(tag.to_owned()),
    })
}

// --- DEL ---

/// Succeeds whenever nothing is left: runtimes repeat it, after failures and after a reboot.
fn del(config: &Config, invocation: &Invocation, daemon: &Daemon) -> Result<String, CniError> {
    let tag = config.tag(&invocation.container, &invocation.interface);
    match daemon.detach(&tag) {
        Ok(_) => notes::forget(&config.socket, &tag),
        Err(error) if error.code == "unknown_workload" => notes::forget(&config.socket, &tag),
        Err(error) if Exit::from_code(error.exit) == Exit::NotRunning => {
            notes::clean_up(&config.socket, &tag, invocation.netns.as_deref()).map_err(|failed| {
                let why = format!("{}; no word can be left for it: {failed}", error.message);
                CniError::new(Code::TryAgain, why, error.hint)
            })?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(String::new())
}

// --- CHECK ---

fn check(config: &Config, invocation: &Invocation, daemon: &Daemon) -> Result<String, CniError> {
    let Some(previous) = &config.previous else {
        return Err(CniError::config("CHECK needs prevResult", "the runtime has to keep ADD's result"));
    };
    let namespace = inside::open(netns(invocation)?)?;
    let tag = config.tag(&invocation.container, &invocation.interface);
    let ours: Vec<_> =
        daemon.workloads()?.into_iter().filter(|workload| workload.tag.as_deref() == Some(&tag)).collect();
    if ours.is_empty() {
        return Err(CniError::changed(format!("container {} is not attached", invocation.container)));
    }
    let networks = daemon.networks()?;
    let inside =
        Inside::look(&namespace).map_err(|error| CniError::io(format!("cannot look inside: {error}")))?;
    for workload in &ours {
        let told = previous.addresses(&workload.interface);
        if let Some(why) = differs(workload, &told, &networks, &inside) {
            return Err(CniError::changed(format!("{} on {}: {why}", workload.name, workload.network)));
        }
    }
    Ok(String::new())
}

/// What is not as ADD's result said, by the daemon's word and by the kernel's.
fn differs(
    workload: &Workload,
    told: &[IpAddr],
    networks: &[NetworkSummary],
    inside: &Inside,
) -> Option<String> {
    if matches!(workload.state, WorkloadState::Broken) {
        return Some("the daemon calls it broken".to_owned());
    }
    let mut known: Vec<IpAddr> = workload.addresses.iter().filter_map(|text| text.parse().ok()).collect();
    let mut told = told.to_vec();
    known.sort_unstable();
    told.sort_unstable();
    if known != told {
        return Some(format!("its addresses are {}", workload.addresses.join(", ")));
    }
    let network = networks.iter().find(|network| network.name == workload.network);
    let ranges = network.into_iter().flat_map(|network| network.ipv4.iter().chain([&network.ipv6]));
    let routes: Vec<_> = ranges.filter_map(|range| prefix(range)).collect();
    inside.lacks(&workload.interface, &told, &routes)
}

fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, len) = text.split_once('/')?;
    Some((address.parse().ok()?, len.parse().ok()?))
}

// --- STATUS ---

fn status(config: &Config, daemon: &Daemon) -> Result<String, CniError> {
    let unavailable = |error: ApiError| CniError::new(Code::NotAvailable, error.message, error.hint);
    let networks = daemon.networks().map_err(unavailable)?;
    for wanted in &config.networks {
        let Some(network) = find(&networks, wanted) else {
            return Err(unavailable(ApiError::unknown_network(wanted)));
        };
        if matches!(network.state, NetworkState::Joining | NetworkState::Revoked) {
            return Err(unavailable(ApiError::network_not_ready(&network.name, network.state.as_str())));
        }
    }
    Ok(String::new())
}

fn find<'a>(networks: &'a [NetworkSummary], wanted: &str) -> Option<&'a NetworkSummary> {
    let by_id = |id: &str| wanted.len() >= SHORTEST_PREFIX && id.starts_with(wanted);
    networks.iter().find(|network| network.name == wanted || by_id(&network.id))
}

// --- GC ---

/// Ends what this network attached and the runtime does not know any more.
fn gc(config: &Config, daemon: &Daemon) -> Result<String, CniError> {
    let Some(valid) = &config.valid else {
        // Nothing said is not "nothing is valid": that would end every container's network.
        return Err(CniError::config("GC needs cni.dev/valid-attachments", ""));
    };
    let keep: Vec<_> = valid.iter().map(|(container, interface)| config.tag(container, interface)).collect();
    let prefix = config.tag_prefix();
    let tags = daemon.workloads()?.into_iter().filter_map(|workload| workload.tag);
    let mut stale: Vec<_> = tags.filter(|tag| tag.starts_with(&prefix) && !keep.contains(tag)).collect();
    stale.sort_unstable();
    stale.dedup();
    let mut failed: Option<(String, ApiError)> = None;
    for tag in stale {
        match daemon.detach(&tag) {
            Ok(_) => notes::forget(&config.socket, &tag),
            Err(error) if error.code == "unknown_workload" => notes::forget(&config.socket, &tag),
            // One that fails does not keep the others.
            Err(error) => failed = Some((tag, error)),
        }
    }
    match failed {
        None => Ok(String::new()),
        Some((tag, error)) => {
            let mut refused = CniError::from(error);
            refused.message = format!("{tag}: {}", refused.message);
            Err(refused)
        }
    }
}
