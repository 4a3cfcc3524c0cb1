//! Headers between two connections: what belongs to one of them is taken out, what the backend should
//! know of the other is put in.
//!
//! What a client says of itself (`Forwarded`, `X-Forwarded-*`, `X-Real-IP`) is believed only from
//! trusted proxies and thrown away otherwise, in every spelling that a backend may take for it: to
//! CGI and its heirs `X_Forwarded_For` is the same name.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// The request's id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// What belongs to one connection (RFC 9110, 7.6.1). `Expect` has been answered here.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    HTTP2_SETTINGS,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
];

/// Takes out what belongs to the connection it came over.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            // What frames the message or says whose it is cannot be signed away.
            .filter(|name| *name != header::CONTENT_LENGTH && *name != header::HOST)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// The protocol that a request or response switches to, if it does.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut options = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asked =
        options.any(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    let protocol = headers.get(header::UPGRADE).filter(|_| asked)?;
    // Another HTTP inside would be routed and checked by nobody.
    let text = protocol.to_str().ok()?.to_ascii_lowercase();
    let http = text.split(',').any(|name| {
        let name = name.trim();
        name.starts_with("h2") || name.starts_with("http") || name.starts_with("tls")
    });
    (!http).then(|| protocol.clone())
}

/// The ends of a client's connection as headers name them: written once for all of its requests.
pub(crate) struct Ends {
    /// The other end's address.
    ip: HeaderValue,
    /// The same as `Forwarded` wants it (RFC 7239, 6).
    node: String,
    /// Our port.
    port: HeaderValue,
}

impl Ends {
    pub(crate) fn of(peer: SocketAddr, local: SocketAddr) -> Self {
        let ip = peer.ip().to_canonical();
        let node = if ip.is_ipv6() { format!("\"[{ip}]\"") } else { ip.to_string() };
        let unknown = |_| HeaderValue::from_static("unknown");
        Self {
            ip: HeaderValue::try_from(ip.to_string()).unwrap_or_else(unknown),
            node,
            port: HeaderValue::from(local.port()),
        }
    }
}

/// What a backend is told of a request's origin.
pub(crate) struct Origin<'a> {
    pub(crate) ends: &'a Ends,
    /// Whether the peer's word on its own clients counts.
    pub(crate) trusted: bool,
    pub(crate) tls: bool,
    /// `Host` as the client wrote it, as text and as a header.
    pub(crate) host: &'a str,
    pub(crate) host_header: HeaderValue,
    pub(crate) id: HeaderValue,
}

/// Headers that may come to a request here, `Host` among them.
const ADDED: usize = 8;

/// Replaces what clients say of themselves by what is known; a trusted proxy's word is added to.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, origin: &Origin<'_>) {
    if !origin.trusted {
        strip_claims(headers);
    }
    headers.reserve(ADDED);
    let Origin { ends, host, .. } = origin;
    let scheme = if origin.tls { "https" } else { "http" };
    append(headers, FORWARDED_FOR, ends.ip.clone());
    // A host with a port, or an IPv6 address, needs the quotes; a host name has none inside.
    let forwarded = ["for=", &ends.node, ";host=\"", host, "\";proto=", scheme].concat();
    if let Ok(forwarded) = HeaderValue::try_from(forwarded) {
        append(headers, header::FORWARDED, forwarded);
    }
    let mut first = |name: HeaderName, value: HeaderValue| {
        headers.entry(name).or_insert(value);
    };
    first(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    first(FORWARDED_HOST, origin.host_header.clone());
    first(FORWARDED_PORT, ends.port.clone());
    first(REAL_IP, ends.ip.clone());
    first(REQUEST_ID, origin.id.clone());
}

fn append(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    let mut all: Vec<&[u8]> = headers.get_all(&name).iter().map(HeaderValue::as_bytes).collect();
    let value = if all.is_empty() {
        Ok(value)
    } else {
        all.push(value.as_bytes());
        HeaderValue::from_bytes(&all.join(&b", "[..]))
    };
    if let Ok(value) = value {
        headers.insert(name, value);
    }
}

/// Takes out what only a trusted proxy may say.
fn strip_claims(headers: &mut HeaderMap) {
    // Almost no request has one: look before copying names.
    let claim = |name: &HeaderName| {
        let name = name.as_str();
        let starts = |prefix: &str| {
            name.len() >= prefix.len()
                && name.bytes().zip(prefix.bytes()).all(|(a, b)| a == b || (a == b'_' && b == b'-'))
        };
        name == "forwarded" || starts("x-forwarded") || starts("x-real-ip") || starts("x-request-id")
    };
    if headers.keys().any(claim) {
        let names: Vec<_> = headers.keys().filter(|name| claim(name)).cloned().collect();
        names.iter().for_each(|name| drop(headers.remove(name)));
    }
    // Names that a backend could take for one that frames or routes the message.
    if headers.keys().any(|name| name.as_str().contains('_')) {
        let risky = ["content_length", "transfer_encoding", "proxy_authorization", "remote_user"];
        risky.iter().for_each(|name| drop(headers.remove(*name)));
    }
}

/// The client behind a chain of trusted proxies: from the right, the first that is not trusted.
pub(crate) fn client(headers: &HeaderMap, peer: SocketAddr, trusts: impl Fn(IpAddr) -> bool) -> SocketAddr {
    let mut client = peer;
    let values: Vec<_> =
        headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    let entries: Vec<_> = values.iter().flat_map(|value| value.split(',')).map(str::trim).collect();
    for entry in entries.into_iter().rev() {
        if !trusts(client.ip()) {
            break;
        }
        let Some(address) = address(entry) else { break };
        client = SocketAddr::new(address.to_canonical(), 0);
    }
    client
}

/// `192.0.2.1`, `192.0.2.1:5`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:5`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// HTTP/2 clients may send a cookie in pieces; HTTP/1 servers expect one header (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let parts: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The value of a cookie.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests;
