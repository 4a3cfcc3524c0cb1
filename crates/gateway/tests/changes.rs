//! Backends that die and come back, configurations and certificates that change under load, streams
//! and datagrams that go through.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::*;
use sinew_gateway::config::{Protocol, Target};
use sinew_gateway::{Boxed, Datagrams, Dial, Handover, Options, Stream, TcpDial};

const CHECK: &str = "check = { path = '/health', interval = 0.2, retry = 0.05, timeout = 0.3 }";

/// Answers every request at `address` with `name` until told to stop.
struct Mortal {
    address: SocketAddr,
    stop: std::sync::mpsc::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Mortal {
    fn start(address: SocketAddr, name: &'static str) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        let listener: TcpListener = socket.into();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.try_recv().is_ok() {
                    return;
                }
                let mut stream = stream;
                std::thread::spawn(move || {
                    read_head(&mut stream);
                    let close = format!(
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}",
                        name.len()
                    );
                    let _ = stream.write_all(close.as_bytes());
                });
            }
        });
        Self { address, stop, thread }
    }

    fn kill(self) -> SocketAddr {
        self.stop.send(()).unwrap();
        drop(connect(self.address));
        self.thread.join().unwrap();
        self.address
    }
}

fn condition(front: &Front, number: usize) -> sinew_gateway::Condition {
    front.gateway.status().services[0].backends[number].condition
}

#[test]
fn a_dead_backend_is_left_out_within_three_seconds_and_comes_back() {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (first, second) = (Mortal::start(any, "first"), Mortal::start(any, "second"));
    let front = Front::start(&web(&[first.address, second.address], "check = {}"));
    let answers: std::collections::BTreeSet<_> = (0..10).map(|_| front.get("/").text()).collect();
    assert_eq!(answers.len(), 2);
    let address = first.kill();
    let start = Instant::now();
    wait("it is left out", || {
        // Clients do not notice meanwhile.
        assert_eq!(front.get("/").text(), "second");
        condition(&front, 0) == sinew_gateway::Condition::Down
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let _again = Mortal::start(address, "first");
    wait("it is back", || condition(&front, 0) == sinew_gateway::Condition::Well);
    wait("it serves", || front.get("/").text() == "first");
}

#[test]
fn the_only_backend_down_is_503_at_once() {
    let front = Front::start(&web(&[nobody()], CHECK));
    wait("it is down", || condition(&front, 0) == sinew_gateway::Condition::Down);
    let start = Instant::now();
    let answer = front.get("/");
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some() && start.elapsed() < Duration::from_secs(1));
}

#[test]
fn without_a_check_failures_eject_and_the_next_requests_do_not_try() {
    let good = named("good");
    let front = Front::start(&web(&[nobody(), good.address], ""));
    for _ in 0..20 {
        assert_eq!(front.get("/").text(), "good", "a request that finds nobody goes elsewhere");
    }
    assert_eq!(condition(&front, 0), sinew_gateway::Condition::Ejected);
}

/// A way to backends whose nodes have no room for one more.
#[derive(Default)]
struct Full(AtomicU32);

impl Full {
    fn error(&self) -> std::io::Error {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::io::Error::new(std::io::ErrorKind::ResourceBusy, "no room for more streams")
    }
}

impl Dial for Full {
    fn connect<'a>(&'a self, target: &'a Target) -> Boxed<'a, std::io::Result<Stream>> {
        if &*target.0 == "full" {
            return Box::pin(async { Err(self.error()) });
        }
        TcpDial.connect(target)
    }

    fn datagrams<'a>(&'a self, _: &'a Target) -> Boxed<'a, std::io::Result<Box<dyn Datagrams>>> {
        Box::pin(async { Err(self.error()) })
    }
}

#[test]
fn a_backend_that_has_no_room_is_not_taken_out() {
    let good = named("good");
    let dial = Arc::new(Full::default());
    let start = |backends: &str, more: &str| {
        let text = format!(
            "[[services]]\nname = 'web'\nmode = 'http'\nhosts = ['a.example']\nbackends = [{backends}]\n{more}\n\
             [[services]]\nname = 'db'\nmode = 'tcp'\nbackends = [{{ target = 'full' }}]\n\
             [[services]]\nname = 'dns'\nmode = 'udp'\nbackends = [{{ target = 'full' }}]\n\
             [[listeners]]\naddress = '127.0.0.3:0'\nprotocol = 'tcp'\nservice = 'db'\n\
             [[listeners]]\naddress = '127.0.0.3:0'\nprotocol = 'udp'\nservice = 'dns'\n"
        );
        Front::start_with(&text, Options { dial: dial.clone(), ..Options::default() })
    };
    let front = start("{ target = 'full' }", CHECK);
    let before = dial.0.load(Ordering::Relaxed);
    wait("checks found no room", || dial.0.load(Ordering::Relaxed) > before + 5);
    for _ in 0..5 {
        let answer = front.get("/");
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("has no room"), "{}", answer.text());
        assert!(closed(&mut connect(front.at(Protocol::Tcp))));
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"?", front.at(Protocol::Udp)).unwrap();
    }
    wait("all flows have ended", || front.heard.streams.lock().unwrap().len() == 10);
    for service in front.gateway.status().services {
        assert_eq!(service.backends[0].condition, sinew_gateway::Condition::Well, "{}", service.name);
    }
    let target = good.address;
    let front = start(&format!("{{ target = 'full' }}, {{ target = '{target}' }}"), "");
    for _ in 0..10 {
        assert_eq!(front.get("/").text(), "good", "another one has room");
    }
    assert_eq!(condition(&front, 0), sinew_gateway::Condition::Well);
}

