//! WebSocket over TLS, and QUIC: what differs from a plain stream.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;

use super::*;

const LOOPBACK: &str = "127.0.0.1:0";

/// A carrier that listens for one of the disguised carriers, and where.
fn listening_as(carrier: CarrierKind, limits: ConnectionLimits) -> (Connections, SocketAddr) {
    let mut connections = Connections::new(limits);
    let (shown, addr) = (Certificate::self_made().unwrap(), LOOPBACK.parse().unwrap());
    let bound = match carrier {
        CarrierKind::Wss => connections.listen_wss(addr, &shown),
        _ => connections.listen_quic(addr, &shown),
    };
    (connections, bound.unwrap())
}

/// Drives both ends until each has said that the connection stands.
async fn meet(a: &mut Connections, b: &mut Connections) -> (PathAddr, PathAddr) {
    let (mut at_a, mut at_b) = (None, None);
    while at_a.is_none() || at_b.is_none() {
        tokio::select! {
            event = a.next() => match event {
                ConnectionEvent::Connected { path } => at_a = Some(path),
                ConnectionEvent::Resized { .. } => {}
                other => panic!("{other:?}"),
            },
            event = b.next() => match event {
                ConnectionEvent::Accepted { path } => at_b = Some(path),
                ConnectionEvent::Resized { .. } => {}
                other => panic!("{other:?}"),
            },
        }
    }
    let (at_a, at_b) = (at_a.unwrap(), at_b.unwrap());
    a.authenticated(at_a.local);
    b.authenticated(at_b.local);
    (at_a, at_b)
}

async fn met(carrier: CarrierKind) -> (Connections, PathAddr, Connections, PathAddr) {
    let (mut b, addr) = listening_as(carrier, ConnectionLimits::default());
    let mut a = Connections::default();
    a.connect(Dial::new(carrier, addr));
    let (at_a, at_b) = meet(&mut a, &mut b).await;
    assert_eq!((at_a.carrier, at_a.remote, at_b.carrier), (carrier, addr, carrier));
    (a, at_a, b, at_b)
}

/// Sends `bytes` from `a` and gathers them at `b`, waiting whenever there is no room.
async fn carry(a: &mut Connections, from: u32, b: &mut Connections, bytes: &[u8], segment: usize) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < bytes.len() {
        match a.try_send(from, &bytes[sent..], segment) {
            Ok(()) => sent = bytes.len(),
            Err(error @ SendError::WouldBlock { .. }) => sent += error.sent(),
            Err(error) => panic!("{error}"),
        }
        tokio::select! {
            _ = a.next() => {}
            event = b.next() => if let ConnectionEvent::Records(mut batch) = event {
                batch.iter_mut().for_each(|record| got.extend_from_slice(record));
                b.recycle(batch);
            },
        }
    }
    got
}

#[test]
fn records_cross_a_websocket_with_their_borders_whatever_its_messages_are() {
    run(async || {
        let (mut a, at_a, mut b, at_b) = met(CarrierKind::Wss).await;
        for (segment, len) in [(1, 1), (1000, 64_000), (1000, 63_001), (65_535, 140_000), (36, 7_000)] {
            let bytes = pattern(len);
            a.try_send(at_a.local, &bytes, segment).unwrap();
            b.try_send(at_b.local, &bytes, segment).unwrap();
            let expected: Vec<_> = bytes.chunks(segment).map(<[u8]>::to_vec).collect();
            let (there, here) = tokio::join!(collect(&mut b, len), collect(&mut a, len));
            assert!(there == expected && here == expected, "{segment} {len}");
        }
    });
}

#[test]
fn a_full_websocket_refuses_says_when_there_is_room_and_loses_nothing() {
    run(async || {
        let (mut a, at_a, mut b, _) = met(CarrierKind::Wss).await;
        let bytes = pattern(1200 * 20_000);
        let first = a.try_send(at_a.local, &bytes, 1200).unwrap_err();
        assert!(matches!(first, SendError::WouldBlock { sent } if sent > 0 && sent < bytes.len()));
        let rest = &bytes[first.sent()..];
        let (mut relieved, mut got) = (false, Vec::new());
        while got.len() < first.sent() {
            tokio::select! {
                event = a.next() => relieved |= matches!(event, ConnectionEvent::Writable { .. }),
                event = b.next() => if let ConnectionEvent::Records(mut batch) = event {
                    batch.iter_mut().for_each(|record| got.extend_from_slice(record));
                    b.recycle(batch);
                },
            }
        }
        assert!(relieved, "room is announced");
        got.extend(carry(&mut a, at_a.local, &mut b, rest, 1200).await);
        assert!(got == bytes);
    });
}

#[test]
fn quic_carries_records_one_by_one_up_to_what_it_says() {
    run(async || {
        let (mut a, at_a, mut b, _) = met(CarrierKind::Quic).await;
        let payload = a.payload(at_a.local).unwrap();
        assert!(payload >= 1200, "a link needs 1,200 bytes: {payload}");
        let bytes = pattern(1200 * 2000);
        assert!(carry(&mut a, at_a.local, &mut b, &bytes, 1200).await == bytes);
        let payload = a.payload(at_a.local).unwrap();
        let two = pattern(payload + 1);
        let refused = a.try_send(at_a.local, &two, payload + 1);
        assert!(matches!(refused, Err(SendError::TooBig { sent: 0 })), "{refused:?}");
    });
}

