//! Hellos of real clients, cut and bent in every way.

use proptest::prelude::*;
use rustls::ClientConnection;

use super::*;

/// A hello of rustls, whose first flight has a post-quantum share.
pub(crate) fn of_rustls(host: &'static str, alpn: &[&[u8]]) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let name = rustls::pki_types::ServerName::try_from(host).unwrap();
    let mut client = ClientConnection::new(std::sync::Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// A hello with these extensions, as one handshake message.
fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (kind, data) in extensions {
        all.extend_from_slice(&kind.to_be_bytes());
        all.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        all.extend_from_slice(data);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    body.extend_from_slice(&[0, 0, 2, 0x13, 1, 1, 0]);
    body.extend_from_slice(&u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend_from_slice(&all);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1, length[1], length[2], length[3]][..], &body].concat()
}

fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| record(22, part)).collect()
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind, 3, 1, length[0], length[1]][..], payload].concat()
}

fn sni(names: &[(u8, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (kind, name) in names {
        list.push(*kind);
        list.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
        list.extend_from_slice(name.as_bytes());
    }
    [&u16::try_from(list.len()).unwrap().to_be_bytes()[..], &list].concat()
}

fn host(bytes: &[u8]) -> Result<Option<String>, Refusal> {
    match read(bytes)? {
        Reading::Hello(hello) => Ok(hello.host),
        Reading::More => panic!("more was asked for"),
    }
}

#[test]
fn a_real_hello_tells_host_and_protocols() {
    let bytes = of_rustls("App.Example.org", &[b"h2", b"http/1.1"]);
    assert!(bytes.len() > 1300, "a post-quantum share is in it: {}", bytes.len());
    let Reading::Hello(hello) = read(&bytes).unwrap() else { panic!("not whole") };
    assert_eq!(hello.host.as_deref(), Some("app.example.org"));
    assert!(hello.offers(b"h2") && hello.offers(b"http/1.1") && !hello.offers(b"acme-tls/1"));
}

#[test]
fn every_front_of_a_hello_asks_for_more() {
    let bytes = of_rustls("a.example", &[]);
    for length in 0..bytes.len() {
        assert_eq!(read(&bytes[..length]), Ok(Reading::More), "at {length}");
    }
}

#[test]
fn a_hello_in_many_records_is_one_hello() {
    let name = sni(&[(0, "a.example")]);
    let padding = vec![0; 3000];
    let message = message(&[(0, &name), (21, &padding)]);
    for size in [60, 100, 517, 4000] {
        assert_eq!(host(&records(&message, size)), Ok(Some("a.example".into())), "{size}");
    }
    // What follows the hello, early data say, does not disturb.
    let mut more = records(&message, 4000);
    more.extend_from_slice(&record(23, &[1; 100]));
    assert_eq!(host(&more), Ok(Some("a.example".into())));
}

#[test]
fn no_name_an_address_and_other_kinds_of_names_are_no_host() {
    assert_eq!(host(&records(&message(&[]), 1000)), Ok(None));
    for name in ["192.0.2.1", "2001:db8::1"] {
        assert_eq!(host(&records(&message(&[(0, &sni(&[(0, name)]))]), 1000)), Ok(None), "{name}");
    }
    assert_eq!(host(&records(&message(&[(0, &sni(&[(9, "x")]))]), 1000)), Ok(None));
}

#[test]
fn what_is_too_long_is_refused_before_it_has_come() {
    let head = |length: u32| {
        let length = length.to_be_bytes();
        record(22, &[1, length[1], length[2], length[3]])
    };
    assert_eq!(read(&head(HELLO_MAX as u32)), Ok(Reading::More));
    assert_eq!(read(&head(HELLO_MAX as u32 + 1)), Err(Refusal::TooLong));
    assert_eq!(read(&head(1 << 16)), Err(Refusal::TooLong));
    assert_eq!(read(&[22, 3, 1, 0x40, 1]), Err(Refusal::RecordOverflow));
    let name = sni(&[(0, "a.example")]);
    assert_eq!(read(&records(&message(&[(0, &name)]), 1)), Err(Refusal::TooLong), "records of one byte");
    // The length stands in a record of which the rest is not here.
    assert_eq!(read(&[22, 3, 1, 0x40, 0, 1, 1, 0, 0]), Err(Refusal::TooLong));
}

#[test]
fn what_is_no_hello_is_refused_with_its_alert() {
    let name = sni(&[(0, "a.example")]);
    let two = sni(&[(0, "a.example"), (0, "b.example")]);
    let bad = sni(&[(0, "a b")]);
    let mut cut = message(&[(0, &name)]);
    cut[6 + 32] = 200;
    for (bytes, refusal, alert) in [
        (b"GET / HTTP/1.1".to_vec(), Refusal::NotTls, None),
        (vec![0x80, 0x2e, 1, 0, 2], Refusal::NotTls, None),
        (vec![22, 2, 0], Refusal::NotTls, None),
        (record(23, &[1]), Refusal::Unexpected, Some(Alert::UnexpectedMessage)),
        (record(22, &[2, 0, 0, 0]), Refusal::Unexpected, Some(Alert::UnexpectedMessage)),
        (record(22, &[]), Refusal::Malformed, Some(Alert::DecodeError)),
        (records(&message(&[(0, &two)]), 999), Refusal::BadName, Some(Alert::IllegalParameter)),
        (records(&message(&[(0, &bad)]), 999), Refusal::BadName, Some(Alert::IllegalParameter)),
        (records(&message(&[(0, &name), (0, &name)]), 999), Refusal::Malformed, Some(Alert::DecodeError)),
        (records(&message(&[(0, &[0, 9, 0])]), 999), Refusal::Malformed, Some(Alert::DecodeError)),
        (records(&message(&[(16, &[0, 1, 0])]), 999), Refusal::Malformed, Some(Alert::DecodeError)),
        (records(&cut, 999), Refusal::Malformed, Some(Alert::DecodeError)),
    ] {
        assert_eq!(read(&bytes), Err(refusal), "{bytes:?}");
        assert_eq!(refusal.alert(), alert);
    }
    assert_eq!(Alert::UnrecognizedName.record(), [21, 3, 1, 0, 2, 2, 112]);
}

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_bent_hello_never_breaks_it_and_never_grows(at in 0usize..1600, to in any::<u8>()) {
        let mut bytes = of_rustls("a.example", &[b"h2"]);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(Reading::Hello(hello)) = read(&bytes) {
            prop_assert!(hello.host.is_none_or(|host| host.len() <= 253));
        }
    }

    #[test]
    fn cutting_into_records_changes_nothing(size in 40usize..5000, pad in 0usize..2000) {
        let name = sni(&[(0, "a.example")]);
        let message = message(&[(21, &vec![0; pad]), (0, &name), (16, &[0, 3, 2, b'h', b'2'])]);
        let whole = read(&records(&message, 1 << 14));
        let cut = records(&message, size);
        prop_assert_eq!(read(&cut), whole);
        // It asks for more at every earlier length, and never for more than it says.
        prop_assert_eq!(read(&cut[..cut.len() - 1]), Ok(Reading::More));
        prop_assert!(cut.len() <= BYTES_MAX);
    }
}