#[test]
fn a_draining_backend_gets_nothing_new() {
    let (first, second) = (named("first"), named("second"));
    let text = web(&[first.address, second.address], "");
    let front = Front::start(&text);
    let drained = format!("target = '{}', drain = true", first.address);
    let text = text.replace(&format!("target = '{}'", first.address), &drained);
    front.gateway.apply(parse(&text)).unwrap();
    assert!((0..10).all(|_| front.get("/").text() == "second"));
}

#[test]
fn a_cookie_keeps_a_client_at_its_backend() {
    let (first, second) = (named("first"), named("second"));
    let front = Front::start(&web(&[first.address, second.address], "balance = 'sticky-cookie'"));
    let answer = front.get("/");
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..10 {
        let head = format!("GET / HTTP/1.1\r\nHost: a.example\r\nCookie: x=1; {cookie}\r\n\r\n");
        let again = front.ask("a.example", &head);
        assert_eq!(again.text(), answer.text());
        assert!(again.header("set-cookie").is_none());
    }
}

#[test]
fn a_change_drops_nothing_that_is_under_way() {
    let slow = backend(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        let mut go = [0; 1];
        // The second half comes when the test has sent a second connection.
        let _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
        let _ = stream.read(&mut go);
        let _ = stream.write_all(b"world");
    });
    let front = Front::start(&web(&[slow.address], ""));
    let mut under_way = front.tls("a.example");
    under_way.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    read_head(&mut under_way);
    let mut kept = front.tls("a.example");
    kept.conn.complete_io(&mut kept.sock).unwrap();

    let other = named("other");
    let fresh = front.authority.certificate(HOSTS);
    front.gateway.certificates().set(HOSTS, &fresh);
    front.gateway.apply(parse(&web(&[other.address], ""))).unwrap();

    let mut body = [0; 10];
    under_way.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"helloworld");
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut kept).text(), "other", "an old connection, the new configuration");
    let mut new = front.tls("a.example");
    new.conn.complete_io(&mut new.sock).unwrap();
    assert_eq!(new.conn.peer_certificates().unwrap(), fresh.chain());
}

#[test]
fn a_wrong_configuration_changes_nothing() {
    let good = named("good");
    let front = Front::start(&web(&[good.address], ""));
    let error = front.gateway.apply(parse(&web(&[], ""))).unwrap_err();
    assert!(error.to_string().contains("backends"), "{error}");
    assert_eq!(front.get("/").text(), "good");
}

#[test]
fn shutdown_lets_requests_finish() {
    let slow = backend(|mut stream| {
        read_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n");
        let _ = stream.set_read_timeout(Some(Duration::from_millis(400)));
        let _ = stream.read(&mut [0]);
        let _ = stream.write_all(b"done");
    });
    let front = Front::start(&web(&[slow.address], ""));
    let mut stream = front.tls("a.example");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    read_head(&mut stream);
    let Front { gateway, .. } = front;
    let ending = std::thread::spawn(move || gateway.shutdown(DEADLINE));
    let mut body = [0; 4];
    stream.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"done");
    assert!(closed(&mut stream));
    drop(stream);
    assert!(ending.join().unwrap(), "all had finished");
}

