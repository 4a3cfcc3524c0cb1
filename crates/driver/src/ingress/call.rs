//! A question to another node's service port, and its answer (protocol A11.3): bounded in time by whoever asks, in
//! bytes by the verb.

use std::io;
use std::net::{SocketAddr, SocketAddrV6};
use std::time::Duration;

use sinew_types::{MeshAddr, NodeId};
use sinew_wire::ingress::{ANSWER_HEAD_LEN, AnswerHead, PORT, Status, Verb};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Time for the connection itself: the first packets may wait for a session.
const CONNECT: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Nobody listens there.
    Closed,
    /// No way there, now.
    Unreachable,
    /// Nothing comes back.
    Silent,
    /// It ended in the middle.
    Broken,
    /// What came is no answer.
    Nonsense,
    /// It says why it gives none.
    Told(Status),
}

impl Failed {
    /// For people.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Closed => "the node does not listen for publishers; is it a gateway?",
            Self::Unreachable => "the gateway cannot be reached over the mesh",
            Self::Silent => "the gateway does not answer over the mesh",
            Self::Broken => "the gateway broke off",
            Self::Nonsense => "the gateway's answer makes no sense",
            Self::Told(Status::Busy) => "the gateway is busy",
            Self::Told(_) => "the gateway does not understand this version of Sinew",
        }
    }
}

/// Asks `node` from our own address, by which it knows who asks; gives what follows the head of its answer.
pub(crate) async fn call(own: MeshAddr, node: NodeId, verb: Verb, request: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut stream = match timeout(CONNECT, connect(own, node)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => return Err(Failed::Closed),
        Ok(Err(_)) => return Err(Failed::Unreachable),
        Err(_) => return Err(Failed::Silent),
    };
    stream.write_all(request).await.map_err(|_| Failed::Broken)?;
    let mut head = [0; ANSWER_HEAD_LEN];
    // A refusal to read on is one byte.
    stream.read_exact(&mut head[..1]).await.map_err(|_| Failed::Broken)?;
    match Status::parse(head[0]) {
        Ok(Status::Ok) => {}
        Ok(status) => return Err(Failed::Told(status)),
        Err(_) => return Err(Failed::Nonsense),
    }
    stream.read_exact(&mut head[1..]).await.map_err(|_| Failed::Broken)?;
    let head = AnswerHead::parse(&head, verb).map_err(|_| Failed::Nonsense)?;
    // In bounds: the head was refused otherwise. Filled as it comes, not before.
    let mut body = Vec::new();
    let whole = stream.take(u64::from(head.len)).read_to_end(&mut body).await;
    if whole.map_err(|_| Failed::Broken)? != head.len as usize {
        return Err(Failed::Broken);
    }
    Ok(body)
}

async fn connect(own: MeshAddr, node: NodeId) -> io::Result<TcpStream> {
    let address = |addr: MeshAddr, port| SocketAddr::V6(SocketAddrV6::new(addr.to_ipv6(), port, 0, 0));
    let socket = TcpSocket::new_v6()?;
    socket.bind(address(own, 0))?;
    socket.connect(address(node.address(), PORT)).await
}
