//! PUBLISH and the service port (protocol A11): exact bytes and refusals.

use sinew_types::Label;
use sinew_wire::document::{
    BACKENDS_MAX, Body, HOSTS_MAX, Publish, PublishMode, PublishedBackend, SETTINGS_MAX, is_host, kind,
};
use sinew_wire::ingress::{
    ANSWER_MAX, AnswerHead, DOCUMENTS_MAX, DOMAIN_MAX, HEAD_LEN, Head, LIST_MAX, NAMES_MAX, Name, NameList,
    Open, PUBLISH_MAX, Request, Status, Verb,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn backend(home: u8, name: &str, port: u16, weight: u16) -> PublishedBackend {
    PublishedBackend { home: [home; 32], workload: Label::parse(name).expect("a label"), port, weight }
}

fn publish() -> Publish {
    Publish {
        gateway: [1; 32],
        mode: PublishMode::Http,
        hosts: vec!["app".into(), "www.example.org".into()],
        backends: vec![backend(2, "db", 80, 1), backend(2, "web", 8080, 3)],
        settings: b"{}".to_vec(),
        removed: false,
        recovery: Some([9; 32]),
    }
}

fn taken_back() -> Publish {
    Publish { hosts: vec![], backends: vec![], settings: vec![], removed: true, recovery: None, ..publish() }
}

fn parsed(publish: &Publish) -> Option<Body> {
    Body::parse(kind::PUBLISH, &Body::Publish(publish.clone()).emit()).ok().flatten()
}

#[test]
fn a_publish_has_the_layout_of_a11() {
    let bytes = Body::Publish(publish()).emit();
    let (one, two, nine) = ("01".repeat(32), "02".repeat(32), "09".repeat(32));
    let expected = [
        format!("012000{one}"),
        "02010001".to_owned(),
        format!("031400{:02x}{}{:02x}{}", 3, hex(b"app"), 15, hex(b"www.example.org")),
        format!("044f00{two}02{}50000100{two}03{}901f0300", hex(b"db"), hex(b"web")),
        format!("050200{}", hex(b"{}")),
        format!("072000{nine}"),
    ];
    assert_eq!(hex(&bytes), expected.concat());
    assert_eq!(parsed(&publish()), Some(Body::Publish(publish())));
    let gone = Body::Publish(taken_back()).emit();
    assert_eq!(hex(&gone), format!("012000{one}02010001060000"));
    assert_eq!(parsed(&taken_back()), Some(Body::Publish(taken_back())));
}

#[test]
fn a_publish_whose_parts_do_not_belong_together_is_refused() {
    let many = |count: usize| (0..count).map(|n| format!("h{n:02}")).collect::<Vec<_>>();
    let ports = |count: usize| (1..=count).map(|n| backend(2, "web", n as u16, 1)).collect::<Vec<_>>();
    let good = [
        Publish { hosts: many(HOSTS_MAX), backends: ports(BACKENDS_MAX), ..publish() },
        Publish { settings: vec![b' '; SETTINGS_MAX], ..publish() },
        Publish { mode: PublishMode::Udp, hosts: vec![], ..publish() },
        Publish { backends: vec![backend(2, "auth", 9, 0), backend(2, "web", 8, 1000)], ..publish() },
    ];
    for publish in good {
        assert!(publish.is_sound() && parsed(&publish).is_some(), "{publish:?}");
    }
    let one = |backend| vec![backend];
    for publish in [
        Publish { hosts: vec![], ..publish() },
        Publish { mode: PublishMode::Tcp, ..publish() },
        Publish { hosts: vec!["b".into(), "a".into()], ..publish() },
        Publish { hosts: vec!["a".into(), "a".into()], ..publish() },
        Publish { hosts: vec!["A".into()], ..publish() },
        Publish { hosts: many(HOSTS_MAX + 1), ..publish() },
        Publish { backends: vec![], ..publish() },
        Publish { backends: ports(BACKENDS_MAX + 1), ..publish() },
        Publish { backends: one(backend(2, "web", 0, 1)), ..publish() },
        Publish { backends: one(backend(2, "web", 80, 0)), ..publish() },
        Publish { backends: one(backend(2, "web", 80, 1001)), ..publish() },
        Publish { backends: vec![backend(2, "web", 80, 1), backend(2, "web", 80, 2)], ..publish() },
        Publish { backends: vec![backend(2, "web", 80, 1), backend(2, "db", 80, 1)], ..publish() },
        Publish {
            backends: vec![backend(2, "a", 1, 0), backend(2, "b", 1, 0), backend(2, "c", 1, 1)],
            ..publish()
        },
        Publish { settings: vec![b' '; SETTINGS_MAX + 1], ..publish() },
        Publish { hosts: vec!["a".into()], ..taken_back() },
        Publish { backends: ports(1), ..taken_back() },
        Publish { recovery: Some([1; 32]), ..taken_back() },
    ] {
        assert!(!publish.is_sound(), "{publish:?}");
        assert_eq!(parsed(&publish), None, "{publish:?}");
    }
    // Empty lists are left out: here they would be a second spelling.
    let mut bytes = Body::Publish(taken_back()).emit();
    bytes.splice(bytes.len() - 3.., [3, 0, 0, 6, 0, 0]);
    assert!(Body::parse(kind::PUBLISH, &bytes).is_err());
    // An unknown tag might narrow what is published.
    let mut bytes = Body::Publish(publish()).emit();
    bytes.extend([8, 0, 0]);
    assert!(Body::parse(kind::PUBLISH, &bytes).is_err());
}

#[test]
fn hosts_are_labels_or_names_in_lower_case() {
    let long = format!("{}.org", ["a".repeat(62).as_str(); 4].join("."));
    for good in ["a", "app-1", "xn--bcher-kva", "a.b", "*.example.org", "0.1.2", &"a".repeat(63)] {
        assert!(is_host(good), "{good}");
    }
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "-a",
        "a-",
        "A",
        "a_b",
        "ä",
        "*",
        "*.a",
        "a.*.b",
        "a..b",
        "a b",
        &long,
        &"a".repeat(64),
    ] {
        assert!(!is_host(bad), "{bad}");
    }
}

