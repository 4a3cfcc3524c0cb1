//! From what an operator asks for to what is signed, and what is different from before.

use sinew_control::api::{self, Expose, ExposeBackend};
use sinew_control::{ApiError, Exit};
use sinew_node::Node;
use sinew_node::overlay::{BackendSpec, PublicationSpec, PublishMode, Refusal, State, Workload};
use sinew_types::{Label, NetworkId, NodeId};

use crate::networks::{self, refused};

/// The only network that has all workloads of a request.
pub(super) fn network(node: &Node, expose: &Expose) -> Result<NetworkId, ApiError> {
    let (own, all) = (node.overlay().own(), networks::ids_of(node));
    let has_all = |network: &NetworkId| {
        let state = node.overlay().state(network);
        state.is_ok_and(|state| expose.backends.iter().all(|one| workload(state, &own, one).is_some()))
    };
    let fits: Vec<_> = all.iter().filter(|network| has_all(network)).copied().collect();
    match (&fits[..], &all[..]) {
        // In the only one there is, it is said what is not there.
        (&[one], _) | (&[], &[one]) => Ok(one),
        (&[], _) => {
            let names: Vec<_> = expose.backends.iter().map(|backend| backend.workload.as_str()).collect();
            let message = format!("no network of this node has {}", names.join(" and "));
            Err(ApiError::new(
                "unknown_name",
                Exit::Unknown,
                message,
                "`sinew workload ls` lists its workloads",
            ))
        }
        (several, _) => {
            let names = several.iter().filter_map(|network| node.overlay().name(network));
            let names: Vec<_> = names.map(|name| name.to_string()).collect();
            let message = format!("several networks have such a workload: {}", names.join(", "));
            Err(ApiError::invalid(message, "say which: `--network NAME`"))
        }
    }
}

/// The specification that a request means.
pub(super) fn of(
    node: &Node,
    network: &NetworkId,
    expose: &Expose,
    gateway: NodeId,
) -> Result<PublicationSpec, ApiError> {
    let state = node.overlay().state(network).map_err(|refusal| refused(&refusal))?;
    let unknown = |name: &str| {
        let network = node.overlay().name(network);
        network.map_or_else(
            || ApiError::unknown_name(name),
            |network| refused(&Refusal::UnknownName { network, name: name.to_owned() }),
        )
    };
    let mut backends = Vec::new();
    for backend in &expose.backends {
        let workload =
            workload(state, &node.overlay().own(), backend).ok_or_else(|| unknown(&backend.workload))?;
        backends.push(BackendSpec {
            home: workload.home,
            workload: workload.name.clone(),
            port: backend.port,
            weight: backend.weight,
        });
    }
    expose.check().map_err(|reason| {
        ApiError::new("bad_publication", sinew_control::Exit::Usage, reason, "`sinew expose --help`")
    })?;
    backends.sort_unstable_by(|a, b| (a.home, &a.workload, a.port).cmp(&(b.home, &b.workload, b.port)));
    let mut hosts = expose.hosts.clone();
    hosts.sort_unstable();
    hosts.dedup();
    let settings = match expose.settings == api::Settings::default() {
        true => Vec::new(),
        false => serde_json::to_vec(&expose.settings).map_err(|e| ApiError::internal(e.to_string()))?,
    };
    Ok(PublicationSpec {
        name: name(expose, &hosts, &backends)?,
        gateway,
        mode: mode(expose.mode),
        hosts,
        backends,
        settings,
        recovery: None,
    })
}

const fn mode(mode: api::PublishMode) -> PublishMode {
    match mode {
        api::PublishMode::Http => PublishMode::Http,
        api::PublishMode::TlsPassthrough => PublishMode::TlsPassthrough,
        api::PublishMode::Tcp => PublishMode::Tcp,
        api::PublishMode::Udp => PublishMode::Udp,
    }
}

/// What the service is called here: as asked for, else by its first host, else by its workload.
fn name(expose: &Expose, hosts: &[String], backends: &[BackendSpec]) -> Result<Label, ApiError> {
    let text = match (&expose.name, hosts.first()) {
        (Some(name), _) => name.clone(),
        // A host's dots become hyphens, so that `a.example` and `a.example.org` differ.
        (None, Some(host)) => host.trim_start_matches("*.").replace('.', "-").chars().take(63).collect(),
        (None, None) => backends.first().map(|backend| backend.workload.to_string()).unwrap_or_default(),
    };
    let text = text.trim_end_matches('-');
    Label::parse(text).map_err(|reason| refused(&Refusal::BadName { text: text.to_owned(), reason }))
}

/// The workload that a name means: this node's own first, then whoever has the name.
fn workload<'a>(state: &'a State, own: &NodeId, backend: &ExposeBackend) -> Option<&'a Workload> {
    let (name, member) = match backend.workload.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (backend.workload.as_str(), None),
    };
    let name = Label::parse(name).ok()?;
    match member {
        None => state.workload(own.as_bytes(), &name).or_else(|| state.named(&name)),
        Some(member) => state.workloads.values().find(|one| one.name == name && one.home.short() == *member),
    }
}

/// What is different, a line each.
pub(super) fn differences(before: Option<&PublicationSpec>, after: &PublicationSpec) -> Vec<String> {
    let Some(before) = before else { return vec!["new".to_owned()] };
    let mut lines = Vec::new();
    if before.gateway != after.gateway {
        lines.push(format!("via: {} → {}", before.gateway.short(), after.gateway.short()));
    }
    if before.mode != after.mode {
        lines.push(format!("mode: {:?} → {:?}", before.mode, after.mode).to_lowercase());
    }
    let backend = |one: &BackendSpec| format!("{}:{}*{}", one.workload, one.port, one.weight);
    let of = |spec: &PublicationSpec| spec.backends.iter().map(backend).collect::<Vec<_>>();
    for (what, old, new) in
        [("host", before.hosts.clone(), after.hosts.clone()), ("backend", of(before), of(after))]
    {
        lines.extend(old.iter().filter(|one| !new.contains(one)).map(|one| format!("- {what} {one}")));
        lines.extend(new.iter().filter(|one| !old.contains(one)).map(|one| format!("+ {what} {one}")));
    }
    if before.settings != after.settings {
        lines.push("settings".to_owned());
    }
    lines
}
