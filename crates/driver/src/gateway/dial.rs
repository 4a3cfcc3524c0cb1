//! Backends through the mesh: a TCP connection to the service port of the node that carries the workload, which
//! joins it with the workload's own (protocol A11).
//!
//! A target names what stays the same while the workload moves (workload, port, home, network, and the service); where it is now stands in a table that is replaced as a whole. What is not in the table is not
//! dialled, and the table holds nothing but published workloads: no address is ever taken from anybody.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sinew_gateway::config::Target;
use sinew_gateway::{Boxed, Datagrams, Dial, Stream};
use sinew_types::NodeId;
use sinew_wire::ingress::{DATAGRAM_MAX, Open, PORT, Request, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, watch};

/// How long a connection may take; the front is more impatient where clients wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// The node that carries it; `None`: no document says where it is.
    pub(super) node: Option<NodeId>,
    /// What that node is asked for.
    pub(super) open: Open,
}

/// Targets that may be dialled.
pub(super) type Table = BTreeMap<Target, Route>;

/// Dials what the table has.
#[derive(Debug)]
pub(super) struct MeshDial {
    table: watch::Sender<Arc<Table>>,
}

impl MeshDial {
    pub(super) fn new() -> Self {
        Self { table: watch::channel(Arc::default()).0 }
    }

    /// Replaces the table.
    pub(super) fn set(&self, table: Table) {
        self.table.send_replace(Arc::new(table));
    }

    async fn open(&self, target: &Target, udp: bool) -> io::Result<TcpStream> {
        let route = self.table.borrow().get(target).cloned();
        let route = route.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not published"))?;
        let node =
            route.node.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the workload is nowhere"))?;
        let request = if udp { Request::Datagrams(route.open) } else { Request::Connect(route.open) };
        let request = request.emit().ok_or(io::ErrorKind::InvalidInput)?;
        let opening = async {
            let at = SocketAddr::new(IpAddr::V6(node.address().to_ipv6()), PORT);
            let mut stream = TcpStream::connect(at).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&request).await?;
            let status = Status::parse(stream.read_u8().await?).map_err(|_| io::ErrorKind::InvalidData)?;
            match status {
                Status::Ok => Ok(stream),
                other => Err(refusal(other)),
            }
        };
        tokio::time::timeout(PATIENCE, opening).await.map_err(|_| io::ErrorKind::TimedOut)?
    }
}

fn refusal(status: Status) -> io::Error {
    let (kind, text) = match status {
        Status::NotPublished => {
            (io::ErrorKind::PermissionDenied, "its node does not know it as published here")
        }
        Status::NotHere => (io::ErrorKind::NotFound, "the workload is not on that node"),
        Status::Refused => (io::ErrorKind::ConnectionRefused, "the workload refuses the connection"),
        Status::TimedOut => (io::ErrorKind::TimedOut, "the workload does not answer"),
        // The front's word for a backend that lives (`Dial`).
        Status::Busy => (io::ErrorKind::ResourceBusy, "its node has no room for more streams"),
        Status::Ok | Status::Malformed => {
            (io::ErrorKind::InvalidData, "its node did not understand the request")
        }
    };
    io::Error::new(kind, text)
}

impl Dial for MeshDial {
    fn connect<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Stream>> {
        Box::pin(async move { self.open(target, false).await.map(Stream::Tcp) })
    }

    fn datagrams<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let (read, write) = self.open(target, true).await?.into_split();
            let flow = Flow { read: Mutex::new((read, Vec::new())), write: Mutex::new(write) };
            Ok(Box::new(flow) as Box<dyn Datagrams>)
        })
    }
}

/// Datagrams in a stream: `length u16 | bytes`.
struct Flow {
    /// What has come and is not whole yet stays here, since whoever receives may be interrupted.
    read: Mutex<(OwnedReadHalf, Vec<u8>)>,
    write: Mutex<OwnedWriteHalf>,
}

impl Datagrams for Flow {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move {
            let length =
                u16::try_from(datagram.len()).ok().filter(|length| usize::from(*length) <= DATAGRAM_MAX);
            let length = length.ok_or(io::ErrorKind::InvalidInput)?;
            let framed = [&length.to_le_bytes()[..], datagram].concat();
            self.write.lock().await.write_all(&framed).await
        })
    }

    fn receive<'a>(&'a self, into: &'a mut [u8]) -> Boxed<'a, io::Result<usize>> {
        Box::pin(async move {
            let (read, held) = &mut *self.read.lock().await;
            loop {
                if let Some((length, rest)) = held.split_first_chunk() {
                    let length = usize::from(u16::from_le_bytes(*length));
                    if let Some(datagram) = rest.get(..length) {
                        let taken = length.min(into.len());
                        into[..taken].copy_from_slice(&datagram[..taken]);
                        held.drain(..2 + length);
                        return Ok(taken);
                    }
                }
                if read.read_buf(held).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_without_room_is_told_apart_from_those_that_fail() {
        for status in
            [Status::NotPublished, Status::NotHere, Status::Refused, Status::TimedOut, Status::Malformed]
        {
            assert_ne!(refusal(status).kind(), io::ErrorKind::ResourceBusy, "{status:?}");
        }
        assert_eq!(refusal(Status::Busy).kind(), io::ErrorKind::ResourceBusy);
    }
}
