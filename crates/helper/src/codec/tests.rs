use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn attach() -> Attach {
    Attach {
        id: id("web-1"),
        interface: Some("sinew0".to_owned()),
        mtu: 1400,
        addresses: vec![("10.20.3.7".parse().unwrap(), 32), ("fd12::7".parse().unwrap(), 128)],
        routes: vec![("10.20.0.0".parse().unwrap(), 16)],
        resolver: vec!["10.20.3.1".parse().unwrap()],
        tap: None,
    }
}

fn requests() -> Vec<Request> {
    let plain = Attach { interface: None, tap: Some("tap0".to_owned()), routes: Vec::new(), ..attach() };
    vec![
        Request::NewNamespace(id("a")),
        Request::Attach(attach()),
        Request::Reattach(plain),
        Request::Detach(id("x.Y_z-9")),
        Request::List(None),
        Request::List(Some(id("a"))),
        Request::Socket(id("a"), SocketKind { datagrams: false, ipv6: true }),
        Request::Socket(id("a"), SocketKind { datagrams: true, ipv6: false }),
    ]
}

#[test]
fn every_request_comes_out_as_it_went_in() {
    for request in requests() {
        let bytes = request.encode(7).unwrap();
        assert_eq!(Request::decode(&bytes, 0), Ok((7, request.clone())));
        let namespace = matches!(request, Request::Attach(_));
        assert_eq!(Request::decode(&bytes, 1).is_ok(), namespace, "{request:?} with a descriptor");
        assert!(Request::decode(&bytes, 2).is_err());
    }
}

#[test]
fn every_reply_comes_out_as_it_went_in() {
    for reply in [
        Reply::Done,
        Reply::Namespace,
        Reply::Socket,
        Reply::Attached { ifindex: 70_000, interface: "sinew0".to_owned() },
        Reply::Ids { ids: vec![id("a"), id("b")], more: true },
        Reply::Refused { why: Why::Failed, text: "cannot bring up sinew0: no".to_owned() },
    ] {
        assert_eq!(Reply::decode(&reply.encode(9)), Ok((9, reply)));
    }
}

#[test]
fn the_longest_messages_fit() {
    let long = Id::new(&"x".repeat(64)).unwrap();
    let v6: IpAddr = "fd12::1".parse().unwrap();
    let request = Request::Attach(Attach {
        id: long.clone(),
        interface: Some("i".repeat(15)),
        mtu: 1280,
        addresses: vec![(v6, 128); MAX_ADDRESSES],
        routes: vec![(v6, 48); MAX_ROUTES],
        resolver: vec![v6; MAX_RESOLVERS],
        tap: Some("t".repeat(15)),
    });
    assert!(request.encode(0).unwrap().len() <= MAX_MESSAGE);
    let ids = Reply::Ids { ids: vec![long; IDS_IN_ONE_REPLY], more: false };
    assert!(ids.encode(0).len() <= MAX_MESSAGE);
    let text = "ß".repeat(MAX_TEXT);
    let reply = Reply::Refused { why: Why::Taken, text }.encode(0);
    assert!(reply.len() <= MAX_MESSAGE);
    assert!(Reply::decode(&reply).is_ok(), "cut at a character");
}

#[test]
fn no_part_of_a_message_is_one_and_nothing_may_follow() {
    for request in requests() {
        let bytes = request.encode(1).unwrap();
        for len in 0..bytes.len() {
            assert_eq!(Request::decode(&bytes[..len], 0), Err(Malformed), "{request:?} cut to {len}");
        }
        assert_eq!(Request::decode(&[&bytes[..], &[0]].concat(), 0), Err(Malformed));
    }
}

#[test]
fn what_breaks_a_limit_is_neither_sent_nor_read() {
    let v4: IpAddr = "10.0.0.1".parse().unwrap();
    let spoil: [fn(&mut Attach); 10] = [
        |a| a.mtu = 1279,
        |a| a.interface = Some("sinew%d".to_owned()),
        |a| a.interface = Some("a/b".to_owned()),
        |a| a.interface = Some("..".to_owned()),
        |a| a.interface = Some("x".repeat(16)),
        |a| a.tap = Some("a b".to_owned()),
        |a| a.addresses = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 33)],
        |a| a.addresses = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 8); MAX_ADDRESSES + 1],
        |a| a.routes = vec![(IpAddr::V4(Ipv4Addr::LOCALHOST), 8); 300],
        |a| a.resolver = vec![IpAddr::V4(Ipv4Addr::LOCALHOST); MAX_RESOLVERS + 1],
    ];
    for (at, spoil) in spoil.iter().enumerate() {
        let mut attach = Attach { addresses: vec![(v4, 32)], ..attach() };
        spoil(&mut attach);
        assert_eq!(Request::Attach(attach).encode(0), Err(Malformed), "case {at}");
    }
}

#[test]
fn an_id_is_a_plain_file_name() {
    for good in ["a", "A-b_c.9", "0"] {
        assert!(Id::new(good).is_some(), "{good}");
    }
    for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
        assert!(Id::new(bad).is_none(), "{bad:?}");
    }
}

/// Every message with one byte changed is either refused or means something else: nothing panics,
/// and no two spellings mean the same.
#[test]
fn one_changed_byte_never_means_the_same() {
    for request in requests() {
        let bytes = request.encode(1).unwrap();
        for at in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut changed = bytes.clone();
                changed[at] = value;
                if changed != bytes
                    && let Ok((number, other)) = Request::decode(&changed, 0)
                {
                    assert!(number != 1 || other != request, "byte {at} = {value}");
                }
            }
        }
    }
}
