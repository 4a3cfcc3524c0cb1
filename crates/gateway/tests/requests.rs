//! HTTP through the front: what reaches a backend, what comes back, what is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use common::*;
use sinew_gateway::config::Protocol;

/// A front before a backend that echoes what it got.
fn echo(more: &str) -> (Front, Backend) {
    let backend = http_backend(|head, body| ok(&format!("{head}{}", String::from_utf8_lossy(body))));
    let front = Front::start(&web(&[backend.address], more));
    (front, backend)
}

#[test]
fn a_request_reaches_the_backend_with_what_is_known_of_its_client() {
    let (front, _backend) = echo("");
    let answer = front.ask(
        "a.example",
        "GET /x?y=%2f HTTP/1.1\r\nHost: A.example:443\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\n\
         Forwarded: for=6.6.6.6\r\nConnection: X-Mine\r\nX-Mine: 1\r\nX-Other: 2\r\n\r\n",
    );
    let seen = answer.text().to_lowercase();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(seen.starts_with("get /x?y=%2f http/1.1\r\n"), "{seen}");
    for line in
        ["host: a.example:443", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: https", "x-other: 2"]
    {
        assert!(seen.contains(&format!("{line}\r\n")), "{line} in {seen}");
    }
    assert!(!seen.contains("6.6.6.6") && !seen.contains("x-mine"), "{seen}");
}

#[test]
fn one_connection_to_the_backend_serves_many_requests() {
    let (front, backend) = echo("");
    let mut stream = front.tls("a.example");
    for number in 0..20 {
        let body = "x".repeat(number);
        let head =
            format!("POST /{number} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {number}\r\n\r\n{body}");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert!(answer.text().ends_with(&format!("\r\n\r\n{body}")), "{answer:?}");
    }
    assert_eq!(backend.connections.try_iter().count(), 1);
    wait("20 events", || front.heard.requests.lock().unwrap().len() == 20);
    let events = front.heard.requests.lock().unwrap();
    assert!(events.iter().all(|event| event.status == 200 && event.service.as_deref() == Some("web")));
    assert_eq!(events.iter().map(|event| event.rx_bytes).sum::<u64>(), 190);
}

#[test]
fn requests_that_could_hide_another_are_refused_with_a_page_and_end_the_connection() {
    let (front, backend) = echo("");
    for (head, status) in [
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde", 400),
        ("POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: x, chunked\r\n\r\n0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\nX: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a.example\r\n\r\n", 505),
        ("SINEW-REFUSED /3 HTTP/1.1\r\nHost: a.example\r\n\r\n", 431),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", 405),
    ] {
        let mut stream = front.tls("a.example");
        stream.write_all(head.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(answer.status, status, "{head:?}: {answer:?}");
        let id = answer.header("x-request-id").unwrap();
        assert!(answer.text().contains(id), "{answer:?}");
        if status != 405 && !head.contains("http://b") {
            assert!(closed(&mut stream), "{head:?} leaves the connection open");
        }
    }
    assert_eq!(backend.connections.try_iter().count(), 0, "none of them reached the backend");
    assert!(front.refused("bad_request") >= 10);
}

#[test]
fn a_refused_request_behind_a_good_one_is_answered_in_its_turn() {
    let (front, _backend) = echo("");
    let mut stream = front.tls("a.example");
    stream.write_all(b"GET /good HTTP/1.1\r\nHost: a.example\r\n\r\nGET / HTTP/1.1\r\nBad\r\n\r\nGET /never HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert!(read_answer(&mut stream).text().starts_with("GET /good"));
    assert_eq!(read_answer(&mut stream).status, 400);
    assert!(closed(&mut stream));
}

#[test]
fn malformed_chunks_end_the_request() {
    let (front, _backend) = echo("");
    let mut stream = front.tls("a.example");
    let bytes =
        b"POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n";
    stream.write_all(bytes).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    let text = String::from_utf8_lossy(&rest);
    assert!(!text.contains(" 200 "), "{text}");
}

#[test]
fn slow_and_large_heads_are_refused_in_time() {
    let (front, _backend) =
        echo("[limits]\nheader_bytes = 4096\nheaders = 20\n[timeouts]\nheader = 0.3\nidle = 0.6");
    let mut stream = front.tls("a.example");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n").unwrap();
    let start = Instant::now();
    assert_eq!(read_answer(&mut stream).status, 408);
    assert!(start.elapsed() < Duration::from_secs(5) && closed(&mut stream));
    let mut silent = front.tls("a.example");
    silent.conn.complete_io(&mut silent.sock).unwrap();
    assert!(closed(&mut silent), "a connection that asks for nothing is closed");
    let long = format!("GET /{} HTTP/1.1\r\nHost: a.example\r\n\r\n", "x".repeat(5000));
    assert_eq!(front.ask("a.example", &long).status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "A: b\r\n".repeat(30));
    assert_eq!(front.ask("a.example", &many).status, 431);
    let mut kept = front.tls("a.example");
    kept.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut kept).status, 200);
    let start = Instant::now();
    assert!(closed(&mut kept));
    let idle = start.elapsed();
    assert!(idle > Duration::from_millis(500) && idle < Duration::from_secs(5), "{idle:?}");
}

#[test]
fn a_host_is_reached_only_over_a_connection_that_was_opened_for_it() {
    let (front, _backend) = echo("");
    let answer = front.ask("a.example", "GET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
    assert_eq!(answer.status, 421, "{answer:?}");
    let mut unknown = front.tls("c.example");
    let error = unknown.write_all(b"x").unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName") || error.contains("UnrecognizedName"), "{error}");
    wait("it is counted", || front.refused("unknown_name") == 1);
}

#[test]
fn paths_decide_only_when_they_can_be_read_in_one_way() {
    let (root, api) = (named("root"), named("api"));
    let other = "[[services]]\nname = 'api'\nmode = 'http'\nhosts = ['a.example']\npaths = ['/api']\n";
    let text = format!("{}{other}backends = [{{ target = '{}' }}]\n", web(&[root.address], ""), api.address);
    let front = Front::start(&text);
    for (path, expected) in [("/", "root"), ("/api", "api"), ("/api/x", "api"), ("/apix", "root")] {
        assert_eq!(front.get(path).text(), expected, "{path}");
    }
    for path in ["/api/../x", "/x/..%2fapi", "/api%2f..", "//api", "/%2e%2e/api"] {
        assert_eq!(front.get(path).status, 400, "{path}");
    }
}

#[test]
fn what_a_backend_does_wrong_has_its_own_status() {
    let garbage = http_backend(|_, _| "what?\r\n\r\n".into());
    let silent = backend(|stream| drop(stream.take(1 << 20).read_to_end(&mut Vec::new())));
    let breaking = backend(|mut stream| drop(read_head(&mut stream)));
    for (address, status) in
        [(garbage.address, 502), (silent.address, 504), (breaking.address, 502), (nobody(), 503)]
    {
        let front = Front::start(&web(&[address], "[timeouts]\nresponse = 0.3"));
        let start = Instant::now();
        let answer = front.get("/");
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(start.elapsed() < Duration::from_secs(5), "{status} took {:?}", start.elapsed());
        assert!(answer.text().contains(answer.header("x-request-id").unwrap()));
    }
}

#[test]
fn a_connection_that_the_backend_has_closed_costs_no_request() {
    let backend = backend(|mut stream| {
        // One request for each connection, without saying so.
        read_head(&mut stream);
        let _ = stream.write_all(ok("one").as_bytes());
    });
    let front = Front::start(&web(&[backend.address], ""));
    let mut stream = front.tls("a.example");
    for number in 0..50 {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!((answer.status, answer.text().as_str()), (200, "one"), "request {number}");
    }
}

#[test]
fn bodies_have_a_limit_with_and_without_a_length() {
    let (front, _backend) = echo("body_max = 100");
    let with = |length: usize| {
        let body = "x".repeat(length);
        front.ask(
            "a.example",
            &format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {length}\r\n\r\n{body}"),
        )
    };
    assert_eq!((with(100).status, with(101).status), (200, 413));
    let chunk = "40\r\n".to_owned() + &"x".repeat(64) + "\r\n";
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = front.ask("a.example", &format!("{head}{chunk}{chunk}0\r\n\r\n"));
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[test]
fn plain_http_redirects_answers_challenges_and_serves_only_what_is_plain() {
    let backend = named("plain");
    let services = web(&[backend.address], "")
        + &web(&[backend.address], "plain = true")
            .replace("'web'", "'open'")
            .replace("a.example", "b.example");
    let front = Front::start(&services);
    let ask = |host: &str, method: &str, path: &str| {
        let mut stream = connect(front.at(Protocol::Http));
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n").unwrap();
        read_answer(&mut stream)
    };
    let answer = ask("a.example", "GET", "/x?y");
    assert_eq!((answer.status, answer.header("location")), (301, Some("https://a.example/x?y")));
    assert_eq!(ask("a.example", "POST", "/x").status, 308);
    assert_eq!(ask("b.example", "GET", "/").text(), "plain");
    assert_eq!(ask("c.example", "GET", "/").status, 404);
    front.gateway.set_challenge("token", Some("token.thumb"));
    assert_eq!(ask("a.example", "GET", "/.well-known/acme-challenge/token").text(), "token.thumb");
    assert_eq!(
        ask("a.example", "GET", "/.well-known/acme-challenge/other").text(),
        "plain",
        "the backend's own"
    );
    front.gateway.set_challenge("token", None);
    assert_eq!(ask("c.example", "GET", "/.well-known/acme-challenge/token").status, 404);
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways() {
    let backend = backend(|mut stream| {
        let head = read_head(&mut stream).to_lowercase();
        assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade"), "{head}");
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
        );
        let mut buffer = [0; 1000];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let _ = stream.write_all(&buffer[..length]);
        }
    });
    let front = Front::start(&web(&[backend.address], "[timeouts]\nidle = 0.2\nheader = 0.2\nbody = 0.2"));
    let mut stream = front.tls("a.example");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert_eq!(read_answer(&mut stream).status, 101);
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
    let quiet = Instant::now();
    wait("longer than the time-outs of requests", || quiet.elapsed() > Duration::from_millis(600));
    for number in 0..100u32 {
        let message = [&number.to_be_bytes()[..], b"GET / HTTP/9.9\r\n\r\n"].concat();
        stream.write_all(&message).unwrap();
        let mut back = vec![0; message.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
    }
    drop(stream);
    wait("the stream's event", || front.heard.streams.lock().unwrap().len() == 1);
    assert_eq!(front.heard.streams.lock().unwrap()[0].tx_bytes, 5 + 2200);
}

#[test]
fn no_upgrade_to_another_http_reaches_a_backend() {
    let (front, _backend) = echo("");
    let answer = front.ask(
        "a.example",
        "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
    );
    let seen = answer.text().to_lowercase();
    assert!(answer.status == 200 && !seen.contains("upgrade") && !seen.contains("http2-settings"), "{seen}");
}

#[test]
fn addresses_rates_and_passwords_are_asked_for() {
    let (front, _backend) = echo("access = { deny = ['127.0.0.0/8'] }");
    assert_eq!(front.get("/").status, 403);
    let (front, _backend) = echo("access = { rate = { per_second = 1, burst = 2 } }");
    assert_eq!([front.get("/").status, front.get("/").status], [200, 200]);
    let answer = front.get("/");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("1")));
}

#[test]
fn too_many_connections_of_one_client_are_turned_away() {
    let (front, _backend) = echo("[limits]\nconnections_per_client = 3");
    let held: Vec<_> = (0..3).map(|_| connect(front.at(Protocol::Https))).collect();
    wait("all are counted", || front.gateway.status().connections == 3);
    let mut fourth = connect(front.at(Protocol::Https));
    assert!(closed(&mut fourth));
    wait("it is counted", || front.refused("client_full") == 1);
    drop(held);
    wait("places come free", || {
        let mut stream = front.tls("a.example");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").is_ok()
            && stream.read(&mut [0]).is_ok_and(|n| n > 0)
    });
}

#[test]
fn large_bodies_go_both_ways_at_the_speed_of_the_slower_side() {
    const LENGTH: usize = 30 << 20;
    let backend = http_backend(|_, body| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", body.len(), String::from_utf8_lossy(body))
    });
    let front = Front::start(&web(&[backend.address], ""));
    let mut stream = front.tls("a.example");
    write!(stream, "PUT / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
    let block: Vec<u8> = (0..LENGTH).map(|at| b'a' + (at / 7 % 26) as u8).collect();
    stream.write_all(&block).unwrap();
    let answer = read_answer(&mut stream);
    assert!(answer.body == block, "bytes changed");
}

#[test]
fn answers_without_a_body_keep_the_connection_in_step() {
    let backend = http_backend(|head, _| match head.split(' ').next().unwrap() {
        "HEAD" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".into(),
        "DELETE" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        _ => ok("body"),
    });
    let front = Front::start(&web(&[backend.address], ""));
    let mut stream = front.tls("a.example");
    for _ in 0..5 {
        for (method, status) in [("HEAD", 200), ("DELETE", 204), ("GET", 200)] {
            write!(stream, "{method} / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
            let head = read_head(&mut stream);
            assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{method}: {head}");
            match method {
                "HEAD" => assert_eq!(length_of(&head), Some(1000)),
                "GET" => {
                    let mut body = [0; 4];
                    stream.read_exact(&mut body).unwrap();
                    assert_eq!(&body, b"body");
                }
                _ => {}
            }
        }
    }
    assert_eq!(backend.connections.try_iter().count(), 1);
}

#[test]
fn a_request_that_breaks_its_backend_is_not_fed_to_it_over_and_over() {
    let poisoned = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = poisoned.clone();
    let backend = backend(move |mut stream| {
        let mut first = [0];
        while matches!(stream.peek(&mut first), Ok(1)) {
            if read_head(&mut stream).starts_with("GET /poison") {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                return;
            }
            let _ = stream.write_all(ok("x").as_bytes());
        }
    });
    let front = Front::start(&web(&[backend.address], ""));
    // Several connections wait for requests.
    let mut clients: Vec<_> = (0..8).map(|_| front.tls("a.example")).collect();
    for stream in &mut clients {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    }
    for stream in &mut clients {
        assert_eq!(read_answer(stream).status, 200);
    }
    assert_eq!(front.get("/poison").status, 502);
    assert!(poisoned.load(std::sync::atomic::Ordering::SeqCst) <= 2);
}