/// TLS that the front cannot read: the backend is a front of its own.
#[test]
fn passed_through_tls_ends_at_the_backend_and_tells_it_the_client() {
    let behind = named("behind");
    let inner_text =
        web(&[behind.address], "").replace("[[services]]", "trusted_proxies = ['127.0.0.0/8']\n[[services]]");
    let listener = "[[listeners]]\naddress = '127.0.0.3:0'\nprotocol = 'https'\nproxy_protocol = true\n";
    let inner = Front::start(&format!("{inner_text}{listener}"));
    let proxied =
        inner.gateway.addresses().into_iter().find(|(listener, _)| listener.proxy_protocol).unwrap().1;
    for version in ["v1", "v2"] {
        let text = web(&[proxied], &format!("proxy_header = '{version}'"))
            .replace("'http'\nhosts", "'tls-passthrough'\nhosts");
        let outer = Front::start(&text);
        // A client that trusts only the inner authority.
        let mut stream = outer.tls_with(inner.authority.client(&[b"http/1.1"]), "a.example");
        let local = stream.sock.local_addr().unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).text(), "behind");
        drop(stream);
        wait("the inner event", || {
            inner.heard.requests.lock().unwrap().iter().any(|event| event.client == local)
        });
        wait("the outer event", || outer.heard.streams.lock().unwrap().len() == 1);
        let event = outer.heard.streams.lock().unwrap()[0].clone();
        assert!(event.host.as_deref() == Some("a.example") && event.tx_bytes > 500, "{event:?}");
    }
}

#[test]
fn a_client_without_the_header_cannot_pretend_to_be_a_proxy() {
    let behind = named("x");
    let text = web(&[behind.address], "");
    let listener = "[[listeners]]\naddress = '127.0.0.3:0'\nprotocol = 'https'\nproxy_protocol = true\n";
    let front = Front::start(&format!("{text}{listener}"));
    let at = front.gateway.addresses().into_iter().find(|(listener, _)| listener.proxy_protocol).unwrap().1;
    let mut stream = connect(at);
    stream.write_all(b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n").unwrap();
    assert!(closed(&mut stream), "it is not trusted, so this is no TLS");
    wait("it is counted", || front.refused("bad_hello") == 1);
}

#[test]
fn bad_hellos_get_their_alert() {
    let front = Front::start(&web(&[nobody()], "[timeouts]\nhandshake = 0.3"));
    let ask = |bytes: &[u8]| {
        let mut stream = connect(front.at(Protocol::Https));
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    };
    assert_eq!(ask(&[22, 3, 1, 0x40, 0, 1, 1, 0, 0]), [21, 3, 1, 0, 2, 2, 50], "too long");
    assert_eq!(ask(&[22, 3, 1, 0x50, 0]), [21, 3, 1, 0, 2, 2, 22], "record overflow");
    assert_eq!(ask(&[23, 3, 1, 0, 1, 0]), [21, 3, 1, 0, 2, 2, 10], "unexpected");
    assert!(ask(b"GET / HTTP/1.1\r\n\r\n").starts_with(b"HTTP/1.1 400 "));
    assert_eq!(ask(&[22, 3, 1]), [0u8; 0], "in time");
    wait("it is counted", || front.refused("handshake_timeout") == 1);
}

#[test]
fn a_tcp_port_leads_to_its_service() {
    let backend = backend(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        all.reverse();
        let _ = stream.write_all(&all);
    });
    let text = format!(
        "[[services]]\nname = 'port'\nmode = 'tcp'\nbackends = [{{ target = '{}' }}]\n[[listeners]]\naddress = '127.0.0.4:0'\nprotocol = 'tcp'\nservice = 'port'",
        backend.address
    );
    let front = Front::start(&text);
    let mut stream = connect(front.at(Protocol::Tcp));
    stream.write_all(b"stress").unwrap();
    let counted =
        || (front.gateway.status().services[0].rx_bytes, front.gateway.status().services[0].tx_bytes);
    wait("bytes are counted while the stream lives", || counted() == (6, 0));
    stream.write_all(b"ed").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert_eq!(all, "desserts");
    wait("the stream has ended", || front.heard.streams.lock().unwrap().len() == 1);
    assert_eq!(counted(), (8, 8), "once each");
}

