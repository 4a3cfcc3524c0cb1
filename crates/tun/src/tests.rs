use std::io::ErrorKind;
use std::task::{Context, Waker};

use nix::net::if_::if_nametoindex;

use super::*;

fn config(name: &str, offload: bool) -> TunConfig {
    TunConfig { name: name.to_owned(), mtu: 1416, offload }
}

/// Runs `test` in a network namespace of its own, which ends with its thread. Real devices need
/// root and the driver; elsewhere these tests have nothing to say.
fn in_namespace(test: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() || !std::path::Path::new("/dev/net/tun").exists() {
        return;
    }
    // A program that another test is just starting holds our descriptors until it runs, and so our
    // devices: one test at a time.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        runtime().block_on(test());
    };
    std::thread::spawn(body).join().unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn ip(arguments: &str) {
    let status = std::process::Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A device with 10.99.0.1/24 that is up, and a socket on that address, port 4660 (0x1234).
fn device_and_socket(offload: bool) -> (TunDevice, std::net::UdpSocket) {
    let device = TunDevice::open(&config("sinewt", offload)).unwrap();
    ip("addr add 10.99.0.1/24 dev sinewt");
    ip("link set sinewt up");
    (device, std::net::UdpSocket::bind("10.99.0.1:4660").unwrap())
}

/// The next IPv4 UDP packet; the host also sends router solicitations and the like.
async fn next_udp(device: &TunDevice) -> Vec<u8> {
    let mut buf = vec![0xAA; MAX_FRAME];
    loop {
        match device.try_read(&mut buf) {
            Ok(len) if buf[10] == 0x45 && buf[19] == 17 => return buf[..len].to_vec(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => device.readable().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// A zero header and an IPv4 UDP packet from 10.99.0.2 to 10.99.0.1, no UDP checksum.
fn frame() -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend([0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0x26, 0x05, 10, 99, 0, 2, 10, 99, 0, 1]);
    frame.extend([0x12, 0x34, 0x12, 0x34, 0, 12, 0, 0, 1, 2, 3, 4]);
    frame
}

#[test]
fn names_that_the_kernel_would_refuse_are_refused_first() {
    let bad = ["", ".", "..", "a/b", "a b", "a:b", "tun%d", "sixteen-letters-", "é"];
    for name in bad {
        assert!(matches!(TunDevice::open(&config(name, true)), Err(TunError::BadName { .. })), "{name}");
    }
}

#[test]
fn a_device_opens_with_offload_and_vanishes_when_dropped() {
    in_namespace(async || {
        let device = TunDevice::open(&config("sinewt0", true)).unwrap();
        assert_eq!(if_nametoindex("sinewt0"), Ok(device.ifindex()));
        assert_eq!(device.name(), "sinewt0");
        assert!(device.offload() >= Offload::Tso, "{device:?}");
        drop(device);
        assert!(if_nametoindex("sinewt0").is_err());
    });
}

#[test]
fn a_name_in_use_is_reported_as_taken() {
    in_namespace(async || {
        let _first = TunDevice::open(&config("sinewt1", true)).unwrap();
        assert!(matches!(TunDevice::open(&config("sinewt1", true)), Err(TunError::NameTaken { .. })));
        assert!(matches!(TunDevice::open(&config("lo", true)), Err(TunError::NameTaken { .. })));
        assert!(matches!(TunDevice::open(&config("lo", false)), Err(TunError::NameTaken { .. })));
    });
}

#[test]
fn a_read_without_packets_would_block_and_a_write_while_down_is_an_error() {
    in_namespace(async || {
        for (name, offload) in [("sinewt2", true), ("sinewt3", false)] {
            let device = TunDevice::open(&config(name, offload)).unwrap();
            let mut buf = vec![0; MAX_FRAME];
            assert_eq!(device.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            assert!(device.try_write(&frame()).is_err(), "the link is down");
        }
    });
}

#[test]
fn without_offload_a_header_that_asks_for_one_is_refused() {
    let (device, host) = memory::pair_with(Offload::None);
    let mut asking = frame();
    asking[0] = 1;
    assert_eq!(device.try_write(&asking).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(device.try_write(&[0; 9]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(device.try_writev(&[]).unwrap_err().kind(), ErrorKind::InvalidInput);
    device.try_write(&frame()).unwrap();
    let mut buf = vec![0; MAX_FRAME];
    assert_eq!(host.try_read(&mut buf).unwrap(), frame().len());
}

#[test]
fn the_header_is_cut_from_the_first_part_alone() {
    let whole = frame();
    let parts = [IoSlice::new(&whole[..14]), IoSlice::new(&whole[14..20]), IoSlice::new(&whole[20..])];
    let (first, rest) = without_header(&parts).unwrap();
    assert_eq!(&*first, &whole[10..14]);
    assert_eq!(rest.len(), 2);
}

#[test]
fn the_double_keeps_packet_borders_and_order() {
    let (a, b) = memory::pair();
    for size in [10, 11, 1400, MAX_FRAME] {
        a.try_writev(&[IoSlice::new(&[7; 10]), IoSlice::new(&vec![8; size - 10])]).unwrap();
    }
    let mut buf = vec![0; MAX_FRAME];
    for size in [10, 11, 1400, MAX_FRAME] {
        assert_eq!(b.try_read(&mut buf).unwrap(), size);
        assert!(buf[..10].iter().all(|&x| x == 7) && buf[10..size].iter().all(|&x| x == 8));
    }
    assert_eq!(b.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn the_double_is_bounded_wakes_its_reader_and_ends() {
    let (a, b) = memory::pair();
    let mut waiting = std::pin::pin!(b.readable());
    assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    for _ in 0..memory::QUEUE_MAX {
        a.try_write(&frame()).unwrap();
    }
    assert_eq!(a.try_write(&frame()).unwrap_err().kind(), ErrorKind::WouldBlock);
    runtime().block_on(b.readable()).unwrap();
    drop(a);
    let mut buf = vec![0; MAX_FRAME];
    for _ in 0..memory::QUEUE_MAX {
        b.try_read(&mut buf).unwrap();
    }
    assert_eq!(b.try_read(&mut buf).unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn packets_pass_to_and_from_the_host_behind_one_header_format() {
    for offload in [true, false] {
        in_namespace(async move || {
            let (device, socket) = device_and_socket(offload);
            device.try_write(&frame()).unwrap();
            let mut got = [0; 16];
            assert_eq!(socket.recv_from(&mut got).unwrap(), (4, "10.99.0.2:4660".parse().unwrap()));
            let parts = frame();
            device.try_writev(&[IoSlice::new(&parts[..20]), IoSlice::new(&parts[20..])]).unwrap();
            assert_eq!(socket.recv_from(&mut got).unwrap().0, 4);
            assert_eq!(got[..4], [1, 2, 3, 4]);

            socket.send_to(b"hello", "10.99.0.2:9").unwrap();
            let out = next_udp(&device).await;
            assert_eq!(&out[10 + 28..], b"hello");
            // With offload the checksum is left to us (VIRTIO_NET_HDR_F_NEEDS_CSUM).
            assert_eq!(out[0], u8::from(offload));
            assert_eq!(out[1..6], [0; 5], "a single packet: {:?}", &out[..10]);
        });
    }
}

#[test]
fn a_udp_super_packet_arrives_in_one_piece() {
    in_namespace(async || {
        let (device, socket) = device_and_socket(true);
        if device.offload() < Offload::Uso {
            return;
        }
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000).unwrap();
        socket.send_to(&[5; 9_500], "10.99.0.2:9").unwrap();
        let out = next_udp(&device).await;
        assert_eq!(out.len(), 10 + 28 + 9_500);
        // VIRTIO_NET_HDR_GSO_UDP_L4, gso_size.
        assert_eq!((out[1], u16::from_le_bytes([out[4], out[5]])), (5, 1000));
    });
}

#[test]
fn reading_a_deleted_device_fails_for_good() {
    in_namespace(async || {
        let (device, socket) = device_and_socket(true);
        drop(socket);
        ip("link del sinewt");
        let mut buf = vec![0; MAX_FRAME];
        let error = loop {
            device.readable().await.unwrap();
            match device.try_read(&mut buf) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => break error,
                _ => {}
            }
        };
        assert_ne!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_device_that_refuses_super_packets_gives_finished_datagrams_and_still_takes_all() {
    in_namespace(async || {
        let (mut device, socket) = device_and_socket(true);
        let offload = device.offload();
        assert_eq!(device.reading(), offload);
        device.refuse_super_packets().unwrap();
        assert_eq!((device.reading(), device.offload()), (Offload::None, offload));
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::UdpGsoSegment, &1000).unwrap();
        socket.send_to(&[5; 2_500], "10.99.0.2:9").unwrap();
        for len in [1000, 1000, 500] {
            let out = next_udp(&device).await;
            assert_eq!((out.len(), &out[..10]), (10 + 28 + len, &[0; 10][..]), "nothing left to do");
            assert_ne!(out[10 + 26..10 + 28], [0, 0], "the checksum is there");
        }
        if offload < Offload::Uso {
            return;
        }
        // Two datagrams of 100 bytes as one: VIRTIO_NET_HDR_GSO_UDP_L4, partial checksum at 20 + 6.
        let mut frame = vec![1, 5, 28, 0, 100, 0, 20, 0, 6, 0];
        frame.extend([0x45, 0, 0, 228, 0, 0, 0x40, 0, 64, 17, 0x25, 0x41, 10, 99, 0, 2, 10, 99, 0, 1]);
        // The pseudo-header's sum: addresses, 17 and a length of 208.
        frame.extend([0x12, 0x34, 0x12, 0x34, 0, 208, 0x15, 0xaa]);
        frame.extend([7; 200]);
        device.try_write(&frame).unwrap();
        let mut got = [0; 300];
        for _ in 0..2 {
            assert_eq!(socket.recv(&mut got).unwrap(), 100);
        }
    });
}

#[test]
fn a_device_that_was_kept_outlives_its_descriptor_and_is_used_by_whoever_gets_it() {
    in_namespace(async || {
        let made = inside::Raw::make(None).unwrap();
        let next = inside::Raw::make(None).unwrap();
        assert_eq!((made.name(), next.name()), ("sinew0", "sinew1"), "numbered by the kernel");
        assert!(matches!(inside::Raw::make(Some("sinew0")), Err(TunError::NameTaken { .. })));
        assert!(matches!(inside::Raw::take("sinew0"), Err(TunError::NameTaken { .. })), "it is held");
        assert!(matches!(inside::Raw::make(Some("a/b")), Err(TunError::BadName { .. })));
        made.keep().unwrap();
        drop((made, next));
        assert!(if_nametoindex("sinew0").is_ok() && if_nametoindex("sinew1").is_err());
        assert!(matches!(inside::Raw::make(Some("sinew0")), Err(TunError::NameTaken { .. })));

        let again = inside::Raw::take("sinew0").unwrap();
        let index = if_nametoindex("sinew0").unwrap();
        ip("addr add 10.99.0.1/24 dev sinew0");
        ip("link set sinew0 up");
        let device = TunDevice::from_fd(again.into(), index, true).unwrap();
        assert_eq!((device.name(), device.ifindex()), ("sinew0", index));
        assert_ne!(device.offload(), Offload::None, "this kernel has some");
        let socket = std::net::UdpSocket::bind("10.99.0.1:0").unwrap();
        socket.send_to(b"out", "10.99.0.2:9").unwrap();
        // The kernel has something to say there on its own, too.
        let mut frame = vec![0; MAX_FRAME];
        let mut len = 0;
        while !frame[..len].ends_with(b"out") {
            device.readable().await.unwrap();
            len = device.try_read(&mut frame).unwrap_or(0);
        }
    });
}

#[test]
fn what_is_no_tun_device_is_refused() {
    runtime().block_on(async {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(TunDevice::from_fd(file.into(), 1, true), Err(TunError::Io { .. })));
    });
}
