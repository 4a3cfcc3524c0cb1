//! What is remembered of a request until its response has gone, then told and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::body::Progress;
use crate::event::{RequestEvent, unix_millis};
use crate::state::{Service, Shared};

/// One request; tells of it when dropped, whichever way it ended.
pub(crate) struct Record {
    shared: Arc<Shared>,
    start: Instant,
    event: RequestEvent,
    service: Option<Arc<Service>>,
    /// The host as configured, for the counts.
    label: String,
    upload: Option<Arc<Progress>>,
    /// Set once a response has begun; dropped before, the client has gone.
    answered: bool,
    under_way: Option<super::exchange::UnderWay>,
}

impl Record {
    pub(crate) fn new(shared: &Arc<Shared>, client: SocketAddr, tls: bool) -> Self {
        let event = RequestEvent {
            time: unix_millis(),
            id: shared.ids.next(),
            client,
            version: "",
            tls,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            service: None,
            backend: None,
            user: None,
            status: 0,
            error: None,
            rx_bytes: 0,
            tx_bytes: 0,
            duration_ms: 0.0,
            aborted: false,
        };
        Self {
            shared: shared.clone(),
            start: Instant::now(),
            event,
            service: None,
            label: String::new(),
            upload: None,
            answered: false,
            under_way: None,
        }
    }

    /// Keeps the connection's count of requests under way until the end.
    pub(super) fn hold(&mut self, under_way: super::exchange::UnderWay) {
        self.under_way = Some(under_way);
    }

    pub(crate) fn id(&self) -> &str {
        &self.event.id
    }

    pub(crate) fn request<B>(&mut self, request: &hyper::Request<B>) {
        self.event.version = match request.version() {
            hyper::Version::HTTP_2 => "HTTP/2.0",
            hyper::Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        };
        request.method().as_str().clone_into(&mut self.event.method);
        request.uri().path().clone_into(&mut self.event.path);
    }

    pub(crate) fn host(&mut self, host: &str) {
        host.clone_into(&mut self.event.host);
    }

    pub(crate) fn client(&mut self, client: SocketAddr) {
        self.event.client = client;
    }

    pub(crate) fn user(&mut self, user: Option<String>) {
        self.event.user = user;
    }

    pub(crate) fn service(&mut self, service: &Arc<Service>) {
        service.tally.active.fetch_add(1, Ordering::Relaxed);
        let host = &self.event.host;
        let own = service.config.hosts.iter().find(|configured| *configured == host);
        let wild = || service.config.hosts.iter().find(|configured| configured.starts_with("*."));
        own.or_else(wild).map_or("", String::as_str).clone_into(&mut self.label);
        self.event.service = Some(service.name.clone());
        self.service = Some(service.clone());
    }

    pub(crate) fn backend(&mut self, backend: &crate::backend::Backend) {
        self.event.backend = Some(backend.target.to_string());
    }

    pub(crate) fn upload(&mut self, progress: &Arc<Progress>) {
        self.upload = Some(progress.clone());
    }

    pub(crate) fn answer(&mut self, status: u16, error: Option<&'static str>) {
        self.answered = true;
        self.event.status = status;
        self.event.error = error;
    }

    pub(crate) fn sent(&mut self, length: usize) {
        self.event.tx_bytes += length as u64;
    }

    pub(crate) fn fail(&mut self, error: &'static str) {
        self.event.error = Some(error);
    }

    pub(crate) fn abort(&mut self) {
        self.event.aborted = true;
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let event = &mut self.event;
        if !self.answered {
            // As nginx counts clients that left before an answer.
            event.status = 499;
            event.aborted = true;
        }
        event.rx_bytes = self.upload.as_ref().map_or(0, |upload| upload.bytes.load(Ordering::Relaxed));
        event.duration_ms = self.start.elapsed().as_secs_f64() * 1000.0;
        if let Some(service) = &self.service {
            let tally = &service.tally;
            tally.active.fetch_sub(1, Ordering::Relaxed);
            tally.rx_bytes.fetch_add(event.rx_bytes, Ordering::Relaxed);
            tally.tx_bytes.fetch_add(event.tx_bytes, Ordering::Relaxed);
            tally.status(&self.label, event.status);
        }
        self.shared.observer.request(event);
    }
}