#[test]
fn a_udp_port_keeps_clients_apart_and_gives_an_unproven_one_little() {
    let backend = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = backend.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = backend.recv_from(&mut buffer) {
            let large = buffer.starts_with(b"large");
            let answer = if large { vec![b'x'; 1000] } else { buffer[..length].to_vec() };
            let _ = backend.send_to(&answer, from);
        }
    });
    let text = format!(
        "[[services]]\nname = 'port'\nmode = 'udp'\nbackends = [{{ target = '{to}' }}]\n[[listeners]]\naddress = '127.0.0.4:0'\nprotocol = 'udp'\nservice = 'port'\n[timeouts]\nudp = 0.5"
    );
    let front = Front::start(&text);
    let at = front.at(Protocol::Udp);
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(at).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let (ann, bob) = (client(), client());
    let mut buffer = [0; 2000];
    for round in 0..5u8 {
        ann.send(&[1, round]).unwrap();
        bob.send(&[2, round]).unwrap();
        assert_eq!((ann.recv(&mut buffer).unwrap(), buffer[0], buffer[1]), (2, 1, round));
        assert_eq!((bob.recv(&mut buffer).unwrap(), buffer[0], buffer[1]), (2, 2, round));
    }
    assert_eq!(front.gateway.status().services[0].rx_bytes, 20, "counted while the flows live");
    let forger = client();
    forger.send(b"large").unwrap();
    wait("the large answer is held back", || front.refused("amplification") == 1);
    ann.send(b"large").unwrap();
    assert_eq!(ann.recv(&mut buffer).unwrap(), 1000, "whoever answers may have more");
    wait("flows end", || front.gateway.status().services[0].active == 0);
    assert_eq!(front.heard.streams.lock().unwrap().len(), 3);
}

/// A backend that switches to what repeats every byte.
fn repeater() -> Backend {
    backend(|mut stream| {
        read_head(&mut stream);
        let switched =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switched).unwrap();
        let mut byte = [0];
        while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
    })
}

#[test]
fn a_websocket_keeps_its_place_and_a_stop_waits_for_it() {
    let backend = repeater();
    let front = Front::start(&web(&[backend.address], "[limits]\nconnections_per_client = 1\n"));
    let mut stream = front.tls("a.example");
    let head = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 101);
    let mut repeats = |byte: u8| {
        let mut got = [0];
        stream.write_all(&[byte]).unwrap();
        stream.read_exact(&mut got).unwrap();
        got[0] == byte
    };
    assert!(repeats(b'a'));
    let service = front.gateway.status().services.swap_remove(0);
    assert_eq!((service.rx_bytes, service.tx_bytes), (1, 1), "counted while it lives");
    assert!(closed(&mut connect(front.at(Protocol::Https))), "a second connection of one client");
    wait("it is counted", || front.refused("client_full") == 1);
    let at = front.at(Protocol::Https);
    let Front { gateway, .. } = front;
    let ending = std::thread::spawn(move || gateway.shutdown(DEADLINE));
    wait("nothing new is accepted", || std::net::TcpStream::connect(at).is_err());
    assert!(repeats(b'b') && !ending.is_finished());
    drop(stream);
    assert!(ending.join().unwrap(), "all had finished");
}

#[test]
fn all_listeners_together_have_so_many_places() {
    let backend = named("web");
    let front = Front::start(&web(&[backend.address], "[limits]\nconnections = 2\n"));
    let first = connect(front.at(Protocol::Https));
    let second = connect(front.at(Protocol::Http));
    wait("both have a place", || front.gateway.status().connections == 2);
    for protocol in [Protocol::Https, Protocol::Http] {
        assert!(closed(&mut connect(front.at(protocol))));
    }
    wait("they are counted", || front.refused("listener_full") == 2);
    drop((first, second));
    wait("there is room again", || {
        let mut stream = connect(front.at(Protocol::Http));
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").is_ok() && !closed(&mut stream)
    });
}