fn open() -> Open {
    let workload = Label::parse("web").expect("a label");
    Open { network: [1; 32], service: [2; 16], home: [3; 32], workload, port: 8080 }
}

fn reread(bytes: &[u8]) -> Option<Request> {
    let (head, body) = bytes.split_at_checked(HEAD_LEN)?;
    Request::parse(Head::parse(head).ok()?, body).ok()
}

#[test]
fn requests_of_the_service_port_have_the_layout_of_a11() {
    let body = ["01".repeat(32), "02".repeat(16), "03".repeat(32), format!("03{}901f", hex(b"web"))].concat();
    for (verb, request) in [(1, Request::Connect(open())), (2, Request::Datagrams(open()))] {
        let bytes = request.emit().expect("a short request");
        assert_eq!(hex(&bytes), format!("{}01{verb:02x}56000000{body}", hex(b"SNIG")));
        assert_eq!(reread(&bytes), Some(request));
    }
    let publish = Request::Publish(vec![b"abc".to_vec(), Vec::new()]);
    let bytes = publish.emit().expect("a short request");
    assert_eq!(hex(&bytes), format!("{}010308000000020300{}0000", hex(b"SNIG"), hex(b"abc")));
    assert_eq!(reread(&bytes), Some(publish));
    let names = Request::Names("gw.test".into());
    let bytes = names.emit().expect("a domain");
    assert_eq!(hex(&bytes), format!("{}010407000000{}", hex(b"SNIG"), hex(b"gw.test")));
    assert_eq!(reread(&bytes), Some(names));
    for bad in ["", "GW.test", "gw.test.", "*.gw.test", "gw test", &"a.".repeat(DOMAIN_MAX)] {
        assert!(Request::Names(bad.to_owned()).emit().is_none(), "{bad}");
        let head = Head { verb: Verb::Names, len: bad.len() as u32 };
        assert!(Request::parse(head, bad.as_bytes()).is_err(), "{bad}");
    }
}

fn name(label: &str, transfer: Option<([u8; 32], u64)>) -> Name {
    let label = Label::parse(label).expect("a label");
    Name { label, network: [5; 32], since: 1, until: 2, transfer }
}