#[test]
fn quic_announces_that_a_path_takes_larger_records() {
    run(async || {
        let (mut a, at_a, mut b, _) = met(CarrierKind::Quic).await;
        let start = a.payload(at_a.local).unwrap();
        // The loopback carries all that is tried: 1472 less the header of the packet.
        let told = loop {
            tokio::select! {
                event = a.next() => if let ConnectionEvent::Resized { path, payload } = event
                    && payload > start
                {
                    assert_eq!(path, at_a);
                    break payload;
                },
                _ = b.next() => {}
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    a.try_send(at_a.local, &[4; 100], 100).unwrap();
                }
            }
        };
        assert!(told <= 1472, "{told}");
    });
}

#[test]
fn the_end_of_one_side_reaches_the_other() {
    for carrier in [CarrierKind::Wss, CarrierKind::Quic] {
        run(async || {
            let (a, _, mut b, at_b) = met(carrier).await;
            // QUIC says goodbye by a task of its own, which has to run once more.
            drop(a);
            let (local, _) = loop {
                match b.next().await {
                    ConnectionEvent::Closed { path, reason } => break (path.local, reason),
                    ConnectionEvent::Resized { .. } => {}
                    other => panic!("{other:?}"),
                }
            };
            assert_eq!(local, at_b.local, "{carrier:?}");
        });
    }
}

#[test]
fn who_speaks_no_tls_or_says_nothing_loses_his_place_in_time() {
    run(async || {
        let limits = ConnectionLimits {
            half_open_per_source: 2,
            accepted_within: Duration::from_millis(200),
            ..ConnectionLimits::default()
        };
        let (mut carrier, addr) = listening_as(CarrierKind::Wss, limits);
        let mut plain = TcpStream::connect(addr).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(matches!(closed(&mut carrier).await.1, CloseReason::Failed(_)));
        let _silent = TcpStream::connect(addr).await.unwrap();
        let _other = TcpStream::connect(addr).await.unwrap();
        let mut third = TcpStream::connect(addr).await.unwrap();
        assert!(matches!(closed(&mut carrier).await.1, CloseReason::Unproven));
        assert!(third.read_u8().await.is_err(), "no place for a third");
        assert_eq!(carrier.stats().refused, 1);
        assert!(matches!(closed(&mut carrier).await.1, CloseReason::Unproven));
        assert_eq!(carrier.counts(), (0, 0));
    });
}

/// A WebSocket of a program that is no node.
async fn stranger(
    addr: SocketAddr,
) -> tokio_tungstenite::WebSocketStream<impl AsyncReadExt + AsyncWriteExt + Unpin> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let tls = TlsConnector::from(Arc::new(tls::client(listener::ALPN_WEB).unwrap()));
    let stream = tls.connect("localhost".try_into().unwrap(), stream).await.unwrap();
    tokio_tungstenite::client_async("wss://localhost/", stream).await.unwrap().0
}

#[test]
fn a_websocket_that_speaks_text_or_long_messages_is_closed() {
    let long = vec![7; 20_000];
    for message in [Message::text("hello"), Message::binary(long)] {
        run(async || {
            let (mut carrier, addr) = listening_as(CarrierKind::Wss, ConnectionLimits::default());
            let talk = async {
                let mut socket = stranger(addr).await;
                socket.send(message.clone()).await.unwrap();
                socket.next().await
            };
            let listen = async {
                assert!(matches!(carrier.next().await, ConnectionEvent::Accepted { .. }));
                closed(&mut carrier).await.1
            };
            let (_, reason) = tokio::join!(talk, listen);
            assert!(matches!(reason, CloseReason::Failed(_)), "{reason:?}");
        });
    }
}

#[test]
fn a_proxy_is_asked_for_the_name_and_its_refusal_is_told() {
    run(async || {
        let (mut b, addr) = listening_as(CarrierKind::Wss, ConnectionLimits::default());
        let proxy = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
        let at = proxy.local_addr().unwrap();
        let serve = tokio::spawn(async move {
            let asked = |stream: TcpStream| async move {
                let mut stream = tokio::io::BufReader::new(stream);
                let mut line = String::new();
                tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap();
                let mut rest = String::new();
                while rest != "\r\n" {
                    rest.clear();
                    tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut rest).await.unwrap();
                }
                (line, stream.into_inner())
            };
            let (line, mut stream) = asked(proxy.accept().await.unwrap().0).await;
            let mut through = TcpStream::connect(addr).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut stream, &mut through).await });
            let (_, mut stream) = asked(proxy.accept().await.unwrap().0).await;
            stream.write_all(b"HTTP/1.1 407 Who are you\r\n\r\n").await.unwrap();
            line
        });
        let mut a = Connections::default();
        let host = "hub.example".to_owned();
        let dial = Dial { host, proxy: Some(at.to_string()), ..Dial::new(CarrierKind::Wss, addr) };
        a.connect(dial.clone());
        let (at_a, _) = meet(&mut a, &mut b).await;
        assert!(carry(&mut a, at_a.local, &mut b, &pattern(5000), 1000).await == pattern(5000));
        a.connect(dial);
        let reason = loop {
            tokio::select! {
                event = a.next() => if let ConnectionEvent::Closed { reason, .. } = event { break reason },
                _ = b.next() => {}
            }
        };
        assert!(reason.to_string().contains("407"), "{reason}");
        assert_eq!(serve.await.unwrap(), format!("CONNECT hub.example:{} HTTP/1.1\r\n", addr.port()));
    });
}

