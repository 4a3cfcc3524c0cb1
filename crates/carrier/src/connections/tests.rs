use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn run(test: impl AsyncFnOnce()) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn framed(records: &[&[u8]]) -> Vec<u8> {
    let prefix = |record: &[u8]| u16::try_from(record.len()).unwrap().to_le_bytes();
    records.iter().flat_map(|record| [&prefix(record)[..], record].concat()).collect()
}

/// A carrier listening on the loopback, and where.
fn listening(limits: ConnectionLimits) -> (Connections, SocketAddr) {
    let mut carrier = Connections::new(limits);
    let addr = carrier.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    (carrier, addr)
}

async fn accepted(carrier: &mut Connections) -> u32 {
    match carrier.next().await {
        ConnectionEvent::Accepted { path } => path.local,
        other => panic!("{other:?}"),
    }
}

async fn closed(carrier: &mut Connections) -> (u32, CloseReason) {
    match carrier.next().await {
        ConnectionEvent::Closed { path, reason } => (path.local, reason),
        other => panic!("{other:?}"),
    }
}

/// Records until `count` bytes have come; the number of batches comes along.
async fn collect(carrier: &mut Connections, count: usize) -> Vec<Vec<u8>> {
    let mut records: Vec<Vec<u8>> = Vec::new();
    while records.iter().map(Vec::len).sum::<usize>() < count {
        match carrier.next().await {
            ConnectionEvent::Records(mut batch) => {
                assert_eq!(batch.iter_mut().count(), batch.len());
                records.extend(batch.iter_mut().map(|record| record.to_vec()));
                carrier.recycle(batch);
            }
            other => panic!("{other:?}"),
        }
    }
    records
}

/// Both ends of one connection over the loopback, proved.
async fn connected() -> (Connections, u32, Connections, u32) {
    let (mut b, addr) = listening(ConnectionLimits::default());
    let mut a = Connections::default();
    let at_a = a.connect(Dial::new(CarrierKind::Tcp, addr));
    let (event, at_b) = tokio::join!(a.next(), accepted(&mut b));
    assert!(
        matches!(event, ConnectionEvent::Connected { path } if (path.local, path.remote) == (at_a, addr))
    );
    a.authenticated(at_a);
    b.authenticated(at_b);
    (a, at_a, b, at_b)
}

#[test]
fn records_cross_in_both_directions_with_their_borders() {
    run(async || {
        let (mut a, at_a, mut b, at_b) = connected().await;
        for (segment, len) in [(1, 1), (1000, 64_000), (1000, 63_001), (65_535, 140_000), (36, 7_000)] {
            let bytes = pattern(len);
            a.try_send(at_a, &bytes, segment).unwrap();
            b.try_send(at_b, &bytes, segment).unwrap();
            let expected: Vec<_> = bytes.chunks(segment).map(<[u8]>::to_vec).collect();
            let (at_b, at_a) = tokio::join!(collect(&mut b, len), collect(&mut a, len));
            assert!(at_a == expected && at_b == expected, "{segment} {len}");
        }
    });
}

#[test]
fn the_double_needs_no_network() {
    run(async || {
        let (mut a, mut b) = (Connections::default(), Connections::default());
        let (here, there) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap());
        let (at_a, _) = Connections::pair(&mut a, &mut b, here, there).unwrap();
        assert!(matches!(a.next().await, ConnectionEvent::Connected { path } if path.remote == there));
        assert!(matches!(b.next().await, ConnectionEvent::Accepted { path } if path.remote == here));
        a.try_send(at_a, b"hello there", 6).unwrap();
        assert_eq!(collect(&mut b, 11).await, [b"hello ".to_vec(), b"there".to_vec()]);
        drop(a);
        assert!(matches!(closed(&mut b).await.1, CloseReason::Ended));
    });
}

