//! The sockets of the small name server: one question at a time over UDP, few connections over TCP.

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::Texts;
use super::answer::{QUESTION_MAX, react};

/// TCP connections at once.
const CONNECTIONS: usize = 64;

/// Questions over one connection, and how long it may be silent.
const QUESTIONS: usize = 32;
const IDLE: Duration = Duration::from_secs(5);

/// Pause after the kernel refused us something, descriptors say: it would refuse again at once.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn spawn(
    runtime: &Handle,
    texts: &Arc<Texts>,
    udp: UdpSocket,
    tcp: TcpListener,
) -> io::Result<()> {
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    let entered = runtime.enter();
    let udp = tokio::net::UdpSocket::from_std(udp)?;
    let tcp = tokio::net::TcpListener::from_std(tcp)?;
    drop(entered);
    runtime.spawn(run_udp(texts.clone(), udp));
    runtime.spawn(run_tcp(texts.clone(), tcp));
    Ok(())
}

async fn run_udp(texts: Arc<Texts>, socket: tokio::net::UdpSocket) {
    let mut buffer = vec![0; QUESTION_MAX + 1];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if let Some(answer) = react(&texts, &buffer[..length], true) {
            // Without waiting: a full socket buffer must not hold back the next question.
            let _ = socket.try_send_to(&answer, from);
        }
    }
}

async fn run_tcp(texts: Arc<Texts>, listener: tokio::net::TcpListener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // Who comes when all places are taken is turned away, or the idle could keep others out for long.
        let Ok(place) = room.clone().try_acquire_owned() else { continue };
        let texts = texts.clone();
        tokio::spawn(async move {
            let _place = place;
            // An error is the client's end of the connection, or his silence.
            let _ = converse(&texts, stream).await;
        });
    }
}

async fn converse(texts: &Texts, mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; QUESTION_MAX];
    for _ in 0..QUESTIONS {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            let room = buffer.get_mut(..length).ok_or(io::ErrorKind::InvalidData)?;
            stream.read_exact(room).await
        };
        let length = tokio::time::timeout(IDLE, read).await??;
        let Some(answer) = react(texts, &buffer[..length], false) else { return Ok(()) };
        let head = u16::try_from(answer.len()).map_err(io::Error::other)?.to_be_bytes();
        let framed = [&head[..], &answer].concat();
        tokio::time::timeout(IDLE, stream.write_all(&framed)).await??;
    }
    Ok(())
}
