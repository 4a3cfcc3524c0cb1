//! `expose`, `unexpose`, `apply`.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use sinew_control::api::{
    Expose, ExposeBackend, Exposed, Publication, PublicationState, Publications, PublishAccess,
    PublishBalance, PublishCheck, PublishForwardAuth, PublishMode, PublishProtocol, PublishProxyHeader,
    PublishUser, Settings, Unexpose, Unexposed,
};
use sinew_control::{ApiError, Exit, paths, publish_file};

use super::millis;
use crate::args::{
    AccessArgs, ApplyArgs, Balance, ExposeArgs, ExposeCommand, ExposeVerb, FrontArgs, ProxyHeader,
    PublishMode as Mode, UnexposeArgs,
};
use crate::client::{Client, PATIENCE};
use crate::output::Out;
use crate::render;

/// Longest file of passwords or certificates.
const FILE_MAX: u64 = 8192;

/// `expose …` and `expose ls`.
pub(super) async fn expose(client: &Client, out: Out, command: ExposeCommand) -> Result<Exit, ApiError> {
    match (command.verb, command.args) {
        (Some(ExposeVerb::Ls), _) => {
            let answer: Publications = client.get(paths::PUBLICATIONS).await?;
            let services = &answer.services;
            out.list(&answer, services, || render::publish::list(services, out.wide))?;
            Ok(Exit::Ok)
        }
        (None, Some(args)) => {
            let (wait, expose) = (args.wait, request(args, command.front, command.access)?);
            let exposed = send(client, &expose, wait).await?;
            out.object(&exposed, || render::publish::exposed(&exposed))?;
            Ok(if expose.dry_run { Exit::Ok } else { exit(&exposed.publication) })
        }
        (None, None) => Err(ApiError::invalid("what to expose?", "`sinew expose --help`")),
    }
}

async fn send(client: &Client, expose: &Expose, wait: f64) -> Result<Exposed, ApiError> {
    let patience = PATIENCE + Duration::from_secs_f64(wait);
    client.post(paths::PUBLICATIONS_EXPOSE, expose, patience).await
}

/// 0: served; 2: not yet; 3: the gateway does not answer; 5: refused.
const fn exit(publication: &Publication) -> Exit {
    match publication.state {
        PublicationState::Live | PublicationState::Withdrawn => Exit::Ok,
        PublicationState::Pending | PublicationState::Sending => Exit::Degraded,
        PublicationState::Unreachable => Exit::Unreachable,
        PublicationState::Refused | PublicationState::Void => Exit::Denied,
    }
}

fn request(args: ExposeArgs, requests: FrontArgs, who: AccessArgs) -> Result<Expose, ApiError> {
    let mut backends = vec![ExposeBackend { workload: args.workload, port: args.port, weight: 1 }];
    backends.extend(args.backends);
    backends.extend(args.acme_http);
    let (mut settings, forward) = (front(requests), who.forward_auth.clone());
    settings.access = access(who)?;
    backends.extend(forward.map(|forward| forward.backend));
    let expose = Expose {
        network: args.network,
        name: args.service,
        via: args.via,
        mode: match args.mode {
            Mode::Http => PublishMode::Http,
            Mode::TlsPassthrough => PublishMode::TlsPassthrough,
            Mode::Tcp => PublishMode::Tcp,
            Mode::Udp => PublishMode::Udp,
        },
        hosts: args.names.into_iter().chain(args.hosts).collect(),
        backends,
        settings,
        wait_ms: millis(args.wait),
        dry_run: args.dry_run,
    };
    expose.check().map_err(|why| ApiError::invalid(why, "`sinew expose --help`"))?;
    Ok(expose)
}

fn front(args: FrontArgs) -> Settings {
    Settings {
        paths: args.paths,
        plain: args.plain,
        protocol: args.h2c.then_some(PublishProtocol::H2c),
        balance: args.balance.map(|balance| match balance {
            Balance::RoundRobin => PublishBalance::RoundRobin,
            Balance::LeastConnections => PublishBalance::LeastConnections,
            Balance::StickyCookie => PublishBalance::StickyCookie,
            Balance::StickyAddress => PublishBalance::StickyAddress,
        }),
        check: args.check.map(|path| PublishCheck { path: Some(path), ..PublishCheck::default() }),
        proxy_header: args.proxy_header.map(|version| match version {
            ProxyHeader::V1 => PublishProxyHeader::V1,
            ProxyHeader::V2 => PublishProxyHeader::V2,
        }),
        access: PublishAccess::default(),
        body_max: args.body_max,
        port: args.public_port,
    }
}

fn access(args: AccessArgs) -> Result<PublishAccess, ApiError> {
    Ok(PublishAccess {
        allow: args.allow,
        deny: args.deny,
        basic: args.basic.map(|path| users(&path)).transpose()?.unwrap_or_default(),
        rate: args.rate,
        forward: args.forward_auth.map(|forward| PublishForwardAuth {
            path: forward.path,
            host: None,
            copy: args.forward_auth_copy,
        }),
        client_ca: args.client_ca.map(|path| read(&path)).transpose()?,
    })
}

