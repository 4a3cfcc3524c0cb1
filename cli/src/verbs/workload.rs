//! `workload`: attaching hands a namespace's descriptor to the daemon; nothing here looks into a
//! network.

mod lease;
mod run;

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sinew_control::api::{
    ATTACH_MESSAGE_MAX, AttachAnswer, AttachNetwork, AttachRequest, AttachedBy, Detach, Detached, Watch,
    Workload, Workloads, attach_answer, attach_socket, leading_out,
};
use sinew_control::resolv::resolv_conf;
use sinew_control::{ApiError, Exit, Versioned, paths};
use sinew_platform::netns::is_network_namespace;
use sinew_platform::{fdpass, process, room};

use crate::args::{AttachArgs, PlaceArgs, WorkloadVerb};
use crate::client::{Client, PATIENCE, absent};
use crate::output::Out;
use crate::render;

/// Longer than the daemon takes to make a device, shorter than a person waits.
const ATTACH_PATIENCE: Duration = Duration::from_secs(30);

/// Runs a verb; the code is the program's own for `run`.
pub(super) async fn run(client: &Client, out: Out, verb: WorkloadVerb) -> Result<u8, ApiError> {
    match verb {
        WorkloadVerb::Run(args) => return run::run(client, args).await,
        WorkloadVerb::Attach(args) => attach(client, out, args)?,
        WorkloadVerb::Detach { workload } => {
            let detached = detach(client, workload).await?;
            out.object(&detached, || render::workload::detached(&detached))?;
        }
        WorkloadVerb::Ls => {
            let answer = list(client).await?;
            out.list(&answer, &answer.workloads, || render::workload::list(&answer.workloads, out.wide))?;
        }
        WorkloadVerb::Exec { workload, command } => {
            let found = find(list(client).await?.workloads, &workload)?;
            return Err(exec(client, &found, &command));
        }
    }
    Ok(Exit::Ok.code())
}

async fn list(client: &Client) -> Result<Workloads, ApiError> {
    client.get(paths::WORKLOADS).await
}

async fn detach(client: &Client, workload: String) -> Result<Detached, ApiError> {
    client.post(paths::WORKLOADS_DETACH, &Detach { workload }, PATIENCE).await
}

fn find(workloads: Vec<Workload>, wanted: &str) -> Result<Workload, ApiError> {
    let names = |workload: &Workload| workload.name == wanted || workload.id == wanted;
    workloads.into_iter().find(names).ok_or_else(|| ApiError::unknown_workload(wanted))
}

fn attach(client: &Client, out: Out, args: AttachArgs) -> Result<(), ApiError> {
    let mut request = request(args.place, AttachedBy::Attach);
    let (namespace, watched) = match (args.netns, args.pid, args.tap) {
        (Some(path), ..) => (open(&path)?, None),
        (_, Some(pid), _) => {
            // The pidfd first: as long as the process lives when it is asked for its namespace,
            // both are of one process.
            let pidfd = process::pidfd(pid).map_err(|error| no_process(pid, &error))?;
            let namespace = process::network_namespace(pid).map_err(|error| no_process(pid, &error))?;
            let start_ticks = process::start_ticks(pid).map_err(|error| no_process(pid, &error))?;
            request.watch = Some(Watch { pid, start_ticks });
            (namespace, Some(pidfd))
        }
        (.., Some(interface)) => {
            let [network] = request.networks.as_mut_slice() else {
                let hint = "attach one TAP for each network";
                return Err(ApiError::invalid("a TAP is on one network", hint));
            };
            network.interface = Some(interface);
            request.tap = true;
            (open(Path::new("/proc/self/ns/net"))?, None)
        }
        (None, None, None) => return Err(ApiError::invalid("what to attach?", "--netns, --pid or --tap")),
    };
    let answer = send(client, &request, namespace.as_fd(), watched.as_ref())?;
    out.object(&answer, || render::workload::attached(&answer))
}

fn request(place: PlaceArgs, by: AttachedBy) -> AttachRequest {
    let on =
        |on: crate::args::OnNetwork| AttachNetwork { network: on.network, ipv4: on.ipv4, interface: None };
    AttachRequest {
        name: place.name,
        networks: place.networks.into_iter().map(on).collect(),
        groups: place.groups,
        services: place.services,
        key: None,
        leases: Vec::new(),
        tap: false,
        watch: None,
        by,
        tag: None,
    }
}

/// Asks the daemon to attach `namespace`.
fn send(
    client: &Client,
    request: &AttachRequest,
    namespace: BorrowedFd<'_>,
    watched: Option<&OwnedFd>,
) -> Result<AttachAnswer, ApiError> {
    let socket = attach_socket(client.socket());
    let message = serde_json::to_vec(&Versioned::new(request)).expect("requests are plain structs");
    let fds: Vec<_> = std::iter::once(namespace).chain(watched.map(|fd| fd.as_fd())).collect();
    let answer = fdpass::ask(&socket, &message, &fds, ATTACH_MESSAGE_MAX, ATTACH_PATIENCE);
    attach_answer(&answer.map_err(|error| absent(&socket, &error))?)
}

fn open(path: &Path) -> Result<File, ApiError> {
    File::open(path).map_err(|error| ApiError::bad_namespace(&format!("{}: {error}", path.display())))
}

fn no_process(pid: u32, error: &std::io::Error) -> ApiError {
    ApiError::bad_namespace(&format!("process {pid}: {error}"))
}

/// Becomes a program inside a workload's namespace; returns only if it cannot.
fn exec(client: &Client, workload: &Workload, command: &[std::ffi::OsString]) -> ApiError {
    let Some(netns) = &workload.netns else {
        return ApiError::invalid(
            format!("{} is a virtual machine: it has no namespace here", workload.name),
            "",
        );
    };
    let namespace = match open(Path::new(netns)) {
        Ok(namespace) => namespace,
        Err(error) => return error,
    };
    if !is_network_namespace(namespace.as_fd()) {
        let message = format!("{netns} is no network namespace as this process sees it");
        let hint = "the daemon sees other mounts than this shell: `ip netns exec` does that, `nsenter --net` does not";
        return ApiError::new("bad_namespace", Exit::Usage, message, hint);
    }
    let resolvers: Vec<_> = workload.resolvers.iter().filter_map(|text| text.parse().ok()).collect();
    let resolv_conf = (!resolvers.is_empty()).then(|| resolv_conf(&resolvers, &workload.search));
    let sight = room::Sight { resolv_conf, hidden: leading_out(client.socket()) };
    if let Err(error) = room::enter(namespace.as_fd(), &sight) {
        return needs_root(&error);
    }
    drop(namespace);
    let Some((program, args)) = command.split_first() else { return ApiError::bad_request("no command") };
    not_started(program, &Command::new(program).args(args).exec())
}

fn needs_root(error: &std::io::Error) -> ApiError {
    if error.kind() == std::io::ErrorKind::PermissionDenied {
        let hint = "run it as root";
        return ApiError::new("denied", Exit::Denied, "namespaces need CAP_SYS_ADMIN", hint);
    }
    ApiError::invalid(format!("cannot make or enter the namespace: {error}"), "")
}

fn not_started(program: &std::ffi::OsStr, error: &std::io::Error) -> ApiError {
    ApiError::new("not_started", Exit::Usage, format!("cannot run {}: {error}", program.display()), "")
}
