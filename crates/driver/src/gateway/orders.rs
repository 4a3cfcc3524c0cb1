//! Requests of the control API, carried out at the desk.

use std::time::Instant;

use sinew_control::ApiError;
use sinew_control::api::{
    BackendProbe, GatewayDrain, GatewayDrained, GatewayNames, GatewayProbe, GatewayProbed, GatewayTransfer,
};
use sinew_gateway::Dial as _;
use sinew_gateway::config::Target;
use sinew_registry::TransferError;
use tracing::info;

use super::build;
use super::desk::{Desk, now};
use super::log::short;
use crate::command::{GatewayCommand, Reply};

impl Desk {
    pub(super) fn command(&mut self, command: GatewayCommand) {
        match command {
            GatewayCommand::List(reply) => drop(reply.send(Ok(self.status()))),
            GatewayCommand::Probe(probe, reply) => self.probe(&probe, reply),
            GatewayCommand::Log(query, reply) => {
                let log = self.log.clone();
                tokio::spawn(async move { drop(reply.send(Ok(log.ask(query).await))) });
            }
            GatewayCommand::Drain(drain, reply) => drop(reply.send(self.take_out(&drain))),
            GatewayCommand::Certificates(reply) => drop(reply.send(Ok(self.certificates_shown()))),
            GatewayCommand::Names(reply) => drop(reply.send(Ok(self.names()))),
            GatewayCommand::Numbers(reply) => drop(reply.send(Ok(self.numbers()))),
            GatewayCommand::Transfer(transfer, reply) => drop(reply.send(self.transfer(&transfer))),
        }
    }

    /// Dials each backend just now; the answer comes when all have answered.
    fn probe(&self, probe: &GatewayProbe, reply: Reply<GatewayProbed>) {
        let shown = self.status().services.into_iter().find(|service| {
            service.host == probe.host || service.hosts.iter().any(|host| host.host == probe.host)
        });
        let Some(service) = shown else {
            return drop(reply.send(Err(ApiError::unknown_service(&probe.host))));
        };
        let live = self.live.iter().find(|(key, _)| {
            key.author.to_string() == service.author && super::desk::hex(&key.service) == service.service
        });
        let targets: Vec<(Target, Option<String>)> = live.map_or_else(Vec::new, |(_, live)| {
            let each = live.claim.backends.iter();
            each.map(|backend| {
                (build::target(&live.claim, backend), backend.node.map(|node| node.to_string()))
            })
            .collect()
        });
        let (dial, udp) = (self.dial.clone(), service.mode == sinew_control::api::PublishMode::Udp);
        tokio::spawn(async move {
            let mut probes = Vec::new();
            for (target, node_id) in targets {
                let start = Instant::now();
                let error = match udp {
                    true => dial.datagrams(&target).await.err(),
                    false => dial.connect(&target).await.err(),
                };
                let connect_ms = error.is_none().then(|| start.elapsed().as_secs_f64() * 1000.0);
                let error = error.map(|error| error.to_string());
                probes.push(BackendProbe { addr: short(&target.0).to_owned(), node_id, connect_ms, error });
            }
            drop(reply.send(Ok(GatewayProbed { service, probes })));
        });
    }

    fn take_out(&mut self, drain: &GatewayDrain) -> Result<GatewayDrained, ApiError> {
        let status = self.status();
        let services = status.services.iter().filter(|service| {
            drain.host.as_ref().is_none_or(|host| {
                service.host == *host || service.hosts.iter().any(|other| other.host == *host)
            })
        });
        let mut found = GatewayDrained { backends: Vec::new(), active: 0 };
        for service in services {
            for backend in &service.backends {
                let node = backend.node_id.as_deref() == Some(drain.backend.as_str());
                let workload = backend.addr.split(':').next() == Some(drain.backend.as_str());
                if node || workload || backend.addr == drain.backend {
                    found.backends.push(format!("{} {}", service.host, backend.addr));
                    found.active += u64::from(backend.active);
                }
            }
        }
        if found.backends.is_empty() {
            return Err(ApiError::unknown_service(&drain.backend));
        }
        let targets: Vec<String> = self.targets(drain);
        for target in &targets {
            self.set_drained(target, !drain.undo);
        }
        info!(backends = ?found.backends, undo = drain.undo, "the operator drains");
        self.serve();
        Ok(found)
    }

    /// Targets that an operator's words mean.
    fn targets(&self, drain: &GatewayDrain) -> Vec<String> {
        let mut targets = Vec::new();
        for serving in self.registry.serving() {
            let name = build::name(&serving);
            let host = drain.host.as_ref();
            if host.is_some_and(|host| *host != name && !serving.hosts.contains(host)) {
                continue;
            }
            let Some(live) = self.live.get(serving.key) else { continue };
            for backend in &live.claim.backends {
                let target = build::target(&live.claim, backend);
                let addr = short(&target.0);
                let node = backend.node.is_some_and(|node| node.to_string() == drain.backend);
                if node || addr == drain.backend || addr.split(':').next() == Some(&drain.backend) {
                    targets.push(target.0.to_string());
                }
            }
        }
        targets
    }

    fn transfer(&mut self, transfer: &GatewayTransfer) -> Result<GatewayNames, ApiError> {
        let domain = self.config.domain.as_deref().unwrap_or_default();
        let label = transfer.name.strip_suffix(&format!(".{domain}")).unwrap_or(&transfer.name);
        let done = match &transfer.to {
            Some(to) => {
                let to = to
                    .parse()
                    .map_err(|error| ApiError::invalid(format!("{to}: {error}"), "a network's id"))?;
                self.registry.transfer(label, to, now()).map(|_| ())
            }
            None => self.registry.cancel_transfer(label),
        };
        done.map_err(|error| match error {
            TransferError::Unknown => ApiError::unknown_service(&transfer.name),
            TransferError::Elsewhere(_) => {
                let remedy = "run the command on that gateway; this one follows";
                ApiError::invalid(format!("{}: {error}", transfer.name), remedy)
            }
            error => ApiError::invalid(format!("{}: {error}", transfer.name), ""),
        })?;
        info!(
            name = label,
            to = transfer.to.as_deref().unwrap_or("its holder"),
            "a name is transferred by the operator"
        );
        Ok(self.names())
    }
}
