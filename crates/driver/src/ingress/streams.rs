//! A granted stream: to the workload's port inside its namespace, and until one side or the grant ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use sinew_gateway::relay;
use sinew_helper::{HelperError, SocketKind, Why};
use sinew_wire::ingress::Status;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;
use tracing::debug;

use super::Shared;
use super::count::{Counted, Outcome};
use super::table::{Key, Target};

/// For a connection inside one machine.
const CONNECT: Duration = Duration::from_secs(2);
/// A stream on which nothing moves. The gateway has its own, shorter limits; this is for one that is gone.
const IDLE: Duration = Duration::from_secs(4 * 3600);

/// A workload's port.
pub(super) enum Reached {
    Stream(TcpStream),
    Datagrams(UdpSocket),
}

/// Connects to the workload.
pub(super) async fn reach(key: &Key, target: &Target, shared: &Shared) -> Result<Reached, Status> {
    let Some(namespace) = &target.namespace else { return Err(Status::NotHere) };
    let mut result = Err(Status::NotHere);
    for &address in &target.addresses {
        let kind = SocketKind { datagrams: key.datagrams, ipv6: address.is_ipv6() };
        let socket = match shared.helper.socket(namespace, kind).await {
            Ok(socket) => socket,
            Err(HelperError::Refused { why: Why::Unknown, .. }) => return Err(Status::NotHere),
            Err(error) => {
                debug!(%error, "no socket for a stream");
                return Err(Status::Busy);
            }
        };
        let to = SocketAddr::new(address, key.open.port);
        if key.datagrams {
            return datagrams(socket, to).await.map(Reached::Datagrams).map_err(|_| Status::NotHere);
        }
        result = match timeout(CONNECT, connect(socket, to)).await {
            Ok(Ok(stream)) => return Ok(Reached::Stream(stream)),
            // It may serve the other family only.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Status::Refused),
            Ok(Err(_)) => Err(Status::NotHere),
            Err(_) => return Err(Status::TimedOut),
        };
    }
    result
}

async fn connect(socket: OwnedFd, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::from_std_stream(std::net::TcpStream::from(socket));
    let stream = socket.connect(to).await?;
    // It only passes on what somebody else has put together.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// To one far end: answers of others do not come in by it.
async fn datagrams(socket: OwnedFd, to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    socket.connect(to).await?;
    Ok(socket)
}

/// Carries bytes both ways.
pub(super) async fn relay(
    stream: &mut TcpStream,
    backend: TcpStream,
    (key, target): (&Key, &Target),
    counted: &Counted,
    shared: &Arc<Shared>,
) {
    tokio::select! {
        end = relay::join(stream, &backend, IDLE, counted.moved()) => {
            if end == relay::End::Broken {
                reset(stream);
                reset(&backend);
            }
        }
        () = ended(key, target, shared) => {
            reset(stream);
            reset(&backend);
            shared.counters.note(Outcome::Cut);
        }
    }
}

/// Waits until a grant is no more.
pub(super) async fn ended(key: &Key, target: &Target, shared: &Shared) {
    let mut tables = shared.tables.clone();
    // A sender that is gone is the daemon's end.
    let _ = tables.wait_for(|table| !table.still(key, target)).await;
}

/// Has the connection end at once when it is dropped, and the far end notice.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
