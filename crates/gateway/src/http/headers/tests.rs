//! Headers taken out, put in, believed and not.

use super::*;

fn map(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    headers
}

fn ends() -> Ends {
    Ends::of("192.0.2.7:5000".parse().unwrap(), "198.51.100.1:443".parse().unwrap())
}

fn origin(ends: &Ends, trusted: bool) -> Origin<'_> {
    Origin {
        ends,
        trusted,
        tls: true,
        host: "a.example",
        host_header: HeaderValue::from_static("a.example"),
        id: HeaderValue::from_static("id1"),
    }
}

#[test]
fn what_belongs_to_one_connection_stays_there() {
    let mut headers = map(&[
        ("connection", "close, X-Secret"),
        ("connection", "Host, Content-Length"),
        ("x-secret", "1"),
        ("host", "a"),
        ("content-length", "5"),
        ("keep-alive", "x"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("http2-settings", "x"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("accept", "*/*"),
    ]);
    strip_hop_by_hop(&mut headers);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["accept", "content-length", "host"]);
}

#[test]
fn a_strangers_claims_are_thrown_away_in_every_spelling() {
    let mut headers = map(&[
        ("x-forwarded-for", "10.0.0.1"),
        ("X_Forwarded_For", "10.0.0.1"),
        ("x-forwarded_host", "evil"),
        ("x-forwarded-prefix", "/evil"),
        ("forwarded", "for=10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x_real_ip", "10.0.0.1"),
        ("x-request-id", "forged"),
        ("content_length", "5"),
        ("x_harmless", "1"),
    ]);
    set_forwarded(&mut headers, &origin(&ends(), false));
    let expected = map(&[
        ("x_harmless", "1"),
        ("x-forwarded-for", "192.0.2.7"),
        ("forwarded", "for=192.0.2.7;host=\"a.example\";proto=https"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "a.example"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "192.0.2.7"),
        ("x-request-id", "id1"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn a_trusted_proxys_word_is_added_to() {
    let mut headers =
        map(&[("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "http"), ("x-request-id", "theirs")]);
    set_forwarded(&mut headers, &origin(&ends(), true));
    assert_eq!(headers["x-forwarded-for"], "203.0.113.9, 192.0.2.7");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-request-id"], "theirs");
}

#[test]
fn the_client_is_the_first_that_is_not_trusted_from_the_right() {
    let peer: SocketAddr = "10.0.0.1:5".parse().unwrap();
    let trusts = |ip: IpAddr| ip.to_string().starts_with("10.");
    for (value, expected) in [
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.6, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("203.0.113.9:1234, 10.0.0.2", "203.0.113.9"),
        ("[2001:db8::1]:5", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
        ("nonsense", "10.0.0.1"),
        ("203.0.113.9, unknown", "10.0.0.1"),
        ("", "10.0.0.1"),
    ] {
        let headers = map(&[("x-forwarded-for", value)]);
        assert_eq!(client(&headers, peer, trusts).ip().to_string(), expected, "{value}");
    }
    let stranger: SocketAddr = "192.0.2.1:5".parse().unwrap();
    assert_eq!(client(&map(&[("x-forwarded-for", "203.0.113.9")]), stranger, trusts), stranger);
}

#[test]
fn only_protocols_that_are_no_http_are_switched_to() {
    for (connection, protocol, expected) in [
        ("Upgrade", "websocket", true),
        ("keep-alive, upgrade", "WebSocket", true),
        ("keep-alive", "websocket", false),
        ("upgrade", "h2c", false),
        ("upgrade", "websocket, h2c", false),
        ("upgrade", "HTTP/2.0", false),
        ("upgrade", "TLS/1.0", false),
    ] {
        let headers = map(&[("connection", connection), ("upgrade", protocol)]);
        assert_eq!(upgrade(&headers).is_some(), expected, "{connection} {protocol}");
    }
}

#[test]
fn cookies_are_joined_and_found() {
    let mut headers = map(&[("cookie", "a=1; b=2"), ("cookie", "c=3")]);
    assert_eq!(cookie(&headers, "c"), Some("3"));
    join_cookies(&mut headers);
    assert_eq!(headers["cookie"], "a=1; b=2; c=3");
    assert_eq!(cookie(&headers, "b"), Some("2"));
    assert_eq!(cookie(&headers, "d"), None);
}
