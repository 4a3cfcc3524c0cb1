use std::cell::{Cell, RefCell};
use std::io::IoSlice;

use sinew_tun::Offload;
use sinew_wire::virtio::VirtioNetHdr;

use super::*;

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn bad(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Bad(_))
}

const OWN: Ipv6Addr = Ipv6Addr::LOCALHOST;

#[test]
fn the_loopback_of_this_machine_passes_or_says_nothing() {
    for verdict in [run(udp_send()), run(udp_receive(true)), run(udp_receive(false))] {
        assert!(!bad(&verdict), "{verdict:?}");
    }
}

#[test]
fn only_what_was_sent_passes_for_it() {
    let batch = Batch::new(3, 37);
    let sent: Vec<Vec<u8>> = batch.bytes().chunks(batch::SIZE).map(<[u8]>::to_vec).collect();
    assert_eq!(batch.compare(&sent), Ok(()));
    let missing = |got: &[Vec<u8>]| matches!(batch.compare(got), Err(Fault::Missing(_)));
    assert!(missing(&[]) && missing(&sent[..2]) && missing(&sent[1..]));
    let wrong = |change: fn(&mut Vec<Vec<u8>>)| {
        let mut got = sent.clone();
        change(&mut got);
        matches!(batch.compare(&got), Err(Fault::Wrong(_)))
    };
    assert!(wrong(|got| got[1][200] ^= 1), "a changed byte");
    assert!(wrong(|got| *got = vec![got.concat()]), "no borders");
    assert!(wrong(|got| got.iter_mut().for_each(|one| one.truncate(36))), "cut short");
    assert!(wrong(|got| got.swap(0, 1)), "another order");
    assert!(wrong(|got| got.push(got[0].clone())), "one of them twice");
}

/// Runs [`judge`] on a kernel that does `kernel` to what is sent; `None`: not even the marker comes.
fn judged(mut kernel: impl FnMut(Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>>) -> Verdict {
    let sent = RefCell::new(Vec::new());
    run(judge(
        |batch| {
            sent.replace(batch.bytes().chunks(batch::SIZE).map(<[u8]>::to_vec).collect());
            Ok(())
        },
        async |_| kernel(sent.take()),
    ))
}

#[test]
fn a_fault_in_any_batch_is_found_and_silence_is_no_fault() {
    assert_eq!(judged(Some), Verdict::Good);
    let unknown = |verdict| matches!(verdict, Verdict::Unknown(_));
    assert!(unknown(judged(|_| None)), "silence");
    // Equal lengths only, as in Linux 7.0; then long batches only.
    let equal = judged(|mut got| {
        if got.iter().all(|one| one.len() == batch::SIZE) {
            got[1][9] ^= 1;
        }
        Some(got)
    });
    assert!(bad(&equal));
    assert!(bad(&judged(|got| Some(if got.len() < 64 { got } else { Vec::new() }))));
    assert!(bad(&judged(|got| Some(vec![got.concat()]))));
}

#[test]
fn the_first_moments_of_a_new_device_are_waited_out() {
    let silent_for = |times: u32| {
        let count = Cell::new(0);
        judged(move |got| {
            count.set(count.get() + 1);
            (count.get() > times).then_some(got)
        })
    };
    assert_eq!(silent_for(SILENCES - 1), Verdict::Good);
    assert!(matches!(silent_for(SILENCES), Verdict::Unknown(_)));
}

#[test]
fn what_goes_missing_has_a_second_chance_and_no_third() {
    let lose = |times: u32| {
        let count = Cell::new(0);
        judged(move |got| {
            count.set(count.get() + 1);
            Some(if count.get() <= times { Vec::new() } else { got })
        })
    };
    assert_eq!(lose(1), Verdict::Good);
    assert!(bad(&lose(2)));
}

/// What becomes of a payload with this segment size.
type Cut = fn(&[u8], usize) -> io::Result<Vec<Vec<u8>>>;

/// A device behind which a host cuts super-packets in its own way.
struct Host {
    socket: std::net::UdpSocket,
    port: Cell<u16>,
    cut: Cut,
}

impl Tun for Host {
    async fn readable(&self) -> io::Result<()> {
        std::future::pending().await
    }

    fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn try_writev(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let header = VirtioNetHdr::parse(&frame).unwrap();
        let packet = &frame[10..];
        let info = sinew_wire::ip::PacketInfo::parse(packet).unwrap();
        self.port.set(info.ports.unwrap().1);
        assert!(header.gso_type != 0 || info.checksum_ok(packet));
        let payload = &packet[info.payload..];
        let size = if header.gso_type == 0 { payload.len() } else { usize::from(header.gso_size) };
        for datagram in (self.cut)(payload, size)? {
            self.socket.send_to(&datagram, (OWN, self.port.get())).unwrap();
        }
        Ok(())
    }

    fn offload(&self) -> Offload {
        Offload::Uso
    }

    fn name(&self) -> &str {
        "host"
    }

    fn ifindex(&self) -> u32 {
        1
    }
}

#[test]
fn writing_is_judged_by_what_the_host_makes_of_it() {
    let (good, refuses, joins, down): (Cut, Cut, Cut, Cut) = (
        |payload, size| Ok(payload.chunks(size).map(<[u8]>::to_vec).collect()),
        |payload, size| match payload.len() > size {
            true => Err(io::Error::from_raw_os_error(22)),
            false => Ok(vec![payload.to_vec()]),
        },
        |payload, _| Ok(vec![payload.to_vec()]),
        |_, _| Err(io::Error::from_raw_os_error(5)),
    );
    let silent: Cut = |_, _| Ok(Vec::new());
    let verdict = |cut: Cut| {
        let Ok(socket) = std::net::UdpSocket::bind((OWN, 0)) else { return None };
        Some(run(tun_write(&Host { socket, port: Cell::new(0), cut }, OWN)))
    };
    let Some(first) = verdict(good) else { return };
    assert_eq!(first, Verdict::Good);
    let refused = verdict(refuses).unwrap();
    assert!(matches!(&refused, Verdict::Bad(why) if why.contains("refuses")), "{refused:?}");
    assert!(bad(&verdict(joins).unwrap()));
    for cut in [down, silent] {
        assert!(matches!(verdict(cut).unwrap(), Verdict::Unknown(_)));
    }
}

#[test]
fn a_frame_is_read_as_its_header_says_and_only_ours() {
    let (from, to) = ((OWN, 7), (stranger(OWN), NOBODY));
    let payload: Vec<u8> = (0..=250).collect();
    let read = |frame: &[u8]| frames::datagrams(frame, to).map(<[u8]>::len).collect::<Vec<_>>();
    let whole = frames::whole(from, to, &payload, 100);
    assert_eq!(read(&whole), [100, 100, 51]);
    let single = frames::single(from, to, &payload);
    assert_eq!(read(&single), [251]);
    assert!(read(&frames::single(from, (OWN, NOBODY), &payload)).is_empty());
    assert!(read(&frames::single(from, (to.0, 10), &payload)).is_empty());
    for (at, value) in [(0, 0), (1, 4), (4, 0), (6, 41), (8, 16)] {
        let mut lies = whole.clone();
        lies[at] = value;
        assert_eq!(read(&lies), [251], "byte {at} of the header");
    }
    let mut spoilt = single;
    spoilt[70] ^= 1;
    assert!(read(&spoilt).is_empty(), "its checksum is wrong");
}
