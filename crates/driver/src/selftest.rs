//! What the kernel's offloads do on this very host, found out at start.
//!
//! Every test has one shape. A batch goes through the kernel as one piece, behind it a single datagram,
//! the marker, that needs no offload. Once the marker has come out, so must have the batch, byte for
//! byte and datagram for datagram: if it has not, twice in a row, the offload is at fault. If not even
//! the marker comes out (a packet filter, a loopback that is down, a busy host), nothing is known, and
//! an offload is not given up for that.
//!
//! Nothing is running yet: the TUN is ours alone, and what else it yields is thrown away.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use sinew_carrier::udp::UdpCarrier;
use sinew_carrier::{Datagrams as _, RecvBuffer};
use sinew_tun::{MAX_FRAME, Tun};
use tokio::time::{Instant, timeout_at};

use batch::{Batch, Fault};

mod batch;
mod frames;

/// How long one batch may take, and how often a test sends into silence before it gives up: a new
/// device drops what comes in its first moments. Four tests in silence stay below 50 ms.
const PATIENCE: Duration = Duration::from_millis(3);
const SILENCES: u32 = 4;
/// Batches that are tried: datagrams, and length of the last one. All equal, and the last one shorter.
const BATCHES: [(usize, usize); 6] =
    [(2, batch::SIZE), (2, 37), (17, batch::SIZE), (17, 37), (64, batch::SIZE), (64, 37)];
/// Slots for datagrams that come one by one.
const SLOTS: usize = 32;
/// Where nobody listens (discard, RFC 863).
const NOBODY: u16 = 9;
/// Most frames that are thrown away at the end.
const LEFTOVERS: usize = 1000;

/// What a test found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It works.
    Good,
    /// It does not, and in what way.
    Bad(String),
    /// Nothing could be found out, and why.
    Unknown(String),
}

/// Whether batches that are sent at once arrive as they should, cut by the kernel.
pub(crate) async fn udp_send() -> Verdict {
    loopback(|_, receiver| receiver.set_aggregation(false)).await
}

/// Whether batches that arrive at once do so with the right borders. `segmentation`: may be used.
pub(crate) async fn udp_receive(segmentation: bool) -> Verdict {
    loopback(|sender, _| {
        sender.set_segmentation(segmentation);
        Ok(())
    })
    .await
}

async fn loopback(prepare: impl FnOnce(&UdpCarrier, &UdpCarrier) -> io::Result<()>) -> Verdict {
    let bind = || UdpCarrier::bind(SocketAddr::from(([127, 0, 0, 1], 0)), 0);
    let (Ok(sender), Ok(receiver)) = (bind(), bind()) else {
        return Verdict::Unknown("no address 127.0.0.1 to test on".to_owned());
    };
    if let Err(error) = prepare(&sender, &receiver) {
        return Verdict::Unknown(format!("the test could not be set up: {error}"));
    }
    let mut buffer = RecvBuffer::new(SLOTS);
    judge(
        |batch| send(&sender, receiver.local_addr(), batch),
        async |batch| collect(&receiver, &mut buffer, batch).await,
    )
    .await
}

/// Whether the kernel takes super-packets from the TUN and cuts them as it should. `own` is the
/// address of the device.
pub(crate) async fn tun_write(tun: &impl Tun, own: Ipv6Addr) -> Verdict {
    let Ok(socket) = UdpCarrier::bind(SocketAddr::from((own, 0)), 0) else { return no_address(own) };
    if let Err(error) = socket.set_aggregation(false) {
        return Verdict::Unknown(format!("the test could not be set up: {error}"));
    }
    let (from, to) = ((stranger(own), NOBODY), (own, socket.local_addr().port()));
    let mut buffer = RecvBuffer::new(SLOTS);
    let verdict = judge(
        |batch| {
            let whole = tun.try_write(&frames::whole(from, to, &batch.bytes(), batch::SIZE));
            let marker = tun.try_write(&frames::single(from, to, &batch.marker()));
            marker.map_err(|error| Verdict::Unknown(format!("the device takes nothing: {error}")))?;
            whole.map_err(|error| Verdict::Bad(format!("the kernel refuses super-packets: {error}")))
        },
        async |batch| collect(&socket, &mut buffer, batch).await,
    )
    .await;
    empty(tun);
    verdict
}

