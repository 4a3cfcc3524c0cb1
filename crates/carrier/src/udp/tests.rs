use super::*;

fn run(test: impl AsyncFnOnce()) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
}

fn bind(text: &str) -> UdpCarrier {
    UdpCarrier::bind(text.parse().unwrap(), 3).unwrap()
}

/// Bytes that differ from datagram to datagram and within one.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Receives until `count` datagrams have come; checks sender and ECN of each batch.
async fn collect(carrier: &UdpCarrier, from: SocketAddr, ecn: u8, count: usize) -> Vec<Vec<u8>> {
    let mut buffer = RecvBuffer::new(16);
    let mut datagrams = Vec::new();
    while datagrams.len() < count {
        match carrier.try_recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => carrier.readable().await.unwrap(),
            result => assert_eq!(result.unwrap(), buffer.len()),
        }
        for (batch, bytes) in buffer.iter_mut() {
            assert_eq!((batch.from, batch.ecn), (from, ecn));
            datagrams.extend(batch.ranges().map(|range| bytes[range].to_vec()));
        }
        buffer.clear();
    }
    datagrams
}

async fn check_round_trip(a: &UdpCarrier, b: &UdpCarrier, segment: usize, len: usize) {
    let bytes = pattern(len);
    a.try_send(b.local_addr(), &bytes, segment, 0).unwrap();
    let expected: Vec<_> = bytes.chunks(segment).map(<[u8]>::to_vec).collect();
    let got = collect(b, a.local_addr(), 0, expected.len()).await;
    assert_eq!(got, expected, "{segment} x {len}");
}

#[test]
fn batches_of_1_to_64_segments_arrive_as_they_were_sent_with_and_without_segmentation() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (bind(address), bind(address));
            assert!(a.segmentation(), "Linux since 4.18");
            for segmentation in [true, false] {
                a.set_segmentation(segmentation);
                for segments in [1, 2, 3, 17, 44, 63, 64] {
                    for odd in [0, 1, 611] {
                        check_round_trip(
                            &a,
                            &b,
                            1000,
                            segments * 1000 - 1000 + if odd == 0 { 1000 } else { odd },
                        )
                        .await;
                    }
                }
            }
        }
    });
}

#[test]
fn more_than_one_call_can_carry_is_split_between_segments() {
    run(async || {
        let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        // 200 segments; then 50 of which only 45 fit 65,507 bytes; then the largest datagrams.
        for (segment, len) in [(100, 19_950), (1452, 72_000), (65_507, 130_000)] {
            check_round_trip(&a, &b, segment, len).await;
        }
    });
}

#[test]
fn ecn_bits_are_carried_on_both_ip_versions() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (bind(address), bind(address));
            for ecn in [0, 1, 2, 3] {
                a.try_send(b.local_addr(), &pattern(2500), 1000, ecn).unwrap();
                assert_eq!(collect(&b, a.local_addr(), ecn, 3).await.len(), 3);
            }
        }
    });
}

#[test]
fn a_datagram_larger_than_the_link_is_reported_and_changes_nothing() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (bind(address), bind(address));
            let error = a.try_send(b.local_addr(), &[0; 65_600], 65_600, 0).unwrap_err();
            assert!(matches!(error, SendError::TooBig { sent: 0 }), "{error:?}");
            assert!(a.segmentation());
            a.try_send(b.local_addr(), &pattern(3000), 1000, 3).unwrap();
            assert_eq!(collect(&b, a.local_addr(), 3, 3).await.len(), 3);
        }
    });
}

/// A namespace of its own with `lo` up at MTU 1400; ends with its thread.
fn with_small_mtu(test: impl AsyncFnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let body = move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let ip = std::process::Command::new("ip").args(["link", "set", "lo", "up", "mtu", "1400"]).status();
        assert!(ip.unwrap().success());
        run(test);
    };
    std::thread::spawn(body).join().unwrap();
}

#[test]
fn segments_above_the_local_mtu_are_too_big_and_do_not_switch_segmentation_off() {
    with_small_mtu(async || {
        let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        for len in [1373, 2 * 1373, 40 * 1373] {
            let error = a.try_send(b.local_addr(), &pattern(len), 1373, 1).unwrap_err();
            assert!(matches!(error, SendError::TooBig { sent: 0 }), "{len}: {error:?}");
            assert!(a.segmentation(), "{len}");
        }
        for full in [1, 2, 100] {
            let error = a.try_send(b.local_addr(), &pattern(full * 1373 + 100), 1373, 3).unwrap_err();
            assert!(matches!(error, SendError::TooBig { sent: 100 }), "{full}: {error:?}");
            let tail = collect(&b, a.local_addr(), 3, 1).await;
            assert_eq!(tail, [&pattern(full * 1373 + 100)[full * 1373..]], "{full}");
        }
        check_round_trip(&a, &b, 1372, 40 * 1372).await;
        a.try_send(b.local_addr(), &pattern(3000), 1000, 3).unwrap();
        assert_eq!(collect(&b, a.local_addr(), 3, 3).await.len(), 3, "ECN still carried");
    });
}