/// Lines `USER:HASH`; empty ones and those that begin with `#` are passed over.
fn users(path: &Path) -> Result<Vec<PublishUser>, ApiError> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let user = |line: &str| match line.split_once(':') {
        Some((name, hash)) if !name.is_empty() && hash.starts_with("$argon2") => {
            Ok(PublishUser { name: name.to_owned(), hash: hash.to_owned() })
        }
        // Not the line: it may be a password.
        _ => Err(ApiError::invalid(
            format!("{}: a line is not USER:HASH with an Argon2 hash", path.display()),
            "make one: `echo -n PASSWORD | argon2 \"$(openssl rand -hex 8)\" -id -e` (package argon2)",
        )),
    };
    let users = lines.map(user).collect::<Result<Vec<_>, _>>()?;
    if users.is_empty() {
        // Nobody could come in, or, with the list left out, everybody.
        return Err(ApiError::invalid(format!("{} names no user", path.display()), "a line USER:HASH each"));
    }
    Ok(users)
}

/// A small file, or standard input.
fn read(path: &Path) -> Result<String, ApiError> {
    let mut text = String::new();
    let result = match path == Path::new("-") {
        true => std::io::stdin().lock().take(FILE_MAX + 1).read_to_string(&mut text),
        false => std::fs::File::open(path).and_then(|file| file.take(FILE_MAX + 1).read_to_string(&mut text)),
    };
    result.map_err(|error| ApiError::invalid(format!("{}: {error}", path.display()), ""))?;
    if text.len() as u64 > FILE_MAX {
        let message = format!("{} is longer than {FILE_MAX} bytes", path.display());
        return Err(ApiError::invalid(message, "all settings of a service have 8 KiB"));
    }
    Ok(text)
}

/// `unexpose`.
pub(super) async fn unexpose(client: &Client, out: Out, args: UnexposeArgs) -> Result<Exit, ApiError> {
    let unexpose = Unexpose { service: args.service, network: args.network, wait_ms: millis(args.wait) };
    let gone = take_back(client, &unexpose, args.wait).await?;
    out.object(&gone, || render::publish::unexposed(&gone))?;
    Ok(if gone.confirmed { Exit::Ok } else { Exit::Degraded })
}

async fn take_back(client: &Client, unexpose: &Unexpose, wait: f64) -> Result<Unexposed, ApiError> {
    let patience = PATIENCE + Duration::from_secs_f64(wait);
    client.post(paths::PUBLICATIONS_UNEXPOSE, unexpose, patience).await
}

/// What `apply` did, or would do.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Applied {
    /// A service of the file each, in its order.
    pub(crate) services: Vec<Exposed>,
    /// Services that the file does not name, taken back.
    pub(crate) pruned: Vec<Publication>,
    /// Nothing was done.
    pub(crate) dry_run: bool,
}

/// `apply`: everything is looked at before anything is changed.
pub(super) async fn apply(client: &Client, out: Out, args: ApplyArgs) -> Result<Exit, ApiError> {
    let text = match args.file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(&args.file),
    };
    let text = text.map_err(|error| ApiError::bad_config(format!("{}: {error}", args.file.display())))?;
    let wanted = publish_file::parse(&args.file, &text)?;
    let mut applied = Applied { dry_run: args.dry_run, ..Applied::default() };
    for expose in &wanted {
        let planned = Expose { dry_run: true, ..expose.clone() };
        applied.services.push(send(client, &planned, 0.0).await?);
    }
    if args.prune {
        let all: Publications = client.get(paths::PUBLICATIONS).await?;
        applied.pruned = surplus(all.services, &applied.services);
    }
    let changes = applied.services.iter().any(|one| one.change != "unchanged") || !applied.pruned.is_empty();
    if !args.dry_run {
        carry_out(client, &wanted, &mut applied, args.wait).await?;
    }
    out.object(&applied, || render::publish::applied(&applied))?;
    if args.dry_run {
        return Ok(if changes { Exit::Degraded } else { Exit::Ok });
    }
    let worst = applied.services.iter().map(|one| exit(&one.publication)).max_by_key(|exit| exit.code());
    Ok(worst.unwrap_or(Exit::Ok))
}

async fn carry_out(
    client: &Client,
    wanted: &[Expose],
    applied: &mut Applied,
    wait: f64,
) -> Result<(), ApiError> {
    for (expose, place) in wanted.iter().zip(&mut applied.services) {
        let expose = Expose { wait_ms: millis(wait.max(0.001)), ..expose.clone() };
        *place = send(client, &expose, wait).await?;
    }
    for gone in &applied.pruned {
        let (service, network) = (gone.id.clone(), Some(gone.network_id.clone()));
        take_back(client, &Unexpose { service, network, wait_ms: 0 }, wait).await?;
    }
    Ok(())
}

/// What is published in the networks that the file speaks of and is not in it.
fn surplus(all: Vec<Publication>, planned: &[Exposed]) -> Vec<Publication> {
    let of_file =
        |one: &Publication| planned.iter().any(|plan| plan.publication.network_id == one.network_id);
    let named = |one: &Publication| planned.iter().any(|plan| plan.publication.id == one.id);
    all.into_iter().filter(|one| of_file(one) && !named(one)).collect()
}