/// Whether the super-packets that the kernel hands over are what was sent.
pub(crate) async fn tun_read(tun: &impl Tun, own: Ipv6Addr) -> Verdict {
    let Ok(socket) = UdpCarrier::bind(SocketAddr::from((own, 0)), 0) else { return no_address(own) };
    let to = (stranger(own), NOBODY);
    let mut frame = vec![0; MAX_FRAME];
    let verdict = judge(
        |batch| match send(&socket, SocketAddr::from(to), batch) {
            // The socket is at fault, and the device remains untested.
            Err(Verdict::Bad(why)) => Err(Verdict::Unknown(why)),
            result => result,
        },
        async |batch| {
            let (mut got, mut patience) = (Vec::new(), Patience::new());
            loop {
                match tun.try_read(&mut frame) {
                    Ok(len) => {
                        for datagram in frames::datagrams(&frame[..len], to) {
                            if batch.is_marker(datagram) {
                                return Some(got);
                            }
                            batch.keep(datagram, &mut got);
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        patience.wait(tun.readable()).await?;
                    }
                    Err(_) => return None,
                }
            }
        },
    )
    .await;
    empty(tun);
    verdict
}

fn no_address(own: Ipv6Addr) -> Verdict {
    Verdict::Unknown(format!("no socket on {own} to test with"))
}

/// Another address of the mesh, in all likelihood nobody's.
fn stranger(own: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(own) ^ 0xffff)
}

/// Runs all batches; each has a second chance if it only went missing, and all together a few if there
/// is silence.
async fn judge(
    mut send: impl FnMut(&Batch) -> Result<(), Verdict>,
    mut receive: impl AsyncFnMut(&Batch) -> Option<Vec<Vec<u8>>>,
) -> Verdict {
    let mut silences = 0;
    for (count, last) in BATCHES {
        let mut tries = 0;
        loop {
            let batch = Batch::new(count, last);
            if let Err(verdict) = send(&batch) {
                return verdict;
            }
            let Some(got) = receive(&batch).await else {
                silences += 1;
                if silences == SILENCES {
                    return Verdict::Unknown("test datagrams do not come back in time".to_owned());
                }
                continue;
            };
            tries += 1;
            match batch.compare(&got) {
                Ok(()) => break,
                Err(Fault::Missing(_)) if tries == 1 => {}
                Err(Fault::Missing(what) | Fault::Wrong(what)) => return Verdict::Bad(what),
            }
        }
    }
    Verdict::Good
}

/// Sends the batch as one and its marker.
fn send(socket: &UdpCarrier, to: SocketAddr, batch: &Batch) -> Result<(), Verdict> {
    let (wanted, lost) = (socket.segmentation(), socket.stats().unreachable);
    let sent = [(batch.bytes(), batch::SIZE), (batch.marker(), batch::SIZE)]
        .iter()
        .try_for_each(|(bytes, size)| socket.try_send(to, bytes, *size, 0));
    if wanted && !socket.segmentation() {
        return Err(Verdict::Bad("the kernel refuses batches (UDP_SEGMENT)".to_owned()));
    }
    if sent.is_err() || socket.stats().unreachable != lost {
        return Err(Verdict::Unknown(format!("{to} does not take test datagrams")));
    }
    Ok(())
}

/// A deadline that is fair to us too: it may pass while the machine lets others run, with everything
/// there already.
struct Patience {
    deadline: Instant,
    late: bool,
}

impl Patience {
    fn new() -> Self {
        Self { deadline: Instant::now() + PATIENCE, late: false }
    }

    /// Waits until there may be more; `None` once it is too late and has been looked at once since.
    async fn wait(&mut self, ready: impl Future<Output = io::Result<()>>) -> Option<()> {
        if self.late {
            return None;
        }
        match timeout_at(self.deadline, ready).await {
            Ok(result) => result.ok(),
            Err(_) => {
                self.late = true;
                // The runtime asks the kernel what is ready.
                tokio::task::yield_now().await;
                Some(())
            }
        }
    }
}

/// What arrives of the batch until its marker does; `None` if that is not in time.
async fn collect(socket: &UdpCarrier, buffer: &mut RecvBuffer, batch: &Batch) -> Option<Vec<Vec<u8>>> {
    let (mut got, mut patience) = (Vec::new(), Patience::new());
    loop {
        match socket.try_recv(buffer) {
            Ok(_) => {
                for (arrived, bytes) in buffer.iter_mut() {
                    for range in arrived.ranges() {
                        if batch.is_marker(&bytes[range.clone()]) {
                            return Some(got);
                        }
                        batch.keep(&bytes[range], &mut got);
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                patience.wait(socket.readable()).await?;
            }
            Err(_) => return None,
        }
    }
}

/// Throws away what programs and the kernel have already sent into the device.
fn empty(tun: &impl Tun) {
    let mut frame = vec![0; MAX_FRAME];
    let _ = (0..LEFTOVERS).take_while(|_| tun.try_read(&mut frame).is_ok()).count();
}

#[cfg(test)]
mod tests;
