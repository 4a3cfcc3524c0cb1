//! The corpus of requests that two programs could read in two ways, and the honest ones.

use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { bytes: 2000, count: 10 };

fn scan(bytes: &[u8]) -> (Scan, bool) {
    let mut framing = Framing::new(LIMITS);
    let scan = framing.scan(bytes);
    (scan, framing.in_body())
}

fn refused(bytes: &[u8]) -> Option<Violation> {
    scan(bytes).0.violation
}

#[test]
fn honest_requests_pass_whole() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"GET / HTTP/1.0\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nhost:a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(scan(bytes), (Scan { passed: bytes.len(), violation: None }, false), "{text}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4, 4",
        "Content-Length: +4",
        "Content-Length: -4",
        "Content-Length: 0x4",
        "Content-Length:",
        "Content-Length: 4 4",
        "Content-Length: 99999999999999999999",
        "Content-Length : 4",
        " Content-Length: 4",
        "Content-Length: 4\r\n folded",
        "Content-Length: 4\r\n\tfolded",
        "X: a\nContent-Length: 4",
        "X: a\rContent-Length: 4",
        "X: a\0b",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding:\x0c chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding : chunked",
        "no colon",
        ": no name",
        "a b: c",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), Some(Violation::Framing), "{head:?}");
    }
}

#[test]
fn lines_that_are_no_request_lines_are_refused() {
    for (line, violation) in [
        ("GET /", Violation::Framing),
        ("GET  / HTTP/1.1", Violation::Framing),
        ("GET / x HTTP/1.1", Violation::Framing),
        ("GET\t/\tHTTP/1.1", Violation::Framing),
        ("GET / HTTP/1.1 ", Violation::Framing),
        (" GET / HTTP/1.1", Violation::Framing),
        ("GET / http/1.1", Violation::Framing),
        ("GET / HTTP/1.2", Violation::Version),
        ("PRI * HTTP/2.0", Violation::Version),
    ] {
        let bytes = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(refused(bytes.as_bytes()), Some(violation), "{line:?}");
    }
    let chunked_old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(refused(chunked_old), Some(Violation::Framing));
}

#[test]
fn a_request_has_one_host() {
    assert_eq!(refused(b"GET / HTTP/1.1\r\n\r\n"), Some(Violation::Host));
    assert_eq!(refused(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Some(Violation::Host));
    assert_eq!(refused(b"GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), Some(Violation::Host));
}

#[test]
fn chunks_are_held_to_their_form() {
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "\r\nhello",
        "5 \r\nhello",
        "0x5\r\nhello",
        "-5\r\nhello",
        ";x\r\n",
        "fffffffffffffffff\r\n",
        "5;\n\r\n",
        "0\r\nA: b\nC: d\r\n\r\n",
        "0\r\nA: b\r\n folded\r\n\r\n",
    ] {
        let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(refused(bytes.as_bytes()), Some(Violation::Framing), "{body:?}");
    }
}

#[test]
fn what_is_too_large_is_refused_as_soon_as_that_is_sure() {
    let mut framing = Framing::new(LIMITS);
    let long = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'x'; 1978]].concat();
    assert!(long.len() < LIMITS.bytes);
    assert_eq!(framing.scan(&long), Scan { passed: 0, violation: None });
    let longer = [long, vec![b'x'; 10]].concat();
    assert_eq!(framing.scan(&longer).violation, Some(Violation::TooLarge));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(10));
    assert_eq!(refused(many.as_bytes()), Some(Violation::TooLarge));
}

#[test]
fn a_body_hides_no_request() {
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nGET / HTTP/9.9\r\nHost: b\r\n\r\nx";
    assert_eq!(scan(bytes), (Scan { passed: bytes.len(), violation: None }, true));
}

const DIALOGUE: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
    1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: t\r\n\r\n\
    POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n";

proptest! {
    #[test]
    fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(scan(&bytes).0.passed <= bytes.len());
    }

    #[test]
    fn how_bytes_are_cut_changes_nothing(cuts in proptest::collection::vec(0usize..200, 0..20), bend in any::<(u8, u8, bool)>()) {
        let mut all = DIALOGUE.to_vec();
        if bend.2 {
            let at = usize::from(bend.0) % all.len();
            all[at] = bend.1;
        }
        let whole = scan(&all).0;
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (all.len() + 1)).collect();
        cuts.push(all.len());
        cuts.sort_unstable();
        let mut framing = Framing::new(LIMITS);
        let (mut done, mut violation) = (0, None);
        for cut in cuts {
            let scan = framing.scan(&all[done..cut]);
            done += scan.passed;
            violation = scan.violation;
            if violation.is_some() {
                break;
            }
        }
        prop_assert_eq!((done, violation.is_some()), (whole.passed, whole.violation.is_some()));
    }
}