#[test]
fn records_written_byte_by_byte_arrive_whole() {
    run(async || {
        let (mut carrier, addr) = listening(ConnectionLimits::default());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        accepted(&mut carrier).await;
        let (first, second) = (pattern(300), pattern(5));
        let write = async {
            for byte in framed(&[&first, &second]) {
                stream.write_all(&[byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let ((), records) = tokio::join!(write, collect(&mut carrier, 305));
        assert_eq!(records, [first, second]);
    });
}

#[test]
fn many_records_in_one_write_arrive_in_one_batch() {
    run(async || {
        let (mut carrier, addr) = listening(ConnectionLimits::default());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        accepted(&mut carrier).await;
        stream.write_all(&framed(&[b"one", b"two", b"three"])).await.unwrap();
        match carrier.next().await {
            ConnectionEvent::Records(mut batch) => {
                let (bytes, ranges) = batch.parts_mut();
                let records: Vec<_> = ranges.iter().map(|range| &bytes[range.clone()]).collect();
                assert_eq!(records, [&b"one"[..], b"two", b"three"]);
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_stranger_may_not_send_long_records_and_nobody_empty_ones() {
    run(async || {
        let longest = u16::try_from(16 * 1024 - 2).unwrap();
        for (proved, prefix, good) in [
            (false, longest, true),
            (false, longest + 1, false),
            (false, u16::MAX, false),
            (false, 0, false),
            (true, u16::MAX, true),
            (true, 0, false),
        ] {
            let (mut carrier, addr) = listening(ConnectionLimits::default());
            let mut stream = TcpStream::connect(addr).await.unwrap();
            let local = accepted(&mut carrier).await;
            if proved {
                carrier.authenticated(local);
            }
            let record = pattern(usize::from(prefix));
            let bytes = [&prefix.to_le_bytes()[..], &record].concat();
            let result = async {
                let _ = stream.write_all(&bytes).await;
            };
            let ((), event) = tokio::join!(result, carrier.next());
            match event {
                ConnectionEvent::Records(mut batch) => {
                    assert!(good && batch.iter_mut().eq([&record[..]]), "{prefix}")
                }
                ConnectionEvent::Closed { reason: CloseReason::BadFraming, .. } => {
                    assert!(!good, "{prefix}");
                    assert_eq!(carrier.stats().bad_framing, 1);
                    assert_eq!(carrier.counts(), (0, 0));
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_long_record_close_behind_a_good_one_waits_until_the_far_end_is_proven() {
    run(async || {
        let (mut carrier, addr) = listening(ConnectionLimits::default());
        let mut stream = TcpStream::connect(addr).await.unwrap();
        let local = accepted(&mut carrier).await;
        let long = pattern(60_000);
        stream.write_all(&framed(&[b"hello", &long])).await.unwrap();
        match carrier.next().await {
            ConnectionEvent::Records(mut batch) => {
                assert!(batch.iter_mut().eq([b"hello"]));
                carrier.recycle(batch);
            }
            other => panic!("{other:?}"),
        }
        // However often it is looked at, no more than the stranger's share is taken in.
        for _ in 0..20 {
            let looked = tokio::time::timeout(std::time::Duration::from_millis(1), carrier.next()).await;
            assert!(looked.is_err(), "{looked:?}");
        }
        carrier.authenticated(local);
        match carrier.next().await {
            ConnectionEvent::Records(mut batch) => assert!(batch.iter_mut().eq([&long[..]])),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_slow_reader_makes_sending_fail_and_later_succeed_without_loss() {
    run(async || {
        let (mut a, at_a, mut b, _) = connected().await;
        let record = pattern(60_000);
        let mut accepted = 0;
        let error = loop {
            // The kernel's share is taken up while `next` runs; what it does not take stays bounded.
            if let Err(error) = a.try_send(at_a, &record, record.len()) {
                break error;
            }
            accepted += 1;
            assert!(accepted < 1000, "an unbounded queue");
        };
        assert!(matches!(error, SendError::WouldBlock { sent: 0 }), "{error:?}");
        assert!(a.room(at_a) < record.len() + 2);
        let relief = async {
            match a.next().await {
                ConnectionEvent::Writable { path } => assert_eq!(path.local, at_a),
                other => panic!("{other:?}"),
            }
        };
        let mut records = Vec::new();
        let read = async {
            records = collect(&mut b, accepted * record.len()).await;
        };
        let ((), ()) = tokio::join!(relief, read);
        assert!(records.len() == accepted && records.iter().all(|got| *got == record));
        a.try_send(at_a, b"more", 4).unwrap();
        assert_eq!(collect(&mut b, 4).await, [b"more"]);
    });
}

#[test]
fn what_did_not_fit_is_named_exactly() {
    run(async || {
        let (mut a, at_a, mut b, _) = connected().await;
        let bytes = pattern(16 << 20);
        let sent = match a.try_send(at_a, &bytes, 1000) {
            Err(SendError::WouldBlock { sent }) => sent,
            other => panic!("{other:?}"),
        };
        assert!(sent > 0 && sent % 1000 == 0, "{sent}");
        let drain = async { while !matches!(a.next().await, ConnectionEvent::Writable { .. }) {} };
        let (records, ()) = tokio::join!(collect(&mut b, sent), drain);
        assert_eq!(records.concat(), bytes[..sent]);
    });
}

#[test]
fn records_too_long_for_the_frame_are_refused_before_anything_is_sent() {
    run(async || {
        let (mut a, at_a, _b, _) = connected().await;
        let error = a.try_send(at_a, &pattern(70_000), 65_536).unwrap_err();
        assert!(matches!(error, SendError::TooBig { sent: 0 }));
        assert!(matches!(a.try_send(999, b"x", 1), Err(SendError::Closed)));
    });
}

#[test]
fn strangers_are_bounded_per_source_until_they_prove_themselves() {
    run(async || {
        let limits = ConnectionLimits { half_open_per_source: 2, ..ConnectionLimits::default() };
        let (mut carrier, addr) = listening(limits);
        let _first = TcpStream::connect(addr).await.unwrap();
        let _second = TcpStream::connect(addr).await.unwrap();
        let locals = [accepted(&mut carrier).await, accepted(&mut carrier).await];
        let mut third = TcpStream::connect(addr).await.unwrap();
        let refused = async { third.read(&mut [0]).await };
        let result = tokio::select! {
            event = carrier.next() => panic!("{event:?}"),
            result = refused => result,
        };
        assert!(result.is_err(), "reset, not kept");
        assert_eq!((carrier.stats().refused, carrier.counts()), (1, (2, 2)));
        carrier.authenticated(locals[0]);
        let _fourth = TcpStream::connect(addr).await.unwrap();
        accepted(&mut carrier).await;
        carrier.close(locals[1]);
        let _fifth = TcpStream::connect(addr).await.unwrap();
        accepted(&mut carrier).await;
        assert_eq!(carrier.counts(), (3, 2));
    });
}

#[test]
fn strangers_are_bounded_in_all() {
    run(async || {
        let (mut carrier, addr) = listening(ConnectionLimits { half_open: 1, ..ConnectionLimits::default() });
        let _first = TcpStream::connect(addr).await.unwrap();
        accepted(&mut carrier).await;
        let mut second = TcpStream::connect(addr).await.unwrap();
        let result = tokio::select! {
            event = carrier.next() => panic!("{event:?}"),
            result = async { second.read(&mut [0]).await } => result,
        };
        assert!(result.is_err());
    });
}

#[test]
fn a_connection_that_proves_nothing_in_time_is_closed_and_a_proved_one_is_not() {
    run(async || {
        let short = Duration::from_millis(300);
        let limits = ConnectionLimits { accepted_within: short, ..ConnectionLimits::default() };
        let (mut carrier, addr) = listening(limits);
        let _silent = TcpStream::connect(addr).await.unwrap();
        let silent = accepted(&mut carrier).await;
        let mut proved_stream = TcpStream::connect(addr).await.unwrap();
        let proved = accepted(&mut carrier).await;
        carrier.authenticated(proved);
        let (local, reason) = closed(&mut carrier).await;
        assert!(local == silent && matches!(reason, CloseReason::Unproven), "{reason:?}");
        assert_eq!((carrier.stats().unproven, carrier.counts()), (1, (1, 0)));
        proved_stream.write_all(&framed(&[b"alive"])).await.unwrap();
        assert_eq!(collect(&mut carrier, 5).await, [b"alive"]);
    });
}

#[test]
fn talking_without_proof_does_not_lengthen_the_time() {
    run(async || {
        let limits =
            ConnectionLimits { accepted_within: Duration::from_millis(30), ..ConnectionLimits::default() };
        let (mut carrier, addr) = listening(limits);
        let mut stream = TcpStream::connect(addr).await.unwrap();
        accepted(&mut carrier).await;
        let talk = async {
            while stream.write_all(&framed(&[b"blah"])).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        let end = async {
            loop {
                match carrier.next().await {
                    ConnectionEvent::Records(batch) => carrier.recycle(batch),
                    ConnectionEvent::Closed { reason, .. } => break reason,
                    other => panic!("{other:?}"),
                }
            }
        };
        let ((), reason) = tokio::join!(talk, end);
        assert!(matches!(reason, CloseReason::Unproven), "{reason:?}");
    });
}

#[test]
fn connecting_to_a_closed_port_reports_the_number_that_connect_gave() {
    run(async || {
        let addr = listening(ConnectionLimits::default()).1;
        let mut carrier = Connections::default();
        let local = carrier.connect(Dial::new(CarrierKind::Tcp, addr));
        carrier.try_send(local, b"waits in vain", 13).unwrap();
        let (closed, reason) = closed(&mut carrier).await;
        assert_eq!(closed, local);
        assert!(matches!(reason, CloseReason::Failed(e) if e.kind() == io::ErrorKind::ConnectionRefused));
    });
}

#[test]
fn records_sent_while_connecting_go_out_first_and_in_order() {
    run(async || {
        let (mut b, addr) = listening(ConnectionLimits::default());
        let mut a = Connections::default();
        let local = a.connect(Dial::new(CarrierKind::Tcp, addr));
        a.try_send(local, b"one", 3).unwrap();
        let (event, _) = tokio::join!(a.next(), accepted(&mut b));
        assert!(matches!(event, ConnectionEvent::Connected { .. }));
        a.try_send(local, b"two", 3).unwrap();
        let records = tokio::select! {
            event = a.next() => panic!("{event:?}"),
            records = collect(&mut b, 6) => records,
        };
        assert_eq!(records, [b"one", b"two"]);
    });
}

#[test]
fn next_may_be_cancelled_at_any_point_without_losing_a_record() {
    run(async || {
        let (mut a, at_a, mut b, _) = connected().await;
        let bytes = pattern(200_000);
        a.try_send(at_a, &bytes, 777).unwrap();
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            tokio::select! {
                biased;
                () = tokio::task::yield_now() => {}
                event = b.next() => match event {
                    ConnectionEvent::Records(mut batch) => {
                        got.extend(batch.iter_mut().flat_map(|r| r.to_vec()));
                        b.recycle(batch);
                    }
                    other => panic!("{other:?}"),
                },
            }
            tokio::select! {
                biased;
                event = a.next() => panic!("{event:?}"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(got, bytes);
    });
}

#[test]
fn a_busy_connection_does_not_starve_another() {
    run(async || {
        let (mut carrier, addr) = listening(ConnectionLimits::default());
        let mut busy = TcpStream::connect(addr).await.unwrap();
        let mut quiet = TcpStream::connect(addr).await.unwrap();
        let locals = [accepted(&mut carrier).await, accepted(&mut carrier).await];
        carrier.authenticated(locals[0]);
        carrier.authenticated(locals[1]);
        let flood = async {
            let block = framed(&[&pattern(60_000)]);
            while busy.write_all(&block).await.is_ok() {}
        };
        let serve = async {
            quiet.write_all(&framed(&[b"me too"])).await.unwrap();
            for _ in 0..200 {
                if let ConnectionEvent::Records(batch) = carrier.next().await {
                    if batch.path.local == locals[1] {
                        return;
                    }
                    carrier.recycle(batch);
                }
            }
            panic!("starved");
        };
        tokio::select! { () = flood => {}, () = serve => {} }
    });
}

#[test]
fn a_port_in_use_is_reported_and_freed_with_its_carrier() {
    run(async || {
        let (carrier, addr) = listening(ConnectionLimits::default());
        let error = Connections::default().listen(addr).unwrap_err();
        assert!(matches!(error, CarrierError::InUse { carrier: "tcp", .. }), "{error}");
        drop(carrier);
        Connections::default().listen(addr).unwrap();
    });
}

mod disguised;
