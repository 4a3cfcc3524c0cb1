//! Who is let in: passwords, another service's word, certificates.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod common;

use std::io::Write;
use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, SaltString};
use common::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn hash(password: &str) -> String {
    let salt = SaltString::encode_b64(b"0123456789abcdef").unwrap();
    // Small parameters: this is about who asks, not about how long it takes.
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let argon = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon.hash_password(password.as_bytes(), &salt).unwrap().to_string()
}

fn echo() -> Backend {
    http_backend(|head, _| ok(head))
}

#[test]
fn a_password_is_asked_for_and_stays_with_the_front() {
    let backend = echo();
    let users = format!("access = {{ basic = [{{ name = 'ann', hash = '{}' }}] }}", hash("secret"));
    let front = Front::start(&web(&[backend.address], &users));
    let without = front.get("/");
    assert_eq!(without.status, 401);
    assert!(without.header("www-authenticate").unwrap().starts_with("Basic realm="));
    let with = |credentials: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Basic {credentials}\r\n\r\n");
        front.ask("a.example", &head)
    };
    // ann:wrong, bob:secret, ann:secret
    assert_eq!([with("YW5uOndyb25n").status, with("Ym9iOnNlY3JldA==").status], [401, 401]);
    let right = with("YW5uOnNlY3JldA==");
    assert_eq!(right.status, 200);
    assert!(!right.text().to_lowercase().contains("authorization"), "{}", right.text());
    wait("the user is in the log", || {
        front.heard.requests.lock().unwrap().iter().any(|event| event.user.as_deref() == Some("ann"))
    });
}

#[test]
fn another_service_decides_and_names_the_user() {
    let backend = echo();
    let auth = http_backend(|head, _| {
        let head = head.to_lowercase();
        assert!(head.starts_with("get /check http/1.1") && head.contains("host: auth.internal"), "{head}");
        let asked =
            head.contains("x-forwarded-uri: /page?x=1\r\n") && head.contains("x-forwarded-method: post\r\n");
        if head.contains("cookie: session=good") && asked {
            "HTTP/1.1 200 OK\r\nRemote-User: ann\r\nX-Other: 1\r\nSet-Cookie: s=2\r\nSet-Cookie: t=3\r\nContent-Length: 0\r\n\r\n"
                .into()
        } else {
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nSet-Cookie: s=1\r\nContent-Length: 2\r\n\r\ngo".into()
        }
    });
    let forward = format!(
        "access = {{ forward = {{ target = '{}', path = '/check', host = 'auth.internal', copy = ['remote-user'] }} }}",
        auth.address
    );
    let front = Front::start(&web(&[backend.address], &forward));
    let ask = |cookie: &str| {
        let head = format!(
            "POST /page?x=1 HTTP/1.1\r\nHost: a.example\r\nRemote-User: forged\r\nCookie: session={cookie}\r\nContent-Length: 0\r\n\r\n"
        );
        front.ask("a.example", &head)
    };
    let refused = ask("bad");
    assert_eq!((refused.status, refused.header("location")), (302, Some("https://login.example/")));
    assert_eq!((refused.header("set-cookie"), refused.text().as_str()), (Some("s=1"), "go"));
    let passed = ask("good");
    assert!(passed.head.to_lowercase().contains("set-cookie: s=2\r\nset-cookie: t=3\r\n"), "{}", passed.head);
    let seen = passed.text().to_lowercase();
    assert!(!seen.contains("set-cookie"), "{seen}");
    assert!(seen.contains("remote-user: ann\r\n") && !seen.contains("forged"), "{seen}");
    assert!(!seen.contains("x-other") && !seen.contains("x-forwarded-uri"), "{seen}");
}

#[test]
fn who_decides_hears_the_host_that_was_asked_for_and_renews_sessions_whatever_becomes_of_the_request() {
    let auth = http_backend(|head, _| {
        let head = head.to_lowercase();
        let host =
            head.contains("\r\nhost: a.example\r\n") && head.contains("x-forwarded-host: a.example\r\n");
        let status = if host { "204 No Content" } else { "400 Bad Request" };
        format!("HTTP/1.1 {status}\r\nSet-Cookie: s=2\r\n\r\n")
    });
    let forward = format!("access = {{ forward = {{ target = '{}', path = '/' }} }}", auth.address);
    let switching = http_backend(|head, _| {
        if head.to_lowercase().contains("upgrade: websocket") {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".into()
        } else {
            ok("")
        }
    });
    for (backend, more, status) in [
        (switching.address, "", 200),
        (switching.address, "Connection: Upgrade\r\nUpgrade: websocket\r\n", 101),
        (nobody(), "", 503),
    ] {
        let front = Front::start(&web(&[backend], &forward));
        let answer = front.ask("a.example", &format!("GET / HTTP/1.1\r\nHost: a.example\r\n{more}\r\n"));
        assert_eq!((answer.status, answer.header("set-cookie")), (status, Some("s=2")), "{}", answer.head);
    }
}

