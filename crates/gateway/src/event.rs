//! What the front tells of its work: one event for each request and stream, and counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::relay::{Count, Moved};

/// Gets every event. Called on the threads that serve, so it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A request has been answered, or its client has gone.
    fn request(&self, _event: &RequestEvent) {}

    /// A passed-through stream, a TCP connection or an upgraded one has ended.
    fn stream(&self, _event: &StreamEvent) {}

    /// A backend's check has changed its mind, or clients' requests have ejected it.
    fn backend(&self, _event: &BackendEvent) {}
}

/// Hears nothing.
impl Observer for () {}

/// One request.
#[derive(Clone, Debug, Serialize)]
pub struct RequestEvent {
    /// Milliseconds of unix time at the request's start. How a log writes times is for the log to say.
    #[serde(skip)]
    pub time: u64,
    /// The request's id, as on error pages and in `X-Request-Id`.
    pub id: String,
    /// The client; behind a trusted proxy the one that it names.
    pub client: SocketAddr,
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2.0`.
    pub version: &'static str,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Method.
    pub method: String,
    /// Host asked for; empty if none was understood.
    pub host: String,
    /// Path without the query, which may hold secrets.
    pub path: String,
    /// Service that it was for.
    pub service: Option<Arc<str>>,
    /// Backend that answered, or the last that was tried.
    pub backend: Option<String>,
    /// Name that the client proved by basic authentication.
    pub user: Option<String>,
    /// Status of the response.
    pub status: u16,
    /// What went wrong, if the front made the response itself.
    pub error: Option<&'static str>,
    /// Bytes of the request's body.
    pub rx_bytes: u64,
    /// Bytes of the response's body that were handed to the client's connection.
    pub tx_bytes: u64,
    /// From the request's head to the end of the response, milliseconds.
    pub duration_ms: f64,
    /// Whether the response was cut off, by either side.
    pub aborted: bool,
}

/// One stream of bytes.
#[derive(Clone, Debug, Serialize)]
pub struct StreamEvent {
    /// Milliseconds of unix time at the stream's start.
    #[serde(skip)]
    pub time: u64,
    /// The client.
    pub client: SocketAddr,
    /// Service.
    pub service: Arc<str>,
    /// Host asked for, if it was TLS.
    pub host: Option<String>,
    /// Backend; none if none was reached.
    pub backend: Option<String>,
    /// Bytes from the client.
    pub rx_bytes: u64,
    /// Bytes to the client.
    pub tx_bytes: u64,
    /// Length of its life, milliseconds.
    pub duration_ms: f64,
    /// How it ended: `closed`, `broken`, `idle`, `unreachable`, `drained`.
    pub end: &'static str,
}

/// A backend's state has changed.
#[derive(Clone, Debug, Serialize)]
pub struct BackendEvent {
    /// Milliseconds of unix time when it did.
    #[serde(skip)]
    pub time: u64,
    /// Service.
    pub service: Arc<str>,
    /// Backend.
    pub backend: String,
    /// What it is now.
    pub condition: crate::backend::Condition,
    /// What was found.
    pub cause: String,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// Why a connection or datagram was turned away before a request was understood.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Refused { $($(#[$doc])* $name,)* }

        impl Refused {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word in metrics.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

refusals! {
    /// The listeners have as many connections as they may.
    ListenerFull => "listener_full",
    /// The client has as many connections as it may.
    ClientFull => "client_full",
    /// Too many TLS handshakes were under way, and somebody else got its place.
    HandshakesFull => "handshakes_full",
    /// A trusted proxy sent no `PROXY` header.
    NoProxyHeader => "no_proxy_header",
    /// No TLS, or a ClientHello that is refused.
    BadHello => "bad_hello",
    /// Plain HTTP on a TLS port.
    PlainHttp => "plain_http",
    /// The ClientHello or the handshake did not come in time.
    HandshakeTimeout => "handshake_timeout",
    /// The client left before it had asked for anything.
    Gone => "gone",
    /// TLS for a name that is not served here, or none.
    UnknownName => "unknown_name",
    /// TLS for whom the port is shared with, who had no room.
    HandoverFull => "handover_full",
    /// The TLS handshake failed.
    Handshake => "handshake",
    /// The service does not let this address in.
    Denied => "denied",
    /// The client asks more often than the service allows.
    Rate => "rate",
    /// No backend could be reached.
    NoBackend => "no_backend",
    /// A request whose framing is refused.
    BadRequest => "bad_request",
    /// An HTTP/2 connection that was ended for what came over it: requests taken back by the hundred, frames that
    /// are none.
    Http2 => "http2",
    /// More UDP flows than the listener or the client may have.
    FlowsFull => "flows_full",
    /// A UDP answer that would be too large for what an unproven client sent.
    Amplification => "amplification",
    /// A datagram that could not be passed on.
    DatagramLost => "datagram_lost",
}

/// Counts of the whole front.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    refused: [AtomicU64; Refused::ALL.len()],
    pub(crate) connections: AtomicU64,
}

impl Counters {
    pub(crate) fn refuse(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refused(&self) -> Vec<(Refused, u64)> {
        let count = |reason: &Refused| (*reason, self.refused[*reason as usize].load(Ordering::Relaxed));
        Refused::ALL.iter().map(count).collect()
    }
}

/// Counts of one service; they live on over changes of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Responses by the first digit of their status, 1 to 5.
    pub(crate) statuses: [AtomicU64; 5],
    /// Requests, streams and UDP flows under way.
    pub(crate) active: AtomicU64,
    /// Streams and UDP flows so far.
    pub(crate) streams: AtomicU64,
    /// Bytes of bodies, streams and datagrams from clients and to them.
    pub(crate) rx_bytes: Arc<AtomicU64>,
    pub(crate) tx_bytes: Arc<AtomicU64>,
    /// Requests by host and status class, for hosts that are configured: exact names, wildcards as
    /// they are written. So clients cannot fill it.
    by_host: Mutex<Vec<(String, [u64; 5])>>,
}

impl Tally {
    /// Counts a stream's bytes, here as they go.
    pub(crate) fn moved(&self) -> Moved {
        Moved { up: Count::within(&self.rx_bytes), down: Count::within(&self.tx_bytes) }
    }

    pub(crate) fn status(&self, host: &str, status: u16) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        self.statuses[class].fetch_add(1, Ordering::Relaxed);
        if host.is_empty() {
            return;
        }
        let mut hosts = self.by_host.lock().unwrap_or_else(PoisonError::into_inner);
        let at = hosts.iter().position(|(name, _)| name == host).unwrap_or_else(|| {
            hosts.push((host.to_owned(), [0; 5]));
            hosts.len() - 1
        });
        hosts[at].1[class] += 1;
    }

    pub(crate) fn hosts(&self) -> Vec<(String, [u64; 5])> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes every event as a line of JSON.
#[derive(Debug)]
pub struct JsonLog<W> {
    to: Mutex<W>,
    time: fn(u64) -> String,
}

impl<W: std::io::Write + Send + 'static> JsonLog<W> {
    /// Writes to `to`; what cannot be written is lost, requests go on. `time` makes text of milliseconds of
    /// unix time.
    pub fn new(to: W, time: fn(u64) -> String) -> Self {
        Self { to: Mutex::new(to), time }
    }

    fn write(&self, kind: &str, time: u64, event: &impl Serialize) {
        #[derive(Serialize)]
        struct Line<'a, E> {
            kind: &'a str,
            time: String,
            #[serde(flatten)]
            event: &'a E,
        }
        let Ok(mut line) = serde_json::to_vec(&Line { kind, time: (self.time)(time), event }) else { return };
        line.push(b'\n');
        let _ = self.to.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
    }
}

impl<W: std::io::Write + Send + 'static> Observer for JsonLog<W> {
    fn request(&self, event: &RequestEvent) {
        self.write("request", event.time, event);
    }

    fn stream(&self, event: &StreamEvent) {
        self.write("stream", event.time, event);
    }

    fn backend(&self, event: &BackendEvent) {
        self.write("backend", event.time, event);
    }
}

/// Milliseconds of unix time.
pub(crate) fn unix_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_json() {
        let log = JsonLog::new(Vec::new(), |ms| format!("at {ms}"));
        log.stream(&StreamEvent {
            time: 1,
            client: "192.0.2.1:5".parse().unwrap(),
            service: "a\nb".into(),
            host: None,
            backend: None,
            rx_bytes: 1,
            tx_bytes: 2,
            duration_ms: 0.5,
            end: "closed",
        });
        log.backend(&BackendEvent {
            time: 2,
            service: "a".into(),
            backend: "b".into(),
            condition: crate::backend::Condition::Down,
            cause: "no answer".into(),
        });
        let text = String::from_utf8(log.to.into_inner().unwrap()).unwrap();
        assert_eq!(text.matches('\n').count(), 2);
        let mut values = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let (value, second) = (values.next().unwrap(), values.next().unwrap());
        assert_eq!((&value["time"], &second["time"]), (&"at 1".into(), &"at 2".into()));
        assert_eq!((&value["kind"], &value["service"]), (&"stream".into(), &"a\nb".into()));
    }

    #[test]
    fn every_refusal_has_its_own_count() {
        let counters = Counters::default();
        Refused::ALL.iter().for_each(|reason| counters.refuse(*reason));
        assert!(counters.refused().iter().all(|(_, count)| *count == 1));
        let words: std::collections::BTreeSet<_> = Refused::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), Refused::ALL.len());
    }
}