#[test]
fn a_list_of_names_has_the_layout_of_a11_and_one_spelling() {
    let list = NameList(vec![name("app", None), name("db", Some(([6; 32], 3)))]);
    let bytes = list.emit().expect("two names");
    let (five, six, zeros) = ("05".repeat(32), "06".repeat(32), "00".repeat(7));
    let held = format!("{five}01{zeros}02{zeros}");
    let expected = format!("020003{}{held}0002{}{held}01{six}03{zeros}", hex(b"app"), hex(b"db"));
    assert_eq!(hex(&bytes), expected);
    assert_eq!(NameList::parse(&bytes), Ok(list));
    assert_eq!(NameList::parse(&[0, 0]), Ok(NameList::default()));
    for wrong in [vec![name("db", None), name("app", None)], vec![name("app", None), name("app", None)]] {
        assert!(NameList(wrong).emit().is_none(), "names rise");
    }
    // The same name twice, a flag that is none, a name that is none, more than was announced, and less.
    let one = &NameList(vec![name("app", None)]).emit().expect("one name")[2..];
    let flag = |byte: u8| [&one[..one.len() - 1], &[byte]].concat();
    for (count, entries) in
        [(2, [one, one].concat()), (1, flag(2)), (1, flag(1)), (0, one.to_vec()), (2, one.to_vec())]
    {
        let bytes = [&[count, 0][..], &entries].concat();
        assert!(NameList::parse(&bytes).is_err(), "{count} {}", hex(&entries));
    }
    assert!(NameList::parse(&[&[1, 0, 3][..], b"App", &one[4..]].concat()).is_err());
    assert!(NameList::parse(&[0xff, 0xff]).is_err(), "no room is made for what does not follow");
    let many =
        |count: usize| NameList((0..count).map(|n| name(&format!("n{n:05}"), Some(([6; 32], 3)))).collect());
    let most = many(NAMES_MAX).emit().expect("as many as there may be");
    assert!(most.len() <= LIST_MAX && NameList::parse(&most).is_ok());
    assert!(many(NAMES_MAX + 1).emit().is_none());
}

#[test]
fn what_is_too_long_is_refused_before_it_is_waited_for() {
    for (verb, good, bad) in [
        (Verb::Connect, vec![84, 146], vec![0, 83, 147, u32::MAX]),
        (Verb::Datagrams, vec![84, 146], vec![83, 147]),
        (Verb::Publish, vec![1, PUBLISH_MAX as u32], vec![0, PUBLISH_MAX as u32 + 1, u32::MAX]),
        (Verb::Names, vec![1, DOMAIN_MAX as u32], vec![0, DOMAIN_MAX as u32 + 1, u32::MAX]),
    ] {
        let head = |len| Head::parse(&Head { verb, len }.emit());
        assert!(good.iter().all(|&len| head(len) == Ok(Head { verb, len })), "{verb:?}");
        assert!(bad.iter().all(|&len| head(len).is_err()), "{verb:?}");
    }
    let head = Head { verb: Verb::Publish, len: 9 }.emit();
    for (at, value) in [(0, b'X'), (4, 2), (5, 0), (5, 5)] {
        let mut wrong = head;
        wrong[at] = value;
        assert!(Head::parse(&wrong).is_err(), "byte {at} as {value}");
    }
    assert!(Request::Publish(vec![]).emit().is_none());
    assert!(Request::Publish(vec![vec![]; DOCUMENTS_MAX + 1]).emit().is_none());
    assert!(Request::Publish(vec![vec![0; 16_000]; 17]).emit().is_none());
    for body in [&[0][..], &[1], &[1, 1, 0], &[1, 0, 0, 7], &[65]] {
        let head = Head { verb: Verb::Publish, len: body.len() as u32 };
        assert!(Request::parse(head, body).is_err(), "{body:?}");
    }
}

#[test]
fn an_answer_is_a_known_status_and_more_only_behind_ok() {
    for byte in 0..=255 {
        assert_eq!(Status::parse(byte).map(|status| status as u8).ok(), (byte <= 6).then_some(byte));
    }
    for (verb, status, len, good) in [
        (Verb::Publish, Status::Ok, 0, true),
        (Verb::Publish, Status::Ok, ANSWER_MAX as u32, true),
        (Verb::Publish, Status::Ok, ANSWER_MAX as u32 + 1, false),
        (Verb::Publish, Status::Busy, 0, true),
        (Verb::Publish, Status::Busy, 1, false),
        (Verb::Names, Status::Ok, LIST_MAX as u32, true),
        (Verb::Names, Status::Ok, LIST_MAX as u32 + 1, false),
        (Verb::Names, Status::NotPublished, 1, false),
    ] {
        let head = AnswerHead { status, len };
        assert_eq!(AnswerHead::parse(&head.emit(), verb).is_ok(), good, "{verb:?} {head:?}");
    }
}