#[test]
fn nobody_to_ask_is_nobody_let_in() {
    let backend = echo();
    for target in
        [nobody(), http_backend(|_, _| "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".into()).address]
    {
        let forward = format!("access = {{ forward = {{ target = '{target}', path = '/', host = 'x' }} }}");
        let front = Front::start(&web(&[backend.address], &forward));
        assert_eq!(front.get("/").status, 503);
    }
    assert_eq!(backend.connections.try_iter().count(), 0);
}

/// A client that shows a certificate of `authority`.
fn client(front: &Front, authority: Option<&Authority>) -> rustls::ClientConfig {
    let mut config = front.authority.client(&[b"http/1.1"]);
    if let Some(authority) = authority {
        let (chain, key) = authority.issue(&["client"]);
        let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let certified = rustls::sign::CertifiedKey::from_der(chain, key, config.crypto_provider()).unwrap();
        config.client_auth_cert_resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    }
    config
}

#[test]
fn a_certificate_that_is_no_longer_asked_for_opens_nothing_on_an_old_connection() {
    let backend = echo();
    let (old, new) = (Authority::new(), Authority::new());
    let closed = |authority: &Authority| {
        web(&[backend.address], &format!("access = {{ client_ca = '''{}''' }}", authority.pem))
    };
    let front = Front::start(&closed(&old));
    let mut stream = front.tls_with(client(&front, Some(&old)), "a.example");
    let mut ask = || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        read_answer(&mut stream).status
    };
    assert_eq!(ask(), 200);
    front.gateway.apply(parse(&closed(&old))).unwrap();
    assert_eq!(ask(), 200, "nothing has changed");
    front.gateway.apply(parse(&closed(&new))).unwrap();
    assert_eq!(ask(), 421);
}

#[test]
fn a_host_that_asks_for_certificates_opens_only_to_its_own_authority() {
    let backend = echo();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let closed = format!("access = {{ client_ca = '''{}''' }}", ours.pem);
    let text = web(&[backend.address], &closed)
        + &web(&[backend.address], "").replace("'web'", "'open'").replace("a.example", "b.example");
    let front = Front::start(&text);
    let status = |authority: Option<&Authority>, sni: &'static str, host: &str| -> Option<u16> {
        let config = client(&front, authority);
        let mut stream = front.tls_with(config, sni);
        write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").ok()?;
        let mut byte = [0];
        // With TLS 1.3 a client learns of its refusal when it reads.
        std::io::Read::read_exact(&mut stream, &mut byte).ok()?;
        Some(read_answer(&mut std::io::Read::chain(&byte[..], stream)).status)
    };
    assert_eq!(status(Some(&ours), "a.example", "a.example"), Some(200));
    assert_eq!(status(Some(&theirs), "a.example", "a.example"), None);
    assert_eq!(status(None, "a.example", "a.example"), None);
    assert_eq!(status(None, "b.example", "b.example"), Some(200));
    assert_eq!(status(None, "b.example", "a.example"), Some(421), "not through the open one");
}

#[test]
fn a_ticket_of_an_open_host_opens_no_closed_one() {
    let backend = echo();
    let ours = Authority::new();
    let open = web(&[backend.address], "");
    let front = Front::start(&open);
    let config = front.authority.client(&[b"http/1.1"]);
    let ask = || {
        let mut stream = front.tls_with(config.clone(), "a.example");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").ok()?;
        let mut byte = [0];
        std::io::Read::read_exact(&mut stream, &mut byte).ok()?;
        let kind = stream.conn.handshake_kind();
        Some((read_answer(&mut std::io::Read::chain(&byte[..], stream)).status, kind))
    };
    assert_eq!(ask().unwrap().0, 200);
    assert_eq!(ask().unwrap(), (200, Some(rustls::HandshakeKind::Resumed)), "tickets work at all");
    let closed = web(&[backend.address], &format!("access = {{ client_ca = '''{}''' }}", ours.pem));
    front.gateway.apply(parse(&closed)).unwrap();
    assert_eq!(ask(), None, "the ticket was of the open host");
}
