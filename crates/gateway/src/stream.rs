//! Streams that go through as they are: TLS by its name, TCP ports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::access::Denied;
use crate::backend::{Backend, Busy, Condition};
use crate::dial::{Failure, Stream};
use crate::event::{BackendEvent, Refused, StreamEvent, unix_millis};
use crate::proxy;
use crate::relay::{self, Moved};
use crate::state::{Service, Shared, Snapshot};

/// Backends that one stream is brought to at most.
const BACKENDS_MAX: usize = 3;

/// A stream that looks for its backend.
pub(crate) struct Opening<'a> {
    pub(crate) shared: &'a Arc<Shared>,
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) service: &'a Arc<Service>,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) host: Option<String>,
}

/// Joins the client with a backend until both have ended. `first` was read from the client before.
pub(crate) async fn pass(
    opening: Opening<'_>,
    client: TcpStream,
    first: Bytes,
) -> Result<(), (Refused, Option<TcpStream>)> {
    if let Err(reason) = admit(&opening) {
        return Err((reason, Some(client)));
    }
    let (start, time) = (Instant::now(), unix_millis());
    let tally = &opening.service.tally;
    tally.streams.fetch_add(1, Ordering::Relaxed);
    let Some((backend, stream, busy)) = reach(&opening, &first).await else {
        opening.tell(time, start, None, &Moved::default(), "unreachable");
        return Err((Refused::NoBackend, Some(client)));
    };
    tally.active.fetch_add(1, Ordering::Relaxed);
    let moved = tally.moved();
    moved.up.add(first.len());
    drop(first);
    let end = relay::tcp(client, stream, opening.snapshot.config.timeouts.tunnel, &moved).await;
    tally.active.fetch_sub(1, Ordering::Relaxed);
    drop(busy);
    opening.tell(time, start, Some(&backend), &moved, end.word());
    Ok(())
}

fn admit(opening: &Opening<'_>) -> Result<(), Refused> {
    let gate = &opening.service.gate;
    let admitted = gate.admits(opening.peer.ip()).and_then(|()| gate.count(opening.peer.ip()));
    admitted.map_err(|denied| match denied {
        Denied::Rate(_) => Refused::Rate,
        _ => Refused::Denied,
    })
}

/// A backend that has taken the connection and the first bytes.
async fn reach(opening: &Opening<'_>, first: &[u8]) -> Option<(Arc<Backend>, Stream, Busy)> {
    let service = opening.service;
    let mut tried: Vec<Arc<Backend>> = Vec::new();
    while tried.len() < BACKENDS_MAX {
        let backend = service.picker.pick(opening.peer.ip(), None, &tried, Instant::now())?;
        let busy = Busy::new(&backend);
        let connecting = async {
            let mut stream = opening.shared.dial.connect(&backend.target).await?;
            let mut front = Vec::new();
            if let Some(version) = service.config.proxy_header {
                front = proxy::write(version, opening.peer, opening.local);
            }
            front.extend_from_slice(first);
            stream.write_all(&front).await?;
            Ok::<_, Failure>(stream)
        };
        match tokio::time::timeout(opening.snapshot.config.timeouts.connect, connecting).await {
            Ok(Ok(stream)) => {
                backend.succeeded();
                return Some((backend, stream, busy));
            }
            // It lives, and has no room.
            Ok(Err(Failure::Full)) => {}
            _ if backend.failed(Instant::now()) => opening.shared.observer.backend(&BackendEvent {
                time: unix_millis(),
                service: service.name.clone(),
                backend: backend.target.to_string(),
                condition: Condition::Ejected,
                cause: "no connection".to_owned(),
            }),
            _ => {}
        }
        tried.push(backend);
    }
    None
}

impl Opening<'_> {
    fn tell(
        &self,
        time: u64,
        start: Instant,
        backend: Option<&Arc<Backend>>,
        moved: &Moved,
        end: &'static str,
    ) {
        self.shared.observer.stream(&StreamEvent {
            time,
            client: self.peer,
            service: self.service.name.clone(),
            host: self.host.clone(),
            backend: backend.map(|backend| backend.target.to_string()),
            rx_bytes: moved.up.get(),
            tx_bytes: moved.down.get(),
            duration_ms: start.elapsed().as_secs_f64() * 1000.0,
            end,
        });
    }
}
