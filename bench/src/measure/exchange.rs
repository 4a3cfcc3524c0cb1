//! 64-byte requests and responses over one TCP connection, one at a time, `TCP_NODELAY`.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sinew_tests::ns::Namespace;

use super::any;

const PORT: u16 = 5302;
const SIZE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(10);

/// What the client saw.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) per_second: f64,
    pub(crate) times_us: Vec<f64>,
}

/// Exchanges for `length`.
pub(crate) fn measure(a: &Namespace, b: &Namespace, target: IpAddr, length: Duration) -> Result<Report> {
    let listener = b.enter(|| TcpListener::bind((any(target), PORT)))?.context("server")?;
    let to = SocketAddr::new(target, PORT);
    // The kernel completes the connection from the backlog, so this needs no server thread yet.
    let mut client = a.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?.context("connect")?;
    let (server, _) = listener.accept().context("accept")?;
    for socket in [&client, &server] {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
    }
    let serving = std::thread::spawn(move || serve(server));
    let report = ask(&mut client, length);
    drop(client);
    let _ = serving.join();
    report
}

/// Sends everything back until the client hangs up.
fn serve(mut socket: TcpStream) {
    let mut buffer = [0; SIZE];
    while socket.read_exact(&mut buffer).is_ok() && socket.write_all(&buffer).is_ok() {}
}

fn ask(socket: &mut TcpStream, length: Duration) -> Result<Report> {
    let mut buffer = [7; SIZE];
    let mut times_us = Vec::with_capacity(1 << 16);
    let start = Instant::now();
    let mut last = start;
    while last - start < length {
        socket.write_all(&buffer).context("request")?;
        socket.read_exact(&mut buffer).context("response")?;
        let now = Instant::now();
        times_us.push((now - last).as_secs_f64() * 1e6);
        last = now;
    }
    Ok(Report { per_second: times_us.len() as f64 / (last - start).as_secs_f64(), times_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let serving = std::thread::spawn(move || serve(server));
        let report = ask(&mut client, Duration::from_millis(20)).unwrap();
        drop(client);
        serving.join().unwrap();
        assert!(!report.times_us.is_empty() && report.per_second > 0.0);
    }
}