#[test]
fn unreachable_destinations_are_counted_and_no_error() {
    with_small_mtu(async || {
        let a = bind("127.0.0.1:0");
        let nowhere = ["192.0.2.1:9", "127.0.0.1:0", "0.0.0.0:9"];
        for (count, text) in nowhere.iter().enumerate() {
            a.try_send(text.parse().unwrap(), &pattern(3000), 1000, 0).unwrap();
            assert!(a.stats().unreachable > count as u64, "{text}");
            assert!(a.segmentation(), "a stranger's address must not change how we send: {text}");
        }
    });
}

#[test]
fn a_closed_port_at_the_far_end_disturbs_nobody() {
    run(async || {
        let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        let gone = bind("127.0.0.1:0").local_addr();
        for _ in 0..3 {
            a.try_send(gone, b"nobody", 6, 0).unwrap();
        }
        check_round_trip(&a, &b, 100, 250).await;
    });
}

#[test]
fn a_port_in_use_an_address_of_others_and_both_families_side_by_side() {
    run(async || {
        let first = bind("0.0.0.0:0");
        let port = first.local_addr().port();
        let again = UdpCarrier::bind(first.local_addr(), 0).unwrap_err();
        assert!(matches!(again, CarrierError::InUse { carrier: "udp", .. }), "{again}");
        let foreign = UdpCarrier::bind("192.0.2.1:0".parse().unwrap(), 0).unwrap_err();
        assert!(matches!(foreign, CarrierError::NoSuchAddress { .. }), "{foreign}");
        bind(&format!("[::]:{port}"));
    });
}

#[test]
fn nothing_there_would_block_and_a_waiting_reader_wakes() {
    run(async || {
        let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        let mut buffer = RecvBuffer::new(1);
        b.writable().await.unwrap();
        assert_eq!(b.try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let (read, sent) = tokio::join!(b.readable(), async { a.try_send(b.local_addr(), b"x", 1, 0) });
        read.unwrap();
        sent.unwrap();
        assert_eq!(b.try_recv(&mut buffer).unwrap(), 1);
        assert_eq!(b.local(), 3);
    });
}

#[test]
fn an_empty_datagram_is_a_batch_without_datagrams() {
    let batch = Batch { from: "10.0.0.1:1".parse().unwrap(), stride: 1, len: 0, ecn: 0, arrived: None };
    assert_eq!(batch.ranges().count(), 0);
}

#[test]
fn refused_segmentation_is_done_without_for_good_and_nothing_is_lost() {
    use std::os::fd::AsRawFd;
    run(async || {
        let (a, b) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
        let on: libc::c_int = 1;
        // Without checksums the kernel refuses to segment (EINVAL), as it does for some drivers (EIO).
        // SAFETY: the option is an int, and `on` lives through the call.
        let result = unsafe {
            let (value, len) = ((&raw const on).cast(), size_of_val(&on) as libc::socklen_t);
            libc::setsockopt(a.socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, len)
        };
        assert_eq!(result, 0);
        for _ in 0..2 {
            a.try_send(b.local_addr(), &pattern(40_500), 1000, 2).unwrap();
            let expected: Vec<_> = pattern(40_500).chunks(1000).map(<[u8]>::to_vec).collect();
            assert_eq!(collect(&b, a.local_addr(), 2, 41).await, expected);
            assert!(!a.segmentation());
        }
        assert_eq!(a.stats(), UdpStats::default());
    });
}

/// Receives `count` datagrams; how many each batch held.
async fn batch_sizes(carrier: &UdpCarrier, count: usize) -> Vec<usize> {
    let mut buffer = RecvBuffer::new(32);
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < count {
        carrier.readable().await.unwrap();
        if carrier.try_recv(&mut buffer).is_ok() {
            sizes.extend(buffer.iter_mut().map(|(batch, _)| batch.ranges().count()));
        }
    }
    sizes
}

#[test]
fn without_aggregation_each_datagram_comes_by_itself_also_after_a_refused_send() {
    run(async || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (bind(address), bind(address));
            assert!(b.aggregation(), "Linux since 5.0");
            a.try_send(b.local_addr(), &pattern(40_500), 1000, 0).unwrap();
            assert_eq!(batch_sizes(&b, 41).await, [41]);
            b.set_aggregation(false).unwrap();
            for _ in 0..2 {
                a.try_send(b.local_addr(), &pattern(40_500), 1000, 0).unwrap();
                assert_eq!(batch_sizes(&b, 41).await, [1; 41]);
                check_round_trip(&a, &b, 1000, 64_000).await;
                // What a refused send does to the socket.
                b.renew_state();
            }
            b.set_aggregation(true).unwrap();
            a.try_send(b.local_addr(), &pattern(40_500), 1000, 0).unwrap();
            assert_eq!(batch_sizes(&b, 41).await, [41]);
        }
    });
}