#[test]
fn a_certificate_comes_from_files_and_bad_ones_are_named() {
    let dir = std::env::temp_dir().join(format!("sinew-tls-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let made = rcgen::generate_simple_self_signed(["node.example".to_owned()]).unwrap();
    let (chain, key, empty) = (dir.join("chain.pem"), dir.join("key.pem"), dir.join("empty.pem"));
    let pem = |label: &str, der: &[u8]| {
        let (open, close) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
        format!("{open}\n{}\n{close}\n", base64(der))
    };
    std::fs::write(&chain, pem("CERTIFICATE", made.cert.der())).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
    std::fs::write(&empty, "").unwrap();
    Certificate::read(&chain, &key).unwrap().server(listener::ALPN_WEB).unwrap();
    for (chain, key, named) in [(&empty, &key, "empty"), (&chain, &empty, "empty"), (&dir, &key, "sinew-tls")]
    {
        let error = Certificate::read(chain, key).unwrap_err().to_string();
        assert!(error.contains(named), "{error}");
    }
    let other = rcgen::generate_simple_self_signed(["other.example".to_owned()]).unwrap();
    std::fs::write(&key, pem("PRIVATE KEY", &other.signing_key.serialize_der())).unwrap();
    assert!(Certificate::read(&chain, &key).unwrap().server(listener::ALPN_WEB).is_err());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Standard base64 in lines, which is all that PEM needs.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (at, three) in bytes.chunks(3).enumerate() {
        if at > 0 && at % 16 == 0 {
            text.push('\n');
        }
        let padded = [three[0], *three.get(1).unwrap_or(&0), *three.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for n in 0..4 {
            let digit = (bits >> (18 - 6 * n)) as usize & 63;
            text.push(if n <= three.len() { ALPHABET[digit] as char } else { '=' });
        }
    }
    text
}

/// Somebody else's listener: he reads what he needs, and hands the connection over.
async fn handed(listener: &tokio::net::TcpListener, door: &Door) -> bool {
    let (mut stream, remote) = listener.accept().await.unwrap();
    let mut first = [0; 100];
    stream.read_exact(&mut first).await.unwrap();
    door.hand(stream.into_std().unwrap(), remote, bytes::Bytes::copy_from_slice(&first))
}

#[test]
fn a_websocket_comes_by_somebody_elses_port_with_what_was_read_of_it() {
    run(async || {
        let (mut a, mut b) = (Connections::default(), Connections::default());
        let door = b.share_wss(&Certificate::self_made().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        a.connect(Dial::new(CarrierKind::Wss, addr));
        // Dialling goes on only while it is asked for events.
        tokio::select! {
            taken = handed(&listener, &door) => assert!(taken),
            event = a.next() => panic!("{event:?}"),
        }
        let (at_a, at_b) = meet(&mut a, &mut b).await;
        assert_eq!((at_a.remote, at_b.carrier), (addr, CarrierKind::Wss));
        let bytes = pattern(30_000);
        assert_eq!(carry(&mut a, at_a.local, &mut b, &bytes, 1000).await, bytes);
    });
}

#[test]
fn who_comes_by_somebody_elses_port_is_a_stranger_as_any_other() {
    run(async || {
        let limits = ConnectionLimits {
            half_open_per_source: 2,
            accepted_within: Duration::from_millis(200),
            ..ConnectionLimits::default()
        };
        let mut carrier = Connections::new(limits);
        let door = carrier.share_wss(&Certificate::self_made().unwrap()).unwrap();
        let listener = tokio::net::TcpListener::bind(LOOPBACK).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut streams = Vec::new();
        for first in [[22; 100], [b'x'; 100], [22; 100]] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.write_all(&first).await.unwrap();
            streams.push(stream);
            assert!(handed(&listener, &door).await);
        }
        let _ = closed(&mut carrier).await;
        let _ = closed(&mut carrier).await;
        assert_eq!((carrier.stats().refused, carrier.counts()), (1, (0, 0)));
        // Nobody takes them in any more: the queue fills, and then he is told.
        let fill = async {
            let mut taken = 0;
            loop {
                let (near, far) = tokio::join!(TcpStream::connect(addr), listener.accept());
                let (far, remote) = far.unwrap();
                near.unwrap();
                if !door.hand(far.into_std().unwrap(), remote, bytes::Bytes::new()) {
                    return taken;
                }
                taken += 1;
            }
        };
        assert_eq!(fill.await, 64);
    });
}
