//! Datagrams over a stream of the service port: `length u16 | bytes`, both ways, each as it came.

use std::io;
use std::sync::Arc;

use sinew_wire::ingress::DATAGRAM_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};

use super::Shared;
use super::count::{Counted, Outcome};
use super::streams::ended;
use super::table::{Key, Target};

/// Carries datagrams until the stream or the grant ends. There is no idle limit: the gateway ends a
/// client's flow.
pub(super) async fn relay(
    stream: &mut TcpStream,
    socket: &UdpSocket,
    (key, target): (&Key, &Target),
    counted: &Counted,
    shared: &Arc<Shared>,
) {
    let (from, to) = stream.split();
    tokio::select! {
        // Either end is the end: a flow has no half.
        _ = inward(from, socket, counted) => {}
        _ = outward(socket, to, counted) => {}
        () = ended(key, target, shared) => shared.counters.note(Outcome::Cut),
    }
}

async fn inward(mut from: ReadHalf<'_>, socket: &UdpSocket, counted: &Counted) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let length = usize::from(from.read_u16_le().await?);
        if length > DATAGRAM_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        buffer.resize(length, 0);
        from.read_exact(&mut buffer).await?;
        counted.moved().up.add(length);
        // A workload that does not take it (nobody listens, its queue is full) loses a datagram, as
        // ever with UDP.
        let _ = socket.send(&buffer).await;
    }
}

async fn outward(socket: &UdpSocket, mut to: WriteHalf<'_>, counted: &Counted) -> io::Result<()> {
    let mut buffer = vec![0; 2 + DATAGRAM_MAX];
    loop {
        let length = match socket.recv(&mut buffer[2..]).await {
            Ok(length) => length,
            // An earlier datagram was refused; the port may open yet.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error),
        };
        buffer[..2].copy_from_slice(&(length as u16).to_le_bytes());
        counted.moved().down.add(length);
        to.write_all(&buffer[..2 + length]).await?;
    }
}