#[test]
fn clients_that_name_no_host_reach_the_default_one_or_nobody() {
    let backend = named("web");
    for default in [false, true] {
        let line = if default { "default_host = 'a.example'\n" } else { "" };
        let front = Front::start(&format!("{line}{}", web(&[backend.address], "")));
        let mut client = front.authority.client(&[b"http/1.1"]);
        client.enable_sni = false;
        let ask = |host: &str| {
            let mut stream = front.tls_with(client.clone(), "a.example");
            let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            stream.write_all(head.as_bytes()).ok().map(|()| read_answer(&mut stream).status)
        };
        assert_eq!(ask("a.example"), default.then_some(200));
        assert_eq!(ask("b.example"), default.then_some(421));
        // The client hears of it before it is counted.
        wait("refusals are counted", || front.refused("unknown_name") == if default { 0 } else { 2 });
        let wrong = parse(&format!("default_host = 'c.example'\n{}", web(&[backend.address], "")));
        assert!(front.gateway.apply(wrong).unwrap_err().to_string().contains("c.example"));
    }
}

/// Whom the port is shared with: what was handed over, while there is room.
#[derive(Default)]
struct Mesh {
    taken: Mutex<Vec<(std::net::TcpStream, Vec<u8>)>>,
}

impl Handover for Mesh {
    fn take(&self, stream: std::net::TcpStream, _: SocketAddr, first: bytes::Bytes) -> bool {
        let mut taken = self.taken.lock().unwrap();
        let room = taken.is_empty();
        if room {
            taken.push((stream, first.to_vec()));
        }
        room
    }
}

#[test]
fn a_shared_port_hands_over_what_names_nobody_or_the_gateway_and_nothing_else() {
    let backend = named("web");
    let mesh = Arc::new(Mesh::default());
    let mut config = parse(&format!("own_host = 'gw.example'\n{}", web(&[backend.address], "")));
    for listener in config.listeners.iter_mut().filter(|listener| listener.protocol == Protocol::Https) {
        listener.shared = true;
    }
    let front = Front::start_with("", Options { handover: Some(mesh.clone()), ..Options::default() });
    front.gateway.apply(config).unwrap();
    assert_eq!(front.get("/").text(), "web");
    let nameless = || {
        let mut config = front.authority.client(&[]);
        config.enable_sni = false;
        front.tls_with(config, "gw.example")
    };
    let own = || front.tls("gw.example");
    for (round, dial) in [&nameless as &dyn Fn() -> _, &own].into_iter().enumerate() {
        let mut client = dial();
        client.conn.write_tls(&mut client.sock).unwrap();
        wait("it is handed over", || mesh.taken.lock().unwrap().len() == 1);
        // A second finds no room.
        let mut more = dial();
        more.conn.write_tls(&mut more.sock).unwrap();
        assert!(closed(&mut more.sock));
        wait("it is counted", || front.refused("handover_full") == round as u64 + 1);
        let (mut stream, first) = mesh.taken.lock().unwrap().remove(0);
        assert_eq!((first[0], first[5]), (22, 1), "a whole ClientHello");
        // And the rest of it comes as it is sent.
        stream.set_nonblocking(false).unwrap();
        client.sock.write_all(b"rest").unwrap();
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"rest");
    }
    let error = front.tls("c.example").write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("Unrecogni"), "{error}");
    assert!(mesh.taken.lock().unwrap().is_empty());
}

#[test]
fn only_challenges_on_plain_http_reach_a_passed_through_host() {
    let backend = http_backend(|head, _| ok(head.lines().next().unwrap_or_default()));
    let service = |http01: &str| {
        format!(
            "[[services]]\nname = 'thru'\nmode = 'tls-passthrough'\nhosts = ['thru.example']\n\
             backends = [{{ target = '{}' }}]\n{http01}\n",
            nobody()
        )
    };
    let front = Front::start(&service(&format!("http01 = '{}'", backend.address)));
    let ask = |path: &str| {
        let mut stream = connect(front.at(Protocol::Http));
        let head = format!("GET {path} HTTP/1.1\r\nHost: thru.example\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream)
    };
    let path = "/.well-known/acme-challenge/token";
    let answer = ask(path);
    assert_eq!((answer.status, answer.text()), (200, format!("GET {path} HTTP/1.1")));
    for path in ["/", "/.well-known/acme-challenge", "/x/.well-known/acme-challenge/token"] {
        assert_eq!(ask(path).status, 301, "{path}");
    }
    // What the front itself waits for comes first.
    front.gateway.set_challenge("token", Some("ours"));
    assert_eq!(ask(path).text(), "ours");
    front.gateway.set_challenge("token", None);
    front.gateway.apply(parse(&service(""))).unwrap();
    assert_eq!(ask(path).status, 301, "without http01");
}
